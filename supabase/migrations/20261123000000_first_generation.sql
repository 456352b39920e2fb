-- There are three schemas. Clients see `public`, under row-level security. The functions call `backend`, which only
-- service_role may use. No API exposes `private`.

create schema backend;
create schema private;

comment on schema backend is 'The interface for our functions. Each call is one transaction.';
comment on schema private is 'Tables and helpers that no API exposes.';

grant usage on schema backend to service_role;
-- Policies and the thin functions in `public` call helpers in `private`, so these roles need usage. The API does not
-- expose the schema.
grant usage on schema private to authenticated, service_role;

-- Projects from before mid-2026 and self-hosted ones have default privileges that grant everything `postgres` creates
-- in `public` to the API's roles. So each table, view and function below revokes everything first, and then grants
-- only what is meant. `supabase/tests/privileges.sql` compares the result with a list.

-- By default, every role may execute a new function. This revoke works only without `in schema`.
alter default privileges revoke execute on functions from public;

-- Provides keyed hashes. Hosted projects already have it.
create extension if not exists pgcrypto with schema extensions;

-- A user's statement reads a few rows through an index. Three seconds limit the CPU time that a hostile filter can
-- use, and how long it can hold a row. PostgREST reads the settings of roles again only when it is notified, as below.
alter role authenticated set statement_timeout = '3s';

-- The functions wait ten seconds for a response and then retry (`CALL_TIME` in `functions/opusflair/src/database.rs`),
-- so a statement must end before that. Hosted projects set the same limit for `authenticator`, but a project may have
-- raised it. A database function that needs longer sets its own limit, at most one minute, and its callers wait
-- longer.
alter role service_role set statement_timeout = '8s';

-- When PostgreSQL refuses a statement, it logs the text that was sent and the whole row that failed (R5). A user can
-- cause such errors at will. So the Data API's errors stay out of the database's log, and the functions log only their
-- codes. Not every project lets `postgres` change this setting. The check-list in the runbook covers those projects.
do $$
begin
  alter role authenticator set log_min_messages = 'fatal';
exception
  when insufficient_privilege then
    raise warning 'log_min_messages of authenticator could not be set: what people send may reach the database''s log';
end;
$$;
notify pgrst, 'reload config';

-- Each function sets `search_path = pg_catalog, pg_temp`. With an empty path, PostgreSQL would search a session's own
-- temporary schema for types first. A user who can create a domain named `text` there could then have its check run
-- with the function's rights.

-- The `retry_after` member of a refusal: in how many seconds a retry makes sense.
create function private.retry_at(moment timestamptz)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
return jsonb_build_object('retry_after', greatest(1, ceil(extract(epoch from moment - now())))::integer);

-- Refuses a client's request. PostgREST answers sqlstate PTnnn with HTTP status nnn. `hint` carries the
-- machine-readable code, and `detail` carries further members of the problem document.
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
-- How much one user may have and do. Each limit is a row, so a limit can change without a change of code.

create table private.quotas (
  scope text not null,
  id text not null,
  most bigint not null,
  span interval,
  words text not null,
  constraint quotas_pkey primary key (scope, id),
  constraint quotas_most_positive check (most > 0 or (scope in ('welcome_credits', 'late_cancels') and most = 0)),
  constraint quotas_span_positive check (span > '0')
);

alter table private.quotas enable row level security;
revoke all on private.quotas from public, anon, authenticated, service_role;

comment on table private.quotas is 'Limits for one user. Change a row to change a limit.';
comment on column private.quotas.span is 'The period in which uses are counted. Null: the limit is on what exists at the same time.';

insert into private.quotas (scope, id, most, span, words) values
  ('generations', 'concurrent', 5, null, 'at the same time'),
  ('generations', 'per_minute', 10, '1 minute', 'a minute'),
  ('generations', 'per_day', 100, '1 day', 'a day'),
  ('late_cancels', 'per_day', 3, '1 day',
    'Late cancels that are free: generations that a user ends after the model has begun.'),
  ('welcome_credits', 'per_address', 5, null, 'Credits for a new account; 0 gives none.'),
  ('uploads', 'photos', 20, null, 'Photos that wait in the bucket inputs.'),
  ('uploads', 'bytes', 150 * 1024 * 1024, null, 'Their bytes.'),
  ('choices', 'per_hour', 20, '1 hour', 'Choices about one purpose.'),
  ('requests', 'open', 10, null, 'Privacy requests from the app that are not answered yet.'),
  ('requests', 'per_day', 20, '1 day', 'Privacy requests from the app.'),
  ('emails', 'per_day', 1, '1 day', 'Privacy requests by email of one sender; further emails join the request.'),
  ('usage_events', 'per_day', 1000, '1 day', 'Recorded uses of a feature.'),
  ('exports', 'per_day', 3, '1 day', 'Exports, those that failed not counted.');

create function private.quota(scope text, id text)
returns private.quotas
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
return (select q from private.quotas as q where q.scope = quota.scope and q.id = quota.id);

-- Refuses (429) a generation that would exceed a limit. The error names the limit and the seconds to wait. The
-- function counts holds, because they stay when a generation is deleted. So deleting a generation does not reset a
-- rate limit.
create function private.check_limits(wallet uuid)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  reached record;
begin
  -- For each limit, finds the hold at the last place that the limit allows, counted from the newest. If there is one,
  -- the limit is reached until that hold leaves the period. A limit without a period has no such time, so the client
  -- waits ten seconds.
  select l.id, l.most, l.words,
    case when l.span is null then 10 else ceil(extract(epoch from last_place.opened_at + l.span - now())) end
      as retry_after
  into reached
  from private.quotas as l
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
  where l.scope = 'generations'
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
-- What users can make: models and styles. To add one, add a row; the code does not change (policy U1, U2).

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
revoke all on public.models from public, anon, authenticated, service_role;

create policy "Anyone sees the models that are available"
on public.models
for select
to anon, authenticated
using (available);

grant select on public.models to anon, authenticated, service_role;

comment on table public.models is 'The Replicate models that users may choose (U1).';
comment on column public.models.credits is 'Price of one generation, in credits.';
comment on column public.models.deadline is 'A generation is ended this long after its reservation, whatever its state. Also the lifetime of the signed input URL (T4).';
comment on column public.models.settings_schema is 'The settings that a user may choose: a map of name to {type, enum, minimum, maximum}, taken from the model''s own input schema (C3).';

-- Old versions stay, because a generation keeps the version it was made with (U2).
create table private.style_versions (
  style text not null,
  version integer not null,
  prompt text not null,
  created_at timestamptz not null default now(),
  constraint style_versions_pkey primary key (style, version),
  constraint style_versions_version_positive check (version > 0),
  constraint style_versions_prompt_length check (char_length(prompt) between 10 and 2000)
);

alter table private.style_versions enable row level security;
revoke all on private.style_versions from public, anon, authenticated, service_role;

comment on table private.style_versions is 'Prompt templates. To change the wording, add a version. Never update one.';

create table public.styles (
  id text not null,
  version integer not null default 1,
  name text not null,
  description text not null,
  model text not null,
  extra_credits integer not null default 0,
  position smallint not null,
  available boolean not null default true,
  constraint styles_pkey primary key (id),
  constraint styles_id_is_a_slug check (id ~ '^[a-z0-9]+(-[a-z0-9]+)*$'),
  constraint styles_version_exists foreign key (id, version)
    references private.style_versions (style, version),
  constraint styles_model_exists foreign key (model) references public.models (id),
  constraint styles_extra_credits_not_negative check (extra_credits >= 0),
  constraint styles_position_unique unique (position)
);

create index styles_id_version_idx on public.styles (id, version);
create index styles_model_idx on public.styles (model);

alter table public.styles enable row level security;
revoke all on public.styles from public, anon, authenticated, service_role;

create policy "Anyone sees the styles that are available"
on public.styles
for select
to anon, authenticated
using (available);

grant select on public.styles to anon, authenticated, service_role;

comment on table public.styles is 'The styles that users choose from. The prompt behind each style is in private.style_versions (U2).';
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
      -- The message does not repeat the name: users may have written anything there, and a refusal may reach a log
      -- (R5).
      perform private.refuse(422, 'invalid_settings',
        'settings has a member that this model does not know. The model knows '
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
-- Profiles of users. Email, password and sessions belong to Supabase Auth (C6, S1).

create table public.profiles (
  id uuid not null,
  username text,
  default_style text,
  default_settings jsonb not null default '{}',
  active_at timestamptz not null default now(),
  closed_at timestamptz,
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
revoke all on public.profiles from public, anon, authenticated, service_role;

-- Whether the token's session is still open. Auth deletes a session when its user signs out, but the Data API and
-- Storage would accept the token until it expires. A ban also takes effect at once.
create function private.has_open_session(person uuid)
returns boolean
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
return exists (
  select
  from auth.sessions as s
  join auth.users as u on u.id = s.user_id
  where s.user_id = person
    and s.id::text = auth.jwt() ->> 'session_id'
    and coalesce(u.banned_until <= now(), true)
);

-- Returns the user ID of the token, or null if the account or the session is closed. Every policy calls this function.
-- So the tokens of a closed account give access to nothing from that moment on, even if Auth accepts them until they
-- expire (G3).
create function private.person()
returns uuid
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
return (
  select p.id
  from public.profiles as p
  where p.id = auth.uid() and p.closed_at is null and private.has_open_session(p.id)
);

revoke all on function private.person from public, anon, authenticated, service_role;
grant execute on function private.person to authenticated, service_role;

-- Locks a user, so that counts of their rows stay valid until this transaction ends. This lock comes before all others
-- except Auth's own (ARCHITECTURE.md, "Locks").
create function private.lock_person(person uuid)
returns void
language sql
security definer
set search_path = pg_catalog, pg_temp
begin atomic
  select from public.profiles as p where p.id = person for no key update;
end;

-- Whether a signed-in user writes a row of another user. Row-level security refuses the row, but only after the
-- triggers have run. So triggers let such a row pass: a refusal of their own would reveal something about the other
-- user.
create function private.is_anothers(person uuid)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
return auth.uid() is not null and person is distinct from private.person();

-- Returns the calling user. Refuses a token without an open session (401) and a closed account (403).
create function private.require_person()
returns uuid
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  person constant uuid := private.person();
begin
  if person is null and exists (
    select from public.profiles as p where p.id = auth.uid() and p.closed_at is not null
  ) then
    perform private.refuse(403, 'account_closed',
      'This account is being erased and can no longer be used.');
  elsif person is null then
    perform private.refuse(401, 'not_signed_in', 'Your session is over. Please sign in again.');
  end if;
  return person;
end;
$$;

-- A thief could do great harm with an export or an erasure. So both require the second factor if the account has one.
create function private.require_second_factor(person uuid)
returns void
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if auth.jwt() ->> 'aal' is distinct from 'aal2' and exists (
    select from auth.mfa_factors as f where f.user_id = person and f.status::text = 'verified'
  ) then
    perform private.refuse(403, 'second_factor_needed',
      'Your account has a second factor. Please confirm this sign-in with it, then try again.');
  end if;
end;
$$;

create policy "People see their own profile"
on public.profiles
for select
to authenticated
using (id = (select private.person()));

create policy "People change their own profile"
on public.profiles
for update
to authenticated
using (id = (select private.person()))
with check (id = (select private.person()));

grant select on public.profiles to authenticated, service_role;
grant update (username, default_style, default_settings) on public.profiles to authenticated;

comment on table public.profiles is 'One row per user, created with the account (C6, C8, G4).';
comment on column public.profiles.active_at is 'When the user was last active here. The sweep adds what Auth knows about sign-ins and sessions (R10).';
comment on column public.profiles.closed_at is 'When the erasure of the account was ordered. From then on its tokens give access to nothing (G3).';
comment on column public.profiles.username is 'Chosen by the user: 3 to 30 characters of a-z, 0-9 and _. Unique.';

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

-- An account without a wallet could never start a generation, so the sign-up itself creates both the profile and the
-- wallet.
create function private.open_account()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  insert into public.profiles (id) values (new.id);
  perform private.open_wallet(new.id);
  perform private.grant_welcome_credits(new);
  perform private.record_consent_at_sign_up(new.id, new.raw_user_meta_data ->> 'policy_version');
  return new;
end;
$$;

create trigger open_account
after insert on auth.users
for each row
execute function private.open_account();

-- G4: refuses wrong values with a readable message, before a constraint would refuse them with only its name.
create function private.check_profile()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  model public.models;
begin
  new.username := lower(btrim(new.username));
  if new.username !~ '^[a-z0-9_]{3,30}$' then
    perform private.refuse(422, 'invalid_username',
      'username must have 3 to 30 characters, of a to z, 0 to 9 and _.', '{"field": "username"}');
  end if;
  if exists (select from public.profiles as p where p.username = new.username and p.id <> new.id) then
    perform private.refuse(409, 'username_taken', 'This username is taken. Please choose another.',
      '{"field": "username"}');
  end if;
  if not exists (select from public.styles as s where s.id = new.default_style) and new.default_style is not null then
    perform private.refuse(422, 'unknown_style',
      'default_style is not an available style. Please choose another one.', '{"field": "default_style"}');
  end if;

  if new.default_settings <> '{}' then
    select m.* into model
    from public.models as m
    left join public.styles as s on s.id = new.default_style
    where m.id = coalesce(s.model, m.id)
    order by m.position
    limit 1;
    perform private.check_settings(model.settings_schema, new.default_settings);
  end if;
  return new;
end;
$$;

create trigger profiles_check
before update of username, default_style, default_settings on public.profiles
for each row
execute function private.check_profile();
-- Credits. The ledger is append-only, and the wallet is its running sum. Triggers change both in one statement, so no
-- caller can change one without the other (C7).

-- A wallet stays when its user is gone, as a number without a name. So the books stay balanced.
create table public.wallets (
  id uuid not null default gen_random_uuid(),
  person_id uuid,
  balance integer not null default 0,
  held integer not null default 0,
  opened_at timestamptz not null default now(),
  closed_at timestamptz,
  pseudonym text,
  constraint wallets_pkey primary key (id),
  constraint wallets_person_exists foreign key (person_id) references auth.users (id) on delete set null,
  constraint wallets_one_a_person unique (person_id),
  constraint wallets_balance_not_negative check (balance >= 0),
  constraint wallets_held_not_negative check (held >= 0),
  constraint wallets_held_within_balance check (held <= balance),
  constraint wallets_closed_without_person check ((person_id is null) = (closed_at is not null)),
  constraint wallets_pseudonym_is_a_digest check (pseudonym ~ '^[0-9a-f]{64}$'),
  constraint wallets_pseudonym_without_person check (pseudonym is null or person_id is null)
);

create index wallets_closed_at_idx on public.wallets (closed_at);

alter table public.wallets enable row level security;
revoke all on public.wallets from public, anon, authenticated, service_role;

create policy "People see their own wallet"
on public.wallets
for select
to authenticated
using (person_id = (select private.person()));

grant select on public.wallets to authenticated, service_role;

comment on table public.wallets is 'Balance and holds of one account, in credits. balance = sum of its entries; held = sum of its open holds.';

comment on column public.wallets.pseudonym is 'For a deleted account: the user''s ID under a keyed hash (HMAC-SHA-256). Only the holder of the key can match these books with a claim (G3).';

-- A hold sets credits aside while a generation runs. It is captured if the generation succeeds, or for a late cancel
-- that is charged. Otherwise it is released.
create table public.credit_holds (
  id uuid not null default gen_random_uuid(),
  wallet_id uuid not null,
  -- Not a foreign key, because the bookkeeping stays when the generation is deleted.
  generation_id uuid not null,
  amount integer not null,
  state text not null default 'open',
  is_late_cancel boolean not null default false,
  opened_at timestamptz not null default now(),
  settled_at timestamptz,
  constraint credit_holds_pkey primary key (id),
  constraint credit_holds_wallet_exists foreign key (wallet_id)
    references public.wallets (id) on delete cascade,
  constraint credit_holds_one_a_generation unique (generation_id),
  constraint credit_holds_amount_positive check (amount > 0),
  constraint credit_holds_state_known check (state in ('open', 'captured', 'released')),
  constraint credit_holds_settled_when_not_open check ((state = 'open') = (settled_at is null)),
  constraint credit_holds_late_cancel_settled check (not is_late_cancel or state <> 'open')
);

create index credit_holds_wallet_id_newest_idx on public.credit_holds (wallet_id, opened_at desc);
create index credit_holds_open_idx on public.credit_holds (wallet_id, opened_at desc) where state = 'open';

alter table public.credit_holds enable row level security;
revoke all on public.credit_holds from public, anon, authenticated, service_role;

create policy "People see the holds on their own wallet"
on public.credit_holds
for select
to authenticated
using (wallet_id in (select id from public.wallets where person_id = (select private.person())));

grant select on public.credit_holds to authenticated, service_role;

comment on table public.credit_holds is 'Credits set aside for one generation. A hold is settled exactly once.';
comment on column public.credit_holds.is_late_cancel is 'The user ended the generation after the model had started. A few of these a day are released; further ones are captured (private.quotas).';

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
revoke all on public.credit_entries from public, anon, authenticated, service_role;
revoke all on sequence public.credit_entries_id_seq from public, anon, authenticated, service_role;

create policy "People see the entries of their own wallet"
on public.credit_entries
for select
to authenticated
using (wallet_id in (select id from public.wallets where person_id = (select private.person())));

grant select on public.credit_entries to authenticated, service_role;

comment on table public.credit_entries is 'The ledger, in credits. Append-only: to correct an entry, add a compensating entry with its reason.';
comment on column public.credit_entries.key is 'Idempotency key: the same key used twice makes one entry.';

-- Closes a wallet when its user is gone. No role can delete the wallet before the time of the rule `closed_books` is
-- over. Then it is deleted with all its entries.
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
  if old.closed_at is null or old.closed_at > now() - private.retention('closed_books') then
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

-- Whether a wallet still exists. Its holds and entries may be deleted only after it is gone: then the retention rule
-- has just deleted the wallet, and the deletion cascades.
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

create function private.refuse_restricted(person uuid)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if not private.allows(person, 'generation') then
    perform private.refuse(403, 'generation_restricted',
      'You have refused the making of artworks. Allow it again in your privacy choices to go on.');
  end if;
end;
$$;

create function private.refuse_restricted()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  person uuid;
begin
  if tg_table_name = 'generations' then
    person := new.person_id;
  else
    select w.person_id into person from public.wallets as w where w.id = new.wallet_id;
  end if;
  perform private.refuse_restricted(person);
  return new;
end;
$$;

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

-- G6: a user who refuses generation is charged nothing new, whichever role makes the call.
create trigger credit_holds_unrestricted
before insert on public.credit_holds
for each row
execute function private.refuse_restricted();

create trigger credit_holds_open
after insert on public.credit_holds
for each row
execute function private.open_hold();

-- A hold changes only once, when it is settled. The wallet and the ledger change in the same statement.
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
    values (old.wallet_id, 'capture', -old.amount, old.id,
      case when new.is_late_cancel then 'late cancel' else 'generation' end);
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
  insert into public.wallets (person_id) values (person);
end;

-- Settles the hold of a generation that its user ends. Before the model has started, this is free. Afterwards we pay
-- for the prediction: a few ends a day are free, and then the hold is captured. Every way to end a generation counts
-- (cancel, delete, a refused purpose, erasure), so none of them is cheaper than another.
create function private.settle_ended_by_person(generation_id uuid, has_begun boolean)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  wallet constant uuid := (
    select h.wallet_id from public.credit_holds as h where h.generation_id = settle_ended_by_person.generation_id
  );
  is_free boolean := true;
begin
  if has_begun then
    -- `private.lock_generations` locks the wallet with the generation, so simultaneous ends are counted one after the
    -- other.
    is_free := private.free_late_cancels(wallet) > 0;
  end if;
  update public.credit_holds as h
  set state = case when is_free then 'released' else 'captured' end,
    is_late_cancel = has_begun,
    settled_at = clock_timestamp()
  where h.generation_id = settle_ended_by_person.generation_id and h.state = 'open';
end;
$$;

-- How many free late cancels a wallet has left.
create function private.free_late_cancels(wallet uuid)
returns bigint
language sql
stable
set search_path = pg_catalog, pg_temp
return (
  select greatest(0, q.most - (
    select count(*)
    from public.credit_holds as h
    where h.wallet_id = wallet and h.is_late_cancel and h.state = 'released' and h.settled_at > now() - q.span
  ))
  from private.quotas as q
  where q.scope = 'late_cancels' and q.id = 'per_day'
);

-- Corrects a balance. The ledger never changes, so the correction is a compensating entry. Returns {outcome, balance}.
-- The outcome is `adjusted`, or `replayed` if the key was used before for the same entry. Refuses with 404, 409 or
-- 422.
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
    perform private.refuse(404, 'wallet_not_found', 'No account with this id has a wallet.');
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
      format('The balance is %s, of which %s are on hold. Choose an amount after which the holds are still covered.',
        wallet.balance, wallet.held));
  end if;
  insert into public.credit_entries (wallet_id, kind, amount, reason, key)
  values (wallet.id, 'adjustment', amount, reason, key);
  return jsonb_build_object('outcome', 'adjusted', 'balance', wallet.balance + amount);
end;
$$;

comment on function backend.adjust_credits is 'Corrects a wallet with a compensating entry, in credits.';

revoke all on function backend.adjust_credits from public, anon, authenticated, service_role;
grant execute on function backend.adjust_credits to service_role;
-- Welcome credits are granted once for each confirmed address, even after an erasure. We keep only a keyed hash of the
-- address, and only this database can compare it.

-- Which addresses lead to one mailbox, by provider. An address of any other provider counts as written, in lower case.
create table private.address_rules (
  domain text not null,
  same_as text not null,
  ignores_dots boolean not null,
  ignores_tags boolean not null,
  constraint address_rules_pkey primary key (domain),
  constraint address_rules_domain_lower_case check (domain = lower(domain))
);

alter table private.address_rules enable row level security;
revoke all on private.address_rules from public, anon, authenticated, service_role;

comment on table private.address_rules is 'How providers read addresses: which domains are the same, and whether dots and plus tags count.';

insert into private.address_rules (domain, same_as, ignores_dots, ignores_tags) values
  ('gmail.com', 'gmail.com', true, true),
  ('googlemail.com', 'gmail.com', true, true),
  ('outlook.com', 'outlook.com', false, true),
  ('hotmail.com', 'hotmail.com', false, true),
  ('live.com', 'live.com', false, true),
  ('icloud.com', 'icloud.com', false, true),
  ('me.com', 'icloud.com', false, true),
  ('mac.com', 'icloud.com', false, true),
  ('proton.me', 'proton.me', true, true),
  ('protonmail.com', 'proton.me', true, true),
  ('pm.me', 'proton.me', true, true),
  ('fastmail.com', 'fastmail.com', false, true);

create function private.normalise_address(address text)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
return (
  select case when coalesce(r.ignores_dots, false) then replace(t.mailbox, '.', '') else t.mailbox end
    || '@' || coalesce(r.same_as, w.domain)
  from (
    select regexp_replace(lower(btrim(address)), '@[^@]*$', '') as mailbox,
      regexp_replace(lower(btrim(address)), '^.*@', '') as domain
  ) as w
  left join private.address_rules as r on r.domain = w.domain
  cross join lateral (
    select case when coalesce(r.ignores_tags, false) then split_part(w.mailbox, '+', 1) else w.mailbox end as mailbox
  ) as t
);

create table private.keys (
  id text not null,
  key bytea not null,
  constraint keys_pkey primary key (id),
  constraint keys_length check (octet_length(key) >= 32)
);

alter table private.keys enable row level security;
revoke all on private.keys from public, anon, authenticated, service_role;

comment on table private.keys is 'Random keys that only this database uses, created with it. No API exposes them.';

insert into private.keys (id, key) values ('addresses', extensions.gen_random_bytes(32));

-- HMAC-SHA-256 of the normalised address, in hex.
create function private.hash_address(address text)
returns text
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
return (
  select encode(extensions.hmac(convert_to(private.normalise_address(address), 'utf8'), k.key, 'sha256'), 'hex')
  from private.keys as k
  where k.id = 'addresses'
);

create table private.welcomed_addresses (
  address_hash text not null,
  at timestamptz not null default now(),
  constraint welcomed_addresses_pkey primary key (address_hash),
  constraint welcomed_addresses_hash_form check (address_hash ~ '^[0-9a-f]{64}$')
);

create index welcomed_addresses_at_idx on private.welcomed_addresses (at);

alter table private.welcomed_addresses enable row level security;
revoke all on private.welcomed_addresses from public, anon, authenticated, service_role;

comment on table private.welcomed_addresses is 'Keyed hashes of addresses that have received welcome credits. They outlive the account, so that signing up again gives no credits.';

-- Grants the welcome credits if the account has a confirmed address that never had them. An anonymous account gets
-- none. An account gets them once, even if its address changes later.
create function private.grant_welcome_credits(account auth.users)
returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  credits constant bigint := (private.quota('welcome_credits', 'per_address')).most;
  wallet constant uuid := (select w.id from public.wallets as w where w.person_id = account.id);
  welcome_key constant text := 'welcome:' || wallet;
begin
  if account.email_confirmed_at is null or coalesce(account.email, '') = '' or account.is_anonymous
    or wallet is null or credits = 0
    or exists (select from public.credit_entries as e where e.key = welcome_key)
  then
    return;
  end if;
  insert into private.welcomed_addresses (address_hash)
  values (private.hash_address(account.email))
  on conflict do nothing;
  if found then
    insert into public.credit_entries (wallet_id, kind, amount, reason, key)
    values (wallet, 'grant', credits, 'welcome', welcome_key);
  end if;
end;
$$;

-- Most users confirm their address after the sign-up. The function compares the columns itself, because a trigger that
-- named them would keep Auth from changing their types.
create function private.follow_confirmation()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if (new.email, new.email_confirmed_at, new.is_anonymous)
    is distinct from (old.email, old.email_confirmed_at, old.is_anonymous)
  then
    perform private.grant_welcome_credits(new);
  end if;
  return null;
end;
$$;

create trigger welcome_confirmed
after update on auth.users
for each row
execute function private.follow_confirmation();
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
-- How generations and exports ended, without whose they were. So the operator's numbers do not change if a user
-- deletes an artwork or their account.

create table private.outcomes (
  id bigint generated always as identity,
  subject text not null,
  outcome text not null,
  at timestamptz not null default now(),
  constraint outcomes_pkey primary key (id),
  constraint outcomes_subject_known check (subject in ('generation', 'artwork', 'export'))
);

create index outcomes_at_idx on private.outcomes (at);

alter table private.outcomes enable row level security;
revoke all on private.outcomes from public, anon, authenticated, service_role;

comment on table private.outcomes is 'How generations and exports of the last day ended, with a row for each missing artwork, too. A row is a word and a time, and does not say whose it was (R5).';
comment on column private.outcomes.outcome is 'For a generation: its state, or its reason if it failed. For an artwork: `missing`. For an export: `failed`.';
-- Generations. A row exists from the moment credits are held until the user deletes the artwork.

-- Why a generation failed: a closed list. Each reason has a sentence for users. If a photo is refused, the reason is
-- the code of its fault (`functions/photo/src/rejection.rs`).
create table public.failure_reasons (
  id text not null,
  sentence text not null,
  constraint failure_reasons_pkey primary key (id)
);

alter table public.failure_reasons enable row level security;
revoke all on public.failure_reasons from public, anon, authenticated, service_role;

create policy "Anyone reads what the reasons mean"
on public.failure_reasons
for select
to anon, authenticated
using (true);

grant select on public.failure_reasons to anon, authenticated, service_role;

comment on table public.failure_reasons is 'The closed list of reasons for which a generation fails. The credits are returned for every one.';

insert into public.failure_reasons (id, sentence) values
  ('animated', 'The photo is animated. Please upload a single frame of it.'),
  ('content_flagged', 'The photo or the result was flagged as sensitive. Please try another photo or style.'),
  ('corrupt', 'The photo could not be read. Please upload a copy that you have saved again in a photo program.'),
  ('decoded_size_too_large', 'The photo takes too much memory to open. Please upload a smaller version, or an ordinary 8-bit RGB JPEG.'),
  ('dimensions_too_large', 'The photo has too many pixels. Please upload a smaller version.'),
  ('dimensions_too_small', 'The photo has too few pixels. Please upload a larger version.'),
  ('empty_file', 'The file is empty. Please upload the photo again.'),
  ('expired', 'This took too long, so it was stopped. Please upload the photo again.'),
  ('input_invalid', 'The model could not use this photo. Please upload another photo.'),
  ('input_not_found', 'The photo was gone before it could be used. Please upload it again.'),
  ('lost', 'The result was lost on the way. Please upload the photo again.'),
  ('model_error', 'The model could not make this picture. Please upload another photo, or choose other settings.'),
  ('not_an_image', 'The file is not a picture. Please upload a JPEG, PNG or WebP photo.'),
  ('output_invalid', 'The model returned something that is not a picture. Please upload the photo again.'),
  ('platform_error', 'The image service had a fault. Please upload the photo again in a few minutes.'),
  ('dispatch_refused', 'The image service did not accept this photo or these settings. Please upload another photo, or choose other settings.'),
  ('too_many_bytes', 'The file of the photo is too large. Please upload a smaller version.'),
  ('truncated', 'The photo is incomplete: the end of its file is missing. Please upload it again.'),
  ('unsupported_format', 'The photo has a format that we cannot use. Please upload it as JPEG, PNG or WebP.');

create table public.generations (
  id uuid not null default gen_random_uuid(),
  person_id uuid not null,
  idempotency_key text not null,
  style text not null,
  style_version integer not null,
  model text not null,
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
  favourite boolean not null default false,
  deadline_at timestamptz not null,
  reserved_at timestamptz not null default now(),
  dispatched_at timestamptz,
  processing_at timestamptz,
  storing_at timestamptz,
  finished_at timestamptz,
  constraint generations_pkey primary key (id),
  constraint generations_person_exists foreign key (person_id) references auth.users (id) on delete cascade,
  constraint generations_style_version_exists foreign key (style, style_version)
    references private.style_versions (style, version),
  constraint generations_model_exists foreign key (model) references public.models (id),
  constraint generations_reason_known foreign key (reason) references public.failure_reasons (id),
  constraint generations_idempotency_key_unique unique (person_id, idempotency_key),
  constraint generations_idempotency_key_form check (idempotency_key ~ '^[\x21-\x7e]{1,255}$'),
  constraint generations_prediction_unique unique (prediction_id),
  -- The input is deleted when its generation ends, so two generations must not share one.
  constraint generations_input_unique unique (input_path),
  constraint generations_input_belongs_to_person check (starts_with(input_path, person_id || '/')),
  constraint generations_input_format_known check (input_format in ('jpeg', 'png', 'webp', 'heic')),
  constraint generations_artwork_unique unique (artwork_path),
  constraint generations_artwork_belongs_to_person check (starts_with(artwork_path, person_id || '/')),
  constraint generations_artwork_sha256_form check (artwork_sha256 ~ '^[0-9a-f]{64}$'),
  constraint generations_credits_positive check (credits > 0),
  constraint generations_state_known check (
    state in ('reserved', 'dispatched', 'processing', 'storing', 'succeeded', 'failed', 'canceled')
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
  where state in ('reserved', 'dispatched', 'processing', 'storing');
create index generations_style_version_idx on public.generations (style, style_version);
create index generations_model_idx on public.generations (model);
create index generations_reason_idx on public.generations (reason);
create index generations_artwork_sha256_idx on public.generations (artwork_sha256) where artwork_sha256 is not null;

alter table public.generations enable row level security;
revoke all on public.generations from public, anon, authenticated, service_role;

create policy "People see their own generations"
on public.generations
for select
to authenticated
using (person_id = (select private.person()));

create policy "People mark their favourites"
on public.generations
for update
to authenticated
using (person_id = (select private.person()))
with check (person_id = (select private.person()));

grant select on public.generations to authenticated, service_role;
grant update (favourite) on public.generations to authenticated;

-- One statement of a user may lock many of their generations, in any order. The trigger locks the user first, so that
-- a transaction that ends all of them cannot deadlock with it.
create function private.lock_caller()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.lock_person(private.person());
  return null;
end;
$$;

create trigger generations_lock_caller
before update of favourite on public.generations
for each statement
execute function private.lock_caller();

comment on table public.generations is 'The history of a user (U5, G1): what was requested, what was measured, the current state, and when each step happened (C2 to C5).';
comment on column public.generations.favourite is 'Whether the user marked it as a favourite (C8).';
comment on column public.generations.prompt is 'The whole prompt as sent. It appears nowhere else: not in logs, events or errors (R5).';
comment on column public.generations.artwork_missing_at is 'When we noticed that the artwork is missing from Storage although we did not delete it. The credits were returned.';
comment on column public.generations.predict_seconds is 'Run time as reported by Replicate, in seconds.';

-- What the functions need to process a generation and users need not see.
create table private.generation_work (
  generation_id uuid not null,
  request_digest bytea not null,
  input_stored_at timestamptz,
  prepared_path text,
  input_sha256 text,
  dispatches integer not null default 1,
  unreported integer not null default 1,
  platform_faults integer not null default 0,
  dispatch_at timestamptz default now(),
  create_called_at timestamptz,
  capability_digest bytea,
  lease uuid,
  leased_until timestamptz,
  storing_lease uuid,
  storing_attempts integer not null default 0,
  checked_at timestamptz not null default now(),
  artwork_crc32 bigint,
  absent_since timestamptz,
  output_absent_since timestamptz,
  constraint generation_work_pkey primary key (generation_id),
  constraint generation_work_generation_exists foreign key (generation_id)
    references public.generations (id) on delete cascade,
  constraint generation_work_prepared_unique unique (prepared_path),
  constraint generation_work_storing_attempts_not_negative check (storing_attempts >= 0),
  constraint generation_work_input_sha256_is_hex check (input_sha256 ~ '^[0-9a-f]{64}$'),
  constraint generation_work_dispatches_positive check (dispatches > 0),
  constraint generation_work_artwork_crc32_range check (artwork_crc32 between 0 and 4294967295),
  constraint generation_work_unreported_not_negative check (unreported >= 0),
  constraint generation_work_platform_faults_not_negative check (platform_faults >= 0),
  constraint generation_work_capability_is_sha256 check (octet_length(capability_digest) = 32),
  constraint generation_work_lease_has_end check ((lease is null) = (leased_until is null))
);

create index generation_work_lease_idx on private.generation_work (lease) where lease is not null;
create index generation_work_dispatch_at_idx on private.generation_work (dispatch_at) where dispatch_at is not null;

alter table private.generation_work enable row level security;
revoke all on private.generation_work from public, anon, authenticated, service_role;

comment on table private.generation_work is 'Working data of generations: dispatches, leases and the digests of capability tokens.';
comment on column private.generation_work.request_digest is 'SHA-256 of the request. The same idempotency key with another request is refused.';
comment on column private.generation_work.input_stored_at is 'When the original was uploaded. The limits of R1 count from then, also for the prepared copy.';
comment on column private.generation_work.prepared_path is 'Path of the prepared copy, which the model sees, in the bucket inputs. No client can write to it. Null until the original has been judged.';
comment on column private.generation_work.input_sha256 is 'SHA-256 of the original as we received it, in hex. Recorded when the original was judged.';
comment on column private.generation_work.storing_lease is 'The lease of the latest attempt to store the output.';
comment on column private.generation_work.storing_attempts is 'Number of attempts to store the output. Each attempt has its own path, so that a late deletion of one never deletes the object of another.';
comment on column private.generation_work.dispatches is 'How often a worker has leased the generation for dispatch, always under the same hold and deadline.';
comment on column private.generation_work.unreported is 'Dispatch attempts whose end no worker has reported: the attempt is in progress, the worker died, or the response to its create call was lost.';
comment on column private.generation_work.platform_faults is 'Predictions of this generation that failed because of a fault in Replicate''s platform.';
comment on column private.generation_work.dispatch_at is 'The generation is due for dispatch from this time on. Null once a prediction is known.';
comment on column private.generation_work.create_called_at is 'The time of a create call whose response we do not have. Since then, Replicate may have accepted a prediction whose ID we do not know.';
comment on column private.generation_work.capability_digest is 'SHA-256 of the capability token in the webhook address. It connects an event with its generation even if the response that named the prediction was lost.';
comment on column private.generation_work.lease is 'Fencing token of the worker that dispatches the generation or stores its output. A worker whose lease was taken over changes nothing.';
comment on column private.generation_work.artwork_crc32 is 'CRC-32 of the artwork, computed while it was stored, because a ZIP file has it before the data. Null for older artworks: their export computes it.';
comment on column private.generation_work.checked_at is 'When Replicate last told us about this generation, or when we last asked.';
comment on column private.generation_work.absent_since is 'When the current run of 404 responses from Replicate for its prediction began.';
comment on column private.generation_work.output_absent_since is 'When the current run of 404 responses from the output host began.';

-- Only technical metadata (R5). The columns are the list of what may be recorded.
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
revoke all on public.processing_log from public, anon, authenticated, service_role;
revoke all on sequence public.processing_log_id_seq from public, anon, authenticated, service_role;

create policy "People see the log of their own generations"
on public.processing_log
for select
to authenticated
using (person_id = (select private.person()));

grant select on public.processing_log to authenticated, service_role;

comment on table public.processing_log is 'Each step of each generation, and when it happened (C4, C5).';

-- A webhook event from Replicate, identified by its webhook-id. The body is not kept, because it contains the prompt.
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
revoke all on private.webhook_events from public, anon, authenticated, service_role;

comment on table private.webhook_events is 'Signed webhook events that we accepted, one row per event.';

create function private.is_terminal(state text)
returns boolean
language sql
immutable
set search_path = pg_catalog, pg_temp
return state in ('succeeded', 'failed', 'canceled');

-- Locks generations in the order that all code keeps: first their rows in `generation_work`, then the generations,
-- then their wallets, each sorted by ID. Returns the IDs that are locked. With `skip`, it leaves out generations that
-- another transaction has locked.
create function private.lock_generations(ids uuid[], skip boolean default true)
returns uuid[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  locked uuid[];
begin
  if skip then
    locked := array(
      select w.generation_id from private.generation_work as w
      where w.generation_id = any (ids) order by w.generation_id for update skip locked
    );
    locked := array(
      select g.id from public.generations as g
      where g.id = any (ids)
        and (g.id = any (locked) or g.id not in (select w.generation_id from private.generation_work as w
          where w.generation_id = any (ids)))
      order by g.id
      for update skip locked
    );
  else
    perform from private.generation_work as w where w.generation_id = any (ids) order by w.generation_id for update;
    locked := array(select g.id from public.generations as g where g.id = any (ids) order by g.id for update);
  end if;
  perform from public.wallets as w
  where w.person_id in (select g.person_id from public.generations as g where g.id = any (locked))
  order by w.id
  for update;
  return locked;
end;
$$;

-- Locks a generation and returns it if `lease` is still its lease. Returns a row of nulls if the lease was lost. The
-- check is a statement of its own, because a statement that has waited for a lock would still see the old lease.
create function private.lock_leased(generation_id uuid, lease uuid)
returns public.generations
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  generation public.generations;
begin
  perform from private.generation_work as w where w.generation_id = lock_leased.generation_id for update;
  select g.* into generation from public.generations as g where g.id = lock_leased.generation_id for update;
  if not exists (
    select from private.generation_work as w
    where w.generation_id = lock_leased.generation_id and w.lease = lock_leased.lease
  ) then
    return null;
  end if;
  return generation;
end;
$$;

-- A user's request and its price never change. The trigger runs after the update, so that if the update also breaks a
-- constraint, the error names the constraint.
create function private.freeze_generation()
returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if (new.id, new.person_id, new.idempotency_key, new.style, new.style_version, new.model, new.prompt,
      new.settings, new.credits, new.input_path, new.reserved_at)
    is distinct from (old.id, old.person_id, old.idempotency_key, old.style, old.style_version, old.model,
      old.prompt, old.settings, old.credits, old.input_path, old.reserved_at)
  then
    raise exception 'what was asked for does not change' using errcode = '42501';
  end if;
  return null;
end;
$$;

create trigger generations_freeze
after update on public.generations
for each row
execute function private.freeze_generation();
-- Deletions. Each row orders one deletion. The worker with the lease deletes the object and reads it again. The
-- deletion is verified only if the object is gone (R2, R9, X1).

-- Why an object is deleted: a closed list. Each reason has the policy clause behind it and a sentence for users.
create table public.deletion_reasons (
  id text not null,
  clause text not null,
  sentence text not null,
  constraint deletion_reasons_pkey primary key (id)
);

alter table public.deletion_reasons enable row level security;
revoke all on public.deletion_reasons from public, anon, authenticated, service_role;

create policy "Anyone reads what the reasons of deletions mean"
on public.deletion_reasons
for select
to anon, authenticated
using (true);

grant select on public.deletion_reasons to anon, authenticated, service_role;

comment on table public.deletion_reasons is 'The closed list of reasons for which an object is deleted, each with its policy clause.';

insert into public.deletion_reasons (id, clause, sentence) values
  ('prepared', 'R4', 'The photo was checked, and its copy without metadata took its place.'),
  ('succeeded', 'R2', 'The artwork is made, so the photo is not needed any more.'),
  ('failed', 'R4', 'The generation failed, so the photo is not needed any more.'),
  ('canceled', 'R4', 'The generation was canceled, so the photo is not needed any more.'),
  ('limit_reached', 'R1', 'The photo was as old as a photo may get.'),
  ('asked_by_person', 'R9', 'Its owner asked for it.'),
  ('superseded', 'R4', 'It came of an attempt that did not count.'),
  ('export_expired', 'G5', 'The time to fetch the export was over.'),
  ('erasure', 'G3', 'The account that it belonged to was erased, because its user asked for it or no one used it.'),
  ('orphaned', 'X3', 'Nothing referred to it any more.');

create table public.deletions (
  id uuid not null default gen_random_uuid(),
  person_id uuid,
  generation_id uuid,
  bucket text not null,
  path text,
  object_key uuid default gen_random_uuid(),
  bytes bigint,
  content_sha256 text,
  reason text not null,
  ordered_at timestamptz not null default now(),
  due_at timestamptz not null default now(),
  attempts integer not null default 0,
  deleted_at timestamptz,
  verified_at timestamptz,
  receipt text,
  constraint deletions_pkey primary key (id),
  constraint deletions_person_exists foreign key (person_id) references auth.users (id) on delete set null,
  constraint deletions_bucket_known check (bucket in ('inputs', 'artworks', 'exports')),
  constraint deletions_reason_known foreign key (reason) references public.deletion_reasons (id),
  constraint deletions_attempts_not_negative check (attempts >= 0),
  constraint deletions_content_sha256_is_hex check (content_sha256 ~ '^[0-9a-f]{64}$'),
  -- Once the deletion is verified, only the receipt has the digest, in keyed form.
  constraint deletions_content_until_verified check (content_sha256 is null or verified_at is null),
  -- A deletion alone is not enough: we must also have checked that the object is gone.
  constraint deletions_verified_after_deleted check (
    verified_at is null or coalesce(ordered_at <= deleted_at and deleted_at <= verified_at, false)
  ),
  constraint deletions_verified_has_receipt check ((verified_at is null) = (receipt is null)),
  constraint deletions_receipt_is_jws check (receipt ~ '^[\w-]+\.[\w-]+\.[\w-]+$'),
  -- The path names its user, so it is removed with the account. It stays until the deletion is verified, because the
  -- object must be found until then.
  constraint deletions_path_until_verified check (path is not null or verified_at is not null),
  constraint deletions_path_is_keyed check ((path is null) = (object_key is null))
);

create unique index deletions_one_open_order on public.deletions (bucket, path) where verified_at is null;
create index deletions_due_idx on public.deletions (due_at) where verified_at is null;
create index deletions_person_id_idx on public.deletions (person_id, ordered_at desc);
create index deletions_generation_id_idx on public.deletions (generation_id);
-- Each upload checks whether its name was used before.
create index deletions_path_idx on public.deletions (path, bucket);
create index deletions_reason_idx on public.deletions (reason, ordered_at);
create index deletions_verified_at_idx on public.deletions (verified_at);

alter table public.deletions enable row level security;
revoke all on public.deletions from public, anon, authenticated, service_role;

create policy "People see the deletions of what was theirs"
on public.deletions
for select
to authenticated
using (person_id = (select private.person()));

grant select on public.deletions to authenticated, service_role;

comment on table public.deletions is 'Every deletion: why, when it was ordered and done, when the absence of the object was verified, and the receipt.';
comment on column public.deletions.object_key is 'Key for the digest of bucket and path in the receipt. Anyone with this key can show which object the receipt is about.';
comment on column public.deletions.bytes is 'Size of the object in bytes when a worker began to delete it. Null if there was no object.';
comment on column public.deletions.content_sha256 is 'SHA-256 of a photo as we received it, in hex, until the receipt contains it. Null for photos that were never judged, and for all other objects.';
comment on column public.deletions.receipt is 'Proof of the verified deletion: a compact JWS (RFC 7515, Ed25519) (X1).';
comment on column public.deletions.due_at is 'No worker tries before this time. It is the time of the first attempt, the end of a lease, or the time of the next attempt.';

-- The receipt outlives the account. This trigger removes what says whose it was (X1).
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

create index deletion_leases_lease_idx on private.deletion_leases (lease);

alter table private.deletion_leases enable row level security;
revoke all on private.deletion_leases from public, anon, authenticated, service_role;

comment on table private.deletion_leases is 'Which worker carries out a deletion. A lease ends when its deletion is due again.';

-- The time in RFC 3339 format, in UTC, to the microsecond. Signed text must not depend on a setting of the session.
create function private.timestamp(at timestamptz)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
return to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');

-- The SHA-256 of the photo, if the path is that of an original that was judged. The prepared copy has none, because we
-- made it ourselves.
create function private.judged_content(path text, generation_id uuid)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
begin atomic
  select w.input_sha256
  from public.generations as g
  join private.generation_work as w on w.generation_id = g.id
  where g.id = judged_content.generation_id and g.input_path = judged_content.path;
end;

-- Orders a deletion. Idempotent: an object has at most one pending deletion. If it is ordered again, it is due at the
-- earlier of both times, unless a worker has leased it.
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
  insert into public.deletions as d (bucket, path, reason, person_id, generation_id, content_sha256, due_at)
  values (bucket, path, reason, person_id, generation_id, private.judged_content(path, generation_id), due_at)
  on conflict (bucket, path) where verified_at is null
  do update set due_at = least(d.due_at, excluded.due_at),
    content_sha256 = coalesce(excluded.content_sha256, d.content_sha256)
  where not exists (select from private.deletion_leases as l where l.deletion_id = d.id);
end;

-- The size of an object in bytes, as Storage reports it. Null if the value is not a number, because one such row must
-- not block the deletions of all users.
create function private.object_bytes(metadata jsonb)
returns bigint
language sql
immutable
set search_path = pg_catalog, pg_temp
return case when metadata ->> 'size' ~ '^\d{1,18}$' then (metadata ->> 'size')::bigint end;

-- Hands out due deletions under a lease, each to one caller, for `lease_seconds`. The caller chooses the lease: a
-- retry with the same lease after a lost response gets the same deletions. With `generation_id`, only the deletions of
-- that generation.
create function backend.lease_deletions(
  lease uuid,
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
  is_new constant boolean := lease_deletions.generation_id is not null or not exists (
    select
    from private.deletion_leases as l
    join public.deletions as d on d.id = l.deletion_id and d.verified_at is null
    where l.lease = lease_deletions.lease
  );
  leased jsonb;
begin
  with due as (
    select d.id
    from public.deletions as d
    where d.verified_at is null
      and d.due_at <= now()
      and is_new
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
          select private.object_bytes(o.metadata)
          from storage.objects as o
          where o.bucket_id = d.bucket and o.name = d.path
        ),
        d.bytes
      )
    from due
    where d.id = due.id
    returning d.id
  )
  insert into private.deletion_leases as l (deletion_id, lease)
  select id, lease_deletions.lease from taken
  on conflict (deletion_id) do update set lease = excluded.lease;

  select coalesce(jsonb_agg(jsonb_build_object(
    'id', d.id, 'lease', l.lease, 'generation', d.generation_id, 'bucket', d.bucket, 'path', d.path,
    'object_key', d.object_key, 'bytes', d.bytes, 'content_sha256', d.content_sha256, 'reason', d.reason, 'clause', r.clause,
    'attempts', d.attempts, 'ordered_at', private.timestamp(d.ordered_at),
    -- The time of the response, not of the transaction, which may have waited. Receipts count from this time.
    'leased_at', private.timestamp(clock_timestamp())
  )), '[]')
  into leased
  from private.deletion_leases as l
  join public.deletions as d on d.id = l.deletion_id and d.verified_at is null
  join public.deletion_reasons as r on r.id = d.reason
  where l.lease = lease_deletions.lease
    and (lease_deletions.generation_id is null or d.generation_id = lease_deletions.generation_id);
  return leased;
end;
$$;

comment on function backend.lease_deletions is 'Due deletions for the caller to carry out, with everything that their receipts contain.';

-- `results`: [{id, lease, absent, deleted_at, verified_at, receipt}]. `absent` means that a read after the deletion
-- found nothing; only then are the members after it set. The result counts only if `storage.objects` has no row of the
-- object either. A deletion that is not verified is retried, each time later, and never given up.
create function backend.record_deletions(results jsonb)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  free uuid[];
  recorded jsonb;
begin
  -- Leave out rows that another transaction is changing; they are due again when their lease ends. Waiting for several
  -- rows in turn could end in a deadlock.
  free := array(
    select d.id
    from public.deletions as d
    where d.id in (select (r.value ->> 'id')::uuid from jsonb_array_elements(results) as r)
    for update skip locked
  );
  with result as (
    select d.id, r.deleted_at, r.verified_at, r.receipt,
      r.absent
        -- If the clock jumped in the meantime, the times prove nothing.
        and r.deleted_at >= d.ordered_at
        and r.verified_at <= clock_timestamp() + interval '1 second'
        and not exists (
          select from storage.objects as o where o.bucket_id = d.bucket and o.name = d.path
        ) as gone
    from jsonb_to_recordset(results) as r (
      id uuid, lease uuid, absent boolean, deleted_at timestamptz, verified_at timestamptz, receipt text
    )
    join private.deletion_leases as l on l.deletion_id = r.id and l.lease = r.lease
    join public.deletions as d on d.id = r.id and d.id = any (free) and d.verified_at is null
  ),
  updated as (
    update public.deletions as d
    set deleted_at = case when result.gone then result.deleted_at end,
      verified_at = case when result.gone then result.verified_at end,
      receipt = case when result.gone then result.receipt end,
      content_sha256 = case when result.gone then null else d.content_sha256 end,
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

comment on function backend.record_deletions is 'Records the results of deletions. Returns {verified, remaining}. Ignores results under a lost lease.';

revoke all on function backend.lease_deletions, backend.record_deletions from public, anon, authenticated, service_role;
grant execute on function backend.lease_deletions, backend.record_deletions to service_role;
-- Replicate keeps what we send and what it makes for an hour. After that we ask whether all of it is gone, and keep
-- the answer as evidence (T3).

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
revoke all on public.replicate_removals from public, anon, authenticated, service_role;

create policy "People see what Replicate has removed of theirs"
on public.replicate_removals
for select
to authenticated
using (person_id = (select private.person()));

grant select on public.replicate_removals to authenticated, service_role;

comment on table public.replicate_removals is 'Each prediction that was made, and the evidence that Replicate has removed its data (T3).';
comment on column public.replicate_removals.generation_id is 'Not a foreign key: we also ask about a generation that is deleted within the hour.';
comment on column public.replicate_removals.evidence is 'Replicate''s answer: `data_removed`, or `not_found` if it no longer knows the prediction.';

create table private.removal_leases (
  prediction_id text not null,
  lease uuid not null,
  constraint removal_leases_pkey primary key (prediction_id),
  constraint removal_leases_removal_exists foreign key (prediction_id)
    references public.replicate_removals (prediction_id) on delete cascade
);

create index removal_leases_lease_idx on private.removal_leases (lease);

alter table private.removal_leases enable row level security;
revoke all on private.removal_leases from public, anon, authenticated, service_role;

comment on table private.removal_leases is 'Which worker asks Replicate about a prediction. A lease ends when the prediction is due again.';

-- One 404 proves nothing, because it may be a temporary fault.
create table private.removal_absences (
  prediction_id text not null,
  since timestamptz not null default now(),
  constraint removal_absences_pkey primary key (prediction_id),
  constraint removal_absences_removal_exists foreign key (prediction_id)
    references public.replicate_removals (prediction_id) on delete cascade
);

alter table private.removal_absences enable row level security;
revoke all on private.removal_absences from public, anon, authenticated, service_role;

comment on table private.removal_absences is 'Predictions that Replicate did not know when we last asked, and since when. A second 404, some minutes later, is the evidence.';

create function private.follow_prediction()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  insert into public.replicate_removals (prediction_id, person_id, generation_id, due_at)
  values (new.prediction_id, new.person_id, new.id, now() + private.retention('replicate_hour'))
  on conflict do nothing;
  return null;
end;
$$;

create trigger generations_follow_prediction
after update of prediction_id on public.generations
for each row
when (new.prediction_id is not null and new.prediction_id is distinct from old.prediction_id)
execute function private.follow_prediction();

-- Returns predictions to ask about, [{prediction, generation}], the longest due first. They are leased for ten
-- minutes. The caller chooses the lease: a retry with the same lease gets the same predictions.
create function backend.lease_removals(lease uuid, batch integer default 50)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if not exists (select from private.removal_leases as l where l.lease = lease_removals.lease) then
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
    insert into private.removal_leases as l (prediction_id, lease)
    select prediction_id, lease_removals.lease from asked
    on conflict (prediction_id) do update set lease = excluded.lease;
  end if;
  return (
    select coalesce(jsonb_agg(jsonb_build_object('prediction', r.prediction_id, 'generation', r.generation_id)), '[]')
    from private.removal_leases as l
    join public.replicate_removals as r on r.prediction_id = l.prediction_id
    where l.lease = lease_removals.lease
  );
end;
$$;

-- `results`: [{prediction, evidence}]. `evidence` is null if some data is still there. Then we ask again, at most six
-- hours later. `not_found` counts only if Replicate also gave this answer some minutes before.
create function backend.record_removals(results jsonb)
returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Lock the rows in one order, so that two reports about the same predictions cannot deadlock.
  perform from public.replicate_removals as r
  where r.prediction_id in (select t.value ->> 'prediction' from jsonb_array_elements(results) as t)
  order by r.prediction_id
  for update;
  update public.replicate_removals as r
  set evidence = case when told.is_proof then told.evidence end,
    removed_at = case when told.is_proof then now() end,
    due_at = now() + case
      when told.evidence is not null then interval '5 minutes'
      else least(interval '6 hours', interval '5 minutes' * power(2, least(r.attempts, 10)))
    end
  from (
    select t.prediction, t.evidence,
      t.evidence is not null and (t.evidence <> 'not_found' or exists (
        select from private.removal_absences as a
        where a.prediction_id = t.prediction and a.since <= now() - interval '4 minutes'
      )) as is_proof
    from jsonb_to_recordset(results) as t (prediction text, evidence text)
  ) as told
  where r.prediction_id = told.prediction and r.removed_at is null;
  insert into private.removal_absences (prediction_id)
  select r.prediction_id
  from jsonb_to_recordset(results) as t (prediction text, evidence text)
  join public.replicate_removals as r on r.prediction_id = t.prediction
  where t.evidence = 'not_found' and r.removed_at is null
  on conflict do nothing;
  delete from private.removal_absences as a
  using public.replicate_removals as r
  where r.prediction_id = a.prediction_id
    and a.prediction_id in (select t.value ->> 'prediction' from jsonb_array_elements(results) as t)
    and (r.removed_at is not null or a.prediction_id not in (
      select t.value ->> 'prediction' from jsonb_array_elements(results) as t where t.value ->> 'evidence' = 'not_found'));
  delete from private.removal_leases as l
  where l.prediction_id in (select t.value ->> 'prediction' from jsonb_array_elements(results) as t);
end;
$$;

comment on function backend.lease_removals is 'Predictions whose hour at Replicate is over, for the caller to ask about.';
comment on function backend.record_removals is 'Records Replicate''s answers: the evidence, or that some data is still there.';

revoke all on function backend.lease_removals, backend.record_removals from public, anon, authenticated, service_role;
grant execute on function backend.lease_removals, backend.record_removals to service_role;
-- The outbox: calls that we still have to make to other services. A task stops a prediction, searches for one, or
-- abandons an upload. A worker may die before the call, so each task is a row until it is done.

create table private.outbox (
  kind text not null,
  target text not null,
  person_id uuid,
  generation_id uuid,
  ordered_at timestamptz not null default now(),
  due_at timestamptz not null default now(),
  since timestamptz,
  attempts integer not null default 0,
  lease uuid,
  constraint outbox_pkey primary key (kind, target),
  constraint outbox_kind_known check (kind in ('cancel_prediction', 'find_prediction', 'abandon_upload')),
  constraint outbox_person_exists foreign key (person_id) references auth.users (id) on delete set null
);

create index outbox_due_at_idx on private.outbox (due_at);
create index outbox_lease_idx on private.outbox (lease);
create index outbox_person_id_idx on private.outbox (person_id);
create index outbox_ordered_at_idx on private.outbox (ordered_at);

alter table private.outbox enable row level security;
revoke all on private.outbox from public, anon, authenticated, service_role;

comment on table private.outbox is 'Outbox tasks: calls to make to Replicate (stop or find a prediction) or to Storage (abandon an upload).';
comment on column private.outbox.target is 'The ID of the prediction, the path of the photo that it was made from, or the address of the upload.';
comment on column private.outbox.generation_id is 'For the log. Not a foreign key: the task stays if the generation is deleted.';
comment on column private.outbox.since is 'For a search: when the create call of the prediction was made.';

-- A search starts after a minute. By then, a create call that is in progress has its response.
create function private.order_outbox_task(
  kind text,
  target text,
  person_id uuid,
  generation_id uuid default null,
  since timestamptz default null
)
returns void
language sql
set search_path = pg_catalog, pg_temp
begin atomic
  insert into private.outbox (kind, target, person_id, generation_id, since, due_at)
  select kind, target, u.id, generation_id, since, now() + case when kind = 'find_prediction' then interval '1 minute' else '0' end
  from (values (1)) as once
  left join auth.users as u on u.id = order_outbox_task.person_id
  where target is not null
  on conflict do nothing;
end;

-- Returns due outbox tasks, [{kind, target, generation, since}], under a lease. They are due again after a minute,
-- each time later. The caller chooses the lease: a retry with the same lease gets the same tasks.
create function backend.lease_outbox(lease uuid, batch integer default 50)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if not exists (select from private.outbox as o where o.lease = lease_outbox.lease) then
    with due as (
      select o.kind, o.target
      from private.outbox as o
      where o.due_at <= now()
      order by o.due_at
      limit batch
      for update skip locked
    )
    update private.outbox as o
    set due_at = now() + interval '1 minute' * least(o.attempts + 1, 10), attempts = o.attempts + 1,
      lease = lease_outbox.lease
    from due
    where o.kind = due.kind and o.target = due.target;
  end if;
  return (
    select coalesce(jsonb_agg(jsonb_build_object(
      'kind', o.kind, 'target', o.target, 'generation', o.generation_id, 'since', extract(epoch from o.since))), '[]')
    from private.outbox as o
    where o.lease = lease_outbox.lease
  );
end;
$$;

-- A search found predictions that no row names. Each of them must be stopped, and later we ask whether Replicate has
-- removed it (T3).
create function backend.record_found_predictions(target text, predictions jsonb)
returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  task private.outbox;
begin
  select * into task
  from private.outbox as o
  where o.kind = 'find_prediction' and o.target = record_found_predictions.target;
  perform private.disown_prediction(p.id, task.person_id, task.generation_id)
  from jsonb_array_elements_text(predictions) as p (id);
end;
$$;

-- Handles a prediction that belongs to no open generation. Replicate has the photo nevertheless, so the prediction is
-- stopped, and later we ask about its data.
create function private.disown_prediction(prediction_id text, person uuid, generation_id uuid)
returns void
language sql
set search_path = pg_catalog, pg_temp
begin atomic
  select private.order_outbox_task('cancel_prediction', prediction_id, person, generation_id);
  insert into public.replicate_removals (prediction_id, person_id, generation_id, due_at)
  select prediction_id, (select u.id from auth.users as u where u.id = person), generation_id,
    now() + private.retention('replicate_hour')
  on conflict do nothing;
end;

create function backend.finish_outbox_task(kind text, target text)
returns void
language sql
security definer
set search_path = pg_catalog, pg_temp
begin atomic
  delete from private.outbox as o where o.kind = finish_outbox_task.kind and o.target = finish_outbox_task.target;
end;

comment on function backend.lease_outbox is 'Due outbox tasks for the caller to carry out.';
comment on function backend.record_found_predictions is 'Records predictions that a search found. They are stopped, and Replicate is asked about their data.';
comment on function backend.finish_outbox_task is 'Removes an outbox task that is done or no longer possible.';

revoke all on function backend.lease_outbox, backend.record_found_predictions, backend.finish_outbox_task from public, anon, authenticated, service_role;
grant execute on function backend.lease_outbox, backend.record_found_predictions, backend.finish_outbox_task to service_role;
-- The life of a generation. Its state changes only along these lines. What a change implies (times, log, credits,
-- deletion) happens in the same statement.
--
--   reserved → dispatched → processing → storing → succeeded
--       └──────────┴───────────┴───────────┴────→ failed | canceled
--
-- Steps forward may be skipped, because Replicate's events come late, twice or never.

-- Whether the model has started. From then on we pay for the prediction, even if the generation is ended early.
create function private.has_begun(generation public.generations)
returns boolean
language sql
immutable
set search_path = pg_catalog, pg_temp
return generation.processing_at is not null or generation.storing_at is not null;

create function private.guard_transition()
returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  way constant text[] := array['reserved', 'dispatched', 'processing', 'storing', 'succeeded'];
  step timestamptz := clock_timestamp();
begin
  if private.is_terminal(old.state)
    or (new.state in (select unnest(way)) and array_position(way, new.state) <= array_position(way, old.state))
    or (new.state = 'succeeded' and old.state <> 'storing')
  then
    raise exception 'a generation cannot go from % to %', old.state, new.state using errcode = '23514';
  end if;

  if new.state in ('dispatched', 'processing', 'storing') then
    new.dispatched_at := coalesce(new.dispatched_at, step);
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

-- Orders the deletion of a generation's photo: of the prepared copy, or of the original if there is no copy yet. Once
-- there is a copy, the deletion of the original is already ordered. If a worker is preparing a copy now, its deletion
-- was ordered before the worker began.
create function private.order_photo_deletion(generation public.generations, reason text, person uuid)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  work private.generation_work;
begin
  select * into work from private.generation_work as w where w.generation_id = generation.id;
  perform private.order_deletion(
    'inputs', coalesce(work.prepared_path, generation.input_path), reason, person, generation.id);
  -- The response to a create call was lost, so there may be a prediction that no row names (T3).
  if work.create_called_at is not null and generation.prediction_id is null then
    perform private.order_outbox_task('find_prediction', work.prepared_path, person, generation.id, work.create_called_at);
  end if;
end;
$$;

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
    insert into private.outcomes (subject, outcome) values ('generation', coalesce(new.reason, new.state));
    if new.state = 'canceled' then
      perform private.settle_ended_by_person(new.id, private.has_begun(new));
    else
      update public.credit_holds
      set state = case when new.state = 'succeeded' then 'captured' else 'released' end,
        settled_at = clock_timestamp()
      where generation_id = new.id;
    end if;
    perform private.order_photo_deletion(new, new.state, new.person_id);
    update private.generation_work
    set lease = null, leased_until = null, dispatch_at = null
    where generation_id = new.id;
    if new.state = 'canceled' and new.prediction_id is not null then
      perform private.order_outbox_task('cancel_prediction', new.prediction_id, new.person_id, new.id);
    end if;
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

-- G6: a user who restricted generation gets no new generation, whichever role makes the call.
create trigger generations_unrestricted
before insert on public.generations
for each row
execute function private.refuse_restricted();

create trigger generations_guard_reservation
before insert on public.generations
for each row
execute function private.guard_reservation();

-- Runs when a generation is deleted, by its user or with the account. It settles the hold and orders the deletion of
-- what is stored.
create function private.follow_deletion()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  -- While an account is being deleted, its row is already gone.
  person constant uuid := (select u.id from auth.users as u where u.id = old.person_id);
  is_leaving constant boolean := not exists (
    select from public.profiles as p where p.id = old.person_id and p.closed_at is null
  );
begin
  if not private.is_terminal(old.state) then
    insert into private.outcomes (subject, outcome) values ('generation', 'canceled');
    perform private.settle_ended_by_person(old.id, private.has_begun(old));
    perform private.order_photo_deletion(old, 'canceled', person);
    if old.prediction_id is not null then
      perform private.order_outbox_task('cancel_prediction', old.prediction_id, person, old.id);
    end if;
  end if;
  if old.artwork_path is not null then
    perform private.order_deletion(
      'artworks', old.artwork_path, case when is_leaving then 'erasure' else 'asked_by_person' end, person, old.id);
  end if;
  return old;
end;
$$;

create trigger generations_follow_deletion
before delete on public.generations
for each row
execute function private.follow_deletion();

-- A generation as JSON, as the functions return it to users.
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
  'style', generation.style,
  'style_version', generation.style_version,
  'model', generation.model,
  'settings', generation.settings,
  'credits', generation.credits,
  'input_path', generation.input_path,
  'artwork_path', generation.artwork_path,
  'artwork_missing_at', generation.artwork_missing_at,
  'deadline_at', generation.deadline_at,
  'reserved_at', generation.reserved_at,
  'finished_at', generation.finished_at
);

-- The user whose folder a path is in, or null if that user no longer exists.
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
-- What users allow. Purposes are rows, and choices are kept with their history. The database follows the last choice,
-- or the default of the purpose (G6, G7).

create table public.purposes (
  id text not null,
  clause text not null,
  words text not null,
  position smallint not null,
  allowed_by_default boolean not null,
  constraint purposes_pkey primary key (id)
);

alter table public.purposes enable row level security;
revoke all on public.purposes from public, anon, authenticated, service_role;

create policy "Anyone reads what the purposes are"
on public.purposes
for select
to anon, authenticated
using (true);

grant select on public.purposes to anon, authenticated, service_role;

comment on table public.purposes is 'What personal data is used for. Users can refuse each purpose and allow it again.';

comment on column public.purposes.allowed_by_default is 'Whether the purpose is allowed for users who have made no choice. False for a purpose that reads the user''s device.';

insert into public.purposes (id, clause, position, allowed_by_default, words) values
  ('generation', 'G6', 1, true,
    'Making artworks from your photos. If you refuse, nothing new is charged or submitted, and what runs is stopped: if the model has begun, as a late cancel.'),
  ('analytics', 'G7', 2, false,
    'Counting which features you use, and on what kind of device. This reads your device, so nothing is recorded until you allow it.'),
  ('improvement', 'G7', 3, true,
    'Reports that help to improve models and styles. If you refuse, you are left out of all of them, your past included.'),
  ('notices', 'R10', 4, true,
    'Reminders by email before an account that is not used is deleted. If you refuse, none are sent, and the account stays.');

-- We must be able to prove choices and consents later (GDPR, article 7(1)). So these rows outlive the account, under
-- its pseudonym. Their retention rule counts from the end of the account.
create function private.note_departure()
returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  new.left_at := now();
  return new;
end;
$$;

create table public.privacy_choices (
  id bigint generated always as identity,
  person_id uuid default auth.uid(),
  purpose text not null,
  allowed boolean not null,
  at timestamptz not null default now(),
  pseudonym text,
  left_at timestamptz,
  constraint privacy_choices_pkey primary key (id),
  constraint privacy_choices_person_exists foreign key (person_id) references auth.users (id) on delete set null,
  constraint privacy_choices_purpose_known foreign key (purpose) references public.purposes (id),
  constraint privacy_choices_pseudonym_without_person check (pseudonym is null or person_id is null)
);

create index privacy_choices_latest_idx on public.privacy_choices (person_id, purpose, id desc);
create index privacy_choices_purpose_idx on public.privacy_choices (purpose);
create index privacy_choices_left_at_idx on public.privacy_choices (left_at) where left_at is not null;

alter table public.privacy_choices enable row level security;
revoke all on public.privacy_choices from public, anon, authenticated, service_role;
revoke all on sequence public.privacy_choices_id_seq from public, anon, authenticated, service_role;

create policy "People see their own choices"
on public.privacy_choices
for select
to authenticated
using (person_id = (select private.person()));

create policy "People choose for themselves"
on public.privacy_choices
for insert
to authenticated
with check (person_id = (select private.person()));

grant select on public.privacy_choices to authenticated, service_role;
grant insert (person_id, purpose, allowed) on public.privacy_choices to authenticated;

comment on table public.privacy_choices is 'Every choice that was made. The last one for a purpose counts; without one, the default of the purpose counts. The rows outlive the account as proof.';
comment on column public.privacy_choices.pseudonym is 'For a deleted account: the user''s ID under a keyed hash, as in public.wallets.';
comment on column public.privacy_choices.left_at is 'When the account was deleted. The retention rule counts from then.';

create trigger privacy_choices_forget
before update of person_id on public.privacy_choices
for each row
when (new.person_id is null)
execute function private.note_departure();

create function private.allows(person uuid, purpose text)
returns boolean
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
return coalesce((
  -- No `limit` here: with one, the planner might walk the choices of all users from the end.
  select (array_agg(c.allowed order by c.id desc))[1]
  from public.privacy_choices as c
  where c.person_id = person and c.purpose = allows.purpose
), (
  select p.allowed_by_default from public.purposes as p where p.id = allows.purpose
));

revoke all on function private.allows from public, anon, authenticated, service_role;
grant execute on function private.allows to service_role;

-- Which users do not allow which purposes, by a choice or by default. For reports over all users.
create view private.refusals
as
select p.id as person_id, u.id as purpose
from public.profiles as p
cross join public.purposes as u
left join (
  select distinct on (n.person_id, n.purpose) n.person_id, n.purpose, n.allowed
  from public.privacy_choices as n
  order by n.person_id, n.purpose, n.id desc
) as c on c.person_id = p.id and c.purpose = u.id
where not coalesce(c.allowed, u.allowed_by_default);

revoke all on private.refusals from public, anon, authenticated, service_role;
grant select on private.refusals to service_role;

-- Users change their minds, and programs have bugs. The quota leaves room for the first and stops the second.
create function private.check_choice()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  quota constant private.quotas := private.quota('choices', 'per_hour');
  free_at timestamptz;
begin
  if private.is_anothers(new.person_id) then
    return new;
  end if;
  perform private.lock_person(new.person_id);
  select min(latest.at) + quota.span into free_at
  from (
    select c.at from public.privacy_choices as c
    where c.person_id = new.person_id and c.purpose = new.purpose and c.at > now() - quota.span
    order by c.id desc
    limit quota.most
  ) as latest
  having count(*) = quota.most;
  if free_at is not null then
    perform private.refuse(429, 'too_many_choices',
      format('You have changed this %s times within an hour. The last choice counts; please wait a while.', quota.most),
      private.retry_at(free_at));
  end if;
  return new;
end;
$$;

create trigger privacy_choices_check
before insert on public.privacy_choices
for each row
execute function private.check_choice();

-- Ends all open generations of a user. It locks the user first, as a submission does, so that no new generation starts
-- in between.
create function private.cancel_open(person uuid)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  locked uuid[];
begin
  perform private.lock_person(person);
  locked := private.lock_generations(array(
    select g.id from public.generations as g where g.person_id = person and not private.is_terminal(g.state)
  ), skip => false);
  update public.generations as g
  set state = 'canceled'
  where g.id = any (locked) and not private.is_terminal(g.state);
end;
$$;

-- A restriction takes effect in its own statement, which also ends what is in progress.
create function private.follow_choice()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if new.purpose = 'generation' and not new.allowed then
    perform private.cancel_open(new.person_id);
  end if;
  perform private.note_activity(new.person_id);
  -- Allowing a purpose does not answer a request to stop.
  if not new.allowed then
    perform private.answer_requests(new.person_id,
      array(
        select case p.clause when 'G6' then 'restriction' when 'G7' then 'objection' end
        from public.purposes as p
        where p.id = new.purpose and p.clause in ('G6', 'G7')
      ),
      'choice', new.id::text);
  end if;
  return null;
end;
$$;

create trigger privacy_choices_follow
after insert on public.privacy_choices
for each row
execute function private.follow_choice();
-- R10: when a user last did something here. `inactivity.sql` reads it.

-- Records that the user was active, at most once an hour, to limit the writes for a busy user.
create function private.note_activity(person uuid)
returns void
language sql
set search_path = pg_catalog, pg_temp
begin atomic
  update public.profiles as p
  set active_at = now()
  where p.id = person and p.active_at < now() - interval '1 hour';
end;

create function private.follow_activity()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.note_activity(new.person_id);
  return null;
end;
$$;

create trigger generations_follow_activity
after insert on public.generations
for each row
execute function private.follow_activity();
-- Which versions of the privacy policy are published, and which of them a user has agreed to.

create table public.policy_versions (
  id text not null,
  published_at timestamptz not null,
  digest text not null,
  constraint policy_versions_pkey primary key (id),
  constraint policy_versions_digest_form check (digest ~ '^[0-9a-f]{64}$'),
  constraint policy_versions_id_form check (id ~ '^[0-9A-Za-z.-]{1,20}$')
);

create index policy_versions_published_at_idx on public.policy_versions (published_at);

alter table public.policy_versions enable row level security;
revoke all on public.policy_versions from public, anon, authenticated, service_role;

create policy "Anyone reads which versions of the policy are published"
on public.policy_versions
for select
to anon, authenticated
using (published_at <= now());

grant select on public.policy_versions to anon, authenticated, service_role;

comment on table public.policy_versions is 'Versions of the privacy policy. After a new version is published, every user is asked to agree again.';

comment on column public.policy_versions.digest is 'SHA-256 of its text (UTF-8), in hex. It proves later what users have agreed to.';

insert into public.policy_versions (id, published_at, digest)
values ('2026-11', '2026-11-01', '0eb0d1c46464475ba59da9504062351112627003e3e590354af6211791caff40');

create table public.policy_consents (
  id bigint generated always as identity,
  person_id uuid default auth.uid(),
  version text not null,
  at timestamptz not null default now(),
  pseudonym text,
  left_at timestamptz,
  constraint policy_consents_pkey primary key (id),
  constraint policy_consents_once unique (person_id, version),
  constraint policy_consents_person_exists foreign key (person_id) references auth.users (id) on delete set null,
  constraint policy_consents_version_exists foreign key (version) references public.policy_versions (id),
  constraint policy_consents_pseudonym_without_person check (pseudonym is null or person_id is null)
);

create index policy_consents_version_idx on public.policy_consents (version);
create index policy_consents_left_at_idx on public.policy_consents (left_at) where left_at is not null;

alter table public.policy_consents enable row level security;
revoke all on public.policy_consents from public, anon, authenticated, service_role;
revoke all on sequence public.policy_consents_id_seq from public, anon, authenticated, service_role;

create policy "People see what they have agreed to"
on public.policy_consents
for select
to authenticated
using (person_id = (select private.person()));

-- Users cannot see versions that are not published yet, so they cannot agree to them.
create policy "People agree for themselves, to what is published"
on public.policy_consents
for insert
to authenticated
with check (
  person_id = (select private.person())
  and version in (select v.id from public.policy_versions as v)
);

grant select on public.policy_consents to authenticated, service_role;
grant insert (person_id, version) on public.policy_consents to authenticated;

comment on table public.policy_consents is 'Which user has agreed to which version of the privacy policy, and when. The rows outlive the account as proof.';
comment on column public.policy_consents.pseudonym is 'For a deleted account: the user''s ID under a keyed hash, as in public.wallets.';
comment on column public.policy_consents.left_at is 'When the account was deleted. The retention rule counts from then.';

create trigger policy_consents_forget
before update of person_id on public.policy_consents
for each row
when (new.person_id is null)
execute function private.note_departure();

-- A sign-up can carry the version that the user agreed to (`options.data.policy_version`). An unknown version records
-- nothing.
create function private.record_consent_at_sign_up(person uuid, version text)
returns void
language sql
set search_path = pg_catalog, pg_temp
begin atomic
  insert into public.policy_consents (person_id, version)
  select person, v.id
  from public.policy_versions as v
  where v.id = record_consent_at_sign_up.version and v.published_at <= now();
end;

create function public.policy_to_agree_to()
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
return (
  select v.id
  from (select n.id from public.policy_versions as n where n.published_at <= now() order by n.published_at desc limit 1) as v
  where not exists (
    select from public.policy_consents as c where c.person_id = private.person() and c.version = v.id
  )
);

comment on function public.policy_to_agree_to is 'The version of the privacy policy that the caller has not agreed to yet, or null.';

revoke all on function public.policy_to_agree_to from public, anon, authenticated, service_role;
grant execute on function public.policy_to_agree_to to authenticated;
-- Which features are used, and on what kind of device. The columns are typed, and no finer than the reports need (C9,
-- C10).

create table public.usage_events (
  id bigint generated always as identity,
  person_id uuid not null default auth.uid(),
  at timestamptz not null default now(),
  feature text not null,
  browser text,
  browser_version smallint,
  viewport_width smallint,
  viewport_height smallint,
  pixel_ratio numeric(2, 1),
  image_formats text[],
  constraint usage_events_pkey primary key (id),
  constraint usage_events_person_exists foreign key (person_id) references auth.users (id) on delete cascade,
  constraint usage_events_feature_form check (feature ~ '^[a-z]+(_[a-z]+){0,4}$' and char_length(feature) <= 40),
  constraint usage_events_browser_known
    check (browser in ('chrome', 'edge', 'firefox', 'opera', 'safari', 'samsung', 'other')),
  constraint usage_events_browser_version_plausible check (browser_version between 1 and 999),
  constraint usage_events_viewport_plausible
    check (viewport_width between 1 and 10000 and viewport_height between 1 and 10000),
  constraint usage_events_pixel_ratio_plausible check (pixel_ratio between 0.1 and 9.9),
  constraint usage_events_image_formats_known
    check (image_formats <@ array['avif', 'jpeg', 'jxl', 'png', 'webp'] and cardinality(image_formats) <= 5)
);

create index usage_events_person_id_idx on public.usage_events (person_id, at desc);
create index usage_events_at_idx on public.usage_events (at);

alter table public.usage_events enable row level security;
revoke all on public.usage_events from public, anon, authenticated, service_role;
revoke all on sequence public.usage_events_id_seq from public, anon, authenticated, service_role;

create policy "People see what was recorded of them"
on public.usage_events
for select
to authenticated
using (person_id = (select private.person()));

create policy "People record their own use"
on public.usage_events
for insert
to authenticated
with check (person_id = (select private.person()));

grant select on public.usage_events to authenticated, service_role;
grant insert (
  person_id, feature, browser, browser_version, viewport_width, viewport_height, pixel_ratio, image_formats
) on public.usage_events to authenticated;

comment on table public.usage_events is 'Which feature was used, when, and on what kind of device (C9, C10). No address, no user agent, no free text.';
comment on column public.usage_events.browser_version is 'The major version.';
comment on column public.usage_events.viewport_width is 'In CSS pixels.';

-- G7: refuses events, for every role, unless the user has allowed analytics. It also keeps clients from flooding the
-- table. It counts once per statement, under a lock, however many rows the statement inserts.
create function private.check_usage()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  quota constant private.quotas := private.quota('usage_events', 'per_day');
  person uuid;
  free_at timestamptz;
begin
  for person in select distinct n.person_id from recorded as n order by 1 loop
    perform private.lock_person(person);
    if not private.allows(person, 'analytics') then
      perform private.refuse(403, 'analytics_not_allowed', 'You have not allowed analytics, so nothing is recorded.');
    end if;
    -- The event just beyond the limit, if there is one. There is room again when it leaves the period.
    select e.at + quota.span into free_at
    from public.usage_events as e
    where e.person_id = person and e.at > now() - quota.span
    order by e.at desc
    offset quota.most
    limit 1;
    if found then
      perform private.refuse(429, 'too_many_events', format('At most %s events a day are recorded.', quota.most),
        private.retry_at(free_at));
    end if;
  end loop;
  return null;
end;
$$;

create trigger usage_events_check
after insert on public.usage_events
referencing new table as recorded
for each statement
execute function private.check_usage();

create trigger usage_events_follow_activity
after insert on public.usage_events
for each row
execute function private.follow_activity();

-- Reports, only for the operator. They cover users who allow them, in groups of at least five users (U3, U6).
create view backend.processing_report
with (security_invoker = true)
as
select g.model,
  g.style,
  count(*) as generations,
  count(distinct g.person_id) as people,
  round(avg((g.state = 'failed')::integer), 3) as failed_share,
  percentile_cont(0.5) within group (order by extract(epoch from g.finished_at - g.reserved_at)) as median_seconds,
  percentile_cont(0.95) within group (order by extract(epoch from g.finished_at - g.reserved_at)) as p95_seconds,
  percentile_cont(0.5) within group (order by g.predict_seconds) as median_predict_seconds
from public.generations as g
where g.state in ('succeeded', 'failed')
  and not exists (select from private.refusals as r where r.person_id = g.person_id and r.purpose = 'improvement')
group by g.model, g.style
having count(distinct g.person_id) >= 5;

create view backend.usage_report
with (security_invoker = true)
as
select e.feature, count(*) as events, count(distinct e.person_id) as people
from public.usage_events as e
where not exists (
  select from private.refusals as r where r.person_id = e.person_id and r.purpose in ('improvement', 'analytics')
)
group by e.feature
having count(distinct e.person_id) >= 5;

create view backend.device_report
with (security_invoker = true)
as
select e.browser,
  count(distinct e.person_id) as people,
  round(avg(e.pixel_ratio), 1) as pixel_ratio,
  percentile_disc(0.5) within group (order by e.viewport_width) as median_viewport_width,
  round(avg(('webp' = any (e.image_formats))::integer), 3) as webp_share,
  round(avg(('avif' = any (e.image_formats))::integer), 3) as avif_share
from public.usage_events as e
where e.browser is not null
  and not exists (
    select from private.refusals as r where r.person_id = e.person_id and r.purpose in ('improvement', 'analytics')
  )
group by e.browser
having count(distinct e.person_id) >= 5;

comment on view backend.processing_report is 'Times in seconds and failures, by model and style (U3). Groups of at least five users. Users who do not allow it are left out.';
comment on view backend.usage_report is 'Which features are used (U6). Groups of at least five users. Users who do not allow it are left out.';
comment on view backend.device_report is 'What devices can do, by browser (U6). Groups of at least five users. Users who do not allow it are left out.';

revoke all on backend.processing_report, backend.usage_report, backend.device_report from public, anon, authenticated, service_role;
grant select on backend.processing_report, backend.usage_report, backend.device_report to service_role;
-- How a reservation becomes a prediction. From the reservation on, a worker has to dispatch the generation, until its
-- prediction is known. The worker with the lease does so, and may die after any line.

-- Whether a worker will dispatch the generation, now or later. If workers keep dying over it, or too little time is
-- left, no worker takes it, and it ends at its deadline.
create function private.is_awaited(generation public.generations, work private.generation_work)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
return work.dispatch_at is not null
  and work.unreported < 6
  and generation.prediction_id is null
  and not private.is_terminal(generation.state)
  and generation.deadline_at > now() + interval '30 seconds';

-- Whether a worker may dispatch the generation now. This is the only rule for what is due. Queries repeat the
-- condition `dispatch_at <= now()`, so that they can use the index.
create function private.is_to_be_dispatched(generation public.generations, work private.generation_work)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
return work.dispatch_at <= now()
  and (work.lease is null or work.leased_until <= now())
  and private.is_awaited(generation, work);

-- Long enough to download and judge the largest photo, and to store its prepared copy.
create function private.dispatch_lease_end()
returns timestamptz
language sql
stable
set search_path = pg_catalog, pg_temp
return now() + interval '90 seconds';

-- Returns the path at which this attempt stores the prepared copy, a JPEG. No client can write under this name. The
-- deletion of the object is ordered before it exists, and only `record_input` takes the order back. So no unfinished
-- copy can stay.
create function private.prepare_dispatch(generation public.generations)
returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  work private.generation_work;
  path text;
begin
  select * into work from private.generation_work as w where w.generation_id = generation.id;
  if work.prepared_path is not null then
    return work.prepared_path;
  end if;
  path := format('%s/prepared/%s-%s.jpg', generation.person_id, generation.id, work.dispatches);
  perform private.order_deletion(
    'inputs', path, 'superseded', generation.person_id, generation.id, work.leased_until + interval '1 minute');
  return path;
end;
$$;

-- What a worker needs to dispatch the generation. If `create_called_at` is set, an earlier worker may have created a
-- prediction. `is_prepared` says whether the prepared copy is already at `prepared_path`, or has to be stored there.
create function private.describe_dispatch(generation public.generations)
returns jsonb
language sql
volatile
set search_path = pg_catalog, pg_temp
return (
  select jsonb_build_object(
    'generation', generation.id,
    'input_path', generation.input_path,
    'prepared_path', private.prepare_dispatch(generation),
    'is_prepared', w.prepared_path is not null,
    'replicate_model', (select m.replicate_model from public.models as m where m.id = generation.model),
    'prompt', generation.prompt,
    'settings', generation.settings,
    'deadline_seconds',
      greatest(0, floor(extract(epoch from generation.deadline_at - clock_timestamp())))::integer,
    'create_called_at', extract(epoch from w.create_called_at)
  )
  from private.generation_work as w
  where w.generation_id = generation.id
);

-- The photo was judged, and its prepared copy is at `prepared_path` (C2, T2). `format` to `sha256` are the
-- measurements. They are null if an earlier worker has recorded them, and then the path is that worker's. The caller
-- may now create one prediction. `capability`: SHA-256 of the token in the webhook address, in hex. The deletion of
-- the original is ordered. Returns {outcome, deletions}. The outcome is one of:
--   open        the caller may go on
--   superseded  another worker has the lease by now
--   ended       the generation is over
create function backend.record_input(
  generation_id uuid,
  lease uuid,
  capability text,
  prepared_path text,
  format text,
  width integer,
  height integer,
  bytes integer,
  sha256 text
)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  generation public.generations := private.lock_leased(record_input.generation_id, lease);
  is_recorded boolean := false;
begin
  if generation.id is not null and not private.is_terminal(generation.state) and generation.prediction_id is null then
    is_recorded := exists (
      select from private.generation_work as w
      where w.generation_id = generation.id and w.prepared_path = record_input.prepared_path
    );
    if not is_recorded then
      -- A deletion that has started cannot be taken back. Then this attempt was too late.
      delete from public.deletions as d
      where d.bucket = 'inputs' and d.path = record_input.prepared_path and d.verified_at is null
        and not exists (select from private.deletion_leases as l where l.deletion_id = d.id);
      is_recorded := found;
      if is_recorded then
        update public.generations as g
        set input_format = format, input_width = width, input_height = height, input_bytes = bytes
        where g.id = generation.id;
        update private.generation_work as w set input_sha256 = record_input.sha256 where w.generation_id = generation.id;
        perform private.order_deletion(
          'inputs', generation.input_path, 'prepared', generation.person_id, generation.id);
      end if;
    end if;
  end if;
  if is_recorded then
    update private.generation_work as w
    set prepared_path = record_input.prepared_path,
      capability_digest = decode(capability, 'hex'),
      create_called_at = now(),
      leased_until = private.dispatch_lease_end()
    where w.generation_id = generation.id and w.lease = record_input.lease;
  else
    -- The deletion of this path may have been carried out before the object was stored, so it is ordered again.
    perform private.order_deletion(
      'inputs', record_input.prepared_path, 'superseded', private.owner(record_input.prepared_path),
      record_input.generation_id)
    where not exists (
      select from private.generation_work as w where w.prepared_path = record_input.prepared_path
    );
  end if;

  return jsonb_build_object(
    'outcome', case
      when is_recorded then 'open'
      when exists (
        select from public.generations as g
        where g.id = record_input.generation_id and not private.is_terminal(g.state)
      ) then 'superseded'
      else 'ended'
    end,
    'deletions', backend.lease_deletions(lease, generation_id => record_input.generation_id)
  );
end;
$$;

-- A prediction exists: it was created with this capability, or found by the holder of the lease.
-- Returns {outcome, generation, is_accepted_again}. `is_accepted_again` says that Replicate had refused the account
-- before. The outcome is one of:
--   attached    the prediction belongs to the generation
--   ended       the generation is over, or another prediction was allowed in its place; this one has to be canceled
--   superseded  it was found under a lease that was lost; the new holder finds it, too
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
  work private.generation_work;
  is_accepted_again boolean;
begin
  select * into work from private.generation_work as w
  where w.generation_id = attach_prediction.generation_id
  for update;
  select * into generation from public.generations as g
  where g.id = attach_prediction.generation_id
  for update;
  if generation.prediction_id = attach_prediction.prediction_id
    or (generation.prediction_id is null and case
      when capability is null then work.lease = attach_prediction.lease
      else work.capability_digest = decode(capability, 'hex')
    end)
  then
    -- An event may have arrived first, so the state only moves forward here.
    update public.generations as g
    set state = case when g.state = 'reserved' then 'dispatched' else g.state end,
      prediction_id = attach_prediction.prediction_id
    where g.id = generation.id
    returning * into generation;
    -- Another worker that has leased the generation in the meantime is told that it is superseded.
    update private.generation_work as w
    set dispatch_at = null, create_called_at = null, checked_at = now(), lease = null, leased_until = null,
      unreported = greatest(0, w.unreported - 1)
    where w.generation_id = generation.id and w.dispatch_at is not null;
  end if;
  -- Replicate accepted a create call, so it accepts the account.
  delete from private.account_refusals where attach_prediction.capability is not null;
  is_accepted_again := found;

  if generation.prediction_id = attach_prediction.prediction_id
    and generation.state not in ('failed', 'canceled')
  then
    return jsonb_build_object(
      'outcome', 'attached', 'generation', private.describe(generation), 'is_accepted_again', is_accepted_again);
  end if;
  if capability is null and generation.prediction_id is null and not private.is_terminal(generation.state) then
    return jsonb_build_object('outcome', 'superseded', 'generation', private.describe(generation));
  end if;
  perform private.disown_prediction(
    attach_prediction.prediction_id, generation.person_id, attach_prediction.generation_id);
  return jsonb_build_object(
    'outcome', 'ended',
    'generation', case when generation.id is not null then private.describe(generation) end,
    'is_accepted_again', is_accepted_again
  );
end;
$$;

-- It is certain that nothing was created. The dispatch is retried, at most a minute later, under the same hold. What
-- the caller was preparing can be deleted now, because the next attempt has another path.
create function backend.postpone_dispatch(generation_id uuid, lease uuid)
returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  update private.generation_work as w
  set dispatch_at = now() + interval '15 seconds' * power(2, least(w.dispatches - 1, 2)),
    create_called_at = null,
    lease = null,
    leased_until = null,
    unreported = greatest(0, w.unreported - 1)
  where w.generation_id = postpone_dispatch.generation_id and w.lease = postpone_dispatch.lease;
  if found then
    perform private.discard_attempts(postpone_dispatch.generation_id);
  end if;
end;
$$;

-- The holder of the lease has stopped. What it may have stored, and no row refers to, is due for deletion now.
create function private.discard_attempts(generation uuid)
returns void
language sql
set search_path = pg_catalog, pg_temp
begin atomic
  update public.deletions as d
  set due_at = now()
  where d.generation_id = generation and d.reason = 'superseded' and d.verified_at is null and d.due_at > now()
    and not exists (select from private.deletion_leases as l where l.deletion_id = d.id);
end;

-- Replicate's platform failed, not the model. Forgets the prediction and its capability, and makes the generation due
-- for dispatch again: at once after the first fault, and later after each further one. Returns false if five
-- predictions have failed or no time is left.
create function private.retry_dispatch(generation public.generations)
returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  update private.generation_work as w
  set dispatch_at = now() + interval '20 seconds' * w.platform_faults,
    platform_faults = w.platform_faults + 1,
    create_called_at = null,
    capability_digest = null,
    lease = null,
    leased_until = null,
    absent_since = null,
    output_absent_since = null
  where w.generation_id = generation.id
    and w.platform_faults < 4
    and generation.deadline_at > now() + interval '1 minute';
  if found then
    update public.generations as g set prediction_id = null where g.id = generation.id;
  end if;
  return found;
end;
$$;

-- Leases generations that are due for dispatch, or returns [] if there are none. The least recently tried come first,
-- at most `batch`. With `prepared`, only generations of the same kind as the first are leased: if it has a prepared
-- copy, at most `prepared` that have one; otherwise at most `batch` that have none. Preparing a photo takes memory,
-- dispatching does not. While Replicate refuses the account, one job tries from time to time. The caller chooses the
-- lease: a retry with the same lease gets the same generations.
create function backend.lease_dispatches(lease uuid, batch integer default 10, prepared integer default null)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  is_new constant boolean := not exists (
    select from private.generation_work as w where w.lease = lease_dispatches.lease and w.dispatch_at is not null
  );
  most integer := batch;
  is_prepared boolean;
  leased jsonb;
begin
  if is_new then
    select w.prepared_path is not null into is_prepared
    from private.generation_work as w
    join public.generations as g on g.id = w.generation_id
    where w.dispatch_at <= now() and private.is_to_be_dispatched(g, w)
    order by w.dispatch_at
    limit 1;
    if found and exists (select from private.account_refusals) then
      most := private.begin_probe()::integer;
    elsif is_prepared then
      most := coalesce(prepared, batch);
    end if;
  end if;

  with due as (
    select w.generation_id
    from private.generation_work as w
    join public.generations as g on g.id = w.generation_id
    where w.dispatch_at <= now()
      and is_new
      and private.is_to_be_dispatched(g, w)
      and (prepared is null or (w.prepared_path is not null) = is_prepared)
    order by w.dispatch_at
    limit most
    for update of w skip locked
  )
  -- Due again when the lease ends, and then behind those that no worker has tried in the meantime.
  update private.generation_work as w
  set lease = lease_dispatches.lease,
    leased_until = private.dispatch_lease_end(),
    dispatch_at = private.dispatch_lease_end(),
    dispatches = w.dispatches + 1,
    unreported = w.unreported + 1
  from due
  where w.generation_id = due.generation_id;

  select coalesce(jsonb_agg(private.describe_dispatch(g)), '[]')
  into leased
  from private.generation_work as w
  join public.generations as g on g.id = w.generation_id
  where w.dispatch_at is not null and w.lease = lease_dispatches.lease;
  return leased;
end;
$$;

-- Gives back generations that were leased but not started. They are due now, as if they had not been leased.
create function backend.return_dispatches(lease uuid, generations uuid[])
returns void
language sql
security definer
set search_path = pg_catalog, pg_temp
begin atomic
  update private.generation_work as w
  set dispatch_at = now(), lease = null, leased_until = null, unreported = greatest(0, w.unreported - 1)
  where w.generation_id = any (generations) and w.lease = return_dispatches.lease;
end;

comment on function backend.record_input is 'Records the prepared copy and what was measured of the photo (C2), before anything is sent to Replicate.';
comment on function backend.attach_prediction is 'Replicate accepted the job: connects the prediction with its generation.';
comment on function backend.postpone_dispatch is 'Gives back a generation whose dispatch certainly created nothing. It is due again later.';
comment on function backend.lease_dispatches is 'Leases to the caller the generations that are due for dispatch.';
comment on function backend.return_dispatches is 'Gives back generations that were leased for dispatch but not started.';

revoke all on function
  backend.record_input, backend.attach_prediction, backend.postpone_dispatch, backend.lease_dispatches,
  backend.return_dispatches
from public, anon, authenticated, service_role;
grant execute on function
  backend.record_input, backend.attach_prediction, backend.postpone_dispatch, backend.lease_dispatches,
  backend.return_dispatches
to service_role;
-- Whether Replicate accepts our account, which affects every user. While it does not, jobs wait and no photos are
-- accepted. From time to time, one job tries again.

-- Records that Replicate refuses our account: the token is not valid (401), the account is out of credit (402) or has
-- no permission (403). The row exists while this lasts. The next create call that is accepted removes it.
create table private.account_refusals (
  id boolean not null default true,
  status integer not null,
  refused_at timestamptz not null default now(),
  last_at timestamptz not null default now(),
  probe_at timestamptz not null,
  constraint account_refusals_pkey primary key (id),
  constraint account_refusals_is_one_row check (id),
  constraint account_refusals_status_known check (status between 400 and 499)
);

alter table private.account_refusals enable row level security;
revoke all on private.account_refusals from public, anon, authenticated, service_role;

comment on table private.account_refusals is 'Replicate refuses our account, which affects every user: jobs wait, and no photos are accepted.';
comment on column private.account_refusals.refused_at is 'When the refusals began.';
comment on column private.account_refusals.last_at is 'When the latest refusal came.';
comment on column private.account_refusals.probe_at is 'From then on, one job may try whether Replicate still refuses the account.';

-- Shorter than the time between two sweeps, so that each sweep tries once.
create function private.probe_pause()
returns interval
language sql
immutable
set search_path = pg_catalog, pg_temp
return interval '45 seconds';

-- Claims the next try for one job. Returns false if another job has it.
create function private.begin_probe()
returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  update private.account_refusals as r set probe_at = now() + private.probe_pause() where r.probe_at <= now();
  return found;
end;
$$;

-- Whether a photo may be accepted. While Replicate refuses the account, no photo is, and the jobs that wait try again
-- from time to time. If no job waits, the next new job has to be the one that tries.
create function private.is_account_accepted()
returns boolean
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
return not exists (
  select from private.account_refusals as r
  where r.probe_at > now() or exists (
    select
    from private.generation_work as w
    join public.generations as g on g.id = w.generation_id
    where w.dispatch_at is not null and private.is_awaited(g, w)
  )
);

revoke all on function private.is_account_accepted from public, anon, authenticated, service_role;
grant execute on function private.is_account_accepted to authenticated;

-- Replicate has answered a create call of the holder of `lease` with the HTTP status `status`: it refuses the account,
-- not the user of the job. Nothing was created. The job waits, and no photos are accepted in the meantime.
-- Returns {is_first}: whether this is the first refusal.
create function backend.record_account_refusal(generation_id uuid, lease uuid, status integer)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  has_lease boolean;
  is_first boolean;
begin
  update private.generation_work as w
  set dispatch_at = now(),
    create_called_at = null,
    lease = null,
    leased_until = null,
    unreported = greatest(0, w.unreported - 1)
  where w.generation_id = record_account_refusal.generation_id and w.lease = record_account_refusal.lease;
  has_lease := found;
  insert into private.account_refusals as r (status, probe_at)
  values (record_account_refusal.status, now() + private.probe_pause())
  on conflict (id) do update set status = excluded.status, last_at = now(), probe_at = excluded.probe_at
  returning refused_at = last_at into is_first;
  perform private.discard_attempts(record_account_refusal.generation_id) where has_lease;
  return jsonb_build_object('is_first', is_first);
end;
$$;

comment on function backend.record_account_refusal is 'Records that Replicate refuses the account. No generation ends, and no photos are accepted until Replicate accepts a job again.';

revoke all on function backend.record_account_refusal from public, anon, authenticated, service_role;
grant execute on function backend.record_account_refusal to service_role;
-- What a user can request: begin, cancel and delete a generation. Each call runs under the user's own token, so
-- PostgREST has verified the user. The functions in `public` only call those in `private`. They lease no deletions to
-- a user; only the service can lease those.

-- Returns {outcome: created, generation, dispatch}, or {outcome: replayed, generation} if the key was used before.
-- Refuses with 401, 402, 403, 404, 409, 422, 429 or 503. The caller chooses `lease`: a retry with the same lease after
-- a lost response gets the dispatch again.
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
  person uuid;
  request constant bytea := sha256(convert_to(
    jsonb_build_array(style, input_path, model, prompt, settings)::text, 'utf8'));
  wallet public.wallets;
  chosen_style public.styles;
  chosen_model public.models;
  price integer;
  -- Credits that no other generation holds.
  available integer;
  generation public.generations;
  work private.generation_work;
begin
  -- One submission per user at a time, so the key, the credits and the limits cannot change while they are checked.
  perform private.lock_person(auth.uid());
  select * into wallet from public.wallets where person_id = auth.uid() for update;
  -- This comes after the locks, because the account may have been closed while the call waited for them.
  person := private.require_person();

  -- This comes before the insert. If the insert failed, the whole row would be in the database's log (R5).
  if coalesce(idempotency_key !~ '^[\x21-\x7e]{1,255}$', true) then
    perform private.refuse(422, 'invalid_idempotency_key',
      'idempotency_key must be 1 to 255 visible ASCII characters, such as a new UUID.',
      '{"field": "idempotency_key"}');
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
    return private.describe_reservation(generation);
  end if;

  if not private.is_intake_open() then
    perform private.refuse(503, 'intake_closed',
      'We accept no photos at the moment, because we could not delete them in time. You were not charged. '
      'Please try again in a minute.', '{"retry_after": 60}');
  end if;

  if not private.is_account_accepted() then
    perform private.refuse_unaccepted();
  end if;

  perform private.refuse_restricted(person);

  select * into chosen_style from public.styles as s where s.id = style and s.available;
  if not found then
    perform private.refuse(422, 'unknown_style',
      'style is not an available style. Please choose another one.', '{"field": "style"}');
  end if;
  select * into chosen_model from public.models as m
  where m.id = coalesce(begin_generation.model, chosen_style.model) and m.available;
  if not found then
    perform private.refuse(422, 'unknown_model',
      'model is not an available model. Please choose another one.', '{"field": "model"}');
  end if;
  perform private.check_settings(chosen_model.settings_schema, settings);
  if char_length(prompt) > 1000 then
    perform private.refuse(422, 'invalid_prompt', 'prompt may have at most 1000 characters.',
      '{"field": "prompt"}');
  end if;

  perform private.check_input(person, input_path);

  price := chosen_model.credits + chosen_style.extra_credits;
  available := wallet.balance - wallet.held;
  if available < price then
    perform private.refuse(402, 'insufficient_credits',
      format('This costs %s %s and you have %s.', price, case price when 1 then 'credit' else 'credits' end, available),
      jsonb_build_object('price', price, 'available', available));
  end if;
  perform private.check_limits(wallet.id);
  -- This comes last, because it claims the only try while Replicate refuses the account.
  if exists (select from private.account_refusals) and not private.begin_probe() then
    perform private.refuse_unaccepted();
  end if;

  insert into public.generations (
    person_id, idempotency_key, style, style_version, model, prompt, settings,
    credits, input_path, deadline_at
  )
  select person, begin_generation.idempotency_key, v.style, v.version, chosen_model.id,
    concat_ws(' ', v.prompt, nullif(btrim(begin_generation.prompt), '')),
    chosen_model.default_settings || begin_generation.settings, price,
    begin_generation.input_path, now() + chosen_model.deadline
  from private.style_versions as v
  where v.style = chosen_style.id and v.version = chosen_style.version
  returning * into generation;

  insert into private.generation_work (generation_id, request_digest, input_stored_at, lease, leased_until)
  values (
    generation.id, request,
    (
      select o.created_at from storage.objects as o
      where o.bucket_id = 'inputs' and o.name = begin_generation.input_path
    ),
    begin_generation.lease, private.dispatch_lease_end()
  );
  return private.describe_reservation(generation);
end;
$$;

-- Replicate refuses our account, so the photo could not be used.
create function private.refuse_unaccepted()
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.refuse(503, 'model_unavailable',
    'We accept no photos at the moment, because the image service accepts no jobs. You were not charged. '
    'Please try again in a few minutes.', '{"retry_after": 120}');
end;
$$;

-- The form of the names under which clients upload: <person>/<uuid>.<extension>. The functions' own objects in
-- `inputs` are one folder deeper, where no client can write.
create function private.is_upload_name(path text)
returns boolean
language sql
immutable
set search_path = pg_catalog, pg_temp
return path ~ '^[0-9a-f-]{36}/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\.(jpg|jpeg|png|webp)$';

revoke all on function private.is_upload_name from public, anon, authenticated, service_role;
grant execute on function private.is_upload_name to authenticated;

create function private.describe_reservation(generation public.generations)
returns jsonb
language sql
volatile
set search_path = pg_catalog, pg_temp
return jsonb_build_object(
  'outcome', 'created',
  'generation', private.describe(generation),
  'dispatch', private.describe_dispatch(generation)
);

-- A photo of another user and a photo that does not exist give the same answer.
create function private.check_input(person uuid, path text)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if private.is_upload_name(path) and starts_with(path, person || '/') then
    if exists (select from public.generations as g where g.input_path = path) then
      perform private.refuse(409, 'input_in_use',
        'This photo was already submitted. To use it for another artwork, please upload it again.',
        '{"field": "input_path"}');
    end if;
    if exists (select from storage.objects as o where o.bucket_id = 'inputs' and o.name = path)
      and not exists (
        select from public.deletions as d
        where d.bucket = 'inputs' and d.path = check_input.path and d.verified_at is null
      )
    then
      return;
    end if;
  end if;
  perform private.refuse(404, 'input_not_found',
    'We cannot find this photo. Please upload it again.', '{"field": "input_path"}');
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

-- Returns the caller's generation. A generation of another user gets the same 404 as one that does not exist.
create function private.find_own_generation(generation_id uuid)
returns public.generations
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  person constant uuid := private.require_person();
  generation public.generations;
begin
  select g.* into generation
  from public.generations as g
  where g.id = find_own_generation.generation_id and g.person_id = person;
  if not found then
    perform private.refuse(404, 'generation_not_found',
      'You have no generation with this id. It may have been deleted.');
  end if;
  return generation;
end;
$$;

-- Locks and returns the caller's generation. Only a row of the caller is locked, so that a stranger cannot block
-- anything.
create function private.lock_own_generation(generation_id uuid)
returns public.generations
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.find_own_generation(generation_id);
  perform private.lock_generations(array[generation_id], skip => false);
  -- It may have been deleted while this call waited for the lock.
  return private.find_own_generation(generation_id);
end;
$$;

-- Ends a user's generation. A generation that is over stays as it is.
create function private.end_generation(generation public.generations)
returns public.generations
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if not private.is_terminal(generation.state) then
    update public.generations as g set state = 'canceled' where g.id = generation.id
    returning * into generation;
  end if;
  return generation;
end;
$$;

-- Returns {generation, charged, free_cancels_left, cancel_prediction}: what the cancel cost in credits, how many free
-- late cancels are left today, and the prediction to stop at Replicate, or null. A retry gets the same answer, because
-- the first response may have been lost. Refuses (409) once the model has delivered, because the artwork is then
-- stored and charged.
create function private.cancel_generation(generation_id uuid)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  generation public.generations := private.lock_own_generation(generation_id);
begin
  if generation.state in ('storing', 'succeeded') then
    perform private.refuse(409, 'already_finished',
      'The model has finished this artwork, so it cannot be canceled any more. You can delete it.');
  end if;
  generation := private.end_generation(generation);
  return (
    select jsonb_build_object(
      'generation', private.describe(generation),
      'charged', case when h.state = 'captured' then h.amount else 0 end,
      'free_cancels_left', private.free_late_cancels(h.wallet_id),
      'cancel_prediction', case when generation.state = 'canceled' then generation.prediction_id end
    )
    from public.credit_holds as h
    where h.generation_id = generation.id
  );
end;
$$;

create function public.cancel_generation(generation_id uuid)
returns jsonb
language sql
set search_path = pg_catalog, pg_temp
return private.cancel_generation(generation_id);

-- R9: the row is deleted at once, and the deletion of its objects is ordered in the same transaction. If a worker is
-- storing the output now, its deletion was ordered before and stays ordered. Returns {cancel_prediction}.
create function private.delete_generation(generation_id uuid)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  generation public.generations := private.end_generation(private.lock_own_generation(generation_id));
begin
  delete from public.generations as g where g.id = generation.id;
  return jsonb_build_object(
    'cancel_prediction', case when generation.state = 'canceled' then generation.prediction_id end);
end;
$$;

create function public.delete_generation(generation_id uuid)
returns jsonb
language sql
set search_path = pg_catalog, pg_temp
return private.delete_generation(generation_id);

create function private.read_generation(generation_id uuid)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  return private.describe(private.find_own_generation(generation_id));
end;
$$;

create function public.read_generation(generation_id uuid)
returns jsonb
language sql
set search_path = pg_catalog, pg_temp
return private.read_generation(generation_id);

comment on function public.begin_generation is 'Reserves a generation: checks the request, holds its price and returns what to dispatch. Use POST /generations, which also dispatches it.';
comment on function public.cancel_generation is 'Ends a generation of the caller. Its credits are returned, unless the model has started and the free cancels of the day are used up. Use POST /generations/{id}/cancel, which also stops the model.';
comment on function public.delete_generation is 'Deletes a generation of the caller and orders the deletion of its objects. Use DELETE /generations/{id}, which also carries that out.';
comment on function public.read_generation is 'Returns a generation of the caller, as GET /generations/{id} does.';

revoke all on function
  private.begin_generation, private.cancel_generation, private.delete_generation, private.read_generation,
  public.begin_generation, public.cancel_generation, public.delete_generation, public.read_generation
from public, anon, authenticated, service_role;
grant execute on function
  private.begin_generation, private.cancel_generation, private.delete_generation, private.read_generation,
  public.begin_generation, public.cancel_generation, public.delete_generation, public.read_generation
to authenticated;
-- What the functions report about a generation, and what they have to do next. Decisions depend only on the state of
-- the generation, so an event may come late, twice or never.

-- Ends a generation as failed. If `lease` is given, it must still hold the generation. `input_sha256`: SHA-256 of a
-- photo that was judged and refused, in hex. Returns {outcome, generation, deletions}. The outcome is one of:
--   failed      the generation has failed for this reason
--   ended       it was over before, in another way
--   superseded  the lease was lost
create function backend.fail_generation(
  generation_id uuid,
  reason text,
  lease uuid default null,
  input_sha256 text default null
)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  generation public.generations;
begin
  perform from private.generation_work as w where w.generation_id = fail_generation.generation_id for update;
  select g.* into generation from public.generations as g where g.id = fail_generation.generation_id for update;
  if not private.is_terminal(generation.state)
    and (fail_generation.lease is null or exists (
      select from private.generation_work as w
      where w.generation_id = generation.id and w.lease = fail_generation.lease
    ))
  then
    update private.generation_work as w
    set input_sha256 = coalesce(fail_generation.input_sha256, w.input_sha256)
    where w.generation_id = generation.id;
    update public.generations as g
    set state = 'failed', reason = fail_generation.reason
    where g.id = generation.id
    returning * into generation;
    perform private.discard_attempts(generation.id) where fail_generation.lease is not null;
  end if;

  return jsonb_build_object(
    'outcome', case
      when generation.state = 'failed' and generation.reason = fail_generation.reason then 'failed'
      when generation.id is null or private.is_terminal(generation.state) then 'ended'
      else 'superseded'
    end,
    'generation', case when generation.id is not null then private.describe(generation) end,
    'deletions', backend.lease_deletions(
      coalesce(lease, gen_random_uuid()), generation_id => fail_generation.generation_id)
  );
end;
$$;

-- Finds and locks the generation that an event is about. An event is found by the capability in the webhook address,
-- even if the response that named its prediction was lost. If we asked Replicate, its answer has no capability and is
-- found by the prediction ID.
create function private.find_generation(generation_id uuid, capability text, prediction_id text)
returns public.generations
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  generation public.generations;
  work private.generation_work;
begin
  select w.* into work from private.generation_work as w
  where w.generation_id = find_generation.generation_id
  for update;
  select g.* into generation from public.generations as g
  where g.id = find_generation.generation_id
    and coalesce(g.prediction_id, find_generation.prediction_id) = find_generation.prediction_id
  for update;
  if work.capability_digest = decode(capability, 'hex')
    or (capability is null and generation.prediction_id is not null)
  then
    return generation;
  end if;
  return null;
end;
$$;

-- Records a webhook event from Replicate, or its answer when we asked (then `event_id` and `capability` are null).
-- `status` is Replicate's own word. `reason` is our word for a failure. `output_extension` is null if there is no
-- output, and empty if the kind of the output is not known yet.
-- Returns {action, artwork_path, model, cancel_prediction, deletions}. The action is one of:
--   unknown  there is no such generation, or it has another prediction; ignore the event
--   none     carry out the deletions, if there are any
--   store    mark the output of `model`, store it at `artwork_path`, then call complete_generation under the lease
-- `cancel_prediction` is a prediction that still runs although its generation is over. The caller has to stop it at
-- Replicate. The caller chooses `lease`, so that a retry after a lost response gets the same answer.
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
  stray text;
  artwork text;
begin
  if generation.id is null then
    return jsonb_build_object('action', 'unknown');
  end if;

  insert into private.webhook_events as e (id, generation_id, status)
  select event_id, generation.id, left(record_prediction_event.status, 20) where event_id is not null
  on conflict (id) do update set deliveries = e.deliveries + 1;
  update private.generation_work as w set checked_at = now(), absent_since = null where w.generation_id = generation.id;

  if is_open and ended = 'platform_error' then
    is_open := not private.retry_dispatch(generation);
  end if;
  if is_open then
    -- An event may arrive before the response to the create call. Then the event ends the dispatch.
    update private.generation_work as w
    set dispatch_at = null, create_called_at = null, lease = null, leased_until = null,
      unreported = greatest(0, w.unreported - 1)
    where w.generation_id = generation.id and w.dispatch_at is not null;
    update public.generations as g
    set prediction_id = record_prediction_event.prediction_id,
      model_version = coalesce(left(record_prediction_event.model_version, 100), g.model_version),
      predict_seconds = coalesce(record_prediction_event.predict_seconds, g.predict_seconds),
      reason = ended,
      state = case
        when ended is not null then 'failed'
        when status = 'succeeded' then 'storing'
        when status = 'processing' and g.state in ('reserved', 'dispatched') then 'processing'
        when g.state = 'reserved' then 'dispatched'
        else g.state
      end
    where g.id = generation.id
    returning * into generation;

    if generation.state = 'storing' and status = 'succeeded' then
      artwork := private.lease_storing(generation, output_extension, record_prediction_event.lease);
    end if;
  elsif generation.prediction_id is null and capability is not null then
    -- The response to the create call was lost, and the generation was over before its first event arrived (T3).
    perform private.disown_prediction(
      record_prediction_event.prediction_id, generation.person_id, generation.id);
    if status in ('starting', 'processing') then
      stray := record_prediction_event.prediction_id;
    end if;
  end if;

  return jsonb_build_object(
    'action', case when artwork is null then 'none' else 'store' end,
    'artwork_path', artwork,
    'model', (select m.replicate_model from public.models as m where m.id = generation.model),
    'cancel_prediction', stray,
    'deletions', backend.lease_deletions(lease, generation_id => generation.id)
  );
end;
$$;

-- The reason for which a prediction fails its generation, or null if it does not. Only we cancel predictions. So if
-- Replicate reports `canceled` or `aborted`, the prediction has reached its deadline.
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
    when output_extension in ('jpg', 'png', 'webp', '') then null
    else coalesce(reason, 'output_invalid')
  end
end;

-- Gives a lease back after a temporary failure, so that the next worker can begin at once.
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

-- How long a run of 404 responses must last to prove that something is gone. One 404 may be a temporary fault.
create function private.absence_proof()
returns interval
language sql
immutable
set search_path = pg_catalog, pg_temp
return interval '3 minutes';

-- Replicate does not know the prediction of a generation. Returns {outcome, deletions}. The outcome is one of:
--   waiting  ask again later
--   failed   the 404s have lasted long enough, or the deadline is over
--   ended    the generation was over, or has another prediction by now
create function backend.record_absence(generation_id uuid, prediction_id text)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  generation public.generations;
  since timestamptz;
begin
  perform from private.generation_work as w where w.generation_id = record_absence.generation_id for update;
  select g.* into generation
  from public.generations as g
  where g.id = record_absence.generation_id and g.prediction_id = record_absence.prediction_id
  for update;
  if generation.id is null or private.is_terminal(generation.state) then
    return jsonb_build_object('outcome', 'ended', 'deletions', '[]'::jsonb);
  end if;
  update private.generation_work as w
  set absent_since = coalesce(w.absent_since, now())
  where w.generation_id = generation.id
  returning w.absent_since into since;
  if since <= now() - private.absence_proof() or generation.deadline_at <= now() then
    return backend.fail_generation(generation.id, 'lost');
  end if;
  return jsonb_build_object('outcome', 'waiting', 'deletions', '[]'::jsonb);
end;
$$;

-- Ends generations that can no longer succeed, and returns those to ask Replicate about:
-- {ended, silent: [{generation, prediction_id, is_last}]}, at most `batch` of either. Those that have been silent for
-- the longest time come first. A generation is silent if no event came for `silence_seconds`, or if its deadline is
-- over. `is_last` means that the deadline is over: the caller asks one last time, under the lease, and ends the
-- generation.
create function backend.settle_generations(
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
  locked uuid[];
  ended integer;
  asked jsonb;
begin
  locked := private.lock_generations(array(
    select g.id
    from public.generations as g
    join private.generation_work as w on w.generation_id = g.id
    where g.state in ('reserved', 'dispatched', 'processing', 'storing')
      and g.deadline_at < now()
      and g.prediction_id is null
      and (w.lease is null or w.leased_until <= now())
    order by g.deadline_at
    limit batch
  ));
  -- Check again under the locks, because the generations may have changed in the meantime.
  update public.generations as g
  set state = 'failed',
    reason = case when w.create_called_at is not null then 'lost' else 'platform_error' end
  from private.generation_work as w
  where w.generation_id = g.id
    and g.id = any (locked)
    and not private.is_terminal(g.state)
    and g.prediction_id is null
    and (w.lease is null or w.leased_until <= now());
  get diagnostics ended = row_count;

  with silent as (
    select w.generation_id, g.deadline_at < now() as is_last
    from private.generation_work as w
    join public.generations as g on g.id = w.generation_id
    where g.state in ('dispatched', 'processing', 'storing')
      and g.prediction_id is not null
      and (w.checked_at < now() - make_interval(secs => silence_seconds) or g.deadline_at < now())
      and (w.lease is null or w.lease = settle_generations.lease or w.leased_until <= now())
    order by w.checked_at
    limit batch
    for update of w skip locked
  ),
  asking as (
    update private.generation_work as w
    set checked_at = now(),
      lease = case when silent.is_last then settle_generations.lease else w.lease end,
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

comment on function backend.fail_generation is 'Ends a generation for a reason of public.failure_reasons. Its credits are returned, and the deletion of its photo is ordered.';
comment on function backend.record_prediction_event is 'Records what Replicate reports about a prediction. Returns what the caller has to do.';
comment on function backend.record_absence is 'Replicate does not know a prediction. If this lasts for some minutes, the generation fails as `lost`.';
comment on function backend.release_lease is 'Gives back the lease of a generation, so that the next worker can take it.';
comment on function backend.settle_generations is 'Ends generations that can no longer succeed. Returns those to ask Replicate about.';

revoke all on function
  backend.fail_generation, backend.record_prediction_event, backend.record_absence, backend.release_lease,
  backend.settle_generations
from public, anon, authenticated, service_role;
grant execute on function
  backend.fail_generation, backend.record_prediction_event, backend.record_absence, backend.release_lease,
  backend.settle_generations
to service_role;
-- How an output becomes an artwork: a worker leases the generation, stores the output, and reports that it is stored or
-- cannot be fetched.

-- Gives one worker at a time the right to store an output. Each attempt has its own path, so that a late deletion of
-- one never deletes the object of another. The deletion of the object is ordered before it exists, and only its
-- completion takes the order back. So no unfinished object can stay. Returns the path to store it at, or null while
-- another worker stores it.
create function private.lease_storing(generation public.generations, extension text, new_lease uuid)
returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  lease_end constant timestamptz := now() + interval '2 minutes';
  attempt integer;
  artwork text;
begin
  update private.generation_work as w
  set lease = new_lease,
    leased_until = lease_end,
    storing_attempts = w.storing_attempts + (w.storing_lease is distinct from new_lease)::integer,
    storing_lease = new_lease
  where w.generation_id = generation.id
    and (w.lease is null or w.lease = new_lease or w.leased_until <= now())
  returning w.storing_attempts into attempt;
  if not found then
    return null;
  end if;

  artwork := format('%s/%s-%s', generation.person_id, generation.id, attempt) || coalesce('.' || nullif(extension, ''), '');
  insert into public.deletions as d (bucket, path, reason, person_id, generation_id, due_at)
  values ('artworks', artwork, 'superseded', generation.person_id, generation.id, lease_end + interval '1 minute')
  on conflict (bucket, path) where verified_at is null
  do update set due_at = excluded.due_at;
  return artwork;
end;
$$;

-- The artwork is stored. Returns {outcome, deletions}. The outcome is `completed`, or `superseded` if the lease was
-- lost or the generation is over. Then what was stored is among the deletions. Refuses (409) if Storage does not hold
-- the whole object, because an upload may have been confirmed and then lost.
create function backend.complete_generation(
  generation_id uuid,
  lease uuid,
  artwork_path text,
  content_type text,
  bytes bigint,
  sha256 text,
  crc32 bigint default null
)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  generation constant public.generations := private.lock_leased(complete_generation.generation_id, lease);
  completed boolean := generation.id is not null;
begin
  if completed and not exists (
    select from storage.objects as o
    where o.bucket_id = 'artworks' and o.name = complete_generation.artwork_path
      and private.object_bytes(o.metadata) = complete_generation.bytes
  ) then
    perform private.refuse(409, 'artwork_not_stored', 'The artwork is not in Storage.');
  end if;
  if completed then
    -- A deletion that has started cannot be taken back. Then this attempt was too late.
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
    update private.generation_work as w
    set artwork_crc32 = complete_generation.crc32
    where w.generation_id = complete_generation.generation_id;
  else
    perform private.discard_artwork(complete_generation.generation_id, complete_generation.artwork_path);
  end if;

  return jsonb_build_object(
    'outcome', case
      when completed or exists (
        -- This was reported before, and the response was lost.
        select from public.generations as g
        where g.id = complete_generation.generation_id and g.artwork_path = complete_generation.artwork_path
      ) then 'completed'
      else 'superseded'
    end,
    'deletions', backend.lease_deletions(lease, generation_id => complete_generation.generation_id)
  );
end;
$$;

-- Orders the deletion of an object that was stored too late. An earlier deletion of this path may have been carried
-- out before the object was stored.
create function private.discard_artwork(generation uuid, path text)
returns void
language sql
set search_path = pg_catalog, pg_temp
begin atomic
  select private.order_deletion('artworks', path, 'superseded', private.owner(path), generation)
  where not exists (select from public.generations as g where g.artwork_path = path);
end;

-- The output could not be fetched, but a retry may succeed, so the lease is given back. `reason` is why the generation
-- fails if no retry succeeds: `lost` if the output host does not know the output, `output_invalid` if the output is on
-- another host or behind a redirect. Returns the same as `record_absence`, or `superseded` if the lease was lost.
create function backend.doubt_output(generation_id uuid, lease uuid, reason text)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  generation constant public.generations := private.lock_leased(doubt_output.generation_id, lease);
  since timestamptz;
begin
  if generation.id is not null and not private.is_terminal(generation.state) and generation.deadline_at > now() then
    update private.generation_work as w
    set output_absent_since = case when doubt_output.reason = 'lost' then coalesce(w.output_absent_since, now()) end
    where w.generation_id = generation.id
    returning w.output_absent_since into since;
    if since is null or since > now() - private.absence_proof() then
      update private.generation_work as w set lease = null, leased_until = null where w.generation_id = generation.id;
      return jsonb_build_object('outcome', 'waiting', 'deletions', '[]'::jsonb);
    end if;
  end if;
  return backend.fail_generation(doubt_output.generation_id, doubt_output.reason, doubt_output.lease);
end;
$$;

comment on function backend.complete_generation is 'The artwork is stored: captures the credits and orders the deletion of the photo (R2).';
comment on function backend.doubt_output is 'An output could not be fetched. It is tried again, at most until the deadline.';

revoke all on function backend.complete_generation, backend.doubt_output from public, anon, authenticated, service_role;
grant execute on function backend.complete_generation, backend.doubt_output to service_role;
-- The buckets, and who may do what in them. All buckets are private (R6, R8). These policies do not apply to
-- service_role.

insert into storage.buckets (id, name, public, file_size_limit, allowed_mime_types) values
  ('inputs', 'inputs', false, 25 * 1024 * 1024, array['image/jpeg', 'image/png', 'image/webp']),
  ('artworks', 'artworks', false, 50 * 1024 * 1024, array['image/jpeg', 'image/png', 'image/webp']),
  -- An export is as large as its content. The project's own limit for uploads must allow that.
  ('exports', 'exports', false, null, array['application/zip']);

-- Whether the bucket accepts an object of this type and size, in bytes. Storage does not check every upload: not the
-- size of a body without a declared length, and not the type of a resumable upload without a declared type. A value
-- that is not known yet passes, because the trigger below sees all of them. `slack` is by how many bytes a declared
-- length may exceed the limit: the length of a form includes the lines of the form.
create function private.is_within_bucket_limits(bucket text, mimetype text, bytes text, slack integer default 0)
returns boolean
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
return exists (
  select
  from storage.buckets as b
  where b.id = bucket
    and coalesce(mimetype = any (b.allowed_mime_types), true)
    and case when bytes ~ '^\d{1,18}$' then coalesce(bytes::bigint <= b.file_size_limit + slack, true) else bytes is null end
);

revoke all on function private.is_within_bucket_limits from public, anon, authenticated, service_role;
grant execute on function private.is_within_bucket_limits to authenticated;

-- The early check. Storage asks the policy before the first byte, as the user. The name must be a UUID, because a
-- file's own name may say who is in the picture (R5). Of Storage's operations, only plain and resumable uploads pass:
-- a signed upload address would pass every policy for two hours. No photo is accepted that could not be deleted in
-- time (X2).
create policy "People upload photos into their own folder, under a random name"
on storage.objects
for insert
to authenticated
with check (
  bucket_id = 'inputs'
  and (storage.foldername(name))[1] = (select private.person())::text
  and private.is_upload_name(name)
  and storage.operation() in (
    'storage.object.upload', 'storage.tus.upload.create', 'storage.tus.upload.part'
  )
  and private.is_within_bucket_limits('inputs', metadata ->> 'mimetype', metadata ->> 'contentLength', slack => 65536)
  and (select private.is_intake_open())
  and (select private.is_account_accepted())
);

-- The final check. Storage asks the policy when an upload begins, but writes the row when it ends, up to a day later.
-- It writes as service_role and replaces what has the name by then. So each row of a user is checked again in the
-- transaction that writes it, under the lock that closing the account waits for. A row that is written with the
-- service's key has no owner and passes. Storage answers 42501 with 403 and the message, and 23505 with 409. It then
-- removes the bytes.
create function private.guard_upload()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  person constant text := split_part(new.name, '/', 1);
  waiting record;
begin
  if new.bucket_id is distinct from 'inputs' or new.owner_id is null then
    return new;
  end if;
  if tg_op = 'UPDATE' then
    -- Storage also updates rows for its own reasons. A new version means another photo under the name.
    if (new.name, new.bucket_id, new.version) is not distinct from (old.name, old.bucket_id, old.version) then
      return new;
    end if;
    raise exception 'A photo cannot be replaced. Please upload the new one under a new name.' using errcode = '42501';
  end if;

  if not private.is_upload_name(new.name) or person <> new.owner_id then
    raise exception 'A photo must be uploaded into your own folder, under a new UUID: <your id>/<uuid>.jpg.'
      using errcode = '42501';
  end if;
  perform private.lock_person(person::uuid);
  if not exists (select from public.profiles as p where p.id = person::uuid and p.closed_at is null) then
    raise exception 'This account is being erased. It can no longer upload photos.' using errcode = '42501';
  end if;
  if not private.is_intake_open() then
    raise exception 'We accept no photos at the moment, because we could not delete them in time. Please try again in a minute.'
      using errcode = '42501';
  end if;
  if not private.is_account_accepted() then
    raise exception 'We accept no photos at the moment, because the image service accepts no jobs. Please try again in a few minutes.'
      using errcode = '42501';
  end if;
  if not private.allows(person::uuid, 'generation') then
    raise exception 'You have refused the making of artworks. Allow it in your privacy choices, then upload again.'
      using errcode = '42501';
  end if;
  -- A name can be used only once. So neither a slow upload nor another photo replaces a photo that was judged.
  if exists (select from storage.objects as o where o.bucket_id = 'inputs' and o.name = new.name)
    or exists (select from public.generations as g where g.input_path = new.name)
    or exists (select from public.deletions as d where d.path = new.name and d.bucket = 'inputs')
  then
    raise exception 'This name was used before. Please upload the photo under a new one.' using errcode = '23505';
  end if;
  -- Storage sets the measured values once the bytes have arrived.
  if new.metadata ? 'size'
    and not private.is_within_bucket_limits(
      'inputs', coalesce(new.metadata ->> 'mimetype', ''), new.metadata ->> 'size')
  then
    raise exception 'A photo is a JPEG, PNG or WebP of at most % MiB.',
      (select b.file_size_limit / 1024 / 1024 from storage.buckets as b where b.id = 'inputs')
      using errcode = '42501';
  end if;

  select count(*) + 1 as photos,
    coalesce(sum(private.object_bytes(o.metadata)), 0) + coalesce(private.object_bytes(new.metadata), 0) as bytes
  into waiting
  from storage.objects as o
  where o.bucket_id = 'inputs'
    and o.name collate "C" >= person || '/' and o.name collate "C" < person || '0'
    and private.is_upload_name(o.name);
  if waiting.photos > (private.quota('uploads', 'photos')).most
    or waiting.bytes > (private.quota('uploads', 'bytes')).most
  then
    raise exception 'At most % photos, with % MiB in total, can wait at a time. Please submit or remove some first.',
      (private.quota('uploads', 'photos')).most, (private.quota('uploads', 'bytes')).most / 1024 / 1024
      using errcode = '42501';
  end if;
  return new;
end;
$$;

create trigger guard_upload
before insert or update on storage.objects
for each row
execute function private.guard_upload();

-- The prepared copies that the model sees are one folder deeper, and only the functions can reach them.
create policy "People see their own photos while they last"
on storage.objects
for select
to authenticated
using (
  bucket_id = 'inputs'
  and (storage.foldername(name))[1] = (select private.person())::text
  and private.is_upload_name(name)
);

create policy "People take back their own photos"
on storage.objects
for delete
to authenticated
using (
  bucket_id = 'inputs'
  and (storage.foldername(name))[1] = (select private.person())::text
  and private.is_upload_name(name)
);

-- Only the functions write artworks. An artwork is deleted with its generation, and users cannot delete it in Storage.
-- Until the generation has succeeded, the artwork is not paid for. An attempt that did not count is never paid for.
create policy "People see their own artworks"
on storage.objects
for select
to authenticated
using (
  bucket_id = 'artworks'
  and (storage.foldername(name))[1] = (select private.person())::text
  and exists (
    select from public.generations as g
    where g.artwork_path = objects.name and g.state = 'succeeded' and g.person_id = (select private.person())
  )
);

create policy "People fetch their own exports"
on storage.objects
for select
to authenticated
using (bucket_id = 'exports' and (storage.foldername(name))[1] = (select private.person())::text);
-- Anyone can recognise what a model made here (X7), by asking whether we keep an artwork with its digest.

-- Whether an artwork with this SHA-256 (64 hex digits, lower case) is kept here. The answer is no once its deletion is
-- ordered, its account is closed or its object is gone. The answer reveals nothing else: not when, not whose, not how
-- many. An index finds the rows with the digest, and only these few are checked further.
create function backend.is_made_here(sha256 text)
returns boolean
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
return exists (
  select
  from public.generations as g
  where g.artwork_sha256 = is_made_here.sha256
    and (select p.closed_at is null from public.profiles as p where p.id = g.person_id)
    and (
      select o.id from storage.objects as o where o.bucket_id = 'artworks' and o.name = g.artwork_path
    ) is not null
    and (
      select d.id from public.deletions as d
      where d.bucket = 'artworks' and d.path = g.artwork_path and d.verified_at is null
    ) is null
);

comment on function backend.is_made_here is 'Whether an artwork with this SHA-256 is kept here: yes or no, and nothing else (X7).';

revoke all on function backend.is_made_here from public, anon, authenticated, service_role;
grant execute on function backend.is_made_here to service_role;
-- Audits both sides of Storage: objects that no row accounts for, and rows whose object is gone. Each audit walks in
-- the order of names or IDs, one batch at a time, from where the last batch ended. So it covers any number of objects
-- in any number of sweeps, and two sweeps at once share the walk. Each function returns {done, closed}: whether the
-- walk has reached the end, and how many findings it closed, by kind.

create table private.audit_places (
  id text not null,
  after text not null default '',
  ended_at timestamptz,
  constraint audit_places_pkey primary key (id)
);

alter table private.audit_places enable row level security;
revoke all on private.audit_places from public, anon, authenticated, service_role;

comment on table private.audit_places is 'How far each walk has come. Empty if the next batch starts from the beginning.';
comment on column private.audit_places.ended_at is 'When the walk last reached the end. Most walks then rest for an hour.';

insert into private.audit_places (id) values
  ('inputs'), ('artworks'), ('generations'), ('exports'), ('people'), ('unconfirmed'), ('ledger');

-- Locks the place of a walk and returns how far it has come. `leave_audit` records where the batch ended.
create function private.enter_audit(walk text)
returns text
language sql
set search_path = pg_catalog, pg_temp
begin atomic
  select p.after from private.audit_places as p where p.id = walk for update;
end;

-- Like `enter_audit`, for a walk in the order of IDs.
create function private.enter_audit_by_id(walk text)
returns uuid
language sql
set search_path = pg_catalog, pg_temp
return coalesce(nullif(private.enter_audit(walk), '')::uuid, '00000000-0000-0000-0000-000000000000');

create function private.leave_audit(walk text, last text, closed jsonb)
returns jsonb
language sql
set search_path = pg_catalog, pg_temp
begin atomic
  update private.audit_places as p
  set after = coalesce(last, ''), ended_at = case when last is null then now() else p.ended_at end
  where p.id = walk;
  select jsonb_build_object('done', last is null, 'closed', closed);
end;

-- Whether a walk is in progress, or has rested for an hour.
create function private.is_walk_due(walk text)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
return exists (
  select from private.audit_places as p
  where p.id = walk and (p.after <> '' or p.ended_at is null or p.ended_at <= now() - interval '1 hour')
);

-- Orders the deletion of these photos among the next `batch`:
--   - photos past the soft limit that no open generation needs (R1)
--   - photos past the hard limit; their generations fail (R1)
--   - photos that were left behind or put back after their generation ended, and copies without a generation (X3)
-- The age is that of the stored object, so photos that were never submitted are deleted, too.
create function backend.audit_inputs(batch integer default 2000)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  after constant text := private.enter_audit('inputs');
  soft constant timestamptz := now() - private.retention('inputs_soft_limit');
  hard constant timestamptz := now() - private.retention('inputs_hard_limit');
  audit_cutoff constant timestamptz := now() - private.retention('audit_grace');
  names constant text[] := array(
    select o.name
    from storage.objects as o
    where o.bucket_id = 'inputs' and o.name > after
    order by o.name
    limit batch
  );
  -- A prepared copy is as old as its original.
  past_ceiling constant text[] := array(
    select o.name
    from storage.objects as o
    left join private.generation_work as w on w.prepared_path = o.name
    where o.bucket_id = 'inputs' and o.name = any (names) and least(o.created_at, w.input_stored_at) < hard
  );
  locked uuid[];
  counts jsonb;
begin
  if past_ceiling <> '{}' then
    locked := private.lock_generations(array(
      select g.id
      from public.generations as g
      left join private.generation_work as w on w.generation_id = g.id
      where (g.input_path = any (past_ceiling) or w.prepared_path = any (past_ceiling))
        and not private.is_terminal(g.state)
    ));
    update public.generations as g
    set state = 'failed', reason = 'expired'
    where g.id = any (locked) and not private.is_terminal(g.state);

    -- Past the hard limit, a deletion is due now: neither the pause between two attempts nor the lease of a worker
    -- holds it up.
    with pulled as (
      update public.deletions as d
      set due_at = now()
      from (
        select n.id from public.deletions as n
        where n.bucket = 'inputs' and n.path = any (past_ceiling) and n.verified_at is null and n.due_at > now()
        for update skip locked
      ) as late
      where d.id = late.id
      returning d.id
    )
    delete from private.deletion_leases as l using pulled where l.deletion_id = pulled.id;
  end if;

  -- Each object is looked up on its own, so a plan that was made for small tables stays right for large ones.
  with due as (
    select o.name, g.id as generation_id,
      case when o.created_at < soft then 'limit_reached' else 'orphaned' end as reason
    from storage.objects as o
    left join lateral (
      select n.id, n.state, n.finished_at
      from public.generations as n
      where n.input_path = o.name
        or n.id = (select w.generation_id from private.generation_work as w where w.prepared_path = o.name)
      limit 1
    ) as g on true
    where o.bucket_id = 'inputs' and o.name = any (names)
      and case
        when g.id is null and not private.is_upload_name(o.name) then o.created_at < audit_cutoff
        when g.id is null then o.created_at < soft
        when private.is_terminal(g.state) then greatest(o.created_at, g.finished_at) < audit_cutoff
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

-- Among the next `batch` artworks, orders the deletion of those that no generation has and no worker is storing. A
-- worker that stores one has ordered its deletion before (X3).
create function backend.audit_artworks(batch integer default 2000)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  after constant text := private.enter_audit('artworks');
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
    and o.created_at < now() - private.retention('audit_grace')
    and (select g.id from public.generations as g where g.artwork_path = o.name) is null
  on conflict (bucket, path) where verified_at is null do nothing;
  get diagnostics orphaned = row_count;
  return private.leave_audit(
    'artworks', names[cardinality(names)], jsonb_build_object('orphaned', orphaned));
end;
$$;

-- Finds, among the next `batch` generations, those whose artwork is missing from Storage although we did not delete
-- it. It cannot be restored, so the generation is marked and the credits are returned, once (X3).
create function backend.audit_generations(batch integer default 2000)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  after constant uuid := private.enter_audit_by_id('generations');
  ids constant uuid[] := array(
    select g.id from public.generations as g where g.id > after order by g.id limit batch
  );
  locked constant uuid[] := private.lock_generations(array(
    select g.id
    from public.generations as g
    where g.id = any (ids)
      and g.state = 'succeeded'
      and g.artwork_missing_at is null
      and g.finished_at < now() - private.retention('audit_grace')
      and (
        select o.id from storage.objects as o where o.bucket_id = 'artworks' and o.name = g.artwork_path
      ) is null
  ));
  missing integer;
begin
  with missed as (
    update public.generations as g
    set artwork_missing_at = now()
    where g.id = any (locked) and g.artwork_missing_at is null
    returning g.id
  ),
  noted as (
    insert into private.outcomes (subject, outcome) select 'artwork', 'missing' from missed
  ),
  -- The refund is what the hold captured. Amounts are never read from the generation's own row.
  refunded as (
    insert into public.credit_entries (wallet_id, kind, amount, reason, key)
    select h.wallet_id, 'refund', h.amount, 'artwork missing', 'artwork-missing:' || m.id
    from missed as m
    join public.credit_holds as h on h.generation_id = m.id and h.state = 'captured'
    on conflict (key) do nothing
  )
  select count(*) into missing from missed;
  return private.leave_audit(
    'generations', ids[cardinality(ids)]::text, jsonb_build_object('missing', missing));
end;
$$;

-- Among the next `batch` files in the bucket exports, orders the deletion of those that belong to no export (X3).
create function backend.audit_exports(batch integer default 2000)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  after constant text := private.enter_audit('exports');
  names constant text[] := array(
    select o.name
    from storage.objects as o
    where o.bucket_id = 'exports' and o.name > after
    order by o.name
    limit batch
  );
  orphaned integer;
begin
  insert into public.deletions (bucket, path, reason, person_id)
  select 'exports', o.name, 'orphaned', private.owner(o.name)
  from storage.objects as o
  where o.bucket_id = 'exports' and o.name = any (names)
    and o.created_at < now() - private.retention('audit_grace')
    and not exists (select from public.exports as e where e.path = o.name and e.state in ('building', 'ready'))
  on conflict (bucket, path) where verified_at is null do nothing;
  get diagnostics orphaned = row_count;
  return private.leave_audit(
    'exports', names[cardinality(names)], jsonb_build_object('orphaned', orphaned));
end;
$$;

comment on function backend.audit_exports is 'Orders the deletion of files in the bucket exports that belong to no export (X3).';
comment on function backend.audit_inputs is 'Orders the deletion of photos past their limit and of photos left behind (R1, X3).';
comment on function backend.audit_artworks is 'Orders the deletion of artworks that belong to no generation (X3).';
comment on function backend.audit_generations is 'Finds artworks that are missing although we did not delete them. Marks the generations and returns the credits (X3).';

revoke all on function
  backend.audit_inputs, backend.audit_artworks, backend.audit_generations, backend.audit_exports
from public, anon, authenticated, service_role;
grant execute on function
  backend.audit_inputs, backend.audit_artworks, backend.audit_generations, backend.audit_exports
to service_role;
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
-- Privacy requests: filed in the app or by email, answered within 72 hours (Q1, Q2). If a request has no message, the
-- button of its kind answers it. If it has a message, the button only proposes an answer: the user accepts it, or the
-- operator answers. The operator can also refuse or extend a request, with a reason.

create function private.request_kinds()
returns text[]
language sql
immutable
set search_path = pg_catalog, pg_temp
return array['access', 'export', 'erasure', 'correction', 'restriction', 'objection', 'other'];

-- A constraint is checked with the rights of the role that inserts, so users need to execute this function.
revoke all on function private.request_kinds from public, anon, authenticated, service_role;
grant execute on function private.request_kinds to authenticated, service_role;

create table public.privacy_requests (
  id uuid not null default gen_random_uuid(),
  person_id uuid default auth.uid(),
  channel text not null default 'app',
  kind text not null,
  message text,
  sender text,
  mail_digest text,
  joined_mails text[] not null default '{}',
  filed_at timestamptz not null default now(),
  due_at timestamptz not null,
  confirmed_at timestamptz,
  closed_at timestamptz,
  proposed jsonb,
  evidence jsonb,
  answer text,
  extended_at timestamptz,
  extension text,
  pseudonym text,
  constraint privacy_requests_pkey primary key (id),
  constraint privacy_requests_person_exists foreign key (person_id) references auth.users (id) on delete set null,
  constraint privacy_requests_channel_known check (channel in ('app', 'mail')),
  constraint privacy_requests_kind_known check (kind = any (private.request_kinds())),
  -- Emails of one day join one request, so it may be longer.
  constraint privacy_requests_message_length
    check (char_length(message) between 1 and case channel when 'mail' then 20000 else 4000 end),
  constraint privacy_requests_sender_length check (char_length(sender) between 3 and 320),
  constraint privacy_requests_mail_unique unique (mail_digest),
  -- A request from an unknown sender has an address to answer to. For a user, Auth has the address. For a deleted
  -- account, there is only a pseudonym.
  constraint privacy_requests_one_subject check (num_nonnulls(person_id, sender, pseudonym) <= 1),
  constraint privacy_requests_closed_has_evidence check ((closed_at is null) = (evidence is null)),
  constraint privacy_requests_extended_has_reason check ((extended_at is null) = (extension is null))
);

create index privacy_requests_sender_idx on public.privacy_requests (lower(sender), filed_at desc) where sender is not null;
create index privacy_requests_person_id_idx on public.privacy_requests (person_id, filed_at desc);
create index privacy_requests_open_idx on public.privacy_requests (due_at) where closed_at is null;
create index privacy_requests_closed_at_idx on public.privacy_requests (closed_at);

alter table public.privacy_requests enable row level security;
revoke all on public.privacy_requests from public, anon, authenticated, service_role;

create policy "People see their own requests"
on public.privacy_requests
for select
to authenticated
using (person_id = (select private.person()));

create policy "People file requests for themselves"
on public.privacy_requests
for insert
to authenticated
with check (person_id = (select private.person()));

grant select on public.privacy_requests to authenticated, service_role;
grant insert (person_id, kind, message) on public.privacy_requests to authenticated;

comment on table public.privacy_requests is 'What users ask about their data, by when it is answered, and how it was answered.';
comment on column public.privacy_requests.confirmed_at is 'When the user said that the email was theirs. An email by itself changes nothing.';
comment on column public.privacy_requests.mail_digest is 'SHA-256 of the Message-ID of the email. If the email is delivered again, it files nothing.';
comment on column public.privacy_requests.joined_mails is 'The same digest of further emails that the sender wrote within a day.';
comment on column public.privacy_requests.proposed is 'What a button did that may answer the request. The user says whether it does.';
comment on column public.privacy_requests.evidence is 'What answered the request: an export, an erasure, a choice, a change of the profile, or the operator.';
comment on column public.privacy_requests.answer is 'What the operator wrote: the answer, or the reason for a refusal.';
comment on column public.privacy_requests.pseudonym is 'For a deleted account: the user''s ID under a keyed hash, as in public.wallets.';
comment on column public.privacy_requests.extension is 'Why the operator needs longer than 72 hours.';

-- A request as its user sees it: `hours_left` is rounded up, and null once the request is closed.
create view public.privacy_request_clock
with (security_invoker = true)
as
select r.id, r.kind, r.channel, r.filed_at, r.due_at, r.confirmed_at, r.closed_at, r.proposed, r.evidence, r.answer,
  r.extension,
  case when r.closed_at is null then
    greatest(0, ceil(extract(epoch from r.due_at - now()) / 3600))::integer
  end as hours_left
from public.privacy_requests as r;

revoke all on public.privacy_request_clock from public, anon, authenticated, service_role;
grant select on public.privacy_request_clock to authenticated, service_role;

comment on view public.privacy_request_clock is 'The caller''s own requests, with the hours that are left to answer each (Q2).';

create function private.check_kind(kind text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if kind <> all (private.request_kinds()) then
    perform private.refuse(422, 'unknown_kind',
      format('kind must be one of %s.', array_to_string(private.request_kinds(), ', ')), '{"field": "kind"}');
  end if;
end;
$$;

-- Q2: the 72 hours start when the request is filed. The quotas keep the app from filing a flood of requests, even if
-- earlier ones are closed.
create function private.check_request()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  open_quota constant private.quotas := private.quota('requests', 'open');
  day_quota constant private.quotas := private.quota('requests', 'per_day');
  free_at timestamptz;
begin
  new.due_at := new.filed_at + private.retention('requests_answered');
  if private.is_anothers(new.person_id) then
    return new;
  end if;
  if new.channel <> 'app' then
    return new;
  end if;
  perform private.check_kind(new.kind);
  if char_length(new.message) not between 1 and 4000 then
    perform private.refuse(422, 'invalid_message',
      'message must have 1 to 4000 characters, or be left out.', '{"field": "message"}');
  end if;
  perform private.lock_person(new.person_id);
  if (
    select count(*) from public.privacy_requests as r
    where r.person_id = new.person_id and r.channel = 'app' and r.closed_at is null
  ) >= open_quota.most then
    perform private.refuse(429, 'too_many_requests',
      format('You have %s open requests. Please wait until one of them is answered.', open_quota.most));
  end if;
  select min(latest.filed_at) + day_quota.span into free_at
  from (
    select r.filed_at from public.privacy_requests as r
    where r.person_id = new.person_id and r.channel = 'app' and r.filed_at > now() - day_quota.span
    order by r.filed_at desc
    limit day_quota.most
  ) as latest
  having count(*) = day_quota.most;
  if free_at is not null then
    perform private.refuse(429, 'too_many_requests',
      format('You have filed %s requests within a day. Please wait before you file another.', day_quota.most),
      private.retry_at(free_at));
  end if;
  return new;
end;
$$;

create trigger privacy_requests_check
before insert on public.privacy_requests
for each row
execute function private.check_request();

-- That there was a request, and how it was answered, outlives the account. Its words do not. If the request was still
-- open, the erasure closes it.
create function private.forget_request()
returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if new.closed_at is null then
    new.closed_at := now();
    new.evidence := jsonb_build_object('erasure', private.timestamp(now()));
  end if;
  new.message := null;
  new.sender := null;
  new.mail_digest := null;
  new.joined_mails := '{}';
  new.proposed := null;
  new.answer := null;
  new.extended_at := null;
  new.extension := null;
  return new;
end;
$$;

create trigger privacy_requests_forget
before update of person_id on public.privacy_requests
for each row
when (old.person_id is not null and new.person_id is null)
execute function private.forget_request();

-- What a button has done answers the open requests of its kind that have no message, and is their evidence. A request
-- with a message may ask for more, so for that the button only proposes an answer.
create function private.answer_requests(person uuid, kinds text[], by text, evidence text)
returns void
language sql
set search_path = pg_catalog, pg_temp
begin atomic
  update public.privacy_requests as r
  set closed_at = case when r.message is null then now() end,
    evidence = case when r.message is null then jsonb_build_object(by, answer_requests.evidence) end,
    proposed = case when r.message is not null then jsonb_build_object(by, answer_requests.evidence) end
  where r.person_id = person and r.kind = any (kinds) and r.closed_at is null;
end;

create function private.follow_correction()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.answer_requests(new.id, array['correction'], 'profile', private.timestamp(now()));
  return null;
end;
$$;

create trigger profiles_follow_correction
after update of username, default_style, default_settings on public.profiles
for each row
when (
  (old.username, old.default_style, old.default_settings)
    is distinct from (new.username, new.default_style, new.default_settings)
)
execute function private.follow_correction();

-- The user says that what a button did answers their request.
create function private.accept_proposal(id uuid)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  person constant uuid := private.require_person();
  accepted public.privacy_requests;
begin
  select * into accepted
  from public.privacy_requests as r
  where r.id = accept_proposal.id and r.person_id = person and r.closed_at is null
  for update;
  if accepted.id is null then
    perform private.refuse(404, 'request_not_found',
      'You have no open request with this id. It may already be closed.');
  elsif accepted.proposed is null then
    perform private.refuse(409, 'nothing_proposed',
      'Nothing has been done yet to answer this request. Please use the button of its kind, or wait for our answer.');
  end if;
  update public.privacy_requests as r
  set closed_at = now(), evidence = r.proposed, proposed = null
  where r.id = accepted.id
  returning * into accepted;
  return jsonb_build_object('id', accepted.id, 'closed_at', accepted.closed_at, 'evidence', accepted.evidence);
end;
$$;

create function public.accept_proposal(id uuid)
returns jsonb
language sql
set search_path = pg_catalog, pg_temp
return private.accept_proposal(id);

comment on function public.accept_proposal is 'Says that what a button did answers the caller''s request. Returns {id, closed_at, evidence}.';

revoke all on function private.accept_proposal, public.accept_proposal from public, anon, authenticated, service_role;
grant execute on function private.accept_proposal, public.accept_proposal to authenticated;
-- Privacy requests by email: how they are filed, and how the sender confirms them (Q1).

-- Files an email as a request (Q1), once. `digest`: SHA-256 of its Message-ID. `sender` is matched with an account
-- only if the provider has verified it. A sender makes one request a day: a further email joins it, and opens it again
-- if it was closed. So a stranger cannot start many requests, and no message is lost. Returns {outcome, id, matched}.
-- The outcome is `filed`, `joined` or `known`.
create function backend.file_email(digest text, sender text, verified boolean, message text)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  quota constant private.quotas := private.quota('emails', 'per_day');
  -- Auth may have two accounts with one address, one of them by single sign-on. Then it is unclear whose email it is.
  person constant uuid := (
    select (array_agg(u.id))[1]
    from auth.users as u
    join public.profiles as p on p.id = u.id and p.closed_at is null
    where verified and u.email = lower(sender) and u.email_confirmed_at is not null
    having count(*) = 1
  );
  address constant text := left(sender, 320);
  words constant text := nullif(left(message, 4000), '');
  earlier uuid[];
  filed public.privacy_requests;
begin
  -- The emails of one sender are handled one after the other.
  perform pg_advisory_xact_lock(hashtextextended('email:' || lower(sender), 0));
  -- A user who writes to us is active, so an answer to a notice keeps the account (R10).
  perform private.note_activity(person);
  earlier := array(
    select r.id
    from public.privacy_requests as r
    where r.channel = 'mail' and r.filed_at > now() - quota.span
      and case when person is null then lower(r.sender) = lower(address) else r.person_id = person end
    order by r.filed_at desc
  );
  if exists (
    select from public.privacy_requests as r
    where r.mail_digest = file_email.digest or (r.id = any (earlier) and file_email.digest = any (r.joined_mails))
  ) then
    return jsonb_build_object('outcome', 'known');
  end if;

  if cardinality(earlier) >= quota.most then
    update public.privacy_requests as r
    set message = left(concat_ws(E'\n\n', r.message, words), 20000),
      joined_mails = r.joined_mails || file_email.digest,
      due_at = case when r.closed_at is null then r.due_at else now() + private.retention('requests_answered') end,
      closed_at = null, evidence = null, answer = null, proposed = null,
      extended_at = case when r.closed_at is null then r.extended_at end,
      extension = case when r.closed_at is null then r.extension end
    where r.id = earlier[1];
    return jsonb_build_object('outcome', 'joined', 'id', earlier[1], 'matched', person is not null);
  end if;

  insert into public.privacy_requests (person_id, channel, kind, message, sender, mail_digest)
  values (person, 'mail', 'other', words, case when person is null then address end, digest)
  on conflict (mail_digest) do nothing
  returning * into filed;
  if filed.id is null then
    return jsonb_build_object('outcome', 'known');
  end if;
  if person is not null then
    perform private.order_email(person, 'request_filed', filed.id::text);
  end if;
  return jsonb_build_object('outcome', 'filed', 'id', filed.id, 'matched', person is not null);
end;
$$;

-- The user says that the email was theirs, and, if they like, what it is about. Then the button of that kind applies
-- to it.
create function private.confirm_request(request uuid, kind text)
returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  confirmed public.privacy_requests;
begin
  perform private.check_kind(kind);
  update public.privacy_requests as r
  set confirmed_at = coalesce(r.confirmed_at, now()),
    kind = case when r.closed_at is null then coalesce(confirm_request.kind, r.kind) else r.kind end
  where r.id = confirm_request.request and r.channel = 'mail' and r.person_id is not null
  returning * into confirmed;
  if confirmed.id is null then
    perform private.refuse(404, 'request_not_found',
      'There is no request by email with this id. It may have been deleted.');
  end if;
  return jsonb_build_object('id', confirmed.id, 'kind', confirmed.kind, 'confirmed_at', confirmed.confirmed_at,
    'due_at', confirmed.due_at);
end;
$$;

-- Confirms by the link in the email. The caller has checked its token.
create function backend.confirm_request(id uuid, kind text default null)
returns jsonb
language sql
security definer
set search_path = pg_catalog, pg_temp
return private.confirm_request(id, kind);

-- Confirms by signing in.
create function private.confirm_own_request(id uuid, kind text)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if not exists (
    select from public.privacy_requests as r
    where r.id = confirm_own_request.id and r.person_id = private.person()
  ) then
    perform private.refuse(404, 'request_not_found',
      'You have no request by email with this id. It may have been deleted.');
  end if;
  return private.confirm_request(id, kind);
end;
$$;

create function public.confirm_request(id uuid, kind text default null)
returns jsonb
language sql
set search_path = pg_catalog, pg_temp
return private.confirm_own_request(id, kind);

comment on function public.confirm_request is 'Says that an emailed request was the caller''s, and what it is about (Q1). Returns {id, kind, confirmed_at, due_at}.';

revoke all on function private.confirm_own_request, public.confirm_request from public, anon, authenticated, service_role;
grant execute on function private.confirm_own_request, public.confirm_request to authenticated;

comment on function backend.file_email is 'Files an email as a privacy request (Q1). If the email is delivered again, it files nothing.';
comment on function backend.confirm_request is 'Records that the user has confirmed the email as theirs.';

revoke all on function backend.file_email, backend.confirm_request from public, anon, authenticated, service_role;
grant execute on function backend.file_email, backend.confirm_request to service_role;
-- What the operator does with a privacy request: answer, refuse or extend it, each with words for the user (Q2).

create table private.request_actions (
  id bigint generated always as identity,
  request_id uuid not null,
  at timestamptz not null default now(),
  action text not null,
  operator text not null,
  constraint request_actions_pkey primary key (id),
  constraint request_actions_request_exists foreign key (request_id) references public.privacy_requests (id) on delete cascade,
  constraint request_actions_action_known check (action in ('answered', 'refused', 'extended')),
  constraint request_actions_operator_length check (char_length(operator) between 1 and 100)
);

create index request_actions_request_id_idx on private.request_actions (request_id);

alter table private.request_actions enable row level security;
revoke all on private.request_actions from public, anon, authenticated, service_role;

comment on table private.request_actions is 'Which operator answered, refused or extended a request, and when.';

-- Locks an open request for the operator, and records who does what with it.
create function private.note_action(request uuid, action text, operator text, words text, field text)
returns public.privacy_requests
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  noted public.privacy_requests;
begin
  if coalesce(char_length(words), 0) not between 1 and 2000 then
    perform private.refuse(422, 'invalid_' || field, field || ' must have 1 to 2000 characters.',
      jsonb_build_object('field', field));
  elsif coalesce(char_length(operator), 0) not between 1 and 100 then
    perform private.refuse(422, 'invalid_operator', 'operator must say who you are, in 1 to 100 characters.',
      '{"field": "operator"}');
  end if;
  select * into noted
  from public.privacy_requests as r
  where r.id = note_action.request and r.closed_at is null
  for update;
  if noted.id is null then
    perform private.refuse(404, 'request_not_found', 'There is no open request with this id.');
  end if;
  insert into private.request_actions (request_id, action, operator)
  values (noted.id, note_action.action, note_action.operator);
  return noted;
end;
$$;

create function backend.close_request(id uuid, answer text, operator text)
returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.note_action(id, 'answered', operator, answer, 'answer');
  update public.privacy_requests as r
  set closed_at = now(), evidence = '{"operator": "answered"}', proposed = null, answer = close_request.answer
  where r.id = close_request.id;
end;
$$;

-- The operator does not do what was asked. The email with the reason also tells the user where to complain (GDPR,
-- article 12(4)).
create function backend.refuse_request(id uuid, reason text, operator text)
returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  request constant public.privacy_requests := private.note_action(id, 'refused', operator, reason, 'reason');
begin
  update public.privacy_requests as r
  set closed_at = now(), evidence = '{"operator": "refused"}', proposed = null, answer = refuse_request.reason
  where r.id = request.id;
  perform private.order_decision(request, 'request_refused');
end;
$$;

-- The operator needs longer. The law allows three months from the filing, and the user must be told why within the
-- first month (GDPR, article 12(3)). The rules count in days, for the shortest months.
create function backend.extend_request(id uuid, due_at timestamptz, reason text, operator text)
returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  request constant public.privacy_requests := private.note_action(id, 'extended', operator, reason, 'reason');
begin
  if now() > request.filed_at + private.retention('requests_extendable') then
    perform private.refuse(409, 'too_late',
      'A request can be extended only within 28 days of its filing. Answer or refuse it instead.');
  elsif extend_request.due_at is null
    or extend_request.due_at not between request.due_at and request.filed_at + private.retention('requests_extended')
  then
    perform private.refuse(422, 'invalid_due_at',
      'due_at must be later than it is now, and at most 89 days after the filing.', '{"field": "due_at"}');
  end if;
  update public.privacy_requests as r
  set due_at = extend_request.due_at, extended_at = now(), extension = extend_request.reason
  where r.id = extend_request.id;
  perform private.order_decision(request, 'request_extended');
end;
$$;

comment on function backend.close_request is 'Records the operator''s answer and closes the request.';
comment on function backend.refuse_request is 'Records the operator''s refusal and its reason, and closes the request.';
comment on function backend.extend_request is 'Records that the operator needs longer for a request, and why.';

revoke all on function backend.close_request, backend.refuse_request, backend.extend_request from public, anon, authenticated, service_role;
grant execute on function backend.close_request, backend.refuse_request, backend.extend_request to service_role;
-- Exports: everything that belongs to a user, in one ZIP file (G2, G5). A row orders an export, and the sweep builds
-- it in small steps. It writes the plan, one stretch at a time, and then uploads the archive, one piece at a time.
-- Each step is recorded, so that any worker can take the next one.

create table public.exports (
  id uuid not null default gen_random_uuid(),
  person_id uuid not null,
  state text not null default 'building',
  path text not null,
  files_total integer,
  files_done integer not null default 0,
  files_missing integer not null default 0,
  bytes_total bigint,
  bytes_done bigint not null default 0,
  ordered_at timestamptz not null default now(),
  ready_at timestamptz,
  expires_at timestamptz,
  constraint exports_pkey primary key (id),
  constraint exports_person_exists foreign key (person_id) references auth.users (id) on delete cascade,
  constraint exports_path_unique unique (path),
  constraint exports_state_known check (state in ('building', 'ready', 'failed', 'canceled', 'expired')),
  constraint exports_ready_expires check ((ready_at is null) = (expires_at is null)),
  constraint exports_ready_when_built check ((state in ('ready', 'expired')) <= (ready_at is not null))
);

create unique index exports_one_at_a_time on public.exports (person_id) where state = 'building';
create index exports_person_id_idx on public.exports (person_id, ordered_at desc);
create index exports_ordered_at_idx on public.exports (ordered_at);
create index exports_expires_at_idx on public.exports (expires_at) where state = 'ready';

alter table public.exports enable row level security;
revoke all on public.exports from public, anon, authenticated, service_role;

create policy "People see their own exports"
on public.exports
for select
to authenticated
using (person_id = (select private.person()));

grant select on public.exports to authenticated, service_role;

comment on table public.exports is 'Exports and their progress (G5). The user downloads an export from the bucket exports, at `path`, until `expires_at`.';

create table private.export_work (
  export_id uuid not null,
  upload text,
  attempts integer not null default 0,
  due_at timestamptz not null default now(),
  lease uuid,
  leased_until timestamptz,
  section text,
  after text[],
  is_written boolean not null default false,
  constraint export_work_pkey primary key (export_id),
  constraint export_work_export_exists foreign key (export_id) references public.exports (id) on delete cascade,
  constraint export_work_lease_has_end check ((lease is null) = (leased_until is null))
);

alter table private.export_work enable row level security;
revoke all on private.export_work from public, anon, authenticated, service_role;

comment on table private.export_work is 'Which worker builds an export, how far its plan has come, and where it is uploaded to.';
comment on column private.export_work.section is 'The section of the plan that is being written (`private.export_sections`). Null before the first.';
comment on column private.export_work.after is 'The key of the last row of that section that is in the plan. Null before its first row.';
comment on column private.export_work.is_written is 'Whether every section is in the plan. Checksums may still be missing.';
comment on column private.export_work.upload is 'Address of the resumable upload. Storage knows how far it has come.';

create table private.export_files (
  export_id uuid not null,
  position integer not null,
  name text not null,
  bucket text,
  object text,
  bytes bigint not null,
  missing boolean not null default false,
  crc32 bigint,
  sha256 text,
  is_sent boolean not null default false,
  constraint export_files_pkey primary key (export_id, position),
  constraint export_files_export_exists foreign key (export_id) references public.exports (id) on delete cascade,
  constraint export_files_object_has_bucket check ((object is null) = (bucket is null))
);

alter table private.export_files enable row level security;
revoke all on private.export_files from public, anon, authenticated, service_role;

comment on table private.export_files is 'The plan of an export: its files, in order. Deleted when the export is done.';
comment on column private.export_files.object is 'An object of Storage. Null if the content is in private.export_parts.';
comment on column private.export_files.crc32 is 'A ZIP file has the CRC-32 before the data, so it is known before the upload begins.';
comment on column private.export_files.sha256 is 'For the manifest, which is the last file. For an object it is computed during its upload, for other content with the plan.';
comment on column private.export_files.is_sent is 'Whether its last byte is in a piece that a worker was about to send.';

create table private.export_parts (
  export_id uuid not null,
  position integer not null,
  part integer not null,
  bytes_before bigint not null,
  content text not null,
  crc32 bigint,
  sha256 text,
  sha256_state text,
  constraint export_parts_pkey primary key (export_id, position, part),
  constraint export_parts_file_exists foreign key (export_id, position)
    references private.export_files (export_id, position) on delete cascade
);

create index export_parts_uncounted_idx on private.export_parts (export_id, position, part) where crc32 is null;
create index export_files_uncounted_idx on private.export_files (export_id, position)
  where object is not null and crc32 is null and not missing;

alter table private.export_parts enable row level security;
revoke all on private.export_parts from public, anon, authenticated, service_role;

comment on table private.export_parts is 'The content of files that are not objects of Storage, in parts that a function can hold in memory.';
comment on column private.export_parts.bytes_before is 'Bytes of the file before this part.';
comment on column private.export_parts.crc32 is 'CRC-32 of the file up to the end of this part. Null until a worker has computed it.';
comment on column private.export_parts.sha256 is 'SHA-256 of the file up to the end of this part.';
comment on column private.export_parts.sha256_state is 'The state from which another worker continues the SHA-256 of the file.';

create function private.request_export()
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  quota constant private.quotas := private.quota('exports', 'per_day');
  person uuid;
  free_at timestamptz;
  ordered public.exports;
begin
  -- One export per user at a time. The account is checked after the lock, because it may have been closed while the
  -- call waited.
  perform private.lock_person(auth.uid());
  person := private.require_person();
  perform private.require_second_factor(person);
  if exists (select from public.exports as e where e.person_id = person and e.state = 'building') then
    perform private.refuse(409, 'export_running', 'An export is being built. Please wait until it is ready.');
  end if;
  select min(latest.ordered_at) + quota.span into free_at
  from (
    select e.ordered_at from public.exports as e
    where e.person_id = person and e.ordered_at > now() - quota.span and e.state <> 'failed'
    order by e.ordered_at desc
    limit quota.most
  ) as latest
  having count(*) = quota.most;
  if free_at is not null then
    perform private.refuse(429, 'too_many_exports',
      format('You can order %s exports a day. Please try again later.', quota.most), private.retry_at(free_at));
  end if;

  ordered.id := gen_random_uuid();
  insert into public.exports (id, person_id, path)
  values (ordered.id, person, format('%s/%s.zip', person, ordered.id))
  returning * into ordered;
  insert into private.export_work (export_id) values (ordered.id);
  perform private.note_activity(person);
  return to_jsonb(ordered);
end;
$$;

create function public.request_export()
returns jsonb
language sql
set search_path = pg_catalog, pg_temp
return private.request_export();

comment on function public.request_export is 'Orders an export of everything that belongs to the caller (G5). Returns its row. See the table exports for its progress.';

revoke all on function private.request_export, public.request_export from public, anon, authenticated, service_role;
grant execute on function private.request_export, public.request_export to authenticated;

-- Leases the export that has waited longest to one worker, and returns {id, path, upload, bytes_total, is_planned}, or
-- null if there is none. An export is given up after 40 attempts without progress, or after three days.
create function backend.lease_export(lease uuid)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  export public.exports;
  work private.export_work;
begin
  for work in
    select w.*
    from private.export_work as w
    join public.exports as e on e.id = w.export_id
    where (w.lease is null or w.leased_until <= now())
      and (w.attempts >= 40 or e.ordered_at < now() - interval '3 days')
    for update of w skip locked
  loop
    perform private.abandon_export(work.export_id);
    update public.exports as e set state = 'failed' where e.id = work.export_id;
    insert into private.outcomes (subject, outcome) values ('export', 'failed');
    delete from private.export_work as w where w.export_id = work.export_id;
  end loop;

  select w.* into work
  from private.export_work as w
  join public.exports as e on e.id = w.export_id
  where e.state = 'building' and w.due_at <= now()
    and (w.lease is null or w.lease = lease_export.lease or w.leased_until <= now())
  order by w.due_at
  limit 1
  for update of w skip locked;
  if not found then
    return null;
  end if;

  update private.export_work as w
  set lease = lease_export.lease, leased_until = now() + interval '2 minutes', attempts = w.attempts + 1
  where w.export_id = work.export_id;
  select * into export from public.exports as e where e.id = work.export_id;
  return jsonb_build_object(
    'id', export.id, 'path', export.path, 'upload', work.upload,
    'bytes_total', export.bytes_total, 'is_planned', export.files_total is not null
  );
end;
$$;

-- How much of a plan one statement writes, and about how much content one response holds, in bytes. JSON may make the
-- content six times as long, and the functions read responses of at most 4 MiB.
create function private.stretch_bytes()
returns integer
language sql
immutable
set search_path = pg_catalog, pg_temp
return 512 * 1024;

-- Takes one step of the plan. The caller repeats it until `is_planned`. It records the checksums that the caller has
-- computed, and returns the next ones to compute:
-- {is_planned, parts: [{position, part, content, crc32, sha256_state}], objects: [{position, bucket, object, bytes}]}.
-- The `crc32` and the `sha256_state` of a part are those of its file before the part. If no checksum of a part is
-- missing, it writes the next stretch of the plan. So a retry, or the next worker, gets what the last one has not
-- reported. Returns null if the lease was lost. The argument `parts` is [{position, part, crc32, sha256,
-- sha256_state}]. `objects` is [{position, crc32}], with null for an object that is missing.
create function backend.plan_export(export_id uuid, lease uuid, parts jsonb default '[]', objects jsonb default '[]')
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  export public.exports;
  work private.export_work;
begin
  select w.* into work
  from private.export_work as w
  where w.export_id = plan_export.export_id and w.lease = plan_export.lease
  for update;
  select e.* into export from public.exports as e where e.id = work.export_id and e.state = 'building';
  if export.id is null then
    return null;
  end if;
  perform private.record_export_checksums(export.id, parts, objects);
  if export.files_total is null and not private.has_uncounted_parts(export.id) then
    if work.is_written then
      perform private.finish_plan(export.id);
    else
      perform private.write_stretch(export, work);
    end if;
  end if;
  -- Each checksum resets the attempts, so a plan that makes progress is not given up.
  update private.export_work as w
  set leased_until = now() + interval '2 minutes',
    attempts = case when parts = '[]' and objects = '[]' then w.attempts else 0 end
  where w.export_id = export.id;
  return jsonb_build_object(
    'is_planned', (select e.files_total is not null from public.exports as e where e.id = export.id),
    'parts', private.uncounted_parts(export.id),
    'objects', private.uncounted_objects(export.id)
  );
end;
$$;

-- Gives an export back. It is due at once, or a little later after a failure.
create function backend.release_export(export_id uuid, lease uuid, failed boolean)
returns void
language sql
security definer
set search_path = pg_catalog, pg_temp
begin atomic
  update private.export_work as w
  set lease = null, leased_until = null,
    due_at = case when failed then now() + interval '10 seconds' * least(w.attempts, 30) else now() end
  where w.export_id = release_export.export_id and w.lease = release_export.lease;
end;

comment on function backend.lease_export is 'Leases to the caller the export that has waited longest.';
comment on function backend.plan_export is 'Takes one step of the plan of an export: writes the next stretch, and returns which checksums to compute.';
comment on function backend.release_export is 'Gives back the lease of an export, so that the next worker can take it.';

revoke all on function
  backend.lease_export, backend.plan_export, backend.release_export
from public, anon, authenticated, service_role;
grant execute on function
  backend.lease_export, backend.plan_export, backend.release_export
to service_role;
-- What an export contains: every declared table as JSON and CSV, the receipts, and the objects of Storage. It is read
-- in stretches. Each stretch has a bounded size and is read at one moment, so no statement takes long or needs much
-- memory.

-- The columns of a declared table that its export contains.
create function private.exported_columns(declared private.personal_data)
returns text[]
language sql
stable
set search_path = pg_catalog, pg_temp
return array(
  select a.attname::text
  from pg_attribute as a
  where a.attrelid = declared.relation::regclass and a.attnum > 0 and not a.attisdropped
    and (declared.columns is null or a.attname = any (declared.columns))
    and a.attname <> all (declared.hidden)
  order by a.attnum
);

-- The schema of an export's files, made from the same declaration. It is published as docs/export.schema.json.
create function private.export_columns()
returns table (export_as text, "position" integer, name text, type text, nullable boolean)
language sql
stable
set search_path = pg_catalog, pg_temp
begin atomic
  select d.export_as, a.attnum::integer, a.attname::text, format_type(a.atttypid, a.atttypmod),
    not a.attnotnull or starts_with(d.relation, 'auth.')
  from private.personal_data as d
  join pg_attribute as a on a.attrelid = d.relation::regclass
  where d.export_as is not null and a.attname = any (private.exported_columns(d))
  order by d.export_as, a.attnum;
end;

-- The columns that order the rows of a declared table, with their types.
create function private.export_key(declared private.personal_data)
returns table (name text, type text, place bigint)
language sql
stable
set search_path = pg_catalog, pg_temp
begin atomic
  select a.attname::text, format_type(a.atttypid, a.atttypmod), k.place
  from pg_index as i
  cross join unnest(coalesce(declared.key, array(
    select p.attname::text
    from unnest(i.indkey::smallint[]) with ordinality as c (attnum, place)
    join pg_attribute as p on p.attrelid = i.indrelid and p.attnum = c.attnum
    order by c.place
  ))) with ordinality as k (name, place)
  join pg_attribute as a on a.attrelid = i.indrelid and a.attname = k.name
  where i.indrelid = declared.relation::regclass and i.indisprimary;
end;

-- The sections of an export, in order: the declared tables, the receipts, the objects of each bucket, and the artworks
-- that a row names and Storage does not have.
create function private.export_sections()
returns table (section text, declared private.personal_data, bucket text, folder text)
language sql
stable
set search_path = pg_catalog, pg_temp
begin atomic
  select '1 ' || d.export_as, d, null, null from private.personal_data as d where d.export_as is not null
  union all
  select '2 receipts', null, null, null
  union all
  select '3 ' || b.bucket, null, b.bucket, b.export_as from private.personal_buckets as b where b.export_as is not null
  union all
  select '4 missing', null, null, null
  order by 1;
end;

-- The query for the rows of a declared table that follow a key: of the user $1, after the key $2, at most $3 rows.
-- Without a declared key, it finds all rows of the user first (`offset 0`). Otherwise the planner might follow the
-- primary key through the rows of all users.
create function private.rows_query(declared private.personal_data, has_after boolean)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  columns constant text[] := private.exported_columns(declared);
  -- RFC 4180: nothing for null, and "" for an empty text.
  cell constant text := $cell$
    case when r.document ->> %1$L ~ '[",\r\n]' or r.document ->> %1$L = ''
      then '"' || replace(r.document ->> %1$L, '"', '""') || '"'
      else coalesce(r.document ->> %1$L, '')
    end
  $cell$;
  key_columns text;
  key_texts text;
  key_values text;
begin
  select string_agg(format('t.%I', k.name), ', ' order by k.place),
    string_agg(format('t.%I::text', k.name), ', ' order by k.place),
    string_agg(format('($2)[%s]::%s', k.place, k.type), ', ' order by k.place)
  into key_columns, key_texts, key_values
  from private.export_key(declared) as k;
  return format(
    $query$
      select array[%1$s] as key, r.document::text as json, concat_ws(',', %2$s) as csv, null::jsonb as file
      from (
        select * from (select t.* from %3$s as t where %4$s %5$s) as t where %6$s order by %7$s limit $3
      ) as t
      cross join lateral (select to_jsonb(r) as document from (select %8$s) as r offset 0) as r
    $query$,
    key_texts,
    (select string_agg(format(cell, c.name), ', ' order by c.place)
      from unnest(columns) with ordinality as c (name, place)),
    declared.relation::regclass,
    declared.subject,
    case when declared.key is null then 'offset 0' end,
    case when has_after then format('(%s) > (%s)', key_columns, key_values) else 'true' end,
    key_columns,
    (select string_agg(format('t.%I', c.name), ', ' order by c.place)
      from unnest(columns) with ordinality as c (name, place))
  );
end;
$$;

-- The query for what follows a key in a section, as (key, json, csv, file): a row of a table as JSON and as CSV, or a
-- file. It is for the user $1, after the key $2 (null at the beginning), at most $3 rows.
create function private.section_query(section text, declared private.personal_data, bucket text, folder text, has_after boolean)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if declared.relation is not null then
    return private.rows_query(declared, has_after);
  elsif section = '2 receipts' then
    return $query$
      select array[d.id::text] as key, null as json, null as csv,
        jsonb_build_object('name', format('receipts/%s.jws', d.id), 'content', d.receipt) as file
      from (select * from public.deletions as d where d.person_id = $1 and d.receipt is not null offset 0) as d
      where $2 is null or d.id > ($2)[1]::uuid
      order by d.id
      limit $3
    $query$;
  elsif bucket is not null then
    -- The checksum that was computed when an artwork was stored is used only if the object still has the stored
    -- length.
    return format($query$
      select array[o.name] as key, null as json, null as csv,
        jsonb_build_object('name', %L || '/' || substr(o.name, 38), 'bucket', o.bucket_id, 'object', o.name,
          'bytes', private.object_bytes(o.metadata), 'crc32', w.artwork_crc32) as file
      from storage.objects as o
      left join public.generations as g
        on g.artwork_path = o.name and o.bucket_id = 'artworks' and g.artwork_bytes = private.object_bytes(o.metadata)
      left join private.generation_work as w on w.generation_id = g.id
      where o.bucket_id = %L
        and o.name collate "C" > coalesce(($2)[1], $1 || '/') and o.name collate "C" < $1 || '0'
      order by o.name collate "C"
      limit $3
    $query$, folder, bucket);
  end if;
  return $query$
    select array[g.id::text] as key, null as json, null as csv,
      jsonb_build_object('name', 'artworks/' || substr(g.artwork_path, 38), 'bucket', 'artworks',
        'object', g.artwork_path, 'missing', true) as file
    from (
      select * from public.generations as g
      where g.person_id = $1 and g.artwork_path is not null
        and not exists (select from storage.objects as o where o.bucket_id = 'artworks' and o.name = g.artwork_path)
      offset 0
    ) as g
    where $2 is null or g.id > ($2)[1]::uuid
    order by g.id
    limit $3
  $query$;
end;
$$;

-- Turns rows of a declared table into the content of its two files, with the beginning and the end of the files.
create function private.table_files(
  declared private.personal_data,
  documents text[],
  lines text[],
  is_first boolean,
  is_last boolean
)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
begin atomic
  select jsonb_build_array(
    jsonb_build_object(
      'name', format('data/%s.json', declared.export_as),
      'content', case when is_first then format('{"format": "opusflair-export-1", "table": "%s", "rows": [', declared.export_as) else '' end
        || case when documents = '{}' then '' when is_first then E'\n' else E',\n' end
        || array_to_string(documents, E',\n')
        || case when is_last then E'\n]}\n' else '' end
    ),
    jsonb_build_object(
      'name', format('data/%s.csv', declared.export_as),
      -- Excel reads a file as UTF-8 if it begins with a byte order mark.
      'content', case when is_first then U&'\FEFF' || array_to_string(private.exported_columns(declared), ',') || E'\r\n' else '' end
        || array_to_string(lines, E'\r\n')
        || case when lines = '{}' then '' else E'\r\n' end
    )
  );
end;

-- Reads what follows a key of a section, across sections, up to the size of a stretch. Returns
-- {section, after, files: [{name, content, bucket, object, bytes, crc32, missing}]}. `section` and `after` say where
-- the next stretch begins. `section` is null after the last stretch. The function is stable, so that it reads
-- everything at one moment.
create function private.read_stretch(person uuid, from_section text, from_after text[])
returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  room integer := private.stretch_bytes();
  rows_left integer := 2000;
  files jsonb[] := '{}';
  documents text[];
  lines text[];
  is_last boolean;
  after text[];
  part record;
  found_row record;
begin
  for part in
    select * from private.export_sections() as s
    where from_section is null or s.section collate "C" >= from_section
    order by s.section collate "C"
  loop
    after := case when part.section = from_section then from_after end;
    documents := '{}';
    lines := '{}';
    for found_row in
      execute private.section_query(part.section, part.declared, part.bucket, part.folder, after is not null)
      using person, after, rows_left
    loop
      if found_row.file is null then
        documents := documents || found_row.json;
        lines := lines || found_row.csv;
        room := room - octet_length(found_row.json) - octet_length(found_row.csv);
      else
        files := files || found_row.file;
        room := room - coalesce(octet_length(found_row.file ->> 'content'), 0);
      end if;
      rows_left := rows_left - 1;
      after := found_row.key;
      exit when room <= 0;
    end loop;
    is_last := room > 0 and rows_left > 0;
    if part.bucket is null and (part.declared).relation is not null then
      files := files || array(select jsonb_array_elements(private.table_files(part.declared, documents, lines,
        part.section is distinct from from_section or from_after is null, is_last)));
    end if;
    if not is_last then
      return jsonb_build_object('section', part.section, 'after', after, 'files', to_jsonb(files));
    end if;
  end loop;
  return jsonb_build_object('files', to_jsonb(files));
end;
$$;
-- The plan of an export: its files with their content, written one stretch at a time, and the checksums that workers
-- compute for them.

-- Reads the next stretch and writes it into the plan: new files, and more parts of the file that the last stretch
-- ended in.
create function private.write_stretch(export public.exports, work private.export_work)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  stretch constant jsonb := private.read_stretch(export.person_id, work.section, work.after);
begin
  insert into private.export_files (export_id, position, name, bucket, object, bytes, crc32, missing)
  select export.id, row_number() over (order by n.place) + (
      select coalesce(max(l.position), 0) from private.export_files as l where l.export_id = export.id
    ),
    n.file ->> 'name', n.file ->> 'bucket', n.file ->> 'object', coalesce((n.file ->> 'bytes')::bigint, 0),
    (n.file ->> 'crc32')::bigint, coalesce((n.file ->> 'missing')::boolean, false)
  from jsonb_array_elements(stretch -> 'files') with ordinality as n (file, place)
  where not exists (
    select from private.export_files as f where f.export_id = export.id and f.name = n.file ->> 'name'
  );

  with content as (
    select f.position, f.bytes as bytes_before, n.file ->> 'content' as content,
      (select coalesce(max(p.part) + 1, 0) from private.export_parts as p
        where p.export_id = export.id and p.position = f.position) as part
    from jsonb_array_elements(stretch -> 'files') as n (file)
    join private.export_files as f on f.export_id = export.id and f.name = n.file ->> 'name'
    where n.file ->> 'content' <> ''
  ),
  longer as (
    update private.export_files as f set bytes = f.bytes + octet_length(c.content)
    from content as c
    where f.export_id = export.id and f.position = c.position
  )
  insert into private.export_parts (export_id, position, part, bytes_before, content)
  select export.id, c.position, c.part + cut.place,
    c.bytes_before + octet_length(left(c.content, cut.place * 131072)), substr(c.content, 1 + cut.place * 131072, 131072)
  from content as c
  cross join generate_series(0, (char_length(c.content) - 1) / 131072) as cut (place);

  update private.export_work as w
  set section = stretch ->> 'section',
    after = case when stretch ->> 'after' is not null then array(select jsonb_array_elements_text(stretch -> 'after')) end,
    is_written = stretch ->> 'section' is null
  where w.export_id = export.id;
end;
$$;

create function private.has_uncounted_parts(export uuid)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
begin atomic
  select exists (select from private.export_parts as p where p.export_id = export and p.crc32 is null);
end;

-- Parts whose checksums are not known, as many as fit a response, with the checksums of their file before them.
create function private.uncounted_parts(export uuid)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
begin atomic
  select coalesce(jsonb_agg(jsonb_build_object('position', n.position, 'part', n.part, 'content', n.content,
    'crc32', coalesce(before.crc32, 0), 'sha256_state', before.sha256_state) order by n.position, n.part), '[]')
  from (
    select p.*, sum(octet_length(p.content)) over (order by p.position, p.part) - octet_length(p.content) as bytes_so_far
    from (
      select * from private.export_parts as u
      where u.export_id = export and u.crc32 is null
      order by u.position, u.part
      limit 1000
    ) as p
  ) as n
  left join private.export_parts as before
    on before.export_id = n.export_id and before.position = n.position and before.part = n.part - 1
  where n.bytes_so_far < private.stretch_bytes();
end;

-- Objects whose checksum is not known, as many as a worker can read within a lease. These are artworks from before the
-- checksum was kept, and what else Storage has.
create function private.uncounted_objects(export uuid)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
begin atomic
  select coalesce(jsonb_agg(jsonb_build_object(
    'position', n.position, 'bucket', n.bucket, 'object', n.object, 'bytes', n.bytes
  ) order by n.position), '[]')
  from (
    select f.*, sum(f.bytes) over (order by f.position) - f.bytes as bytes_so_far
    from (
      select * from private.export_files as u
      where u.export_id = export and u.object is not null and u.crc32 is null and not u.missing
      order by u.position
      limit 50
    ) as f
  ) as n
  where n.bytes_so_far < 64 * 1024 * 1024;
end;

-- Records what a worker has computed. An object without a checksum has a row in Storage but no bytes.
create function private.record_export_checksums(export uuid, parts jsonb, objects jsonb)
returns void
language sql
set search_path = pg_catalog, pg_temp
begin atomic
  update private.export_parts as p
  set crc32 = told.crc32, sha256 = told.sha256, sha256_state = told.sha256_state
  from jsonb_to_recordset(parts) as told ("position" integer, part integer, crc32 bigint, sha256 text, sha256_state text)
  where p.export_id = export and p.position = told.position and p.part = told.part;
  update private.export_files as f
  set crc32 = told.crc32, missing = told.crc32 is null, bytes = case when told.crc32 is null then 0 else f.bytes end
  from jsonb_to_recordset(objects) as told ("position" integer, crc32 bigint)
  where f.export_id = export and f.position = told.position and f.object is not null;
end;

-- Everything is written. The plan is finished as soon as no checksum is missing.
create function private.finish_plan(export uuid)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if private.uncounted_objects(export) <> '[]' then
    return;
  end if;
  -- The checksums of a file are those of its last part.
  update private.export_files as f
  set crc32 = whole.crc32, sha256 = whole.sha256
  from (
    select distinct on (p.position) p.position, p.crc32, p.sha256
    from private.export_parts as p
    where p.export_id = export
    order by p.position, p.part desc
  ) as whole
  where f.export_id = export and f.position = whole.position;
  update public.exports as e
  set files_total = f.total, files_missing = f.missing, files_done = 0, bytes_done = 0, bytes_total = null
  from (
    select count(*) filter (where not n.missing) as total, count(*) filter (where n.missing) as missing
    from private.export_files as n
    where n.export_id = export
  ) as f
  where e.id = export;
end;
$$;
-- How a planned export gets to Storage. Its content is read from the plan, and each piece is recorded before it is
-- sent.

-- The next `batch` files of a plan, after the position `after`.
create function backend.list_export_files(export_id uuid, after integer, batch integer default 1000)
returns jsonb
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
begin atomic
  select coalesce(jsonb_agg(jsonb_build_object(
    'position', f.position, 'name', f.name, 'bucket', f.bucket, 'object', f.object, 'bytes', f.bytes,
    'missing', f.missing, 'crc32', f.crc32, 'sha256', f.sha256
  ) order by f.position), '[]')
  from (
    select * from private.export_files as n
    where n.export_id = list_export_files.export_id and n.position > after
    order by n.position
    limit batch
  ) as f;
end;

-- The content of files from the byte `at` of the file `place` on, as much as fits a response:
-- [{position, bytes_before, content}]. The first part may begin before that byte.
create function backend.read_export_parts(export_id uuid, place integer, at bigint)
returns jsonb
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
begin atomic
  select coalesce(jsonb_agg(
    jsonb_build_object('position', n.position, 'bytes_before', n.bytes_before, 'content', n.content)
    order by n.position, n.part
  ), '[]')
  from (
    select p.*, sum(octet_length(p.content)) over (order by p.position, p.part) - octet_length(p.content) as bytes_so_far
    from (
      select * from private.export_parts as f
      where f.export_id = read_export_parts.export_id
        and (f.position, f.part) >= (read_export_parts.place, (
          select coalesce(max(b.part), 0)
          from private.export_parts as b
          where b.export_id = read_export_parts.export_id and b.position = read_export_parts.place
            and b.bytes_before <= read_export_parts.at
        ))
      order by f.position, f.part
      limit 1000
    ) as p
  ) as n
  where n.bytes_so_far < private.stretch_bytes();
end;

-- A worker calls this before it sends a piece, with the SHA-256 of the files that end in it. Returns whether the
-- worker still has the lease. If not, it must stop.
create function backend.record_export_piece(
  export_id uuid,
  lease uuid,
  upload text,
  bytes_done bigint,
  bytes_total bigint,
  files jsonb
)
returns boolean
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform from private.export_work as w
  where w.export_id = record_export_piece.export_id and w.lease = record_export_piece.lease
  for update;
  if not found or not exists (
    select from public.exports as e
    where e.id = record_export_piece.export_id and e.state = 'building' and e.files_total is not null
  ) then
    return false;
  end if;
  update private.export_work as w
  set upload = record_export_piece.upload, leased_until = now() + interval '2 minutes', attempts = 0
  where w.export_id = record_export_piece.export_id and w.lease = record_export_piece.lease;

  update private.export_files as f
  set sha256 = told.sha256, is_sent = true
  from jsonb_to_recordset(files) as told ("position" integer, sha256 text)
  where f.export_id = record_export_piece.export_id and f.position = told.position;
  update public.exports as e
  set bytes_done = record_export_piece.bytes_done,
    bytes_total = record_export_piece.bytes_total,
    files_done = (
      select count(*) from private.export_files as f where f.export_id = e.id and f.is_sent
    )
  where e.id = record_export_piece.export_id;
  return true;
end;
$$;

-- The plan is no longer valid, so the upload is abandoned. `missing` is an object that has a row in Storage but no
-- bytes: from then on, it is listed as missing. `changed` is an object whose bytes do not fit its checksum: the
-- checksum is computed again. With neither, a new plan is written.
create function backend.restart_export(
  export_id uuid,
  lease uuid,
  missing text default null,
  changed text default null
)
returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform from private.export_work as w
  where w.export_id = restart_export.export_id and w.lease = restart_export.lease
  for update;
  if not found then
    return;
  end if;
  if missing is null and changed is null then
    perform private.abandon_export(restart_export.export_id);
    return;
  end if;
  perform private.abandon_export_upload(restart_export.export_id);
  update private.export_files as f
  set missing = f.missing or coalesce(f.object = restart_export.missing, false),
    bytes = case when f.object = restart_export.missing then 0 else f.bytes end,
    crc32 = case when f.object in (restart_export.missing, changed) then null else f.crc32 end,
    sha256 = case when f.object is null then f.sha256 end,
    is_sent = false
  where f.export_id = restart_export.export_id;
  update public.exports as e
  set files_total = null, files_done = 0, bytes_done = 0, bytes_total = null
  where e.id = restart_export.export_id;
end;
$$;

-- Everything is uploaded. Returns whether Storage holds the whole archive. If not, the export is not done.
create function backend.finish_export(export_id uuid, lease uuid)
returns boolean
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  export public.exports;
begin
  perform from private.export_work as w
  where w.export_id = finish_export.export_id and w.lease = finish_export.lease
  for update;
  if not found then
    return true;
  end if;
  select e.* into export
  from public.exports as e
  where e.id = finish_export.export_id and e.state = 'building'
  for update;
  if export.id is null then
    return true;
  end if;
  if not exists (
    select from storage.objects as o
    where o.bucket_id = 'exports' and o.name = export.path and private.object_bytes(o.metadata) = export.bytes_total
  ) then
    return false;
  end if;

  update public.exports as e
  set state = 'ready', ready_at = now(), expires_at = now() + private.retention('exports'),
    bytes_done = e.bytes_total, files_done = e.files_total
  where e.id = export.id;
  delete from private.export_work as w where w.export_id = export.id;
  delete from private.export_files as f where f.export_id = export.id;
  perform private.answer_requests(export.person_id, array['access', 'export'], 'export', export.id::text);
  return true;
end;
$$;

comment on function backend.list_export_files is 'The files of an export.';
comment on function backend.read_export_parts is 'The content of files of an export, in parts.';
comment on function backend.record_export_piece is 'Records what is about to be sent. Returns whether the caller may send it.';
comment on function backend.restart_export is 'Restarts an export whose content has changed.';
comment on function backend.finish_export is 'Completes an export that is uploaded, so that the user can download it.';

revoke all on function
  backend.list_export_files, backend.read_export_parts, backend.record_export_piece, backend.restart_export,
  backend.finish_export
from public, anon, authenticated, service_role;
grant execute on function
  backend.list_export_files, backend.read_export_parts, backend.record_export_piece, backend.restart_export,
  backend.finish_export
to service_role;
-- How an export ends: it fails, it is canceled with its account, or it expires. If an artwork is deleted, an export
-- that contains it must not stay, so a running export is planned again.

create function private.abandon_export_upload(export_id uuid)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  work private.export_work;
begin
  select * into work from private.export_work as w where w.export_id = abandon_export_upload.export_id for update;
  if work.upload is not null then
    perform private.order_outbox_task('abandon_upload', work.upload,
      (select e.person_id from public.exports as e where e.id = work.export_id));
  end if;
  update private.export_work as w
  set upload = null, lease = null, leased_until = null, due_at = now()
  where w.export_id = abandon_export_upload.export_id;
end;
$$;

-- Deletes the plan of an export, with its copy of the data. The next plan has another path. So the deletion of what
-- Storage has of the old plan, or may still receive, never deletes the new archive.
create function private.abandon_export(export_id uuid)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  export public.exports;
begin
  perform private.abandon_export_upload(abandon_export.export_id);
  delete from private.export_files as f where f.export_id = abandon_export.export_id;
  update private.export_work as w
  set section = null, after = null, is_written = false
  where w.export_id = abandon_export.export_id;
  select * into export from public.exports as e where e.id = abandon_export.export_id for update;
  perform private.order_deletion('exports', export.path, 'superseded', export.person_id, null)
  where exists (select from storage.objects as o where o.bucket_id = 'exports' and o.name = export.path);
  update public.exports as e
  set path = format('%s/%s.zip', export.person_id, gen_random_uuid()),
    files_total = null, files_done = 0, bytes_done = 0, bytes_total = null
  where e.id = abandon_export.export_id;
end;
$$;

-- Ends the exports of a user, because a copy of deleted data must not stay behind.
create function private.end_exports(person uuid, is_leaving boolean)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  export public.exports;
begin
  -- Lock `export_work` first, then `exports`. All other code locks in this order.
  perform from private.export_work as w
  join public.exports as e on e.id = w.export_id
  where e.person_id = person
  for update of w;
  for export in
    select * from public.exports as e where e.person_id = person and e.state in ('building', 'ready') for update
  loop
    if export.state = 'ready' then
      update public.exports as e set state = 'expired', expires_at = now() where e.id = export.id;
      perform private.order_deletion('exports', export.path, 'export_expired', person, null);
      continue;
    end if;
    perform private.abandon_export(export.id);
    if is_leaving then
      update public.exports as e set state = 'canceled' where e.id = export.id;
      delete from private.export_work as w where w.export_id = export.id;
      -- A worker may be sending the last piece at this moment.
      perform private.order_deletion('exports', export.path, 'superseded', person, null);
    end if;
  end loop;
end;
$$;

create function private.follow_artwork_deletion()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.end_exports(old.person_id, false);
  return null;
end;
$$;

create trigger generations_end_exports
after delete on public.generations
for each row
when (old.artwork_path is not null)
execute function private.follow_artwork_deletion();

-- Expires exports whose time is over. Returns how many.
create function backend.expire_exports()
returns integer
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  expired integer;
begin
  with over as (
    update public.exports as e
    set state = 'expired'
    where e.id in (
      select n.id from public.exports as n where n.state = 'ready' and n.expires_at <= now() for update skip locked
    )
    returning e.path, e.person_id
  )
  insert into public.deletions (bucket, path, reason, person_id)
  select 'exports', o.path, 'export_expired', o.person_id from over as o
  on conflict (bucket, path) where verified_at is null do nothing;
  get diagnostics expired = row_count;
  return expired;
end;
$$;

comment on function backend.expire_exports is 'Orders the deletion of exports whose time is over (G5).';

revoke all on function backend.expire_exports from public, anon, authenticated, service_role;
grant execute on function backend.expire_exports to service_role;
-- Emails to users. Each row orders one email, and the worker with the lease sends it. The text is a template in the
-- functions. The row holds only the recipient and what the email is about.

create table private.emails (
  id uuid not null default gen_random_uuid(),
  person_id uuid,
  kind text not null,
  subject text,
  days integer,
  address text,
  ordered_at timestamptz not null default now(),
  due_at timestamptz not null default now(),
  attempts integer not null default 0,
  lease uuid,
  sent_at timestamptz,
  bounced_at timestamptz,
  left_at timestamptz,
  constraint emails_pkey primary key (id),
  constraint emails_person_exists foreign key (person_id) references auth.users (id) on delete cascade,
  constraint emails_kind_known check (
    kind in ('inactive', 'request_filed', 'request_refused', 'request_extended', 'erased')
  ),
  constraint emails_days_of_notices check ((kind = 'inactive') = (days is not null)),
  -- Auth has the address of a user. For a deleted account, the address is kept here until the last email is sent.
  constraint emails_address_of_the_gone check ((person_id is null) = (address is not null))
);

create index emails_person_id_idx on private.emails (person_id, kind);
create index emails_lease_idx on private.emails (lease) where sent_at is null;
create index emails_due_at_idx on private.emails (due_at) where sent_at is null;
create index emails_left_at_idx on private.emails (left_at) where left_at is not null;
create index emails_ordered_at_idx on private.emails (ordered_at);

alter table private.emails enable row level security;
revoke all on private.emails from public, anon, authenticated, service_role;

comment on table private.emails is 'Emails to users that are due or were sent.';
comment on column private.emails.subject is 'What the email is about: the ID of a request or of an erasure.';
comment on column private.emails.days is 'For a notice: how many days before the erasure it was due.';
comment on column private.emails.left_at is 'When the erasure of the account was done. Soon after, the row and its address are deleted, sent or not (rule last_emails).';
comment on column private.emails.bounced_at is 'When the email provider reported that the email did not arrive. Such a notice does not count as a warning (R10).';

create function private.order_email(person uuid, kind text, subject text)
returns void
language sql
set search_path = pg_catalog, pg_temp
begin atomic
  insert into private.emails (person_id, kind, subject) values (person, kind, subject);
end;

-- Tells the user by email what the operator has decided, if they have a confirmed address. They may never look into
-- the app.
create function private.order_decision(request public.privacy_requests, kind text)
returns void
language sql
set search_path = pg_catalog, pg_temp
begin atomic
  select private.order_email(u.id, kind, request.id::text)
  from auth.users as u
  where u.id = request.person_id and u.email is not null and u.email_confirmed_at is not null;
end;

-- The request whose decision an email reports. Null for other emails.
create function private.request_of(email private.emails)
returns uuid
language sql
immutable
set search_path = pg_catalog, pg_temp
return case when email.kind in ('request_refused', 'request_extended') then email.subject::uuid end;

create function private.reason_of(request public.privacy_requests, decision text)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
return case decision when 'request_refused' then request.answer when 'request_extended' then request.extension end;

-- Returns due emails, [{id, kind, subject, address, reason, until}], under a lease. They are due again after five
-- minutes, each time later. The caller chooses the lease: a retry with the same lease gets the same emails. After 40
-- attempts an email is given up, and the address of a deleted account is forgotten with it. `reason` and `until` are
-- those of a request that the operator has refused or extended.
create function backend.lease_emails(lease uuid, batch integer default 50)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  delete from private.emails as e
  where e.id in (
    select n.id from private.emails as n where n.sent_at is null and n.attempts >= 40 for update skip locked
  );
  -- Notices are not sent to a user who came back since the notice was ordered, refuses notices, or is leaving.
  delete from private.emails as e
  where e.id in (
    select n.id
    from private.emails as n
    join public.profiles as p on p.id = n.person_id
    where n.kind = 'inactive' and n.sent_at is null and n.due_at <= now()
      and (p.closed_at is not null or not private.allows(p.id, 'notices') or private.last_active(p.id) > n.ordered_at)
    for update of n skip locked
  );

  -- A further email has opened the request again, so the earlier decision no longer counts.
  delete from private.emails as e
  where e.id in (
    select n.id
    from private.emails as n
    join public.privacy_requests as r on r.id = private.request_of(n)
    where n.sent_at is null and n.due_at <= now() and private.reason_of(r, n.kind) is null
    for update of n skip locked
  );

  if not exists (select from private.emails as e where e.lease = lease_emails.lease and e.sent_at is null) then
    with due as (
      select e.id
      from private.emails as e
      where e.sent_at is null and e.due_at <= now()
      order by e.due_at
      limit batch
      for update skip locked
    )
    update private.emails as e
    set attempts = e.attempts + 1,
      lease = lease_emails.lease,
      due_at = now() + least(interval '6 hours', interval '5 minutes' * power(2, least(e.attempts, 10)))
    from due
    where e.id = due.id;
  end if;
  return (
    select coalesce(jsonb_agg(jsonb_build_object(
      'id', e.id, 'kind', e.kind, 'subject', coalesce(e.subject, e.days::text),
      'address', coalesce(e.address, u.email),
      'reason', private.reason_of(r, e.kind), 'until', to_char(r.due_at at time zone 'UTC', 'FMDD FMMonth YYYY')
    )), '[]')
    from private.emails as e
    left join auth.users as u on u.id = e.person_id
    left join public.privacy_requests as r on r.id = private.request_of(e)
    where e.lease = lease_emails.lease and e.sent_at is null and coalesce(e.address, u.email) is not null
  );
end;
$$;

-- The email was sent. For a deleted account, its row and address are deleted.
create function backend.finish_email(id uuid)
returns void
language sql
security definer
set search_path = pg_catalog, pg_temp
begin atomic
  delete from private.emails as e where e.id = finish_email.id and e.person_id is null;
  update private.emails as e set sent_at = now() where e.id = finish_email.id and e.sent_at is null;
end;

-- The email provider reports that an email did not arrive. If the report does not name the email, it is about each one
-- that was sent to these addresses within a week, because a mail server tries for five days at most. Returns the
-- number of emails.
create function backend.record_bounce(email uuid default null, addresses text[] default '{}')
returns integer
language sql
security definer
set search_path = pg_catalog, pg_temp
begin atomic
  with named as (
    select e.id
    from private.emails as e
    where e.bounced_at is null
      and case
        when record_bounce.email is not null then e.id = record_bounce.email
        else e.sent_at > now() - interval '7 days' and e.person_id in (
          select u.id from auth.users as u where u.email = any (addresses)
        )
      end
    order by e.id
    for update
  ),
  bounced as (
    update private.emails as e
    set bounced_at = now()
    from named
    where e.id = named.id
    returning 1
  )
  select count(*)::integer from bounced;
end;

comment on function backend.record_bounce is 'Records that an email did not arrive (R10).';
comment on function backend.lease_emails is 'Leases to the caller the emails that are due.';
comment on function backend.finish_email is 'Records that an email was sent.';

revoke all on function backend.lease_emails, backend.finish_email, backend.record_bounce from public, anon, authenticated, service_role;
grant execute on function backend.lease_emails, backend.finish_email, backend.record_bounce to service_role;
-- Erasure of an account (G3). Its user orders it. It is also ordered after a year of inactivity, or if the account was
-- never confirmed (R10). The order itself closes the account.

create table private.erasures (
  id uuid not null default gen_random_uuid(),
  person_id uuid,
  reason text not null,
  stage text not null default 'ordered',
  ordered_at timestamptz not null default now(),
  begins_at timestamptz not null default now() + private.retention('erasure_grace'),
  lease uuid,
  leased_until timestamptz,
  objects integer not null default 0,
  erased_at timestamptz,
  finished_at timestamptz,
  receipt text,
  constraint erasures_pkey primary key (id),
  constraint erasures_reason_known check (reason in ('asked', 'inactive', 'unconfirmed')),
  constraint erasures_stage_known check (stage in ('ordered', 'deleting', 'verifying', 'leaving', 'done')),
  constraint erasures_one_a_person unique (person_id),
  constraint erasures_done_forgets check ((stage = 'done') = (person_id is null)),
  constraint erasures_done_has_receipt
    check ((stage = 'done') = (receipt is not null) and (stage = 'done') = (finished_at is not null))
);

create index erasures_open_idx on private.erasures (begins_at) where stage <> 'done';
create index erasures_lease_idx on private.erasures (lease) where stage <> 'done';
create index erasures_finished_at_idx on private.erasures (finished_at);

alter table private.erasures enable row level security;
revoke all on private.erasures from public, anon, authenticated, service_role;

comment on table private.erasures is 'Accounts that are being erased, and proofs of those that are gone. Anyone who knows the ID can see the status, because no token gives access to the account any more.';
comment on column private.erasures.receipt is 'A compact JWS: what was erased and when, without whose it was.';

-- Orders an erasure: closes the account, so that its tokens give access to nothing, and stops what is in progress. A
-- retry returns the same erasure.
create function private.order_erasure(person uuid, reason text)
returns private.erasures
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  erasure private.erasures;
begin
  perform private.cancel_open(person);
  update public.profiles as p set closed_at = now() where p.id = person and p.closed_at is null;
  if not found then
    select * into erasure from private.erasures as e where e.person_id = person;
    return erasure;
  end if;
  insert into private.erasures (person_id, reason) values (person, reason) returning * into erasure;
  perform private.end_exports(person, true);
  perform private.answer_requests(person, array['erasure'], 'erasure', private.timestamp(now()));
  return erasure;
end;
$$;

create function private.describe_erasure(erasure private.erasures)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
return jsonb_build_object(
  'id', erasure.id,
  'stage', erasure.stage,
  'ordered_at', erasure.ordered_at,
  'begins_at', erasure.begins_at,
  'objects_left', (
    select count(*)
    from (
      select d.bucket, d.path from public.deletions as d
      where d.person_id = erasure.person_id and d.verified_at is null
      union
      select o.bucket_id, o.name from storage.objects as o
      join private.personal_buckets as b on b.bucket = o.bucket_id
      where o.name collate "C" >= erasure.person_id || '/' and o.name collate "C" < erasure.person_id || '0'
    ) as left_over
  ),
  'finished_at', erasure.finished_at,
  'receipt', erasure.receipt
);

-- When the user signed in to the session of this token, however often the token was renewed since. The token says so
-- (`amr`), or Auth's session does.
create function private.signed_in_at(person uuid)
returns timestamptz
language sql
stable
set search_path = pg_catalog, pg_temp
return coalesce(
  (
    select to_timestamp(max((m.value ->> 'timestamp')::bigint))
    from jsonb_array_elements(
      case when jsonb_typeof(auth.jwt() -> 'amr') = 'array' then auth.jwt() -> 'amr' else '[]' end
    ) as m
    where jsonb_typeof(m.value) = 'object'
  ),
  (
    select s.created_at
    from auth.sessions as s
    where s.user_id = person and s.id::text = auth.jwt() ->> 'session_id'
  ),
  '-infinity'
);

-- Refuses unless the user has typed the email of the account, confirmed or not. If the account has no email, the user
-- types its phone number. An anonymous account has neither.
create function private.require_typed(account auth.users, email text, phone text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if coalesce(account.email, '') <> '' then
    if account.email is distinct from lower(btrim(require_typed.email)) then
      perform private.refuse(422, 'email_differs',
        'email must be the email address of your account. Please type it again.', '{"field": "email"}');
    end if;
  elsif coalesce(account.phone, '') <> '' then
    -- Auth keeps only the digits.
    if account.phone is distinct from regexp_replace(require_typed.phone, '[^0-9]', '', 'g') then
      perform private.refuse(422, 'phone_differs',
        'phone must be the phone number of your account. Please type it again.', '{"field": "phone"}');
    end if;
  end if;
end;
$$;

-- Requires a sign-in within the last 15 minutes, and the email or phone number of the account, typed. An anonymous
-- account cannot be signed in to again, so its session is enough. A retry after a lost response returns the same
-- erasure, because its ID is the only way to the receipt.
create function private.erase_account(email text, phone text)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  person constant uuid := (
    select p.id from public.profiles as p where p.id = auth.uid() and private.has_open_session(p.id)
  );
  account auth.users;
  erasure private.erasures;
begin
  if person is null then
    perform private.refuse(401, 'not_signed_in', 'Your session is over. Please sign in again.');
  end if;
  perform private.require_second_factor(person);
  select * into account from auth.users as u where u.id = person;
  if not account.is_anonymous and private.signed_in_at(person) < now() - interval '15 minutes' then
    perform private.refuse(403, 'sign_in_again', 'Please sign in again. Then confirm the erasure within 15 minutes.');
  end if;
  perform private.require_typed(account, email, phone);
  erasure := private.order_erasure(person, 'asked');
  -- A statement of its own, so that it sees the deletions that were just ordered.
  return private.describe_erasure(erasure);
end;
$$;

create function public.erase_account(email text default null, phone text default null)
returns jsonb
language sql
set search_path = pg_catalog, pg_temp
return private.erase_account(email, phone);

comment on function public.erase_account is 'Erases the caller''s account and everything in it (G3). From this moment on, its tokens give access to nothing.';

revoke all on function private.erase_account, public.erase_account from public, anon, authenticated, service_role;
grant execute on function private.erase_account, public.erase_account to authenticated;

create function backend.read_erasure(id uuid)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  known private.erasures;
begin
  select * into known from private.erasures as e where e.id = read_erasure.id;
  if not found then
    perform private.refuse(404, 'erasure_not_found', 'There is no erasure with this id. Please check the id.');
  end if;
  return private.describe_erasure(known);
end;
$$;

-- Within its grace period, an erasure can be withdrawn. The account is then open again.
create function backend.withdraw_erasure(id uuid)
returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  person uuid;
begin
  if not exists (select from private.erasures as e where e.id = withdraw_erasure.id) then
    perform private.refuse(404, 'erasure_not_found', 'There is no erasure with this id. Please check the id.');
  end if;
  delete from private.erasures as e
  where e.id = withdraw_erasure.id and e.stage = 'ordered' and e.begins_at > now()
  returning e.person_id into person;
  if person is null then
    perform private.refuse(409, 'erasure_begun', 'This erasure has begun and cannot be taken back.');
  end if;
  update public.profiles as p set closed_at = null where p.id = person;
end;
$$;

comment on function backend.read_erasure is 'The status of an erasure, for anyone who knows its ID.';
comment on function backend.withdraw_erasure is 'Withdraws an erasure within its grace period.';

revoke all on function backend.read_erasure, backend.withdraw_erasure from public, anon, authenticated, service_role;
grant execute on function backend.read_erasure, backend.withdraw_erasure to service_role;
-- How an ordered erasure is carried out, in steps that can be repeated. A stage ends only when its data is seen to be
-- gone. So a failure of Storage or Auth delays an erasure and never makes it report too early.

-- Returns erasures to continue, [{id, person}], leased for two minutes. The caller chooses the lease: a retry with the
-- same lease gets the same erasures.
create function backend.lease_erasures(lease uuid, batch integer default 20)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if not exists (select from private.erasures as e where e.lease = lease_erasures.lease and e.stage <> 'done') then
    with due as (
      select e.id
      from private.erasures as e
      where e.stage <> 'done' and e.begins_at <= now() and coalesce(e.leased_until, '-infinity') <= now()
      order by e.begins_at
      limit batch
      for update skip locked
    )
    update private.erasures as e
    set lease = lease_erasures.lease, leased_until = now() + interval '2 minutes'
    from due
    where e.id = due.id;
  end if;
  return (
    select coalesce(jsonb_agg(jsonb_build_object('id', e.id, 'person', e.person_id)), '[]')
    from private.erasures as e
    where e.lease = lease_erasures.lease and e.stage <> 'done'
  );
end;
$$;

create function private.order_folder(person uuid)
returns integer
language sql
set search_path = pg_catalog, pg_temp
begin atomic
  with ordered as (
    insert into public.deletions (bucket, path, reason, person_id)
    select o.bucket_id, o.name, 'erasure', (select u.id from auth.users as u where u.id = person)
    from storage.objects as o
    join private.personal_buckets as b on b.bucket = o.bucket_id
    where o.name collate "C" >= person || '/' and o.name collate "C" < person || '0'
      and not exists (
        select from public.deletions as d
        where d.bucket = o.bucket_id and d.path = o.name and d.verified_at is null
      )
    limit 1000
    on conflict (bucket, path) where verified_at is null do nothing
    returning 1
  )
  select count(*)::integer from ordered;
end;

create function private.may_delete_from(relation text)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
return coalesce(
  has_table_privilege(to_regclass(relation), 'select') and has_table_privilege(to_regclass(relation), 'delete'),
  false
);

-- Deletes what Auth keeps about a user that it has deleted, above all its own log, with IDs and emails. This happens
-- only if the owner of the table lets us. It is a call of its own, because the log has no index and a long one takes
-- time. docs/runbook.md says how a project keeps the log out of the database.
create function backend.forget_in_auth(id uuid)
returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set statement_timeout = '1min'
as $$
declare
  person constant uuid := (
    select e.person_id from private.erasures as e where e.id = forget_in_auth.id and e.stage = 'leaving'
  );
  declared private.personal_data;
begin
  if person is null or exists (select from auth.users as u where u.id = person) then
    return;
  end if;
  for declared in select * from private.personal_data as p where p.erasure = 'after_account' order by p.relation loop
    if private.may_delete_from(declared.relation) then
      execute format('delete from %s as t where %s', declared.relation::regclass, declared.subject) using person;
    end if;
  end loop;
  update private.erasures as e set erased_at = coalesce(e.erased_at, now()) where e.id = forget_in_auth.id;
end;
$$;

-- Deletes a user's rows in one table, and the rows that name the user, one batch at a time. Returns how many rows.
create function private.delete_rows(declared private.personal_data, person uuid)
returns integer
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  stretch constant text := 'delete from %1$s where ctid = any (array(select t.ctid from %1$s as t where %2$s limit 5000))';
  deleted integer := 0;
  named integer := 0;
begin
  if declared.erasure = 'delete' then
    execute format(stretch, declared.relation::regclass, declared.subject) using person;
    get diagnostics deleted = row_count;
  end if;
  if declared.names is not null then
    execute format(stretch, declared.relation::regclass, declared.names)
    using (select u.email::text from auth.users as u where u.id = person);
    get diagnostics named = row_count;
  end if;
  return deleted + named;
end;
$$;

-- Takes the next step. Returns {next}:
--   again   there is more to do; call this again
--   wait    some data may not be gone yet; call this again in a later sweep
--   leave   delete `person` in Auth, then call this again
--   forget  call forget_in_auth, then call this again
--   sign    sign `statement`, then call finish_erasure
-- `pseudonym` is the user's ID under a keyed hash. `writes` says whether email can be sent.
create function backend.advance_erasure(id uuid, pseudonym text default null, writes boolean default false)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  erasure private.erasures;
  declared private.personal_data;
  locked uuid[];
begin
  select * into erasure from private.erasures as e where e.id = advance_erasure.id for update;
  if not found or erasure.stage = 'done' or erasure.begins_at > now() then
    return jsonb_build_object('next', 'wait');
  end if;

  if erasure.stage in ('ordered', 'deleting') then
    update private.erasures as e set stage = 'deleting' where e.id = erasure.id;
    -- Each deleted generation orders the deletion of its own objects.
    locked := private.lock_generations(array(
      select n.id from public.generations as n where n.person_id = erasure.person_id order by n.id limit 200
    ), skip => false);
    delete from public.generations as g where g.id = any (locked);
    if found or private.order_folder(erasure.person_id) > 0 then
      return jsonb_build_object('next', 'again');
    end if;
    for declared in select * from private.personal_data as p where p.erasure = 'delete' or p.names is not null order by p.relation loop
      if private.delete_rows(declared, erasure.person_id) > 0 then
        return jsonb_build_object('next', 'again');
      end if;
    end loop;
    update private.erasures as e set stage = 'verifying' where e.id = erasure.id;
    return jsonb_build_object('next', 'again');
  end if;

  -- This is also checked after the account is gone, because an upload that was in progress may have come late.
  if private.order_folder(erasure.person_id) > 0
    or exists (
      select from public.deletions as d
      where (d.person_id = erasure.person_id or starts_with(d.path, erasure.person_id || '/')) and d.verified_at is null
    )
    or exists (
      select from private.outbox as o
      where o.person_id = erasure.person_id and o.kind in ('abandon_upload', 'find_prediction')
    )
  then
    return jsonb_build_object('next', 'wait');
  end if;

  if erasure.stage = 'verifying' then
    update private.erasures as e
    set stage = 'leaving',
      objects = (select count(*) from public.deletions as d where d.person_id = erasure.person_id)
    where e.id = erasure.id;
  end if;
  if exists (select from auth.users as u where u.id = erasure.person_id) then
    update public.wallets as w
    set person_id = null, pseudonym = advance_erasure.pseudonym
    where w.person_id = erasure.person_id;
    update public.privacy_choices as c
    set person_id = null, pseudonym = advance_erasure.pseudonym
    where c.person_id = erasure.person_id;
    update public.policy_consents as c
    set person_id = null, pseudonym = advance_erasure.pseudonym
    where c.person_id = erasure.person_id;
    update public.privacy_requests as r
    set person_id = null, pseudonym = advance_erasure.pseudonym
    where r.person_id = erasure.person_id;
    insert into private.emails (kind, subject, address, due_at)
    select 'erased', erasure.id::text, u.email, 'infinity'
    from auth.users as u
    where writes and u.id = erasure.person_id and u.email is not null and u.email_confirmed_at is not null
      and not exists (select from private.emails as e where e.subject = erasure.id::text);
    return jsonb_build_object('next', 'leave', 'person', erasure.person_id);
  end if;

  if erasure.erased_at is null then
    return jsonb_build_object('next', 'forget');
  end if;
  return jsonb_build_object('next', 'sign', 'statement', jsonb_build_object(
    'jti', erasure.id, 'reason', erasure.reason, 'objects', erasure.objects,
    'ordered_at', private.timestamp(erasure.ordered_at), 'erased_at', private.timestamp(erasure.erased_at)
  ));
end;
$$;

-- The last step. From now on, nothing says whose erasure it was.
create function backend.finish_erasure(id uuid, receipt text)
returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  update private.erasures as e
  set stage = 'done', person_id = null, finished_at = now(), receipt = finish_erasure.receipt
  where e.id = finish_erasure.id and e.stage = 'leaving' and e.erased_at is not null;
  update private.emails as e
  set due_at = now(), left_at = now()
  where e.subject = finish_erasure.id::text and e.kind = 'erased' and e.left_at is null;
end;
$$;

comment on function backend.lease_erasures is 'Leases to the caller the erasures to continue.';
comment on function backend.forget_in_auth is 'Deletes what Auth keeps about a user that it has deleted.';
comment on function backend.advance_erasure is 'Takes the next step of an erasure. Returns what the caller has to do.';
comment on function backend.finish_erasure is 'Completes an erasure, with its proof.';

revoke all on function
  backend.lease_erasures, backend.advance_erasure, backend.forget_in_auth, backend.finish_erasure
from public, anon, authenticated, service_role;
grant execute on function
  backend.lease_erasures, backend.advance_erasure, backend.forget_in_auth, backend.finish_erasure
to service_role;
-- R10: inactive accounts. First the user gets emails, one step of `private.notice_ladder` after another. An account is
-- erased only if its user was sent all of them, none of them bounced, and the user has not been active since. If email
-- is not set up, no inactive account is erased.

create table private.notice_ladder (
  days integer not null,
  constraint notice_ladder_pkey primary key (days),
  constraint notice_ladder_days_positive check (days > 0)
);

alter table private.notice_ladder enable row level security;
revoke all on private.notice_ladder from public, anon, authenticated, service_role;

comment on table private.notice_ladder is 'How many days before the erasure the user gets an email.';

insert into private.notice_ladder (days) values (60), (30), (7), (1);

-- When the user was last active: a sign-in, a renewed session, or anything done here.
create function private.last_active(person uuid)
returns timestamptz
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
return (
  select greatest(u.created_at, u.last_sign_in_at, p.active_at, (
    select max(greatest(s.created_at, s.updated_at, t.created_at))
    from auth.sessions as s
    left join auth.refresh_tokens as t on t.session_id = s.id
    where s.user_id = person
  ))
  from auth.users as u
  join public.profiles as p on p.id = u.id
  where u.id = person
);

-- When an account is erased if its user stays inactive. Each email that was sent gets its full number of days first.
create function private.erased_at(person uuid, active timestamptz)
returns timestamptz
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
return (
  select greatest(active + private.retention('inactive_accounts'), max(e.sent_at + make_interval(days => e.days)))
  from private.emails as e
  where e.person_id = person and e.kind = 'inactive' and e.ordered_at >= active and e.sent_at is not null
    and e.bounced_at is null
);

-- Whether every email was sent since the user was last active, none of them bounced, and each has had its days.
create function private.is_given_up(person uuid)
returns boolean
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
return (
  select private.erased_at(person, last.active) <= now()
    and private.allows(person, 'notices')
    and not exists (
      select from private.notice_ladder as n
      where not exists (
        select from private.emails as e
        where e.person_id = person and e.kind = 'inactive' and e.days = n.days
          and e.ordered_at >= last.active and e.sent_at is not null and e.bounced_at is null
      )
    )
  from (select private.last_active(person) as active) as last
);

-- Whether no one has ever confirmed the account, and its user has been inactive for the time of the rule. Such an
-- account gets no email: the address may be anyone's, and an anonymous account has none.
create function private.is_unconfirmed(person uuid)
returns boolean
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
return exists (
  select from auth.users as u
  where u.id = person and u.email_confirmed_at is null and u.phone_confirmed_at is null
) and private.last_active(person) <= now() - private.retention('unconfirmed_accounts');

-- The next batch of a walk over all users, in the order of their IDs. Empty while the walk rests. The last batch has
-- fewer than `batch` users.
create function private.walk_people(walk text, batch integer)
returns uuid[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  after constant uuid := private.enter_audit_by_id(walk);
  people uuid[] := '{}';
begin
  if private.is_walk_due(walk) then
    people := array(select p.id from public.profiles as p where p.id > after order by p.id limit batch);
    perform private.leave_audit(walk, case when cardinality(people) = batch then people[batch]::text end, '{}');
  end if;
  return people;
end;
$$;

-- Walks all users, one batch per call, with an hour between two walks. Orders the erasure of accounts that were never
-- confirmed. No email is sent. Returns {done, erased}.
create function backend.erase_unconfirmed(batch integer default 2000)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  people constant uuid[] := private.walk_people('unconfirmed', batch);
  candidate uuid;
  erased integer := 0;
begin
  for candidate in
    select p.id
    from public.profiles as p
    join auth.users as u on u.id = p.id and u.email_confirmed_at is null and u.phone_confirmed_at is null
    where p.id = any (people) and p.closed_at is null and private.is_unconfirmed(p.id)
    order by p.id
  loop
    -- A sign-in and a confirmation wait for these locks, as in `erase_inactive`.
    perform from auth.users as u where u.id = candidate for no key update;
    perform from public.profiles as p where p.id = candidate and p.closed_at is null for no key update;
    if found and private.is_unconfirmed(candidate) then
      perform private.order_erasure(candidate, 'unconfirmed');
      erased := erased + 1;
    end if;
  end loop;
  return jsonb_build_object('done', cardinality(people) < batch, 'erased', erased);
end;
$$;

-- Walks all users, one batch per call, with an hour between two walks. Returns {done, ordered}. It writes down what
-- Auth knows of their activity, because Auth forgets the renewals of a session when its user signs out. It also orders
-- the next email for each user who is due for one. A user who refuses notices gets none, and their account stays. A
-- notice that bounced is sent again some weeks later. Until one arrives, the account stays.
create function backend.follow_inactive(batch integer default 500)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  people constant uuid[] := private.walk_people('people', batch);
  ordered integer;
begin
  -- Users whose row is locked at this moment are left out. The next walk records them.
  update public.profiles as p
  set active_at = last.active
  from (
    select n.id, private.last_active(n.id) as active
    from public.profiles as n
    where n.id = any (people)
    for no key update skip locked
  ) as last
  where p.id = last.id and last.active > p.active_at;

  insert into private.emails (person_id, kind, days)
  select quiet.id, 'inactive', next.days
  from (
    select p.id, p.active_at as active
    from public.profiles as p
    where p.id = any (people) and p.closed_at is null
      and exists (
        select from auth.users as u where u.id = p.id and u.email is not null and u.email_confirmed_at is not null
      )
      and p.active_at < now() - private.retention('inactive_accounts')
        + make_interval(days => (select max(n.days) from private.notice_ladder as n))
  ) as quiet
  cross join lateral (
    select n.days
    from private.notice_ladder as n
    where not exists (
      select from private.emails as e
      where e.person_id = quiet.id and e.kind = 'inactive' and e.ordered_at >= quiet.active
        and e.days = n.days and e.bounced_at is null
    )
    order by n.days desc
    limit 1
  ) as next
  where now() >= private.erased_at(quiet.id, quiet.active) - make_interval(days => next.days)
    and not exists (
      select from private.emails as e
      where e.person_id = quiet.id and e.kind = 'inactive' and e.ordered_at >= quiet.active
        and (e.sent_at is null or e.bounced_at > now() - private.retention('bounced_notices'))
    )
    and private.allows(quiet.id, 'notices');
  get diagnostics ordered = row_count;
  return jsonb_build_object('done', cardinality(people) < batch, 'ordered', ordered);
end;
$$;

-- Orders the erasure of accounts whose user was sent all emails, and each has had its days. It checks again under a
-- lock that a sign-in and any action here must wait for. So a user who comes back at the last moment keeps everything.
create function backend.erase_inactive(batch integer default 50)
returns integer
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  candidate uuid;
  erased integer := 0;
begin
  for candidate in
    select p.id
    from public.profiles as p
    where p.closed_at is null
      and exists (
        select from private.emails as e
        where e.person_id = p.id and e.kind = 'inactive'
          and e.days = (select min(n.days) from private.notice_ladder as n)
          and e.sent_at <= now() - make_interval(days => e.days) and e.bounced_at is null
      )
      and private.is_given_up(p.id)
    limit batch
  loop
    -- Transactions that only refer to the account can go on. A sign-in or another erasure waits.
    perform from auth.users as u where u.id = candidate for no key update;
    perform from public.profiles as p where p.id = candidate and p.closed_at is null for no key update;
    if found and private.is_given_up(candidate) then
      perform private.order_erasure(candidate, 'inactive');
      erased := erased + 1;
    end if;
  end loop;
  return erased;
end;
$$;

comment on function backend.follow_inactive is 'Records when users were last active, and orders the emails that are due to inactive ones (R10).';
comment on function backend.erase_inactive is 'Orders the erasure of accounts whose notices have all had their days (R10).';

comment on function backend.erase_unconfirmed is 'Orders the erasure of accounts that were never confirmed (R10).';

revoke all on function backend.follow_inactive, backend.erase_inactive, backend.erase_unconfirmed from public, anon, authenticated, service_role;
grant execute on function backend.follow_inactive, backend.erase_inactive, backend.erase_unconfirmed to service_role;
-- The audit of the books: it compares wallets, holds, ledger and generations (C7).

-- Recomputes wallets from their entries and holds, and returns the differences. There are none unless a rule was taken
-- away.
create function private.audit_wallets(wallets uuid[])
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
set search_path = pg_catalog, pg_temp
begin atomic
  select 'balance', w.id, null::uuid, null::uuid, coalesce(e.total, 0), w.balance
  from public.wallets as w
  left join (
    select n.wallet_id, sum(n.amount) as total
    from public.credit_entries as n
    where n.wallet_id = any (wallets)
    group by n.wallet_id
  ) as e on e.wallet_id = w.id
  where w.id = any (wallets) and w.balance <> coalesce(e.total, 0)
  union all
  select 'held', w.id, null, null, coalesce(h.total, 0), w.held
  from public.wallets as w
  left join (
    select o.wallet_id, sum(o.amount) as total
    from public.credit_holds as o
    where o.wallet_id = any (wallets) and o.state = 'open'
    group by o.wallet_id
  ) as h on h.wallet_id = w.id
  where w.id = any (wallets) and w.held <> coalesce(h.total, 0)
  union all
  select 'capture', coalesce(h.wallet_id, e.wallet_id), coalesce(h.id, e.hold_id), h.generation_id, -h.amount, e.amount
  from (select * from public.credit_holds as o where o.wallet_id = any (wallets) and o.state = 'captured') as h
  full join (
    select * from public.credit_entries as n where n.wallet_id = any (wallets) and n.kind = 'capture'
  ) as e on e.hold_id = h.id
  where (h.wallet_id, -h.amount) is distinct from (e.wallet_id, e.amount)
  union all
  select 'open_hold', h.wallet_id, h.id, h.generation_id, 0, h.amount
  from public.credit_holds as h
  left join public.generations as g on g.id = h.generation_id
  where h.wallet_id = any (wallets) and h.state = 'open' and coalesce(private.is_terminal(g.state), true)
  union all
  select 'missing_hold', w.id, h.id, g.id, g.credits, 0
  from public.wallets as w
  join public.generations as g on g.person_id = w.person_id
  left join public.credit_holds as h on h.generation_id = g.id
  where w.id = any (wallets)
    and not private.is_terminal(g.state)
    and (h.state, h.amount, h.wallet_id) is distinct from ('open', g.credits, w.id)
  union all
  select 'settlement', w.id, h.id, g.id,
    case g.state when 'succeeded' then g.credits else 0 end,
    case h.state when 'captured' then h.amount else 0 end
  from public.wallets as w
  join public.generations as g on g.person_id = w.person_id
  left join public.credit_holds as h on h.generation_id = g.id
  where w.id = any (wallets)
    and private.is_terminal(g.state)
    and h.state is distinct from case g.state when 'succeeded' then 'captured' else 'released' end
    -- A late cancel may have been charged.
    and not (g.state = 'canceled' and coalesce(h.is_late_cancel and h.state = 'captured', false));
end;

-- The same for all wallets. It reads the whole ledger, so it is for tests and for repairs of the books.
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
  select * from private.audit_wallets(array(select w.id from public.wallets as w));
end;

-- What the last walk over the ledger found. The status reads it here, because no request reads a whole table.
create table private.ledger_state (
  id text not null default 'ledger',
  counted bigint not null default 0,
  differences bigint,
  checked_at timestamptz,
  constraint ledger_state_pkey primary key (id),
  constraint ledger_state_is_one check (id = 'ledger')
);

alter table private.ledger_state enable row level security;
revoke all on private.ledger_state from public, anon, authenticated, service_role;

comment on table private.ledger_state is 'How many differences the last walk over the ledger found, and when it reached the end.';
comment on column private.ledger_state.counted is 'What the current walk has found so far.';

insert into private.ledger_state default values;

-- Audits the next `batch` wallets, like the other walks (`audit.sql`).
create function backend.audit_ledger(batch integer default 2000)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  after constant uuid := private.enter_audit_by_id('ledger');
  wallets constant uuid[] := array(
    select w.id from public.wallets as w where w.id > after order by w.id limit batch
  );
begin
  update private.ledger_state as s
  set counted = s.counted + (select count(*) from private.audit_wallets(wallets));
  if wallets = '{}' then
    update private.ledger_state as s set differences = s.counted, counted = 0, checked_at = now();
  end if;
  return private.leave_audit('ledger', wallets[cardinality(wallets)]::text, '{}');
end;
$$;

comment on function backend.audit_ledger is 'Counts differences in the ledger, one batch at a time, for the status (C7).';
comment on function backend.audit_credits is 'Differences between wallets, holds, ledger and generations. None if all is well (C7).';

revoke all on function backend.audit_credits, backend.audit_ledger from public, anon, authenticated, service_role;
grant execute on function backend.audit_credits, backend.audit_ledger to service_role;
-- What a sweep has to do, so that it makes no needless calls. Each answer reads one index. The next sweep sees what
-- becomes due a moment later.

create function backend.list_due_work()
returns jsonb
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
return jsonb_build_object(
  'deletions', exists (
    select from public.deletions as d where d.verified_at is null and d.due_at <= now()
  ),
  'settling', exists (
    select
    from public.generations as g
    join private.generation_work as w on w.generation_id = g.id
    where g.state in ('reserved', 'dispatched', 'processing', 'storing')
      and (g.deadline_at < now() or (g.prediction_id is not null and w.checked_at < now() - interval '1 minute'))
  ),
  'dispatches', exists (
    select
    from private.generation_work as w
    join public.generations as g on g.id = w.generation_id
    where w.dispatch_at <= now() and private.is_to_be_dispatched(g, w)
  ),
  'outbox', exists (select from private.outbox as o where o.due_at <= now()),
  'expired_exports', exists (select from public.exports as e where e.state = 'ready' and e.expires_at <= now()),
  'erasures', exists (
    select
    from private.erasures as e
    where e.stage <> 'done' and e.begins_at <= now() and coalesce(e.leased_until, '-infinity') <= now()
  ),
  'removals', exists (
    select from public.replicate_removals as r where r.removed_at is null and r.due_at <= now()
  ),
  'inactivity', private.is_walk_due('people'),
  'unconfirmed', private.is_walk_due('unconfirmed'),
  'emails', exists (select from private.emails as e where e.sent_at is null and e.due_at <= now()),
  'requests', exists (
    select from public.privacy_requests as r where r.closed_at is null and r.due_at < now() + interval '1 day'
  ),
  'rows', private.has_expired_rows(),
  'exports', exists (
    select
    from private.export_work as w
    where w.due_at <= now() and (w.lease is null or w.leased_until <= now())
  ),
  'walks', jsonb_build_object(
    -- Limits for photos are in hours, so each sweep walks the photos, if there are any.
    'audit_inputs', exists (select from storage.objects as o where o.bucket_id = 'inputs'),
    'audit_artworks', private.is_walk_due('artworks'),
    'audit_exports', private.is_walk_due('exports'),
    'audit_generations', private.is_walk_due('generations'),
    'audit_ledger', private.is_walk_due('ledger')
  )
);

comment on function backend.list_due_work is 'Which steps of a sweep have something to do.';

revoke all on function backend.list_due_work from public, anon, authenticated, service_role;
grant execute on function backend.list_due_work to service_role;
-- What the operator and anyone else can see of the running system: in numbers only, which do not say whose they are.

-- Whole seconds since a time, at least 0. Null for null.
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
return extract(epoch from private.retention(rule))::bigint;

-- Whole seconds until a time. Negative once it is past.
create function private.seconds_until(at timestamptz)
returns bigint
language sql
stable
set search_path = pg_catalog, pg_temp
return floor(extract(epoch from at - now()))::bigint;

-- A deletion takes seconds. If it is still pending after 15 minutes, it is overdue.
create function private.is_overdue(deletion public.deletions)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
return deletion.verified_at is null and deletion.ordered_at < now() - interval '15 minutes';

-- For the operator. Each count is of rows that an index finds, never of a whole table.
create function backend.read_status()
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
        array_position(array['reserved', 'dispatched', 'processing', 'storing'], g.state) as place
      from public.generations as g
      where g.state in ('reserved', 'dispatched', 'processing', 'storing')
      group by g.state
    ) as s
  ),
  'ended', (
    select coalesce(jsonb_agg(to_jsonb(s) order by s.outcome), '[]')
    from (
      select o.outcome,
        count(*) filter (where o.at > now() - interval '1 hour') as last_hour,
        count(*) as last_day
      from private.outcomes as o
      where o.subject = 'generation' and o.at > now() - interval '1 day'
      group by o.outcome
    ) as s
  ),
  'dispatches', (
    select jsonb_build_object('due', count(*), 'oldest_seconds', private.age(min(w.dispatch_at)))
    from private.generation_work as w
    join public.generations as g on g.id = w.generation_id
    where w.dispatch_at <= now() and private.is_to_be_dispatched(g, w)
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
      from private.outcomes as o
      where o.subject = 'artwork' and o.at > now() - interval '1 day'
    )
  ),
  'replicate', (
    select jsonb_build_object(
      'kept', count(*) filter (where r.due_at <= now() or r.attempts > 0),
      'overdue', count(*) filter (where r.attempts >= 3))
    from public.replicate_removals as r
    where r.removed_at is null
  ),
  'account', (
    select jsonb_build_object('refused_status', max(r.status), 'refused_seconds', private.age(min(r.refused_at)))
    from private.account_refusals as r
  ),
  'sweep', (
    select jsonb_build_object(
      'last_seconds', private.age(max(h.at)), 'intake_open', private.is_intake_open())
    from private.heartbeats as h
    where h.id = 'cleanup'
  ),
  'requests', (
    select jsonb_build_object(
      'open', count(*),
      'overdue', count(*) filter (where r.due_at <= now()),
      'next_breaches', coalesce((
        select jsonb_agg(jsonb_build_object(
          'id', n.id, 'kind', n.kind, 'channel', n.channel, 'seconds_left', private.seconds_until(n.due_at)
        ) order by n.due_at)
        from (
          select * from public.privacy_requests as b where b.closed_at is null order by b.due_at limit 5
        ) as n
      ), '[]'))
    from public.privacy_requests as r
    where r.closed_at is null
  ),
  'exports', (
    select jsonb_build_object(
      'building', count(*),
      'failed', (
        select count(*)
        from private.outcomes as o
        where o.subject = 'export' and o.at > now() - interval '1 day'
      ),
      'oldest_seconds', private.age(min(e.ordered_at)))
    from public.exports as e
    where e.state = 'building'
  ),
  'erasures', (
    select jsonb_build_object(
      'open', count(*),
      'stuck', count(*) filter (where r.begins_at < now() - interval '1 hour'),
      'oldest_seconds', private.age(min(r.begins_at)))
    from private.erasures as r
    where r.stage <> 'done'
  ),
  'emails', (
    select jsonb_build_object('waiting', count(*), 'most_attempts', coalesce(max(e.attempts), 0))
    from private.emails as e
    where e.sent_at is null and e.due_at < 'infinity'
  ),
  'ledger', (
    select jsonb_build_object('differences', s.differences, 'checked_seconds', private.age(s.checked_at))
    from private.ledger_state as s
  )
);

-- For anyone (X5). Ages and times are in whole seconds.
create function backend.read_privacy_status()
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
      'last_sweep_seconds', private.age(max(h.at)),
      'allowed_silence_seconds', private.seconds('sweep_silence'),
      'intake_open', private.is_intake_open())
    from private.heartbeats as h
    where h.id = 'cleanup'
  ),
  'requests', (
    select jsonb_build_object(
      'open', count(*),
      'shortest_seconds_left', private.seconds_until(min(r.due_at)),
      'limit_seconds', private.seconds('requests_answered'))
    from public.privacy_requests as r
    where r.closed_at is null
  )
);

comment on function backend.read_privacy_status is 'How the promises of the policy are kept at this moment. Nothing in it is personal (X5).';
comment on function backend.read_status is 'Work in progress, what is due, what failed, and whether the books balance.';

revoke all on function backend.read_status, backend.read_privacy_status from public, anon, authenticated, service_role;
grant execute on function backend.read_status, backend.read_privacy_status to service_role;
