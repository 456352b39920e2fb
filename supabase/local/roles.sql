-- Roles and schemas as a hosted project has them. `postgres` is who migrations run as: not a superuser.

create role anon nologin noinherit;
create role authenticated nologin noinherit;
create role service_role nologin noinherit bypassrls;
create role supabase_auth_admin nologin noinherit;
create role supabase_storage_admin nologin noinherit;
create role postgres login createdb createrole bypassrls;
grant anon, authenticated, service_role to postgres with admin option;

create schema auth authorization supabase_auth_admin;
create schema storage authorization supabase_storage_admin;
create schema extensions authorization postgres;
grant usage on schema extensions to anon, authenticated, service_role;
create extension pgcrypto schema extensions;

alter database postgres owner to postgres;
alter schema public owner to postgres;
revoke all on schema public from public;
grant usage on schema public to anon, authenticated, service_role;

-- As PostgREST sets them; the advisors look at the first.
alter database postgres set pgrst.db_schemas = 'public,backend';
alter database postgres set search_path = '"$user"', public, extensions;
alter role anon set statement_timeout = '3s';
alter role authenticated set statement_timeout = '8s';
