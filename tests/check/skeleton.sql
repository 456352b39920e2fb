-- As much of a hosted project as the migrations refer to.

create schema auth;
create schema storage;
create schema extensions;

create table auth.users (
  id uuid primary key,
  email text,
  email_confirmed_at timestamptz,
  phone text,
  phone_confirmed_at timestamptz,
  raw_user_meta_data jsonb,
  last_sign_in_at timestamptz,
  banned_until timestamptz,
  is_anonymous boolean,
  created_at timestamptz
);

create table auth.sessions (
  id uuid primary key,
  user_id uuid,
  created_at timestamptz,
  updated_at timestamptz
);

create table auth.refresh_tokens (
  session_id uuid,
  created_at timestamptz
);

create table storage.buckets (
  id text primary key,
  name text not null,
  public boolean,
  file_size_limit bigint,
  allowed_mime_types text[]
);

create table storage.objects (
  id uuid primary key default gen_random_uuid(),
  bucket_id text references storage.buckets (id),
  name text,
  owner_id text,
  version text,
  created_at timestamptz default now(),
  metadata jsonb
);

alter table storage.objects enable row level security;

create function auth.jwt() returns jsonb language sql stable as 'select null::jsonb';
create function auth.uid() returns uuid language sql stable as 'select null::uuid';
create function storage.foldername(name text) returns text[] language sql immutable as 'select null::text[]';
create function storage.operation() returns text language sql stable as 'select null::text';
