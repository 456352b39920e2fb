-- Time limits of statements. The functions wait a little longer than these limits, and then retry.
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
  'a user''s statement ends after 3 seconds, and one of the service after 8'
);

-- The functions call these two with `call_slow` (functions/opusflair/src/database.rs), which waits longer.
select is_empty(
  $$select p.proname
    from pg_proc as p
    cross join unnest(p.proconfig) as setting
    where p.pronamespace in ('public'::regnamespace, 'backend'::regnamespace, 'private'::regnamespace)
      and setting like 'statement_timeout=%'
      and (p.pronamespace <> 'backend'::regnamespace or p.proname not in ('forget_in_auth', 'plan_export'))$$,
  'only functions that are called with call_slow have their own time limit'
);

select is_empty(
  $$select p.proname
    from pg_proc as p
    cross join unnest(p.proconfig) as setting
    where p.pronamespace = 'backend'::regnamespace
      and setting like 'statement_timeout=%'
      and split_part(setting, '=', 2)::interval > interval '1 minute'$$,
  'no time limit is longer than a minute'
);

select * from finish();
rollback;
