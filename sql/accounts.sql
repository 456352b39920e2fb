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
