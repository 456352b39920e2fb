-- How long data is kept, and when it must be gone. Each rule is a row with the policy clause that it enforces. The
-- code that carries out a rule reads it here.

create table private.retention_rules (
  id text not null,
  clause text not null,
  keep interval not null,
  rows_of text,
  since text,
  words text not null,
  constraint retention_rules_pkey primary key (id),
  constraint retention_rules_keep_not_negative check (keep >= '0'),
  constraint retention_rules_rows_have_age check ((rows_of is null) = (since is null))
);

alter table private.retention_rules enable row level security;
revoke all on private.retention_rules from public, anon, authenticated, service_role;

comment on table private.retention_rules is 'How long data is kept: one row per rule, with the policy clause that it comes from.';
comment on column private.retention_rules.rows_of is 'The table whose rows backend.expire_rows deletes when they are older than the rule. Null if other code carries out the rule.';
comment on column private.retention_rules.since is 'The column of that table from which the age counts. A row with null in that column stays.';

insert into private.retention_rules (id, clause, keep, rows_of, since, words) values
  ('inputs_soft_limit', 'R1', '24 hours', null, null,
    'A photo that no open generation needs, from its upload.'),
  ('inputs_hard_limit', 'R1', '48 hours', null, null,
    'A photo, whatever the state of its generation, from its upload.'),
  ('sweep_silence', 'X2', '10 minutes', null, null,
    'The longest time between two heartbeats. After it, no photo is accepted.'),
  ('audit_grace', 'X3', '1 hour', null, null,
    'An object without a row, or a row without an object, before it is closed.'),
  ('replicate_hour', 'T3', '61 minutes', null, null,
    'The time after which Replicate is asked whether it has deleted what it was sent and what it made.'),
  ('replicate_removals', 'T3', '1 year', 'public.replicate_removals', 'removed_at',
    'The evidence that Replicate has deleted it.'),
  ('processing_log', 'C5', '1 year', 'public.processing_log', 'at',
    'Steps of a generation; its own row has the times as long as it lasts.'),
  ('outcomes', 'R5', '1 day', 'private.outcomes', 'at',
    'How a generation or an export ended, without whose it was.'),
  ('webhook_events', 'R5', '7 days', 'private.webhook_events', 'received_at',
    'Ids of events, to know a delivery that comes twice.'),
  ('deletion_receipts', 'X1', '3 years', 'public.deletions', 'verified_at',
    'Proofs of deletion; they hold nothing personal and outlive the account.'),
  ('closed_books', 'C7', '10 years', 'public.wallets', 'closed_at',
    'The books of an erased account, under a pseudonym.'),
  ('outbox', 'T3', '1 day', 'private.outbox', 'ordered_at',
    'A call that must still be made to Replicate or Storage. After this time, it would change nothing any more.'),
  ('usage_events', 'C9', '1 year', 'public.usage_events', 'at',
    'What was used, and on what kind of device.'),
  ('exports', 'G5', '7 days', null, null,
    'A finished export, from when it was ready; then its file is deleted.'),
  ('export_rows', 'G5', '1 year', 'public.exports', 'ordered_at',
    'That there was an export.'),
  ('erasure_grace', 'G3', '0', null, null,
    'From the order to erase an account to its beginning; until then it can be taken back.'),
  ('erasure_receipts', 'G3', '3 years', 'private.erasures', 'finished_at',
    'Proofs of erasure; they hold nothing personal.'),
  ('requests_answered', 'Q2', '72 hours', null, null,
    'A privacy request, until it is answered.'),
  ('requests_extendable', 'Q2', '28 days', null, null,
    'A privacy request, until the operator can no longer take more time. The law says one month.'),
  ('requests_extended', 'Q2', '89 days', null, null,
    'A privacy request whose time the operator has extended, until it must be answered. The law says three months.'),
  ('requests', 'Q1', '3 years', 'public.privacy_requests', 'closed_at',
    'That a request was made, and how it was answered.'),
  ('consents', 'C6', '3 years', 'public.policy_consents', 'left_at',
    'That the user of an erased account had agreed to a version of the policy, under a pseudonym.'),
  ('choices', 'G7', '3 years', 'public.privacy_choices', 'left_at',
    'What the user of an erased account had allowed and refused, under a pseudonym. As long as consents.'),
  ('inactive_accounts', 'R10', '1 year', null, null,
    'An account, from the last activity of its user; then it is erased.'),
  ('last_emails', 'G3', '7 days', 'private.emails', 'left_at',
    'The last email to the user of an erased account, with their address, if no mail server takes it.'),
  ('unconfirmed_accounts', 'R10', '30 days', null, null,
    'An account whose email or phone was never confirmed, from the last activity of its user.'),
  ('bounced_notices', 'R10', '30 days', null, null,
    'A notice that bounced, before it is sent again.'),
  ('welcomed_addresses', 'C7', '1 year', 'private.welcomed_addresses', 'at',
    'That an address had its welcome credits, as a keyed hash.'),
  ('emails', 'R10', '1 year', 'private.emails', 'ordered_at',
    'That an email was sent to a user.');

create function private.retention(rule text)
returns interval
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
return (select r.keep from private.retention_rules as r where r.id = rule);

-- Deletes rows that are older than their rule, at most `batch` per rule. Returns {rule: rows} for the rules that had
-- any.
create function backend.expire_rows(batch integer default 1000)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  rule private.retention_rules;
  expired integer;
  counts jsonb := '{}';
begin
  for rule in select * from private.retention_rules where rows_of is not null order by id loop
    execute format(
      'delete from %1$s where ctid = any (array('
      'select ctid from %1$s where %2$I < now() - $1 limit $2 for update skip locked))',
      rule.rows_of::regclass, rule.since)
    using rule.keep, batch;
    get diagnostics expired = row_count;
    if expired > 0 then
      counts := counts || jsonb_build_object(rule.id, expired);
    end if;
  end loop;
  return counts;
end;
$$;

-- Whether any rule has rows past its limit. Reads one index per rule.
create function private.has_expired_rows()
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  rule private.retention_rules;
  is_any boolean;
begin
  for rule in select * from private.retention_rules where rows_of is not null loop
    execute format('select exists (select from %s where %I < now() - $1)', rule.rows_of::regclass, rule.since)
    into is_any using rule.keep;
    if is_any then
      return true;
    end if;
  end loop;
  return false;
end;
$$;

comment on function backend.expire_rows is 'Deletes rows that are older than their rule. Returns how many rows of each rule.';

create table private.heartbeats (
  id text not null,
  at timestamptz not null default now(),
  constraint heartbeats_pkey primary key (id)
);

alter table private.heartbeats enable row level security;
revoke all on private.heartbeats from public, anon, authenticated, service_role;

comment on table private.heartbeats is 'The last heartbeat of each scheduled task (X2).';

create function backend.record_heartbeat(task text)
returns void
language sql
security definer
set search_path = pg_catalog, pg_temp
begin atomic
  insert into private.heartbeats as h (id, at) values (task, now())
  on conflict (id) do update set at = excluded.at;
end;

comment on function backend.record_heartbeat is 'Records the heartbeat of a scheduled task: it has attempted the due deletions (X2).';

-- X2: if photos cannot be deleted in time, no photo may come in. The intake is also closed before the first heartbeat.
create function private.is_intake_open()
returns boolean
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
return exists (
  select from private.heartbeats as h
  where h.id = 'cleanup' and h.at > now() - private.retention('sweep_silence')
);

revoke all on function private.is_intake_open from public, anon, authenticated, service_role;
grant execute on function private.is_intake_open to authenticated;
revoke all on function backend.expire_rows, backend.record_heartbeat from public, anon, authenticated, service_role;
grant execute on function backend.expire_rows, backend.record_heartbeat to service_role;
