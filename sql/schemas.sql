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
