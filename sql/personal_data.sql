-- All personal data in one place (X4): each table that refers to users, and each bucket, with how export, erasure and
-- retention treat it. Export and erasure read these rows. `supabase/tests/personal-data.sql` fails for anything that
-- is not declared here.

create table private.personal_data (
  relation text not null,
  subject text not null,
  export_as text,
  columns text[],
  hidden text[] not null default '{}',
  erasure text not null,
  retention text not null,
  why text,
  names text,
  key text[],
  constraint personal_data_pkey primary key (relation),
  constraint personal_data_export_unique unique (export_as),
  constraint personal_data_export_form check (export_as ~ '^[a-z_]+$'),
  constraint personal_data_erasure_known check (erasure in ('delete', 'with_account', 'after_account', 'forget')),
  constraint personal_data_names_are_erased check (names is null or erasure in ('delete', 'forget')),
  -- If a table is left out of an export, there is a reason that a user can be told.
  constraint personal_data_not_exported_has_reason check (export_as is not null or why is not null)
);

alter table private.personal_data enable row level security;
revoke all on private.personal_data from public, anon, authenticated, service_role;

comment on table private.personal_data is 'Each table that refers to users: how export, erasure and retention treat it (X4).';
comment on column private.personal_data.subject is 'Which rows belong to a user: a condition on the row `t` and the user ID `$1`.';
comment on column private.personal_data.export_as is 'The name of its files in an export. Null if it is left out, for the reason in `why`.';
comment on column private.personal_data.erasure is 'delete: the rows are deleted. with_account: the rows are deleted with the account in Auth, by foreign key. after_account: Auth leaves the rows behind, and we delete them if the owner of the table lets us. forget: the rows stay, and nothing says whose they were.';
comment on column private.personal_data.names is 'Which rows belong to no user but name one: a condition on the row `t` and the email `$1`. Erasure deletes them. No export contains them, because we do not know who wrote them.';
comment on column private.personal_data.key is 'The columns that order the rows in an export. Together they are unique, and they are never null and never change. Null: the primary key. If a user can have very many rows, name columns of an index on the user.';
comment on column private.personal_data.retention is 'A rule of private.retention_rules, or `account`: as long as the account exists.';

create table private.personal_buckets (
  bucket text not null,
  export_as text,
  retention text not null,
  why text,
  constraint personal_buckets_pkey primary key (bucket),
  constraint personal_buckets_not_exported_has_reason check (export_as is not null or why is not null)
);

alter table private.personal_buckets enable row level security;
revoke all on private.personal_buckets from public, anon, authenticated, service_role;

comment on table private.personal_buckets is 'Each bucket. Objects are below the ID of their user, and erasure deletes them all (X4).';

insert into private.personal_buckets (bucket, export_as, retention, why) values
  ('artworks', 'artworks', 'account', null),
  ('inputs', null, 'inputs_hard_limit', 'Originals are deleted within minutes, and so is the copy without metadata that the model reads (R4).'),
  ('exports', null, 'exports', 'An export does not hold other exports.');

insert into private.personal_data (relation, subject, export_as, columns, hidden, erasure, retention, why) values
  ('auth.users', 't.id = $1', 'account',
    array['id', 'email', 'email_change', 'phone', 'email_confirmed_at', 'last_sign_in_at', 'created_at', 'raw_user_meta_data'], '{}',
    'with_account', 'inactive_accounts', null),
  ('auth.identities', 't.user_id = $1', 'identities',
    array['id', 'provider', 'provider_id', 'identity_data', 'last_sign_in_at', 'created_at', 'updated_at'], '{}',
    'with_account', 'account', null),
  ('auth.sessions', 't.user_id = $1', 'sessions',
    array['id', 'user_agent', 'ip', 'aal', 'created_at', 'updated_at'], '{}', 'with_account', 'account', null),
  ('auth.mfa_factors', 't.user_id = $1', 'second_factors',
    array['id', 'friendly_name', 'factor_type', 'status', 'created_at', 'updated_at'], '{}', 'with_account', 'account', null),
  ('auth.refresh_tokens', 't.session_id in (select s.id from auth.sessions as s where s.user_id = $1)', null, null, '{}',
    'with_account', 'account', 'Secrets of a session; what else is known of it is in sessions.'),
  ('auth.flow_state', 't.user_id = $1', null, null, '{}', 'after_account', 'account',
    'A sign-in that was begun; Auth forgets it within a day.'),
  ('auth.audit_log_entries', '$1::text in (t.payload ->> ''actor_id'', t.payload #>> ''{traits,user_id}'')', null, null, '{}',
    'after_account', 'account', 'Auth''s own log of sign-ins, which cannot be searched by person; a request gets what is in it.'),
  ('private.welcomed_addresses',
    't.address_hash = private.hash_address((select u.email::text from auth.users as u where u.id = $1))', null, null, '{}',
    'forget', 'welcomed_addresses', 'A keyed hash that says that an address had its welcome credits.'),
  ('private.removal_leases',
    't.prediction_id in (select r.prediction_id from public.replicate_removals as r where r.person_id = $1)', null, null,
    '{}', 'forget', 'replicate_removals', 'Which worker asks Replicate at this moment.'),
  ('private.removal_absences',
    't.prediction_id in (select r.prediction_id from public.replicate_removals as r where r.person_id = $1)', null, null,
    '{}', 'forget', 'replicate_removals', 'That Replicate did not know a prediction, and is asked once more.'),
  ('public.profiles', 't.id = $1', 'profile', null, '{}', 'with_account', 'account', null),
  ('public.privacy_choices', 't.person_id = $1', 'privacy_choices', null, '{pseudonym, left_at}', 'forget', 'choices', null),
  ('public.policy_consents', 't.person_id = $1', 'policy_consents', null, '{id, pseudonym, left_at}', 'forget', 'consents', null),
  ('public.exports', 't.person_id = $1', 'exports', null, '{}', 'delete', 'export_rows', null),
  ('private.export_work', 't.export_id in (select e.id from public.exports as e where e.person_id = $1)', null, null, '{}',
    'delete', 'account', 'Who builds an export at this moment.'),
  ('private.export_files', 't.export_id in (select e.id from public.exports as e where e.person_id = $1)', null, null, '{}',
    'delete', 'account', 'The plan of the export itself, until it is built.'),
  ('private.export_parts', 't.export_id in (select e.id from public.exports as e where e.person_id = $1)', null, null, '{}',
    'delete', 'account', 'What the export itself holds, until it is built.'),
  ('private.emails', 't.person_id = $1', 'emails', null, '{address, lease}', 'delete', 'emails', null),
  ('private.erasures', 't.person_id = $1', null, null, '{}', 'forget', 'erasure_receipts',
    'It exists only after the account is closed.'),
  ('public.generations', 't.person_id = $1', 'generations', null, '{}', 'delete', 'account', null),
  ('private.generation_work', 't.generation_id in (select g.id from public.generations as g where g.person_id = $1)',
    null, null, '{}', 'delete', 'account', 'Leases and digests of work under way; generations says the rest.'),
  ('public.processing_log', 't.person_id = $1', 'processing_log', null, '{}', 'delete', 'processing_log', null),
  ('private.webhook_events', 't.generation_id in (select g.id from public.generations as g where g.person_id = $1)',
    'webhook_events', null, '{}', 'delete', 'webhook_events', null),
  ('private.outbox', 't.person_id = $1', null, null, '{}', 'forget', 'outbox',
    'A call that must still be made to another service, for a moment.'),
  ('public.deletions', 't.person_id = $1', 'deletions', null, '{}', 'forget', 'deletion_receipts', null),
  ('private.deletion_leases', 't.deletion_id in (select d.id from public.deletions as d where d.person_id = $1)', null,
    null, '{}', 'forget', 'deletion_receipts', 'Who executes a deletion at this moment.'),
  ('public.replicate_removals', 't.person_id = $1', 'replicate_removals', null, '{}', 'forget', 'replicate_removals', null),
  ('public.wallets', 't.person_id = $1', 'wallet', null, '{pseudonym}', 'forget', 'closed_books', null),
  ('public.credit_holds', 't.wallet_id in (select w.id from public.wallets as w where w.person_id = $1)',
    'credit_holds', null, '{}', 'forget', 'closed_books', null),
  ('public.credit_entries', 't.wallet_id in (select w.id from public.wallets as w where w.person_id = $1)',
    'credit_entries', null, '{}', 'forget', 'closed_books', null);

insert into private.personal_data (relation, subject, export_as, hidden, erasure, retention, names) values
  -- An email belongs to no user if the provider could not verify its sender.
  ('public.privacy_requests', 't.person_id = $1', 'privacy_requests', '{mail_digest, joined_mails, pseudonym}', 'forget', 'requests',
    't.person_id is null and t.sender = $1');
insert into private.personal_data (relation, subject, erasure, retention, why) values
  ('private.request_actions', 't.request_id in (select r.id from public.privacy_requests as r where r.person_id = $1)',
    'forget', 'requests', 'Who of us has answered a request; privacy_requests says when and how.');

insert into private.personal_data (relation, subject, export_as, erasure, retention, key) values
  -- Up to a thousand rows a day, so the key is the time, as in the index on the user.
  ('public.usage_events', 't.person_id = $1', 'usage_events', 'delete', 'usage_events', '{at,id}');
