-- As much of a hosted project as the migrations refer to.

create schema auth;
create schema storage;

create table auth.users (
  id uuid primary key,
  email text,
  last_sign_in_at timestamptz
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
  created_at timestamptz default now(),
  metadata jsonb
);

alter table storage.objects enable row level security;

create function auth.uid() returns uuid language sql stable as 'select null::uuid';
create function storage.foldername(name text) returns text[] language sql immutable as 'select null::text[]';
