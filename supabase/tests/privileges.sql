-- All privileges of the API roles. They must be the same on every project, even if default privileges grant everything
-- that `postgres` makes in `public`.
begin;
set local search_path = public, tap;
select plan(4);

create temporary table granted as
with roles (role) as (values ('anon'), ('authenticated'), ('service_role')),
relations as (
  select c.oid, n.nspname || '.' || c.relname as name, c.relkind
  from pg_class as c
  join pg_namespace as n on n.oid = c.relnamespace
  where n.nspname in ('public', 'backend', 'private') and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
)
select r.role, p.privilege, x.name as object
from relations as x
cross join roles as r
cross join (values ('select'), ('insert'), ('update'), ('delete'), ('truncate'), ('references'), ('trigger')) as p (privilege)
where x.relkind <> 'S' and has_table_privilege(r.role, x.oid, p.privilege)
union all
select r.role, p.privilege || ' columns', x.name
from relations as x
cross join roles as r
cross join (values ('insert'), ('update'), ('references')) as p (privilege)
where x.relkind <> 'S' and has_any_column_privilege(r.role, x.oid, p.privilege)
union all
select r.role, p.privilege, x.name
from relations as x
cross join roles as r
cross join (values ('usage'), ('select'), ('update')) as p (privilege)
where x.relkind = 'S' and has_sequence_privilege(r.role, x.oid, p.privilege)
union all
select r.role, 'execute', f.oid::regprocedure::text
from pg_proc as f
cross join roles as r
where f.pronamespace in ('public'::regnamespace, 'backend'::regnamespace, 'private'::regnamespace)
  and has_function_privilege(r.role, f.oid, 'execute');

select set_eq(
  $$select privilege || ' ' || object from granted where role = 'anon'$$,
  array[
    'select public.models', 'select public.styles', 'select public.purposes', 'select public.policy_versions',
    'select public.failure_reasons', 'select public.deletion_reasons'
  ],
  'callers who are not signed in can read the catalogue and the meaning of reasons, and nothing else'
);

select set_eq(
  $$select privilege || ' ' || object from granted where role = 'authenticated' and privilege <> 'execute'$$,
  $$select 'select public.' || relname from pg_class
    where relnamespace = 'public'::regnamespace and relkind in ('r', 'v')
    union all
    values ('insert columns public.privacy_choices'), ('insert columns public.policy_consents'),
      ('insert columns public.privacy_requests'), ('insert columns public.usage_events'),
      ('update columns public.profiles'), ('update columns public.generations')$$,
  'users can read what row-level security shows them, and write a few columns'
);

select set_eq(
  $$select regexp_replace(object, '\(.*', '') from granted where role = 'authenticated' and privilege = 'execute'$$,
  array[
    'begin_generation', 'cancel_generation', 'delete_generation', 'confirm_request', 'accept_proposal', 'erase_account',
    'request_export', 'private.accept_proposal',
    'policy_to_agree_to', 'private.begin_generation', 'private.cancel_generation', 'private.delete_generation',
    'read_generation', 'private.read_generation',
    'private.confirm_own_request', 'private.erase_account', 'private.request_export', 'private.person',
    'private.is_intake_open', 'private.is_account_accepted', 'private.is_upload_name', 'private.is_within_bucket_limits', 'private.request_kinds'
  ],
  'users can call their verbs, and what policies call'
);

select set_eq(
  $$select privilege || ' ' || regexp_replace(object, '\(.*', '') from granted where role = 'service_role'$$,
  $$select 'select public.' || relname from pg_class
    where relnamespace = 'public'::regnamespace and relkind in ('r', 'v')
    union all
    select 'select backend.' || relname from pg_class where relnamespace = 'backend'::regnamespace and relkind = 'v'
    union all
    select 'execute backend.' || proname from pg_proc where pronamespace = 'backend'::regnamespace
    union all
    values ('select private.refusals'), ('execute private.allows'), ('execute private.person'),
      ('execute private.request_kinds')$$,
  'the service reads, and calls the verbs of the backend; it writes to no table'
);

select * from finish();
rollback;
