-- How long a statement may work: the functions wait a little longer, and then ask again.
begin;
set local search_path = public, tap;
select plan(3);

select is(
  (
    select string_agg(r.rolname || ' ' || setting, ', ' order by r.rolname)
    from pg_db_role_setting as s
    join pg_roles as r on r.oid = s.setrole
    cross join unnest(s.setconfig) as setting
    where r.rolname in ('authenticated', 'service_role') and setting like 'statement_timeout=%'
  ),
  'authenticated statement_timeout=3s, service_role statement_timeout=8s',
  'a statement of a person ends after three seconds, and one of the service after eight'
);

-- `call_slow` in functions/opusflair/src/database.rs is for these.
select is_empty(
  $$select p.proname
    from pg_proc as p
    cross join unnest(p.proconfig) as setting
    where p.pronamespace in ('public'::regnamespace, 'backend'::regnamespace, 'private'::regnamespace)
      and setting like 'statement_timeout=%'
      and (p.pronamespace <> 'backend'::regnamespace or p.proname not in ('forget_in_auth', 'plan_export'))$$,
  'no other function has a limit of its own than those that are called with more patience'
);

select is_empty(
  $$select p.proname
    from pg_proc as p
    cross join unnest(p.proconfig) as setting
    where p.pronamespace = 'backend'::regnamespace
      and setting like 'statement_timeout=%'
      and split_part(setting, '=', 2)::interval > interval '1 minute'$$,
  'and none works longer than a minute'
);

select * from finish();
rollback;
