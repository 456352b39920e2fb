-- Roles and schemas as a hosted project has them. `postgres` is who migrations run as: not a superuser.

create role anon nologin noinherit;
create role authenticated nologin noinherit;
create role service_role nologin noinherit bypassrls;
create role authenticator nologin noinherit;
create role supabase_auth_admin nologin noinherit createrole;
create role supabase_storage_admin nologin noinherit createrole;
create role postgres login createdb createrole replication bypassrls;
grant anon, authenticated, service_role to authenticator;
grant anon, authenticated, service_role to postgres with admin option;

-- They belong to the superuser, so that owning a table in them gives no right to make another.
create schema auth;
create schema storage;
create schema extensions authorization postgres;
grant usage on schema extensions to anon, authenticated, service_role;
create extension pgcrypto schema extensions;

alter database postgres owner to postgres;
grant usage on schema public to postgres, anon, authenticated, service_role;

-- As PostgREST sets them; the advisors look at the first.
alter database postgres set pgrst.db_schemas = 'public,backend';
alter database postgres set search_path = '"$user"', public, extensions;
alter role anon set statement_timeout = '3s';
alter role authenticated set statement_timeout = '8s';
alter role authenticator set statement_timeout = '8s';
alter role authenticator set lock_timeout = '8s';

-- Hosted lets `postgres` change these settings of a role, and no others that take a superuser. They hold for
-- connections of the Data API if `authenticator` has them. Storage and Auth come as roles of their own, whose
-- settings cannot be changed.
grant authenticator to postgres with admin true, inherit false, set false;
grant set on parameter log_duration, log_lock_waits, log_min_duration_statement, log_min_error_statement,
  log_min_messages, log_parameter_max_length, log_statement, log_temp_files to postgres;

-- Whoever changes the schema need not tell the Data API.
create function extensions.pgrst_ddl_watch()
returns event_trigger
language plpgsql
set search_path = ''
as $$
begin
  notify pgrst, 'reload schema';
end;
$$;

create event trigger pgrst_ddl_watch on ddl_command_end execute function extensions.pgrst_ddl_watch();
create event trigger pgrst_drop_watch on sql_drop execute function extensions.pgrst_ddl_watch();
