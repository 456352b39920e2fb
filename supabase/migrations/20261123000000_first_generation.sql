-- Three schemas. `public` is what clients see, under row-level security. `backend` is the vocabulary
-- of the functions, for service_role alone. `private` is reached by no API.

create schema backend;
create schema private;

comment on schema backend is 'What the functions may ask of the database: one verb, one transaction.';
comment on schema private is 'Tables and helpers that no API exposes.';

grant usage on schema backend to service_role;
-- Policies and the thin callers in `public` reach their helpers here; the API does not expose it.
grant usage on schema private to authenticated, service_role;

-- Functions are executable by everyone unless this is said without `in schema`.
alter default privileges revoke execute on functions from public;

-- Each function has `search_path = pg_catalog, pg_temp`. With an empty path a session's own temporary
-- schema is searched for types before all others, and whoever may make a domain `text` there would have
-- its check run with the rights of the function.

-- Every refusal a client can meet goes through here. PostgREST answers sqlstate PTnnn with HTTP nnn;
-- `hint` carries the machine-readable code, `detail` further members of the problem document.
create function private.refuse(status integer, code text, sentence text, members jsonb default '{}')
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception using
    errcode = 'PT' || status,
    message = sentence,
    detail = members::text,
    hint = code;
end;
$$;
-- What can be made: models and styles. Adding either is a row, never code (policy U1, U2).

create table public.models (
  id text not null,
  name text not null,
  replicate_model text not null,
  credits integer not null,
  deadline interval not null default '10 minutes',
  settings_schema jsonb not null,
  default_settings jsonb not null default '{}',
  position smallint not null,
  available boolean not null default true,
  constraint models_pkey primary key (id),
  constraint models_id_is_a_slug check (id ~ '^[a-z0-9]+(-[a-z0-9]+)*$'),
  constraint models_replicate_model_is_owner_and_name check (replicate_model ~ '^[a-z0-9-]+/[a-z0-9.-]+$'),
  constraint models_credits_positive check (credits > 0),
  -- Replicate stops any run after 30 minutes and accepts no deadline under 5 seconds.
  constraint models_deadline_within_replicate check (deadline between '1 minute' and '30 minutes'),
  constraint models_settings_schema_is_an_object check (jsonb_typeof(settings_schema) = 'object'),
  constraint models_default_settings_is_an_object check (jsonb_typeof(default_settings) = 'object'),
  constraint models_position_unique unique (position)
);

alter table public.models enable row level security;

create policy "Anyone sees the models that are available"
on public.models
for select
to anon, authenticated
using (available);

grant select on public.models to anon, authenticated, service_role;

comment on table public.models is 'The models of Replicate that people may use (U1).';
comment on column public.models.credits is 'Price of one generation, in credits.';
comment on column public.models.deadline is 'From reservation to the end, whatever happens. Also the lifetime of the signed input URL (T4).';
comment on column public.models.settings_schema is 'The settings a person may choose: name to {type, enum, minimum, maximum}, from the model''s own input schema (C3).';

-- Old versions stay: a generation keeps the one it was made with (U2).
create table private.style_versions (
  style_id text not null,
  version integer not null,
  prompt text not null,
  created_at timestamptz not null default now(),
  constraint style_versions_pkey primary key (style_id, version),
  constraint style_versions_version_positive check (version > 0),
  constraint style_versions_prompt_length check (char_length(prompt) between 10 and 2000)
);

alter table private.style_versions enable row level security;

comment on table private.style_versions is 'Prompt templates. A change of words is a new version, never an update.';

create table public.styles (
  id text not null,
  version integer not null default 1,
  name text not null,
  description text not null,
  model_id text not null,
  extra_credits integer not null default 0,
  position smallint not null,
  available boolean not null default true,
  constraint styles_pkey primary key (id),
  constraint styles_id_is_a_slug check (id ~ '^[a-z0-9]+(-[a-z0-9]+)*$'),
  constraint styles_version_exists foreign key (id, version)
    references private.style_versions (style_id, version),
  constraint styles_model_exists foreign key (model_id) references public.models (id),
  constraint styles_extra_credits_not_negative check (extra_credits >= 0),
  constraint styles_position_unique unique (position)
);

create index styles_id_version_idx on public.styles (id, version);
create index styles_model_id_idx on public.styles (model_id);

alter table public.styles enable row level security;

create policy "Anyone sees the styles that are available"
on public.styles
for select
to anon, authenticated
using (available);

grant select on public.styles to anon, authenticated, service_role;

comment on table public.styles is 'The styles that people choose from; the prompt behind each is in private.style_versions (U2).';
comment on column public.styles.extra_credits is 'Added to the price of the model, in credits.';

-- Refuses the first setting that the model does not know or whose value is out of range (C3).
create function private.check_settings(settings_schema jsonb, settings jsonb)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  setting record;
  rule jsonb;
  fault text;
begin
  if jsonb_typeof(settings) is distinct from 'object' then
    perform private.refuse(422, 'invalid_settings', 'settings must be an object.', '{"field": "settings"}');
  end if;

  for setting in select key, value from jsonb_each(settings) order by key loop
    rule := settings_schema -> setting.key;
    if rule is null then
      -- Not by its name: people may have written anything there, and what is refused is in the log (R5).
      perform private.refuse(422, 'invalid_settings',
        'settings has a member that this model does not know; it has '
          || (select string_agg(name, ', ' order by name) from jsonb_object_keys(settings_schema) as name) || '.',
        '{"field": "settings"}');
    end if;
    fault := case
      when rule ? 'enum' and not (rule -> 'enum') @> jsonb_build_array(setting.value) then
        'must be one of ' || (select string_agg(choice, ', ') from jsonb_array_elements_text(rule -> 'enum') as choice)
      when rule ->> 'type' = 'integer' and not private.is_integer_between(
          setting.value, (rule ->> 'minimum')::numeric, (rule ->> 'maximum')::numeric) then
        format('must be a whole number from %s to %s', rule ->> 'minimum', rule ->> 'maximum')
      when rule ->> 'type' = 'number' and not private.is_number_between(
          setting.value, (rule ->> 'minimum')::numeric, (rule ->> 'maximum')::numeric) then
        format('must be a number from %s to %s', rule ->> 'minimum', rule ->> 'maximum')
      when rule ->> 'type' = 'boolean' and jsonb_typeof(setting.value) <> 'boolean' then
        'must be true or false'
    end;
    if fault is not null then
      perform private.refuse(422, 'invalid_settings',
        format('settings.%s %s.', setting.key, fault),
        jsonb_build_object('field', 'settings.' || setting.key));
    end if;
  end loop;
end;
$$;

create function private.is_number_between(value jsonb, minimum numeric, maximum numeric)
returns boolean
language sql
immutable
set search_path = pg_catalog, pg_temp
return case when jsonb_typeof(value) = 'number' then (value)::numeric between minimum and maximum else false end;

create function private.is_integer_between(value jsonb, minimum numeric, maximum numeric)
returns boolean
language sql
immutable
set search_path = pg_catalog, pg_temp
return case
  when private.is_number_between(value, minimum, maximum) then (value)::numeric = trunc((value)::numeric)
  else false
end;
-- People. Email, password and sessions belong to Supabase Auth (C6, S1); this is the rest.

create table public.profiles (
  id uuid not null,
  username text,
  default_style text,
  default_settings jsonb not null default '{}',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint profiles_pkey primary key (id),
  constraint profiles_person_exists foreign key (id) references auth.users (id) on delete cascade,
  constraint profiles_default_style_exists foreign key (default_style) references public.styles (id),
  constraint profiles_username_unique unique (username),
  constraint profiles_username_form check (username ~ '^[a-z0-9_]{3,30}$'),
  constraint profiles_default_settings_is_small_object
    check (jsonb_typeof(default_settings) = 'object' and pg_column_size(default_settings) <= 2048)
);

create index profiles_default_style_idx on public.profiles (default_style);

alter table public.profiles enable row level security;

create policy "People see their own profile"
on public.profiles
for select
to authenticated
using (id = (select auth.uid()));

create policy "People change their own profile"
on public.profiles
for update
to authenticated
using (id = (select auth.uid()))
with check (id = (select auth.uid()));

grant select on public.profiles to authenticated, service_role;
grant update (username, default_style, default_settings) on public.profiles to authenticated;

comment on table public.profiles is 'One row a person, made with the account (C6, C8, G4).';
comment on column public.profiles.username is 'Chosen by the person: 3 to 30 of a-z, 0-9 and _; unique.';

create function private.touch_updated_at()
returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  new.updated_at := now();
  return new;
end;
$$;

create trigger profiles_touch_updated_at
before update on public.profiles
for each row
execute function private.touch_updated_at();

-- An account without a wallet could never start a generation, so both come with the sign-up itself.
create function private.open_account()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  insert into public.profiles (id) values (new.id);
  perform private.open_wallet(new.id);
  return new;
end;
$$;

create trigger open_account
after insert on auth.users
for each row
execute function private.open_account();
-- Credits. The ledger is append-only and the wallet is its running sum; both move in one statement,
-- by triggers, so that no caller can move one without the other (C7).

-- A wallet outlives its person as a number without a name: the books stay balanced.
create table public.wallets (
  id uuid not null default gen_random_uuid(),
  person_id uuid,
  balance integer not null default 0,
  held integer not null default 0,
  opened_at timestamptz not null default now(),
  closed_at timestamptz,
  constraint wallets_pkey primary key (id),
  constraint wallets_person_exists foreign key (person_id) references auth.users (id) on delete set null,
  constraint wallets_one_a_person unique (person_id),
  constraint wallets_balance_not_negative check (balance >= 0),
  constraint wallets_held_not_negative check (held >= 0),
  constraint wallets_held_within_balance check (held <= balance),
  constraint wallets_closed_without_person check ((person_id is null) = (closed_at is not null))
);

create index wallets_closed_at_idx on public.wallets (closed_at);

alter table public.wallets enable row level security;

create policy "People see their own wallet"
on public.wallets
for select
to authenticated
using (person_id = (select auth.uid()));

grant select on public.wallets to authenticated, service_role;

comment on table public.wallets is 'Balance and holds of one account, in credits; balance = sum of its entries, held = sum of its open holds.';

-- A hold sets credits aside while a generation runs: captured with its artwork, else released.
create table public.credit_holds (
  id uuid not null default gen_random_uuid(),
  wallet_id uuid not null,
  -- Not a foreign key: the book-keeping stays when the generation is deleted.
  generation_id uuid not null,
  amount integer not null,
  state text not null default 'open',
  opened_at timestamptz not null default now(),
  settled_at timestamptz,
  constraint credit_holds_pkey primary key (id),
  constraint credit_holds_wallet_exists foreign key (wallet_id)
    references public.wallets (id) on delete cascade,
  constraint credit_holds_one_a_generation unique (generation_id),
  constraint credit_holds_amount_positive check (amount > 0),
  constraint credit_holds_state_known check (state in ('open', 'captured', 'released')),
  constraint credit_holds_settled_when_not_open check ((state = 'open') = (settled_at is null))
);

create index credit_holds_wallet_id_newest_idx on public.credit_holds (wallet_id, opened_at desc);
create index credit_holds_open_idx on public.credit_holds (wallet_id, opened_at desc) where state = 'open';

alter table public.credit_holds enable row level security;

create policy "People see the holds on their own wallet"
on public.credit_holds
for select
to authenticated
using (wallet_id in (select id from public.wallets where person_id = (select auth.uid())));

grant select on public.credit_holds to authenticated, service_role;

comment on table public.credit_holds is 'Credits set aside for one generation; settled exactly once.';

create table public.credit_entries (
  id bigint generated always as identity,
  wallet_id uuid not null,
  kind text not null,
  amount integer not null,
  hold_id uuid,
  reason text not null,
  key text,
  created_at timestamptz not null default now(),
  constraint credit_entries_pkey primary key (id),
  constraint credit_entries_wallet_exists foreign key (wallet_id)
    references public.wallets (id) on delete cascade,
  constraint credit_entries_hold_exists foreign key (hold_id)
    references public.credit_holds (id) on delete cascade,
  constraint credit_entries_one_a_hold unique (hold_id),
  constraint credit_entries_key_unique unique (key),
  constraint credit_entries_kind_known
    check (kind in ('grant', 'purchase', 'capture', 'refund', 'adjustment', 'expiry')),
  constraint credit_entries_sign_fits_kind check (
    case
      when kind in ('grant', 'purchase', 'refund') then amount > 0
      when kind in ('capture', 'expiry') then amount < 0
      else amount <> 0
    end
  ),
  constraint credit_entries_capture_has_hold check ((kind = 'capture') = (hold_id is not null)),
  constraint credit_entries_reason_length check (char_length(reason) between 1 and 200)
);

create index credit_entries_wallet_id_id_idx on public.credit_entries (wallet_id, id);

alter table public.credit_entries enable row level security;

create policy "People see the entries of their own wallet"
on public.credit_entries
for select
to authenticated
using (wallet_id in (select id from public.wallets where person_id = (select auth.uid())));

grant select on public.credit_entries to authenticated, service_role;

comment on table public.credit_entries is 'The ledger, in credits. Append-only: a correction is a compensating entry with its reason.';
comment on column public.credit_entries.key is 'What the entry was asked for by: the same key twice makes one entry.';

-- Books are closed when their person goes, and go themselves, whole, when their rule says so.
create function private.close_wallet()
returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op = 'UPDATE' then
    new.closed_at := clock_timestamp();
    return new;
  end if;
  if old.closed_at is null or old.closed_at > now() - private.keep('closed_books') then
    raise exception 'the books of a wallet are kept' using errcode = '42501';
  end if;
  return old;
end;
$$;

create trigger wallets_close
before update of person_id on public.wallets
for each row
when (new.person_id is null and old.person_id is not null)
execute function private.close_wallet();

create trigger wallets_kept
before delete on public.wallets
for each row
execute function private.close_wallet();

-- Whether these are books whose time is over: then their wallet has just gone.
create function private.has_wallet(id uuid)
returns boolean
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
return exists (select from public.wallets as w where w.id = has_wallet.id);

create function private.refuse_change()
returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op = 'DELETE' and not private.has_wallet(old.wallet_id) then
    return old;
  end if;
  raise exception '% is append-only', tg_table_name
    using errcode = '42501', hint = 'Correct it with a compensating entry.';
end;
$$;

create trigger credit_entries_append_only
before update or delete on public.credit_entries
for each row
execute function private.refuse_change();

create trigger credit_entries_not_truncated
before truncate on public.credit_entries
for each statement
execute function private.refuse_change();

create function private.apply_entry()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  update public.wallets set balance = balance + new.amount where id = new.wallet_id;
  return null;
end;
$$;

create trigger credit_entries_apply
after insert on public.credit_entries
for each row
execute function private.apply_entry();

create function private.open_hold()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if new.state <> 'open' then
    raise exception 'a hold begins open' using errcode = '42501';
  end if;
  update public.wallets set held = held + new.amount where id = new.wallet_id;
  return null;
end;
$$;

create trigger credit_holds_open
after insert on public.credit_holds
for each row
execute function private.open_hold();

-- The only change a hold knows is being settled; the wallet and the ledger follow in the same statement.
create function private.settle_hold()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op = 'DELETE' and not private.has_wallet(old.wallet_id) then
    return old;
  end if;
  if tg_op = 'DELETE' or old.state <> 'open' or new.state = 'open'
    or (new.id, new.wallet_id, new.generation_id, new.amount)
      is distinct from (old.id, old.wallet_id, old.generation_id, old.amount)
  then
    raise exception 'a hold is settled once and never changed' using errcode = '42501';
  end if;

  update public.wallets set held = held - old.amount where id = old.wallet_id;
  if new.state = 'captured' then
    insert into public.credit_entries (wallet_id, kind, amount, hold_id, reason)
    values (old.wallet_id, 'capture', -old.amount, old.id, 'generation');
  end if;
  return new;
end;
$$;

create trigger credit_holds_settle
before update or delete on public.credit_holds
for each row
execute function private.settle_hold();

create function private.open_wallet(person uuid)
returns void
language sql
security definer
set search_path = pg_catalog, pg_temp
begin atomic
  with wallet as (
    insert into public.wallets (person_id) values (person) returning id
  )
  insert into public.credit_entries (wallet_id, kind, amount, reason)
  select id, 'grant', 5, 'welcome' from wallet;
end;

-- Correction: the ledger is never changed, so what was wrong is made up for. Answers {outcome, balance}:
-- adjusted; or replayed, for a key that was used for the same before. Refuses with 404, 409 or 422.
create function backend.adjust_credits(person_id uuid, amount integer, reason text, key text)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  wallet public.wallets;
  known public.credit_entries;
begin
  if coalesce(amount, 0) = 0 or coalesce(char_length(reason), 0) not between 1 and 200
    or coalesce(char_length(key), 0) not between 1 and 200
  then
    perform private.refuse(422, 'invalid_adjustment',
      'amount must not be 0; reason and key must have 1 to 200 characters.');
  end if;

  select * into wallet from public.wallets as w where w.person_id = adjust_credits.person_id for update;
  if not found then
    perform private.refuse(404, 'wallet_not_found', 'Nobody with this id has a wallet.');
  end if;

  select * into known from public.credit_entries as e where e.key = adjust_credits.key;
  if found then
    if (known.wallet_id, known.amount, known.reason) is distinct from (wallet.id, amount, reason) then
      perform private.refuse(409, 'key_reused', 'This key was used for another entry. Use a new one.');
    end if;
    return jsonb_build_object('outcome', 'replayed', 'balance', wallet.balance);
  end if;

  if wallet.balance + amount::bigint not between wallet.held and 2147483647 then
    perform private.refuse(409, 'balance_out_of_range',
      format('The balance is %s, of which %s are held.', wallet.balance, wallet.held));
  end if;
  insert into public.credit_entries (wallet_id, kind, amount, reason, key)
  values (wallet.id, 'adjustment', amount, reason, key);
  return jsonb_build_object('outcome', 'adjusted', 'balance', wallet.balance + amount);
end;
$$;

comment on function backend.adjust_credits is 'Makes up for what was wrong in a wallet, by an entry of its own, in credits.';

grant execute on function backend.adjust_credits to service_role;
-- How long things are kept, and by when they must be gone: one row a rule, with the clause of the policy
-- it keeps. What carries a rule out reads it here.

create table private.retention_rules (
  id text not null,
  clause text not null,
  keep interval not null,
  rows_of text,
  since text,
  words text not null,
  constraint retention_rules_pkey primary key (id),
  constraint retention_rules_keep_positive check (keep > '0'),
  constraint retention_rules_rows_have_age check ((rows_of is null) = (since is null))
);

alter table private.retention_rules enable row level security;

comment on table private.retention_rules is 'How long things are kept: one row a rule, with the clause of the policy it comes from.';
comment on column private.retention_rules.rows_of is 'The table whose rows go by themselves when they are older; null where something else carries the rule out.';
comment on column private.retention_rules.since is 'The column of that table from which on it is counted; where that is null the row stays.';

insert into private.retention_rules (id, clause, keep, rows_of, since, words) values
  ('inputs_soft_limit', 'R1', '24 hours', null, null,
    'A photo that no open generation needs, from its upload.'),
  ('inputs_hard_limit', 'R1', '48 hours', null, null,
    'A photo, whatever the state of its generation, from its upload.'),
  ('sweep_silence', 'X2', '10 minutes', null, null,
    'Between two passes of the sweeper; after this no photo is accepted.'),
  ('audit_grace', 'X3', '1 hour', null, null,
    'An object without a row, or a row without an object, before it is closed.'),
  ('replicate_hour', 'T3', '61 minutes', null, null,
    'What Replicate was sent and what it made, before it is asked whether that is gone.'),
  ('replicate_removals', 'T3', '1 year', 'public.replicate_removals', 'removed_at',
    'The evidence that Replicate has removed it.'),
  ('processing_log', 'C5', '1 year', 'public.processing_log', 'at',
    'Steps of a generation; its own row has the times as long as it lasts.'),
  ('webhook_events', 'R5', '7 days', 'private.webhook_events', 'received_at',
    'Ids of events, to know a delivery that comes twice.'),
  ('deletion_receipts', 'X1', '3 years', 'public.deletions', 'verified_at',
    'Proofs of deletion; they hold nothing personal and outlive the account.'),
  ('closed_books', 'C7', '10 years', 'public.wallets', 'closed_at',
    'The bookkeeping of people who are gone, a number without a name.');

create function private.keep(rule text)
returns interval
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
return (select r.keep from private.retention_rules as r where r.id = rule);

-- Deletes rows that are older than their rule, at most `batch` of each; answers {rule: rows} of those that
-- had any.
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
      'delete from %1$s where ctid = any (array(select ctid from %1$s where %2$I < now() - $1 limit $2))',
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

comment on function backend.expire_rows is 'Deletes rows that are older than their rule; answers how many of each.';

create table private.heartbeats (
  id text not null,
  at timestamptz not null default now(),
  constraint heartbeats_pkey primary key (id)
);

alter table private.heartbeats enable row level security;

comment on table private.heartbeats is 'When each scheduled task last completed a pass (X2).';

create function backend.record_heartbeat(task text)
returns void
language sql
security definer
set search_path = pg_catalog, pg_temp
begin atomic
  insert into private.heartbeats as h (id, at) values (task, now())
  on conflict (id) do update set at = excluded.at;
end;

comment on function backend.record_heartbeat is 'Says that a scheduled task has completed a pass (X2).';

-- X2: what could not be deleted in time must not come in. Nothing is promised before the first pass.
create function private.is_intake_open()
returns boolean
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
return exists (
  select from private.heartbeats as h
  where h.id = 'cleanup' and h.at > now() - private.keep('sweep_silence')
);

grant execute on function private.is_intake_open to authenticated;
grant execute on function backend.expire_rows, backend.record_heartbeat to service_role;
-- Generations: one row from the moment credits are held until the person deletes the artwork.

-- Why a generation failed: a closed list, each with a sentence for people.
create table public.failure_reasons (
  id text not null,
  sentence text not null,
  constraint failure_reasons_pkey primary key (id)
);

alter table public.failure_reasons enable row level security;

create policy "Anyone reads what the reasons mean"
on public.failure_reasons
for select
to anon, authenticated
using (true);

grant select on public.failure_reasons to anon, authenticated, service_role;

comment on table public.failure_reasons is 'The closed list of reasons for which a generation fails. Credits are returned for every one.';

insert into public.failure_reasons (id, sentence) values
  ('content_flagged', 'The photo or the result was flagged as sensitive. Please try another photo or style.'),
  ('expired', 'This took longer than it may, so it was stopped. Please try again.'),
  ('input_invalid', 'The photo could not be used. Please upload it again as JPEG, PNG or WebP.'),
  ('lost', 'The result was lost on the way. Please try again.'),
  ('model_error', 'The model could not make this picture. Please try again with another photo or setting.'),
  ('output_invalid', 'The model returned something that is not a picture. Please try again.'),
  ('platform_error', 'The image service had a fault. Please try again in a few minutes.'),
  ('submit_refused', 'The image service did not accept the job. Please try again later.');

create table public.generations (
  id uuid not null default gen_random_uuid(),
  person_id uuid not null,
  idempotency_key text not null,
  style_id text not null,
  style_version integer not null,
  model_id text not null,
  prompt text not null,
  settings jsonb not null,
  credits integer not null,
  state text not null default 'reserved',
  reason text,
  input_path text not null,
  input_format text,
  input_width integer,
  input_height integer,
  input_bytes integer,
  prediction_id text,
  model_version text,
  predict_seconds numeric(8, 3),
  artwork_path text,
  artwork_content_type text,
  artwork_bytes bigint,
  artwork_sha256 text,
  artwork_missing_at timestamptz,
  deadline_at timestamptz not null,
  reserved_at timestamptz not null default now(),
  submitted_at timestamptz,
  processing_at timestamptz,
  storing_at timestamptz,
  finished_at timestamptz,
  constraint generations_pkey primary key (id),
  constraint generations_person_exists foreign key (person_id) references auth.users (id) on delete cascade,
  constraint generations_style_version_exists foreign key (style_id, style_version)
    references private.style_versions (style_id, version),
  constraint generations_model_exists foreign key (model_id) references public.models (id),
  constraint generations_reason_known foreign key (reason) references public.failure_reasons (id),
  constraint generations_idempotency_key_unique unique (person_id, idempotency_key),
  constraint generations_idempotency_key_form check (idempotency_key ~ '^[\x21-\x7e]{1,255}$'),
  constraint generations_prediction_unique unique (prediction_id),
  -- The input goes when its generation ends, so no two may share one.
  constraint generations_input_unique unique (input_path),
  constraint generations_input_belongs_to_person check (starts_with(input_path, person_id || '/')),
  constraint generations_input_format_known check (input_format in ('jpeg', 'png', 'webp')),
  constraint generations_artwork_unique unique (artwork_path),
  constraint generations_artwork_belongs_to_person check (starts_with(artwork_path, person_id || '/')),
  constraint generations_artwork_sha256_form check (artwork_sha256 ~ '^[0-9a-f]{64}$'),
  constraint generations_credits_positive check (credits > 0),
  constraint generations_state_known check (
    state in ('reserved', 'submitted', 'processing', 'storing', 'succeeded', 'failed', 'canceled')
  ),
  constraint generations_failed_has_reason check ((state = 'failed') = (reason is not null)),
  constraint generations_succeeded_has_artwork check (
    case
      when state = 'succeeded' then
        num_nulls(artwork_path, artwork_content_type, artwork_bytes, artwork_sha256) = 0
      else
        num_nonnulls(artwork_path, artwork_content_type, artwork_bytes, artwork_sha256) = 0
    end
  ),
  constraint generations_finished_when_terminal check (
    (state in ('succeeded', 'failed', 'canceled')) = (finished_at is not null)
  )
);

create index generations_person_newest_idx on public.generations (person_id, reserved_at desc, id desc);
create index generations_open_idx on public.generations (deadline_at)
  where state in ('reserved', 'submitted', 'processing', 'storing');
create index generations_style_version_idx on public.generations (style_id, style_version);
create index generations_model_id_idx on public.generations (model_id);
create index generations_reason_idx on public.generations (reason);

alter table public.generations enable row level security;

create policy "People see their own generations"
on public.generations
for select
to authenticated
using (person_id = (select auth.uid()));

grant select on public.generations to authenticated, service_role;

comment on table public.generations is 'The history of a person (U5, G1): what was asked, what was measured, where it stands, when each step was (C2 to C5).';
comment on column public.generations.prompt is 'The whole prompt as sent. It is nowhere else: not in logs, events or errors (R5).';
comment on column public.generations.artwork_missing_at is 'When it was noticed that the artwork is gone from Storage, though nobody here deleted it; its credits went back.';
comment on column public.generations.predict_seconds is 'Run time as Replicate reports it, in seconds.';

-- What the functions need to carry a generation, and people need not see.
create table private.generation_work (
  generation_id uuid not null,
  request_digest bytea not null,
  submissions integer not null default 1,
  submit_at timestamptz default now(),
  create_called_at timestamptz,
  capability_digest bytea,
  lease uuid,
  leased_until timestamptz,
  checked_at timestamptz not null default now(),
  constraint generation_work_pkey primary key (generation_id),
  constraint generation_work_generation_exists foreign key (generation_id)
    references public.generations (id) on delete cascade,
  constraint generation_work_submissions_positive check (submissions > 0),
  constraint generation_work_capability_is_sha256 check (octet_length(capability_digest) = 32),
  constraint generation_work_lease_has_end check ((lease is null) = (leased_until is null))
);

create index generation_work_submit_at_idx on private.generation_work (submit_at) where submit_at is not null;

alter table private.generation_work enable row level security;

comment on table private.generation_work is 'Submissions, leases and capabilities of generations under way.';
comment on column private.generation_work.request_digest is 'SHA-256 of what was asked: the same idempotency key with another is refused.';
comment on column private.generation_work.submissions is 'How often somebody set about submitting it; under one hold, within one deadline.';
comment on column private.generation_work.submit_at is 'From then on it is to be submitted by whoever has the lease; null once a prediction is known.';
comment on column private.generation_work.create_called_at is 'Since then Replicate may have accepted a prediction whose name nobody has heard.';
comment on column private.generation_work.capability_digest is 'SHA-256 of the token in the webhook address: ties an event to its generation even if the answer that named the prediction was lost.';
comment on column private.generation_work.lease is 'Fencing token of the worker that submits, or stores the output; a worker whose lease was taken over changes nothing.';
comment on column private.generation_work.checked_at is 'When Replicate last said something of it.';

-- Technical metadata only (R5): the columns are the list of what may be recorded.
create table public.processing_log (
  id bigint generated always as identity,
  generation_id uuid not null,
  person_id uuid not null,
  at timestamptz not null default clock_timestamp(),
  state text not null,
  reason text,
  constraint processing_log_pkey primary key (id),
  constraint processing_log_generation_exists foreign key (generation_id)
    references public.generations (id) on delete cascade,
  constraint processing_log_person_exists foreign key (person_id)
    references auth.users (id) on delete cascade
);

create index processing_log_generation_id_idx on public.processing_log (generation_id, id);
create index processing_log_person_id_idx on public.processing_log (person_id);
create index processing_log_at_idx on public.processing_log (at);

alter table public.processing_log enable row level security;

create policy "People see the log of their own generations"
on public.processing_log
for select
to authenticated
using (person_id = (select auth.uid()));

grant select on public.processing_log to authenticated, service_role;

comment on table public.processing_log is 'Each step of each generation and when it was (C4, C5).';

-- A delivery of Replicate's, by its webhook-id. The body is not kept: it holds the prompt.
create table private.webhook_events (
  id text not null,
  generation_id uuid not null,
  status text not null,
  deliveries integer not null default 1,
  received_at timestamptz not null default now(),
  constraint webhook_events_pkey primary key (id),
  constraint webhook_events_generation_exists foreign key (generation_id)
    references public.generations (id) on delete cascade,
  constraint webhook_events_id_length check (char_length(id) between 1 and 200)
);

create index webhook_events_generation_id_idx on private.webhook_events (generation_id);
create index webhook_events_received_at_idx on private.webhook_events (received_at);

alter table private.webhook_events enable row level security;

comment on table private.webhook_events is 'Signed events that were accepted, once each.';

create function private.is_terminal(state text)
returns boolean
language sql
immutable
set search_path = pg_catalog, pg_temp
return state in ('succeeded', 'failed', 'canceled');
-- Deletions. An order is a row; whoever holds its lease deletes the object and reads again to see
-- that it is gone; only then is the order verified (R2, R9, X1).

-- Why something is deleted: a closed list, each with the clause it keeps and a sentence for people.
create table public.deletion_reasons (
  id text not null,
  clause text not null,
  sentence text not null,
  constraint deletion_reasons_pkey primary key (id)
);

alter table public.deletion_reasons enable row level security;

create policy "Anyone reads what the reasons of deletions mean"
on public.deletion_reasons
for select
to anon, authenticated
using (true);

grant select on public.deletion_reasons to anon, authenticated, service_role;

comment on table public.deletion_reasons is 'The closed list of reasons for which an object is deleted, with the clause of the policy.';

insert into public.deletion_reasons (id, clause, sentence) values
  ('succeeded', 'R2', 'The artwork is made, so the photo is not needed any more.'),
  ('failed', 'R4', 'The generation failed, so the photo is not needed any more.'),
  ('canceled', 'R4', 'The generation was canceled, so the photo is not needed any more.'),
  ('limit_reached', 'R1', 'The photo was as old as a photo may get.'),
  ('asked_by_person', 'R9', 'Its owner asked for it.'),
  ('superseded', 'R4', 'It came of an attempt that did not count.'),
  ('orphaned', 'X3', 'Nothing referred to it any more.');

create table public.deletions (
  id uuid not null default gen_random_uuid(),
  person_id uuid,
  generation_id uuid,
  bucket text not null,
  path text,
  object_key uuid default gen_random_uuid(),
  bytes bigint,
  reason text not null,
  ordered_at timestamptz not null default now(),
  due_at timestamptz not null default now(),
  attempts integer not null default 0,
  deleted_at timestamptz,
  verified_at timestamptz,
  receipt text,
  constraint deletions_pkey primary key (id),
  constraint deletions_person_exists foreign key (person_id) references auth.users (id) on delete set null,
  constraint deletions_bucket_known check (bucket in ('inputs', 'artworks')),
  constraint deletions_reason_known foreign key (reason) references public.deletion_reasons (id),
  constraint deletions_attempts_not_negative check (attempts >= 0),
  -- Gone is not enough: somebody must have looked.
  constraint deletions_verified_after_deleted check (
    verified_at is null or coalesce(ordered_at <= deleted_at and deleted_at <= verified_at, false)
  ),
  constraint deletions_verified_has_receipt check ((verified_at is null) = (receipt is null)),
  constraint deletions_receipt_is_jws check (receipt ~ '^[\w-]+\.[\w-]+\.[\w-]+$'),
  -- The path names its person, so both go together; until it is gone the object must be found.
  constraint deletions_path_until_verified check (path is not null or verified_at is not null),
  constraint deletions_path_is_keyed check ((path is null) = (object_key is null))
);

create unique index deletions_one_open_order on public.deletions (bucket, path) where verified_at is null;
create index deletions_due_idx on public.deletions (due_at) where verified_at is null;
create index deletions_person_id_idx on public.deletions (person_id, ordered_at desc);
create index deletions_generation_id_idx on public.deletions (generation_id);
create index deletions_reason_idx on public.deletions (reason);
create index deletions_verified_at_idx on public.deletions (verified_at);

alter table public.deletions enable row level security;

create policy "People see the deletions of what was theirs"
on public.deletions
for select
to authenticated
using (person_id = (select auth.uid()));

grant select on public.deletions to authenticated, service_role;

comment on table public.deletions is 'Every deletion: why, when ordered, when done, when its absence was verified, and the proof.';
comment on column public.deletions.object_key is 'What the receipt''s digest of bucket and path is keyed with. Who has it can show which object a receipt is of.';
comment on column public.deletions.bytes is 'Size of the object when somebody set about deleting it; null where there was none.';
comment on column public.deletions.receipt is 'A compact JWS (RFC 7515, Ed25519): proof of the verified deletion (X1).';
comment on column public.deletions.due_at is 'Nobody tries before this: the first attempt, the end of a lease, or the next attempt.';

-- A receipt outlives the account; what says whose it is does not (X1).
create function private.forget_subject()
returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  new.path := null;
  new.object_key := null;
  new.generation_id := null;
  return new;
end;
$$;

create trigger deletions_forget_subject
before update on public.deletions
for each row
when (new.person_id is null and new.verified_at is not null)
execute function private.forget_subject();

create table private.deletion_leases (
  deletion_id uuid not null,
  lease uuid not null,
  constraint deletion_leases_pkey primary key (deletion_id),
  constraint deletion_leases_deletion_exists foreign key (deletion_id)
    references public.deletions (id) on delete cascade
);

alter table private.deletion_leases enable row level security;

comment on table private.deletion_leases is 'Who is executing a deletion; a lease ends when its deletion is due again.';

-- As RFC 3339 has it, in UTC, to the microsecond: what is signed must not depend on a setting.
create function private.timestamp(at timestamptz)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
return to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');

-- Idempotent: an object has at most one open order. Ordered again, it is due at the earlier of both,
-- unless somebody is executing it at this moment.
create function private.order_deletion(
  bucket text,
  path text,
  reason text,
  person_id uuid,
  generation_id uuid,
  due_at timestamptz default now()
)
returns void
language sql
set search_path = pg_catalog, pg_temp
begin atomic
  insert into public.deletions as d (bucket, path, reason, person_id, generation_id, due_at)
  values (bucket, path, reason, person_id, generation_id, due_at)
  on conflict (bucket, path) where verified_at is null
  do update set due_at = least(d.due_at, excluded.due_at)
  where not exists (select from private.deletion_leases as l where l.deletion_id = d.id);
end;

-- Hands out due deletions, each to one caller, until the lease ends. With a generation, only its own.
create function backend.lease_deletions(
  batch integer default 100,
  lease_seconds integer default 60,
  generation_id uuid default null
)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  leased jsonb;
begin
  with due as (
    select d.id
    from public.deletions as d
    where d.verified_at is null
      and d.due_at <= now()
      and (lease_deletions.generation_id is null or d.generation_id = lease_deletions.generation_id)
    order by d.due_at
    limit batch
    for update skip locked
  ),
  taken as (
    update public.deletions as d
    set due_at = now() + make_interval(secs => lease_seconds),
      attempts = d.attempts + 1,
      bytes = coalesce(
        (
          select (o.metadata ->> 'size')::bigint
          from storage.objects as o
          where o.bucket_id = d.bucket and o.name = d.path
        ),
        d.bytes
      )
    from due
    where d.id = due.id
    returning d.*
  ),
  leases as (
    insert into private.deletion_leases as l (deletion_id, lease)
    select id, gen_random_uuid() from taken
    on conflict (deletion_id) do update set lease = excluded.lease
    returning l.deletion_id, l.lease
  )
  select coalesce(jsonb_agg(jsonb_build_object(
    'id', taken.id, 'lease', leases.lease, 'bucket', taken.bucket, 'path', taken.path,
    'object_key', taken.object_key, 'bytes', taken.bytes, 'reason', taken.reason, 'clause', r.clause,
    'attempts', taken.attempts, 'ordered_at', private.timestamp(taken.ordered_at),
    'leased_at', private.timestamp(now())
  )), '[]')
  into leased
  from taken
  join leases on leases.deletion_id = taken.id
  join public.deletion_reasons as r on r.id = taken.reason;
  return leased;
end;
$$;

comment on function backend.lease_deletions is 'Due deletions for the caller to execute, with all that their receipts say.';

-- `results`: [{id, lease, absent, deleted_at, verified_at, receipt}], absent = a read after the deletion
-- found nothing, and then the rest is there. It counts only if the listing agrees. What remains is tried
-- again, later each time, and never given up.
create function backend.record_deletions(results jsonb)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  recorded jsonb;
begin
  with result as (
    select d.id, r.deleted_at, r.verified_at, r.receipt,
      r.absent
        -- A clock that jumped meanwhile makes no proof.
        and r.deleted_at >= d.ordered_at
        and r.verified_at <= clock_timestamp() + interval '1 second'
        and not exists (
          select from storage.objects as o where o.bucket_id = d.bucket and o.name = d.path
        ) as gone
    from jsonb_to_recordset(results) as r (
      id uuid, lease uuid, absent boolean, deleted_at timestamptz, verified_at timestamptz, receipt text
    )
    join private.deletion_leases as l on l.deletion_id = r.id and l.lease = r.lease
    join public.deletions as d on d.id = r.id and d.verified_at is null
  ),
  updated as (
    update public.deletions as d
    set deleted_at = case when result.gone then result.deleted_at end,
      verified_at = case when result.gone then result.verified_at end,
      receipt = case when result.gone then result.receipt end,
      due_at = now() + least(interval '1 hour', interval '10 seconds' * power(2, least(d.attempts, 10)))
    from result
    where d.id = result.id
    returning d.id, d.verified_at
  ),
  ended as (
    delete from private.deletion_leases as l using updated where l.deletion_id = updated.id
  )
  select jsonb_build_object(
    'verified', count(*) filter (where verified_at is not null),
    'remaining', count(*) filter (where verified_at is null)
  )
  into recorded
  from updated;
  return recorded;
end;
$$;

comment on function backend.record_deletions is 'Reports executed deletions; answers {verified, remaining}. Results under a lost lease are ignored.';

grant execute on function backend.lease_deletions, backend.record_deletions to service_role;
-- Replicate keeps what it was sent, and what it made, for an hour. After that it is asked whether all of it
-- is gone, and the answer is the evidence (T3).

create table public.replicate_removals (
  prediction_id text not null,
  person_id uuid,
  generation_id uuid,
  due_at timestamptz not null,
  attempts integer not null default 0,
  removed_at timestamptz,
  evidence text,
  constraint replicate_removals_pkey primary key (prediction_id),
  constraint replicate_removals_person_exists foreign key (person_id)
    references auth.users (id) on delete set null,
  constraint replicate_removals_attempts_not_negative check (attempts >= 0),
  constraint replicate_removals_evidence_known check (evidence in ('data_removed', 'not_found')),
  constraint replicate_removals_removed_has_evidence check ((removed_at is null) = (evidence is null))
);

create index replicate_removals_due_idx on public.replicate_removals (due_at) where removed_at is null;
create index replicate_removals_person_id_idx on public.replicate_removals (person_id);
create index replicate_removals_removed_at_idx on public.replicate_removals (removed_at);

alter table public.replicate_removals enable row level security;

create policy "People see what Replicate has removed of theirs"
on public.replicate_removals
for select
to authenticated
using (person_id = (select auth.uid()));

grant select on public.replicate_removals to authenticated, service_role;

comment on table public.replicate_removals is 'Each prediction that was made, and the evidence that Replicate keeps nothing of it (T3).';
comment on column public.replicate_removals.generation_id is 'Not a foreign key: a generation that is deleted within the hour is asked about all the same.';
comment on column public.replicate_removals.evidence is 'What Replicate answered: data_removed, or that it does not know the prediction any more.';

create function private.follow_prediction()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  insert into public.replicate_removals (prediction_id, person_id, generation_id, due_at)
  values (new.prediction_id, new.person_id, new.id, now() + private.keep('replicate_hour'))
  on conflict do nothing;
  return null;
end;
$$;

create trigger generations_follow_prediction
after update of prediction_id on public.generations
for each row
when (new.prediction_id is not null and new.prediction_id is distinct from old.prediction_id)
execute function private.follow_prediction();

-- Predictions to ask about, longest due first. Who asks has ten minutes; then it is anybody's again.
create function backend.lease_removals(batch integer default 50)
returns jsonb
language sql
security definer
set search_path = pg_catalog, pg_temp
begin atomic
  with due as (
    select r.prediction_id
    from public.replicate_removals as r
    where r.removed_at is null and r.due_at <= now()
    order by r.due_at
    limit batch
    for update skip locked
  ),
  asked as (
    update public.replicate_removals as r
    set due_at = now() + interval '10 minutes', attempts = r.attempts + 1
    from due
    where r.prediction_id = due.prediction_id
    returning r.prediction_id
  )
  select coalesce(jsonb_agg(prediction_id), '[]') from asked;
end;

-- `results`: [{prediction, evidence}]; evidence is null where something is still there, and then it is
-- asked about again, at most six hours later.
create function backend.record_removals(results jsonb)
returns void
language sql
security definer
set search_path = pg_catalog, pg_temp
begin atomic
  update public.replicate_removals as r
  set evidence = told.evidence,
    removed_at = case when told.evidence is not null then now() end,
    due_at = now() + least(interval '6 hours', interval '5 minutes' * power(2, least(r.attempts, 10)))
  from jsonb_to_recordset(results) as told (prediction text, evidence text)
  where r.prediction_id = told.prediction and r.removed_at is null;
end;

comment on function backend.lease_removals is 'Predictions whose hour at Replicate is over, for the caller to ask about.';
comment on function backend.record_removals is 'What Replicate answered about them: the evidence, or that something is still there.';

grant execute on function backend.lease_removals, backend.record_removals to service_role;
-- The life of a generation. A move between states happens only along these lines, and what a move
-- implies (times, log, credits, deletion) happens with it, in the same statement.
--
--   reserved → submitted → processing → storing → succeeded
--       └──────────┴───────────┴───────────┴────→ failed | canceled
--
-- Steps forward may be skipped: events of Replicate's come late, twice or never.

create function private.guard_transition()
returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  way constant text[] := array['reserved', 'submitted', 'processing', 'storing', 'succeeded'];
  step timestamptz := clock_timestamp();
begin
  if private.is_terminal(old.state)
    or (new.state in (select unnest(way)) and array_position(way, new.state) <= array_position(way, old.state))
    or (new.state = 'succeeded' and old.state <> 'storing')
  then
    raise exception 'a generation cannot go from % to %', old.state, new.state using errcode = '23514';
  end if;

  if new.state in ('submitted', 'processing', 'storing') then
    new.submitted_at := coalesce(new.submitted_at, step);
  end if;
  if new.state = 'processing' then
    new.processing_at := step;
  elsif new.state = 'storing' then
    new.storing_at := step;
  elsif private.is_terminal(new.state) then
    new.finished_at := step;
  end if;
  return new;
end;
$$;

create trigger generations_guard_transition
before update of state on public.generations
for each row
when (old.state is distinct from new.state)
execute function private.guard_transition();

create function private.follow_transition()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  insert into public.processing_log (generation_id, person_id, state, reason)
  values (new.id, new.person_id, new.state, new.reason);

  if tg_op = 'INSERT' then
    insert into public.credit_holds (wallet_id, generation_id, amount)
    select w.id, new.id, new.credits from public.wallets as w where w.person_id = new.person_id;
  elsif private.is_terminal(new.state) then
    update public.credit_holds
    set state = case when new.state = 'succeeded' then 'captured' else 'released' end,
      settled_at = clock_timestamp()
    where generation_id = new.id;
    perform private.order_deletion('inputs', new.input_path, new.state, new.person_id, new.id);
    update private.generation_work
    set lease = null, leased_until = null, submit_at = null
    where generation_id = new.id;
  end if;
  return null;
end;
$$;

create trigger generations_follow_reservation
after insert on public.generations
for each row
execute function private.follow_transition();

create trigger generations_follow_transition
after update of state on public.generations
for each row
when (old.state is distinct from new.state)
execute function private.follow_transition();

create function private.guard_reservation()
returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if new.state <> 'reserved' then
    raise exception 'a generation begins reserved' using errcode = '23514';
  end if;
  return new;
end;
$$;

create trigger generations_guard_reservation
before insert on public.generations
for each row
execute function private.guard_reservation();

-- However a generation goes, by its person's wish or with the account: nothing stays held, nothing stored.
create function private.follow_deletion()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  -- While an account is being deleted its row is gone already.
  person constant uuid := (select u.id from auth.users as u where u.id = old.person_id);
begin
  if not private.is_terminal(old.state) then
    update public.credit_holds set state = 'released', settled_at = clock_timestamp()
    where generation_id = old.id;
    perform private.order_deletion('inputs', old.input_path, 'canceled', person, old.id);
  end if;
  if old.artwork_path is not null then
    perform private.order_deletion('artworks', old.artwork_path, 'asked_by_person', person, old.id);
  end if;
  return old;
end;
$$;

create trigger generations_follow_deletion
before delete on public.generations
for each row
execute function private.follow_deletion();

-- What people and the functions' answers show of a generation.
create function private.describe(generation public.generations)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
return jsonb_build_object(
  'id', generation.id,
  'state', generation.state,
  'reason', generation.reason,
  'message', (select r.sentence from public.failure_reasons as r where r.id = generation.reason),
  'style', generation.style_id,
  'style_version', generation.style_version,
  'model', generation.model_id,
  'settings', generation.settings,
  'credits', generation.credits,
  'input_path', generation.input_path,
  'artwork_path', generation.artwork_path,
  'artwork_missing_at', generation.artwork_missing_at,
  'deadline_at', generation.deadline_at,
  'reserved_at', generation.reserved_at,
  'finished_at', generation.finished_at
);

-- Whose folder a path is in; null where nobody has that id any more.
create function private.owner(path text)
returns uuid
language sql
stable
set search_path = pg_catalog, pg_temp
return (
  select u.id
  from auth.users as u
  where u.id = case
    when split_part(path, '/', 1) ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
    then split_part(path, '/', 1)::uuid
  end
);
-- How much one person may start. Counted by holds: they stay when a generation is deleted, so deleting
-- makes no room.

create table private.submission_limits (
  id text not null,
  most integer not null,
  span interval,
  words text not null,
  constraint submission_limits_pkey primary key (id),
  constraint submission_limits_most_positive check (most > 0),
  constraint submission_limits_span_positive check (span > '0')
);

alter table private.submission_limits enable row level security;

comment on table private.submission_limits is 'Limits a person, a row each. Change a row to change a limit.';
comment on column private.submission_limits.span is 'Counted within this time; null: running at the same time.';

insert into private.submission_limits (id, most, span, words) values
  ('concurrent', 5, null, 'at the same time'),
  ('per_minute', 10, '1 minute', 'a minute'),
  ('per_day', 100, '1 day', 'a day');

-- Refuses (429) what would exceed a limit, with the limit and the seconds after which it may not.
create function private.check_limits(wallet uuid)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  reached record;
begin
  -- A limit is reached if there is a hold at its place, newest first; it ends when that one leaves.
  select l.id, l.most, l.words,
    case when l.span is null then 10 else ceil(extract(epoch from last_place.opened_at + l.span - now())) end
      as retry_after
  into reached
  from private.submission_limits as l
  cross join lateral (
    select h.opened_at
    from public.credit_holds as h
    where h.wallet_id = wallet and l.span is not null and h.opened_at > now() - l.span
    union all
    select h.opened_at
    from public.credit_holds as h
    where h.wallet_id = wallet and l.span is null and h.state = 'open'
    order by opened_at desc
    offset l.most - 1
    limit 1
  ) as last_place
  order by retry_after desc
  limit 1;

  if found then
    perform private.refuse(429, 'too_many_generations',
      format('You can start %s generations %s. Please try again in %s seconds.',
        reached.most, reached.words, reached.retry_after),
      jsonb_build_object(
        'limit', reached.id, 'most', reached.most, 'retry_after', reached.retry_after));
  end if;
end;
$$;
-- How a reservation becomes a prediction. A submission is owed from the reservation on, until somebody
-- has heard of its prediction; whoever holds its lease carries it out, and may die after any line.

-- Long enough to fetch, judge and put back the largest photo.
create function private.submission_lease_end()
returns timestamptz
language sql
stable
set search_path = pg_catalog, pg_temp
return now() + interval '90 seconds';

-- What a worker needs to submit. With `create_called_at`, an earlier worker may have done so already.
create function private.describe_submission(generation public.generations)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
return jsonb_build_object(
  'generation', generation.id,
  'input_path', generation.input_path,
  'input_recorded', generation.input_format is not null,
  'replicate_model', (select m.replicate_model from public.models as m where m.id = generation.model_id),
  'prompt', generation.prompt,
  'settings', generation.settings,
  'deadline_seconds', greatest(0, floor(extract(epoch from generation.deadline_at - now())))::integer,
  'create_called_at', (
    select extract(epoch from w.create_called_at)
    from private.generation_work as w
    where w.generation_id = generation.id
  )
);

-- The photo was checked and lies in Storage without its metadata (C2, T2): `format` to `bytes` say what
-- was measured, or are null where an earlier worker has said so. The worker does not touch it any more,
-- and may now create one prediction, whose events carry the token that `capability` is the SHA-256 (hex)
-- of. Answers {outcome, deletions}: open; superseded, when somebody else submits by now; or ended, when
-- the generation was over before the photo was put back, and then it is among the deletions once more.
create function backend.record_input(
  generation_id uuid,
  lease uuid,
  capability text,
  path text,
  format text,
  width integer,
  height integer,
  bytes integer
)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  outcome text := 'superseded';
begin
  update public.generations as g
  set input_format = coalesce(format, g.input_format),
    input_width = coalesce(width, g.input_width),
    input_height = coalesce(height, g.input_height),
    input_bytes = coalesce(bytes, g.input_bytes)
  from private.generation_work as w
  where g.id = record_input.generation_id and not private.is_terminal(g.state)
    and g.prediction_id is null
    and w.generation_id = g.id and w.lease = record_input.lease;
  if found then
    outcome := 'open';
    update private.generation_work as w
    set capability_digest = decode(capability, 'hex'),
      create_called_at = now(),
      leased_until = private.submission_lease_end()
    where w.generation_id = record_input.generation_id;
  elsif not exists (
    select from public.generations as g
    where g.id = record_input.generation_id and not private.is_terminal(g.state)
  ) then
    outcome := 'ended';
    perform private.order_deletion(
      'inputs', path, 'superseded', private.owner(path), record_input.generation_id);
  end if;

  return jsonb_build_object(
    'outcome', outcome,
    'deletions', backend.lease_deletions(generation_id => record_input.generation_id)
  );
end;
$$;

-- A prediction exists: it was created with that capability, or found by whoever has the lease. Answers
-- {outcome, generation}: attached; or ended, when the generation is over, or another was allowed in its
-- place by now, and this one is to be canceled.
create function backend.attach_prediction(
  generation_id uuid,
  lease uuid,
  prediction_id text,
  capability text default null
)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  generation public.generations;
begin
  -- An event may have been quicker, so the state only ever moves forward here.
  update public.generations as g
  set state = case when g.state = 'reserved' then 'submitted' else g.state end,
    prediction_id = attach_prediction.prediction_id
  from private.generation_work as w
  where g.id = attach_prediction.generation_id
    and w.generation_id = g.id
    and (g.prediction_id = attach_prediction.prediction_id
      or (g.prediction_id is null and w.capability_digest = decode(capability, 'hex'))
      or (g.prediction_id is null and capability is null and w.lease = attach_prediction.lease));
  if found then
    -- Whoever else has leased the submission meanwhile is told that it is superseded.
    update private.generation_work as w
    set submit_at = null, create_called_at = null, checked_at = now(), lease = null, leased_until = null
    where w.generation_id = attach_prediction.generation_id and w.submit_at is not null;
  end if;

  select * into generation from public.generations as g where g.id = attach_prediction.generation_id;
  return jsonb_build_object(
    'outcome', case
      when generation.prediction_id = attach_prediction.prediction_id
        and generation.state not in ('failed', 'canceled') then 'attached'
      else 'ended'
    end,
    'generation', case when generation.id is not null then private.describe(generation) end
  );
end;
$$;

-- Certainly nothing was created: to be tried again later, each time later, under the same hold.
create function backend.postpone_submission(generation_id uuid, lease uuid)
returns void
language sql
security definer
set search_path = pg_catalog, pg_temp
begin atomic
  update private.generation_work as w
  set submit_at = now() + least(interval '2 minutes', interval '15 seconds' * power(2, w.submissions - 1)),
    create_called_at = null,
    lease = null,
    leased_until = null
  where w.generation_id = postpone_submission.generation_id and w.lease = postpone_submission.lease;
end;

-- Replicate's platform failed, not the model: the prediction is forgotten, with its capability, and
-- another is owed. Answers false where that has happened too often, or no time is left.
create function private.submit_again(generation public.generations)
returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  update private.generation_work as w
  set submit_at = now(), create_called_at = null, capability_digest = null, lease = null, leased_until = null
  where w.generation_id = generation.id
    and w.submissions < 3
    and generation.deadline_at > now() + interval '1 minute';
  if found then
    update public.generations as g set prediction_id = null where g.id = generation.id;
  end if;
  return found;
end;
$$;

-- Leases submissions that are due, [] if there is none, to be carried out as the first was.
create function backend.lease_submissions(lease uuid, batch integer default 10)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  leased jsonb;
begin
  with due as (
    select w.generation_id
    from private.generation_work as w
    join public.generations as g on g.id = w.generation_id
    where w.submit_at <= now()
      and (w.lease is null or w.leased_until <= now())
      and w.submissions < 6
      and g.prediction_id is null
      and g.deadline_at > now() + interval '30 seconds'
    order by w.submit_at
    limit batch
    for update of w skip locked
  )
  update private.generation_work as w
  set lease = lease_submissions.lease,
    leased_until = private.submission_lease_end(),
    submissions = w.submissions + 1
  from due
  where w.generation_id = due.generation_id;

  select coalesce(jsonb_agg(private.describe_submission(g)), '[]')
  into leased
  from private.generation_work as w
  join public.generations as g on g.id = w.generation_id
  where w.submit_at is not null and w.lease = lease_submissions.lease;
  return leased;
end;
$$;

comment on function backend.record_input is 'What was measured of the photo (C2), before anything is submitted.';
comment on function backend.attach_prediction is 'The job was accepted: ties its prediction to the generation.';
comment on function backend.postpone_submission is 'Gives a submission back that did not come about; it is due again later.';
comment on function backend.lease_submissions is 'Submissions that nobody has finished, for the caller to carry out.';

grant execute on function
  backend.record_input, backend.attach_prediction, backend.postpone_submission, backend.lease_submissions
to service_role;
-- What a person asks for: begin, cancel, delete. Called under the person's own token, so that
-- PostgREST has verified who it is; the callers in `public` only pass on to `private`.

-- Answers {outcome: created, generation, submission} or, for a key seen before, {outcome: replayed,
-- generation}. Refuses with 401, 402, 404, 409, 422 or 429. `lease` is of the caller's choosing: who asks
-- again with the same, because the answer was lost, is told of the submission again.
create function private.begin_generation(
  style text,
  input_path text,
  idempotency_key text,
  lease uuid,
  model text,
  prompt text,
  settings jsonb
)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  person constant uuid := auth.uid();
  request constant bytea := sha256(convert_to(
    jsonb_build_array(style, input_path, model, prompt, settings)::text, 'utf8'));
  wallet public.wallets;
  chosen_style public.styles;
  chosen_model public.models;
  price integer;
  generation public.generations;
  work private.generation_work;
begin
  -- One submission of a person at a time: the key, the credits and the limits are read once.
  select * into wallet from public.wallets where person_id = person for update;
  if not found then
    perform private.refuse(401, 'not_signed_in', 'Please sign in.');
  end if;

  select * into generation from public.generations as g
  where g.person_id = person and g.idempotency_key = begin_generation.idempotency_key;
  if found then
    select * into work from private.generation_work as w where w.generation_id = generation.id;
    if work.request_digest <> request then
      perform private.refuse(409, 'idempotency_key_reused',
        'This Idempotency-Key was used for another request. Use a new key for a new request.');
    end if;
    if work.lease is distinct from begin_generation.lease then
      return jsonb_build_object('outcome', 'replayed', 'generation', private.describe(generation));
    end if;
    return private.created(generation);
  end if;

  if not private.is_intake_open() then
    perform private.refuse(503, 'intake_closed',
      'No photo is taken at the moment, because photos could not be deleted in time. Nothing was charged. '
      'Please try again in a minute.', '{"retry_after": 60}');
  end if;

  select * into chosen_style from public.styles as s where s.id = style and s.available;
  if not found then
    perform private.refuse(422, 'unknown_style',
      'style is not one of the available styles; see the styles table.', '{"field": "style"}');
  end if;
  select * into chosen_model from public.models as m
  where m.id = coalesce(model, chosen_style.model_id) and m.available;
  if not found then
    perform private.refuse(422, 'unknown_model',
      'model is not one of the available models; see the models table.', '{"field": "model"}');
  end if;
  perform private.check_settings(chosen_model.settings_schema, settings);
  if char_length(prompt) > 1000 then
    perform private.refuse(422, 'invalid_prompt', 'prompt may have at most 1000 characters.',
      '{"field": "prompt"}');
  end if;

  perform private.check_input(person, input_path);

  price := chosen_model.credits + chosen_style.extra_credits;
  if wallet.balance - wallet.held < price then
    perform private.refuse(402, 'insufficient_credits',
      format('This costs %s credits and you have %s.', price, wallet.balance - wallet.held),
      jsonb_build_object('price', price, 'balance', wallet.balance - wallet.held));
  end if;
  perform private.check_limits(wallet.id);

  insert into public.generations (
    person_id, idempotency_key, style_id, style_version, model_id, prompt, settings,
    credits, input_path, deadline_at
  )
  select person, begin_generation.idempotency_key, v.style_id, v.version, chosen_model.id,
    concat_ws(' ', v.prompt, nullif(btrim(begin_generation.prompt), '')),
    chosen_model.default_settings || begin_generation.settings, price,
    begin_generation.input_path, now() + chosen_model.deadline
  from private.style_versions as v
  where v.style_id = chosen_style.id and v.version = chosen_style.version
  returning * into generation;

  insert into private.generation_work (generation_id, request_digest, lease, leased_until)
  values (generation.id, request, begin_generation.lease, private.submission_lease_end());
  return private.created(generation);
end;
$$;

create function private.created(generation public.generations)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
return jsonb_build_object(
  'outcome', 'created',
  'generation', private.describe(generation),
  'submission', private.describe_submission(generation)
);

-- Another's photo and one that is not there give the same answer.
create function private.check_input(person uuid, path text)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if not starts_with(path, person || '/')
    or not exists (select from storage.objects as o where o.bucket_id = 'inputs' and o.name = path)
    or exists (
      select from public.deletions as d
      where d.bucket = 'inputs' and d.path = check_input.path and d.verified_at is null
    )
  then
    perform private.refuse(404, 'input_not_found',
      'There is no such photo of yours. Upload it to the bucket inputs first.', '{"field": "input_path"}');
  end if;

  if exists (select from public.generations as g where g.input_path = path) then
    perform private.refuse(409, 'input_in_use',
      'This photo already belongs to a generation. Upload it again to use it again.',
      '{"field": "input_path"}');
  end if;
end;
$$;

create function public.begin_generation(
  style text,
  input_path text,
  idempotency_key text,
  lease uuid,
  model text default null,
  prompt text default null,
  settings jsonb default '{}'
)
returns jsonb
language sql
set search_path = pg_catalog, pg_temp
return private.begin_generation(style, input_path, idempotency_key, lease, model, prompt, settings);

-- Locks and returns the caller's generation; another's is as absent as none (404).
create function private.own_generation(generation_id uuid)
returns public.generations
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  generation public.generations;
begin
  select * into generation from public.generations as g
  where g.id = generation_id and g.person_id = auth.uid()
  for update;
  if not found then
    perform private.refuse(404, 'generation_not_found', 'There is no such generation of yours.');
  end if;
  return generation;
end;
$$;

-- Answers {generation, cancel_prediction, deletions}: the prediction to cancel at Replicate, or null,
-- and the deletions to execute now. A generation that has already ended stays as it is; that of one
-- that was canceled is named again, since the first answer may have been lost.
create function private.cancel_generation(generation_id uuid)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  generation public.generations := private.own_generation(generation_id);
  running text;
begin
  if not private.is_terminal(generation.state) then
    update public.generations as g set state = 'canceled' where g.id = generation.id
    returning * into generation;
  end if;
  if generation.state = 'canceled' then
    running := generation.prediction_id;
  end if;
  return jsonb_build_object(
    'generation', private.describe(generation),
    'cancel_prediction', running,
    'deletions', backend.lease_deletions(generation_id => generation.id)
  );
end;
$$;

create function public.cancel_generation(generation_id uuid)
returns jsonb
language sql
set search_path = pg_catalog, pg_temp
return private.cancel_generation(generation_id);

-- R9: the row goes at once; its objects are ordered deleted in the same transaction. What somebody
-- is storing at this moment was ordered deleted before it was stored, and stays ordered.
create function private.delete_generation(generation_id uuid)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  ended constant jsonb := private.cancel_generation(generation_id);
begin
  delete from public.generations as g where g.id = delete_generation.generation_id;
  return jsonb_set(ended, '{deletions}',
    ended -> 'deletions' || backend.lease_deletions(generation_id => delete_generation.generation_id));
end;
$$;

create function public.delete_generation(generation_id uuid)
returns jsonb
language sql
set search_path = pg_catalog, pg_temp
return private.delete_generation(generation_id);

comment on function public.begin_generation is 'Reserves a generation: checks it, holds its price, answers what to submit. Use POST /generations, which also submits it.';
comment on function public.cancel_generation is 'Ends a generation of the caller''s; its credits go back. Use POST /generations/{id}/cancel, which also stops the model.';
comment on function public.delete_generation is 'Deletes a generation of the caller''s and orders its objects deleted. Use DELETE /generations/{id}, which also carries that out.';

grant execute on function
  private.begin_generation, private.cancel_generation, private.delete_generation,
  public.begin_generation, public.cancel_generation, public.delete_generation
to authenticated;
-- What the functions report of a generation, and what they are told to do next. Decisions follow from
-- the generation's state alone, so an event may come late, twice, or never.

-- Ends a generation. With a lease, only if the lease still holds. Answers {outcome, generation,
-- deletions}: failed; ended when it was over before, otherwise than so; superseded when the lease was lost.
create function backend.fail_generation(generation_id uuid, reason text, lease uuid default null)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  generation public.generations;
  failed boolean;
begin
  update public.generations as g
  set state = 'failed', reason = fail_generation.reason
  where g.id = generation_id
    and not private.is_terminal(g.state)
    and (fail_generation.lease is null or exists (
      select from private.generation_work as w
      where w.generation_id = g.id and w.lease = fail_generation.lease
    ))
  returning * into generation;
  failed := found;

  if failed and lease is not null then
    -- Whoever held the lease has stopped storing: what came of it can go now.
    update public.deletions as d set due_at = now()
    where d.bucket = 'artworks' and d.generation_id = generation.id and d.verified_at is null;
  end if;
  if not failed then
    select * into generation from public.generations as g where g.id = generation_id;
  end if;
  return jsonb_build_object(
    'outcome', case
      when generation.state = 'failed' and generation.reason = fail_generation.reason then 'failed'
      when generation.id is null or private.is_terminal(generation.state) then 'ended'
      else 'superseded'
    end,
    'generation', case when generation.id is not null then private.describe(generation) end,
    'deletions', backend.lease_deletions(generation_id => fail_generation.generation_id)
  );
end;
$$;

-- The generation that an event speaks of: by the capability in the webhook's address, so that an
-- event is at home even where the answer that named its prediction was lost; or, for an answer we
-- asked for ourselves, by the prediction alone.
create function private.find_generation(generation_id uuid, capability text, prediction_id text)
returns public.generations
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  generation public.generations;
begin
  select g.* into generation
  from public.generations as g
  join private.generation_work as w on w.generation_id = g.id
  where g.id = find_generation.generation_id
    and coalesce(g.prediction_id, find_generation.prediction_id) = find_generation.prediction_id
    and (w.capability_digest = decode(capability, 'hex') or (capability is null and g.prediction_id is not null))
  -- Both, so that who has waited for another event sees what that has made of the capability.
  for update of g, w;
  return generation;
end;
$$;

-- One event of Replicate's, or one answer to a question of ours (then `event_id` and `capability` are
-- null). `status` is Replicate's own word; `reason` is ours for a failure; `output_extension` is null
-- where there is no output. Answers {action, deletions}:
--   unknown  no such generation, or no longer its prediction; ignore it
--   none     nothing to do but the deletions, if any
--   store    stream the output to `artwork_path`, then complete_generation under the lease
-- `lease` is of the caller's choosing, so that asking again after a lost answer gives the same.
create function backend.record_prediction_event(
  lease uuid,
  event_id text,
  generation_id uuid,
  capability text,
  prediction_id text,
  status text,
  reason text default null,
  output_extension text default null,
  model_version text default null,
  predict_seconds numeric default null
)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  generation public.generations := private.find_generation(
    record_prediction_event.generation_id, capability, record_prediction_event.prediction_id);
  ended constant text := private.ending(status, reason, output_extension);
  is_open boolean := not private.is_terminal(generation.state);
  artwork text;
begin
  if generation.id is null then
    return jsonb_build_object('action', 'unknown');
  end if;

  insert into private.webhook_events as e (id, generation_id, status)
  select event_id, generation.id, left(record_prediction_event.status, 20) where event_id is not null
  on conflict (id) do update set deliveries = e.deliveries + 1;
  update private.generation_work as w set checked_at = now() where w.generation_id = generation.id;

  if is_open and ended = 'platform_error' then
    is_open := not private.submit_again(generation);
  end if;
  if is_open then
    -- An event that is quicker than the answer to the create call ends the submission.
    update private.generation_work as w
    set submit_at = null, create_called_at = null, lease = null, leased_until = null
    where w.generation_id = generation.id and w.submit_at is not null;
    update public.generations as g
    set prediction_id = record_prediction_event.prediction_id,
      model_version = coalesce(left(record_prediction_event.model_version, 100), g.model_version),
      predict_seconds = coalesce(record_prediction_event.predict_seconds, g.predict_seconds),
      reason = ended,
      state = case
        when ended is not null then 'failed'
        when status = 'succeeded' then 'storing'
        when status = 'processing' and g.state in ('reserved', 'submitted') then 'processing'
        when g.state = 'reserved' then 'submitted'
        else g.state
      end
    where g.id = generation.id
    returning * into generation;

    if generation.state = 'storing' and status = 'succeeded' then
      artwork := private.lease_storing(generation, output_extension, record_prediction_event.lease);
    end if;
  end if;

  return jsonb_build_object(
    'action', case when artwork is null then 'none' else 'store' end,
    'artwork_path', artwork,
    'deletions', backend.lease_deletions(generation_id => generation.id)
  );
end;
$$;

-- The reason for which a prediction ends its generation in failure, or null if it does not. Nobody
-- but us cancels: a prediction that Replicate calls canceled or aborted has met its deadline.
create function private.ending(status text, reason text, output_extension text)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
return case status
  when 'failed' then coalesce(reason, 'model_error')
  when 'canceled' then 'expired'
  when 'aborted' then 'expired'
  when 'succeeded' then case
    when output_extension in ('jpg', 'png', 'webp') then null
    else coalesce(reason, 'output_invalid')
  end
end;

-- The right to store an output, for one worker at a time. The object is ordered deleted before it
-- exists: only its completion takes the order back, so nothing half stored can stay. Answers where to
-- store it, or null while another worker is at it.
create function private.lease_storing(generation public.generations, extension text, new_lease uuid)
returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  lease_end constant timestamptz := now() + interval '2 minutes';
  artwork constant text := format('%s/%s.%s', generation.person_id, generation.id, extension);
begin
  update private.generation_work as w
  set lease = new_lease, leased_until = lease_end
  where w.generation_id = generation.id
    and (w.lease is null or w.lease = new_lease or w.leased_until <= now());
  if not found then
    return null;
  end if;

  insert into public.deletions as d (bucket, path, reason, person_id, generation_id, due_at)
  values ('artworks', artwork, 'superseded', generation.person_id, generation.id, lease_end + interval '1 minute')
  on conflict (bucket, path) where verified_at is null
  do update set due_at = excluded.due_at;
  delete from private.deletion_leases as l
  using public.deletions as d
  where l.deletion_id = d.id and d.bucket = 'artworks' and d.path = artwork and d.verified_at is null;

  return artwork;
end;
$$;

-- The artwork is stored. Answers {outcome, deletions}: completed; or superseded when the lease was
-- lost or the generation is over, and then what was stored is among the deletions. Refuses (409) what
-- Storage does not hold, whole: an upload may have been answered and lost.
create function backend.complete_generation(
  generation_id uuid,
  lease uuid,
  artwork_path text,
  content_type text,
  bytes bigint,
  sha256 text
)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  completed boolean;
begin
  -- The generation first, then the order: every other path locks in this sequence.
  perform from public.generations as g where g.id = complete_generation.generation_id for update;
  perform from private.generation_work as w
  where w.generation_id = complete_generation.generation_id and w.lease = complete_generation.lease;
  completed := found;

  if completed and not exists (
    select from storage.objects as o
    where o.bucket_id = 'artworks' and o.name = complete_generation.artwork_path
      and (o.metadata ->> 'size')::bigint = complete_generation.bytes
  ) then
    perform private.refuse(409, 'artwork_not_stored', 'The artwork is not in Storage.');
  end if;
  if completed then
    -- A deletion that is under way cannot be taken back; then this attempt was too late.
    delete from public.deletions as d
    where d.bucket = 'artworks' and d.path = complete_generation.artwork_path and d.verified_at is null
      and not exists (select from private.deletion_leases as l where l.deletion_id = d.id);
    completed := found;
  end if;

  if completed then
    update public.generations as g
    set state = 'succeeded',
      artwork_path = complete_generation.artwork_path,
      artwork_content_type = content_type,
      artwork_bytes = bytes,
      artwork_sha256 = sha256
    where g.id = complete_generation.generation_id;
  else
    perform private.discard_artwork(complete_generation.generation_id, complete_generation.artwork_path);
  end if;

  return jsonb_build_object(
    'outcome', case when completed then 'completed' else 'superseded' end,
    'deletions', backend.lease_deletions(generation_id => complete_generation.generation_id)
  );
end;
$$;

-- What was stored too late goes, unless another worker stores or has stored it. Its order may have been
-- carried out before it was stored, so it is ordered once more.
create function private.discard_artwork(generation uuid, path text)
returns void
language sql
set search_path = pg_catalog, pg_temp
begin atomic
  select private.order_deletion('artworks', path, 'superseded', private.owner(path), generation)
  where not exists (
    select from public.generations as g where g.id = generation and g.state in ('storing', 'succeeded')
  );
end;

-- Gives a lease back after a failure that may pass, so that whoever comes next can begin at once.
create function backend.release_lease(generation_id uuid, lease uuid)
returns void
language sql
security definer
set search_path = pg_catalog, pg_temp
begin atomic
  update private.generation_work as w
  set lease = null, leased_until = null
  where w.generation_id = release_lease.generation_id and w.lease = release_lease.lease;
end;

-- Ends what no answer can save any more, and answers what is to be asked about, least recently heard of
-- first: {ended, silent: [{generation, prediction_id, is_last}]}, at most `batch` of either. Nothing was
-- heard of it for `silence_seconds`; or its deadline is over, and then it is the last time, under the
-- lease, and whoever asks also ends it.
create function backend.generations_to_settle(
  lease uuid,
  batch integer default 50,
  silence_seconds integer default 60
)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  ended integer;
  asked jsonb;
begin
  update public.generations as g
  set state = 'failed',
    reason = case when over.create_called_at is not null then 'lost' else 'platform_error' end
  from (
    select o.id, w.create_called_at
    from public.generations as o
    join private.generation_work as w on w.generation_id = o.id
    where o.state in ('reserved', 'submitted', 'processing', 'storing')
      and o.deadline_at < now()
      and o.prediction_id is null
      and (w.lease is null or w.leased_until <= now())
    order by o.deadline_at
    limit batch
    for update of o skip locked
  ) as over
  where g.id = over.id;
  get diagnostics ended = row_count;

  with silent as (
    select w.generation_id, g.deadline_at < now() as is_last
    from private.generation_work as w
    join public.generations as g on g.id = w.generation_id
    where g.state in ('submitted', 'processing', 'storing')
      and g.prediction_id is not null
      and (w.checked_at < now() - make_interval(secs => silence_seconds) or g.deadline_at < now())
      and (w.lease is null or w.lease = generations_to_settle.lease or w.leased_until <= now())
    order by w.checked_at
    limit batch
    for update of w skip locked
  ),
  asking as (
    update private.generation_work as w
    set checked_at = now(),
      lease = case when silent.is_last then generations_to_settle.lease else w.lease end,
      leased_until = case when silent.is_last then now() + interval '2 minutes' else w.leased_until end
    from silent
    where w.generation_id = silent.generation_id
    returning w.generation_id, silent.is_last
  )
  select coalesce(jsonb_agg(jsonb_build_object(
    'generation', g.id, 'prediction_id', g.prediction_id, 'is_last', asking.is_last
  )), '[]')
  into asked
  from asking
  join public.generations as g on g.id = asking.generation_id;
  return jsonb_build_object('ended', ended, 'silent', asked);
end;
$$;

comment on function backend.fail_generation is 'Ends a generation for a reason of public.failure_reasons; its credits go back, its photo is ordered deleted.';
comment on function backend.record_prediction_event is 'What Replicate says of a prediction; answers what is to be done.';
comment on function backend.complete_generation is 'The artwork is stored: captures the credits and orders the photo deleted (R2).';
comment on function backend.release_lease is 'Gives a generation back to whoever comes next.';
comment on function backend.generations_to_settle is 'Ends generations past saving; answers those to ask Replicate about.';

grant execute on function
  backend.fail_generation, backend.record_prediction_event, backend.complete_generation,
  backend.release_lease, backend.generations_to_settle
to service_role;
-- Buckets and who may do what in them. Both are private (R6, R8); service_role passes by.

insert into storage.buckets (id, name, public, file_size_limit, allowed_mime_types) values
  ('inputs', 'inputs', false, 10 * 1024 * 1024, array['image/jpeg', 'image/png', 'image/webp']),
  ('artworks', 'artworks', false, 50 * 1024 * 1024, array['image/jpeg', 'image/png', 'image/webp']);

-- The name must be a UUID: a file's own name may say who is in the picture (R5). What could not be deleted
-- in time does not come in (X2).
create policy "People upload photos into their own folder, under a random name"
on storage.objects
for insert
to authenticated
with check (
  bucket_id = 'inputs'
  and (storage.foldername(name))[1] = (select auth.uid())::text
  and name ~ '^[0-9a-f-]{36}/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\.(jpg|jpeg|png|webp)$'
  and (select private.is_intake_open())
);

create policy "People see their own photos while they last"
on storage.objects
for select
to authenticated
using (bucket_id = 'inputs' and (storage.foldername(name))[1] = (select auth.uid())::text);

create policy "People take back their own photos"
on storage.objects
for delete
to authenticated
using (bucket_id = 'inputs' and (storage.foldername(name))[1] = (select auth.uid())::text);

-- Written by the functions alone; deleted with its generation, never from under it.
create policy "People see their own artworks"
on storage.objects
for select
to authenticated
using (bucket_id = 'artworks' and (storage.foldername(name))[1] = (select auth.uid())::text);
-- Both sides of Storage: objects that nothing accounts for, and rows whose object is gone. Each is walked in
-- the order of its names, a bounded stretch at a time, from where the last one ended: any number is looked
-- at in any number of passes, and two passes at once share the walk. Each verb answers {done, closed}:
-- whether it has come to the end, and how many it closed, by what they were.

create table private.audit_places (
  id text not null,
  after text not null default '',
  constraint audit_places_pkey primary key (id)
);

alter table private.audit_places enable row level security;

comment on table private.audit_places is 'Up to where each walk has come; empty where the next one begins anew.';

insert into private.audit_places (id) values ('inputs'), ('artworks'), ('generations');

create function private.audit_place(walk text)
returns text
language sql
set search_path = pg_catalog, pg_temp
begin atomic
  select p.after from private.audit_places as p where p.id = walk for update;
end;

create function private.leave_audit(walk text, last text, closed jsonb)
returns jsonb
language sql
set search_path = pg_catalog, pg_temp
begin atomic
  update private.audit_places as p set after = coalesce(last, '') where p.id = walk;
  select jsonb_build_object('done', last is null, 'closed', closed);
end;

-- Orders deleted, of the next `batch` photos: what is past the soft limit, unless an open
-- generation needs it; what is past the hard limit, and then its generation fails (R1); and what an ended
-- generation left, or somebody put back (X3). By the age of the stored object itself, so that what was never
-- submitted goes too.
create function backend.audit_inputs(batch integer default 2000)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  after constant text := private.audit_place('inputs');
  soft constant timestamptz := now() - private.keep('inputs_soft_limit');
  hard constant timestamptz := now() - private.keep('inputs_hard_limit');
  grace constant timestamptz := now() - private.keep('audit_grace');
  names constant text[] := array(
    select o.name
    from storage.objects as o
    where o.bucket_id = 'inputs' and o.name > after
    order by o.name
    limit batch
  );
  past_ceiling constant text[] := array(
    select o.name
    from storage.objects as o
    where o.bucket_id = 'inputs' and o.name = any (names) and o.created_at < hard
  );
  counts jsonb;
begin
  if past_ceiling <> '{}' then
    update public.generations as g
    set state = 'failed', reason = 'expired'
    where g.input_path = any (past_ceiling) and not private.is_terminal(g.state);

    -- Past the ceiling there is no waiting between two attempts.
    update public.deletions as d
    set due_at = now()
    where d.bucket = 'inputs' and d.path = any (past_ceiling) and d.verified_at is null and d.due_at > now()
      and not exists (select from private.deletion_leases as l where l.deletion_id = d.id);
  end if;

  -- Each object is looked up by itself: whatever is planned for small tables, it is right for large ones.
  with due as (
    select o.name, g.id as generation_id,
      case when o.created_at < soft then 'limit_reached' else 'orphaned' end as reason
    from storage.objects as o
    left join lateral (
      select n.id, n.state, n.finished_at from public.generations as n where n.input_path = o.name limit 1
    ) as g on true
    where o.bucket_id = 'inputs' and o.name = any (names)
      and case
        when g.id is null then o.created_at < soft
        when private.is_terminal(g.state) then greatest(o.created_at, g.finished_at) < grace
        else false
      end
      and (
        select d.id
        from public.deletions as d
        where d.bucket = 'inputs' and d.path = o.name and d.verified_at is null
      ) is null
  ),
  ordered as (
    insert into public.deletions (bucket, path, reason, person_id, generation_id)
    select 'inputs', due.name, due.reason, private.owner(due.name), due.generation_id
    from due
    on conflict (bucket, path) where verified_at is null do nothing
    returning reason
  ),
  counted as (
    select o.reason, count(*) as objects from ordered as o group by o.reason
  )
  select coalesce(jsonb_object_agg(c.reason, c.objects), '{}') into counts from counted as c;
  return private.leave_audit('inputs', names[cardinality(names)], counts);
end;
$$;

-- Orders deleted, of the next `batch` artworks, what no generation has as its own and nobody is
-- storing: whoever stores one has ordered it deleted before (X3).
create function backend.audit_artworks(batch integer default 2000)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  after constant text := private.audit_place('artworks');
  names constant text[] := array(
    select o.name
    from storage.objects as o
    where o.bucket_id = 'artworks' and o.name > after
    order by o.name
    limit batch
  );
  orphaned integer;
begin
  insert into public.deletions (bucket, path, reason, person_id)
  select 'artworks', o.name, 'orphaned', private.owner(o.name)
  from storage.objects as o
  where o.bucket_id = 'artworks' and o.name = any (names)
    and o.created_at < now() - private.keep('audit_grace')
    and (select g.id from public.generations as g where g.artwork_path = o.name) is null
  on conflict (bucket, path) where verified_at is null do nothing;
  get diagnostics orphaned = row_count;
  return private.leave_audit(
    'artworks', names[cardinality(names)], jsonb_build_object('orphaned', orphaned));
end;
$$;

-- Of the next `batch` generations those whose artwork is no longer in Storage, though nobody
-- here has deleted it: it cannot be brought back, so it is said, and paid back, once (X3).
create function backend.audit_generations(batch integer default 2000)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  after constant uuid := coalesce(
    nullif(private.audit_place('generations'), '')::uuid, '00000000-0000-0000-0000-000000000000');
  ids constant uuid[] := array(
    select g.id from public.generations as g where g.id > after order by g.id limit batch
  );
  missing integer;
begin
  with missed as (
    update public.generations as g
    set artwork_missing_at = now()
    where g.id = any (ids)
      and g.state = 'succeeded'
      and g.artwork_missing_at is null
      and g.finished_at < now() - private.keep('audit_grace')
      and (
        select o.id from storage.objects as o where o.bucket_id = 'artworks' and o.name = g.artwork_path
      ) is null
    returning g.id, g.person_id, g.credits
  ),
  refunded as (
    insert into public.credit_entries (wallet_id, kind, amount, reason, key)
    select w.id, 'refund', m.credits, 'artwork missing', 'artwork-missing:' || m.id
    from missed as m
    join public.wallets as w on w.person_id = m.person_id
    on conflict (key) do nothing
  )
  select count(*) into missing from missed;
  return private.leave_audit(
    'generations', ids[cardinality(ids)]::text, jsonb_build_object('missing', missing));
end;
$$;

comment on function backend.audit_inputs is 'Photos past their limit, and photos left over: orders them deleted (R1, X3).';
comment on function backend.audit_artworks is 'Artworks that are nobody''s: orders them deleted (X3).';
comment on function backend.audit_generations is 'Artworks that are gone behind our back: says so and gives the credits back (X3).';

grant execute on function backend.audit_inputs, backend.audit_artworks, backend.audit_generations to service_role;
-- What whoever operates this looks at.

-- Recomputes every wallet from what it is made of, and returns the differences: none, unless a rule was
-- taken away. Reads the whole ledger.
create function backend.audit_credits()
returns table (
  difference text,
  wallet_id uuid,
  hold_id uuid,
  generation_id uuid,
  expected bigint,
  found bigint
)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
begin atomic
  select 'balance', w.id, null::uuid, null::uuid, coalesce(e.total, 0), w.balance
  from public.wallets as w
  left join (
    select n.wallet_id, sum(n.amount) as total from public.credit_entries as n group by n.wallet_id
  ) as e on e.wallet_id = w.id
  where w.balance <> coalesce(e.total, 0)
  union all
  select 'held', w.id, null, null, coalesce(h.total, 0), w.held
  from public.wallets as w
  left join (
    select o.wallet_id, sum(o.amount) as total
    from public.credit_holds as o
    where o.state = 'open'
    group by o.wallet_id
  ) as h on h.wallet_id = w.id
  where w.held <> coalesce(h.total, 0)
  union all
  select 'capture', coalesce(h.wallet_id, e.wallet_id), coalesce(h.id, e.hold_id), h.generation_id, -h.amount, e.amount
  from (select * from public.credit_holds where state = 'captured') as h
  full join (select * from public.credit_entries where kind = 'capture') as e on e.hold_id = h.id
  where (h.wallet_id, -h.amount) is distinct from (e.wallet_id, e.amount)
  union all
  select 'open_hold', h.wallet_id, h.id, h.generation_id, 0, h.amount
  from public.credit_holds as h
  left join public.generations as g on g.id = h.generation_id
  where h.state = 'open' and coalesce(private.is_terminal(g.state), true)
  union all
  select 'missing_hold', w.id, h.id, g.id, g.credits, 0
  from public.generations as g
  left join public.wallets as w on w.person_id = g.person_id
  left join public.credit_holds as h on h.generation_id = g.id
  where not private.is_terminal(g.state)
    and (h.state, h.amount, h.wallet_id) is distinct from ('open', g.credits, w.id)
  union all
  select 'settlement', h.wallet_id, h.id, g.id,
    case g.state when 'succeeded' then g.credits else 0 end,
    case h.state when 'captured' then h.amount else 0 end
  from public.generations as g
  left join public.credit_holds as h on h.generation_id = g.id
  where private.is_terminal(g.state)
    and h.state is distinct from case g.state when 'succeeded' then 'captured' else 'released' end;
end;

-- Whole seconds since then; null if there is no then.
create function private.age(since timestamptz)
returns bigint
language sql
stable
set search_path = pg_catalog, pg_temp
return case when since > now() then 0 else floor(extract(epoch from now() - since)) end::bigint;

create function private.seconds(rule text)
returns bigint
language sql
stable
set search_path = pg_catalog, pg_temp
return extract(epoch from private.keep(rule))::bigint;

-- A deletion takes seconds; one that is still open after a quarter of an hour is noticed.
create function private.is_overdue(deletion public.deletions)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
return deletion.verified_at is null and deletion.ordered_at < now() - interval '15 minutes';

-- How it stands, in numbers alone: nothing of it says whose.
create function backend.status()
returns jsonb
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
return jsonb_build_object(
  'generations', (
    select coalesce(jsonb_agg(to_jsonb(s) order by s.place), '[]')
    from (
      select g.state, count(*) as count,
        private.age(min(g.reserved_at)) as oldest_seconds,
        count(*) filter (where g.deadline_at < now()) as past_deadline,
        array_position(array['reserved', 'submitted', 'processing', 'storing'], g.state) as place
      from public.generations as g
      where g.state in ('reserved', 'submitted', 'processing', 'storing')
      group by g.state
    ) as s
  ),
  'ended', (
    select coalesce(jsonb_agg(to_jsonb(s) order by s.outcome), '[]')
    from (
      select coalesce(g.reason, g.state) as outcome,
        count(*) filter (where g.finished_at > now() - interval '1 hour') as last_hour,
        count(*) as last_day
      from public.generations as g
      where g.finished_at > now() - interval '1 day'
      group by coalesce(g.reason, g.state)
    ) as s
  ),
  'submissions', (
    select jsonb_build_object('due', count(*), 'oldest_seconds', private.age(min(w.submit_at)))
    from private.generation_work as w
    where w.submit_at <= now() and (w.lease is null or w.leased_until <= now())
  ),
  'holds', (
    select jsonb_build_object(
      'open', count(*), 'credits', coalesce(sum(h.amount), 0), 'oldest_seconds', private.age(min(h.opened_at)))
    from public.credit_holds as h
    where h.state = 'open'
  ),
  'deletions', (
    select jsonb_build_object(
      'ordered', count(*),
      'due', count(*) filter (where d.due_at <= now()),
      'overdue', count(*) filter (where private.is_overdue(d)),
      'oldest_seconds', private.age(min(d.ordered_at)),
      'most_attempts', coalesce(max(d.attempts), 0))
    from public.deletions as d
    where d.verified_at is null
  ),
  'inputs', (
    select jsonb_build_object('stored', count(*), 'oldest_seconds', private.age(min(o.created_at)))
    from storage.objects as o
    where o.bucket_id = 'inputs'
  ),
  'audit', jsonb_build_object(
    'orphaned', (
      select count(*)
      from public.deletions as d
      where d.reason = 'orphaned' and d.ordered_at > now() - interval '1 day'
    ),
    'missing', (
      select count(*)
      from public.generations as g
      where g.artwork_missing_at > now() - interval '1 day'
    )
  ),
  'replicate', (
    select jsonb_build_object(
      'kept', count(*) filter (where r.due_at <= now() or r.attempts > 0),
      'overdue', count(*) filter (where r.attempts >= 3))
    from public.replicate_removals as r
    where r.removed_at is null
  ),
  'sweep', (
    select jsonb_build_object(
      'last_seconds', private.age(max(h.at)), 'intake_open', private.is_intake_open())
    from private.heartbeats as h
    where h.id = 'cleanup'
  ),
  'ledger', (select jsonb_build_object('differences', count(*)) from backend.audit_credits())
);

-- X5: what anyone may see. Ages and times in whole seconds.
create function backend.privacy_status()
returns jsonb
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
return jsonb_build_object(
  'originals', (
    select jsonb_build_object(
      'stored', count(*),
      'oldest_seconds', private.age(min(o.created_at)),
      'limit_seconds', private.seconds('inputs_hard_limit'))
    from storage.objects as o
    where o.bucket_id = 'inputs'
  ),
  'deletions', (
    select jsonb_build_object('overdue', count(*) filter (where private.is_overdue(d)))
    from public.deletions as d
    where d.verified_at is null
  ),
  'sweeper', (
    select jsonb_build_object(
      'last_pass_seconds', private.age(max(h.at)),
      'allowed_silence_seconds', private.seconds('sweep_silence'),
      'intake_open', private.is_intake_open())
    from private.heartbeats as h
    where h.id = 'cleanup'
  )
);

comment on function backend.privacy_status is 'How the promises are kept at this moment; nothing personal (X5).';
comment on function backend.audit_credits is 'Differences between wallets, holds, ledger and generations; none when all is well (C7).';
comment on function backend.status is 'Work under way, what is due, what failed, and whether the books balance.';

grant execute on function backend.audit_credits, backend.status, backend.privacy_status to service_role;
