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
