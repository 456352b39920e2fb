-- Three schemas. `public` is what clients see, under row-level security. `backend` is the vocabulary
-- of the functions, for service_role alone. `private` is reached by no API.

create schema backend;
create schema private;

comment on schema backend is 'What the functions may ask of the database: one verb, one transaction.';
comment on schema private is 'Tables and helpers that no API exposes.';

grant usage on schema backend to service_role;
-- Policies and the thin callers in `public` reach their helpers here; the API does not expose it.
grant usage on schema private to authenticated, service_role;

-- Projects from before mid-2026 and self-hosted ones have default privileges by which all that `postgres` makes in
-- `public` is granted to the API's roles. So each table, view and function below revokes everything first, and then
-- grants what is meant. `supabase/tests/privileges.sql` compares the result with a list.

-- Functions are executable by everyone unless this is said without `in schema`.
alter default privileges revoke execute on functions from public;

-- For keyed hashes. Hosted projects have it already.
create extension if not exists pgcrypto with schema extensions;

-- A person's statement reads a few rows by an index. Three seconds bound what a hostile filter can burn, and how
-- long it can hold a row. PostgREST reads the settings of roles again when it is told to.
alter role authenticated set statement_timeout = '3s';

-- The functions wait ten seconds for an answer and then ask again (`CALL_TIME` in `functions/opusflair/src/database.rs`),
-- so their statements must end before that. Hosted sets the same limit for `authenticator`, but a project may have
-- raised it. A verb that needs longer sets its own limit, a minute at most, and the functions wait longer for it.
alter role service_role set statement_timeout = '8s';

-- PostgreSQL writes what it refuses into its log, with the text that was sent and the whole row that failed (R5). A
-- person can make it refuse anything, so the Data API's errors stay out of the log; the functions log their codes. Not
-- every project lets `postgres` set this: without it the check-list of the runbook says so.
do $$
begin
  alter role authenticator set log_min_messages = 'fatal';
exception
  when insufficient_privilege then
    raise warning 'log_min_messages of authenticator could not be set: what people send may reach the database''s log';
end;
$$;
notify pgrst, 'reload config';

-- Each function has `search_path = pg_catalog, pg_temp`. With an empty path a session's own temporary
-- schema is searched for types before all others, and whoever may make a domain `text` there would have
-- its check run with the rights of the function.

-- The member of a refusal that says when another try makes sense, in seconds.
create function private.retry_at(moment timestamptz)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
return jsonb_build_object('retry_after', greatest(1, ceil(extract(epoch from moment - now())))::integer);

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
