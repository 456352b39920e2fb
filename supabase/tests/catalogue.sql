begin;
set local search_path = public, tap;
select plan(15);

select is_empty(
  $$select format('%I.%I', n.nspname, c.relname) from pg_class as c
    join pg_namespace as n on n.oid = c.relnamespace
    where n.nspname in ('public', 'backend', 'private') and c.relkind in ('r', 'p') and not c.relrowsecurity$$,
  'every table has row-level security'
);

select is_empty(
  $$select format('%I.%I', n.nspname, c.relname) from pg_class as c
    join pg_namespace as n on n.oid = c.relnamespace
    where n.nspname = 'public' and c.relkind in ('r', 'p', 'v')
      and not has_table_privilege('service_role', c.oid, 'select')$$,
  'every exposed table is granted to service_role, because hosted projects no longer do this on their own'
);

select is_empty(
  $$select format('%I.%I', n.nspname, c.relname) from pg_class as c
    join pg_namespace as n on n.oid = c.relnamespace
    cross join unnest(array['anon', 'authenticated', 'service_role']) as role
    where n.nspname in ('public', 'private') and c.relkind in ('r', 'p')
      and (has_table_privilege(role, c.oid, 'insert, delete, truncate, references, trigger')
        or (n.nspname = 'private' and has_table_privilege(role, c.oid, 'select'))
        or has_table_privilege(role, c.oid, 'update'))$$,
  'no role of the API may write to a whole table or read a private one'
);

select set_eq(
  $$select c.relname || '.' || a.attname from pg_attribute as a
    join pg_class as c on c.oid = a.attrelid
    where c.relnamespace = 'public'::regnamespace and c.relkind = 'r' and a.attnum > 0
      and has_column_privilege('authenticated', c.oid, a.attnum, 'update')$$,
  array['profiles.username', 'profiles.default_style', 'profiles.default_settings', 'generations.favourite'],
  'users can change only their preferences and favourites'
);

select set_eq(
  $$select c.relname || '.' || a.attname from pg_attribute as a
    join pg_class as c on c.oid = a.attrelid
    where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v') and a.attnum > 0
      and has_column_privilege('authenticated', c.oid, a.attnum, 'insert')$$,
  array[
    'privacy_choices.person_id', 'privacy_choices.purpose', 'privacy_choices.allowed',
    'policy_consents.person_id', 'policy_consents.version',
    'privacy_requests.person_id', 'privacy_requests.kind', 'privacy_requests.message',
    'usage_events.person_id', 'usage_events.feature', 'usage_events.browser', 'usage_events.browser_version',
    'usage_events.viewport_width', 'usage_events.viewport_height', 'usage_events.pixel_ratio',
    'usage_events.image_formats'
  ],
  'users can add choices, consents, requests and usage events, but cannot set the times'
);

select is_empty(
  $$select format('%I.%I: %s', schemaname, tablename, policyname) from pg_policies
    cross join unnest(array[qual, with_check]) as condition
    where condition not in ('true', 'available', '(published_at <= now())')
      and (condition !~ 'private\.person\(\)' or condition ~ 'auth\.\w+\(')$$,
  'every policy checks that the account of the token is open (G3)'
);

select is_empty(
  $$select p.oid::regprocedure::text from pg_proc as p
    where p.pronamespace in ('public'::regnamespace, 'backend'::regnamespace, 'private'::regnamespace)
      and not coalesce(p.proconfig @> array['search_path=pg_catalog, pg_temp'], false)$$,
  'no function resolves names in schemas of its caller'
);

select is_empty(
  $$select p.oid::regprocedure::text from pg_proc as p
    where p.pronamespace = 'public'::regnamespace and p.prosecdef$$,
  'no function that the API exposes to users runs with the rights of its owner'
);

select is_empty(
  $$select p.oid::regprocedure::text from pg_proc as p
    cross join unnest(array['anon', 'authenticated']) as role
    where (p.pronamespace = 'backend'::regnamespace and has_function_privilege(role, p.oid, 'execute'))
      or (role = 'anon' and p.pronamespace in ('public'::regnamespace, 'private'::regnamespace)
        and has_function_privilege(role, p.oid, 'execute'))$$,
  'users cannot call the backend, and no one can call anything without signing in'
);

select is_empty(
  $$select c.conrelid::regclass || ': ' || c.conname from pg_constraint as c
    where c.contype = 'f' and c.connamespace in ('public'::regnamespace, 'private'::regnamespace)
      and not exists (
        select from pg_index as i
        where i.indrelid = c.conrelid and i.indisvalid
          and (i.indkey::smallint[])[0:cardinality(c.conkey) - 1] @> c.conkey
      )$$,
  'every foreign key has an index'
);

select is_empty(
  $$select c.conrelid::regclass || ': ' || c.conname from pg_constraint as c
    where c.connamespace in ('public'::regnamespace, 'private'::regnamespace)
      and c.conrelid <> 0 and c.contype in ('c', 'f', 'u')
      and c.conname ~ '(_check[0-9]*|_fkey[0-9]*|_key[0-9]*)$'$$,
  'every constraint has a chosen name'
);

select is_empty(
  $$select r.id from private.retention_rules as r
    where r.rows_of is not null and not exists (
      select from pg_index as i
      join pg_attribute as a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
      where i.indrelid = r.rows_of::regclass and i.indisvalid and a.attname = r.since
    )$$,
  'an index finds the rows that a retention rule deletes'
);

select set_eq(
  'select id from storage.buckets', array['inputs', 'artworks', 'exports'],
  'every bucket is one that the audit walks'
);

select is_empty(
  $$select b.id from storage.buckets as b
    where not exists (select from private.audit_places as p where p.id = b.id)
      or pg_get_constraintdef((select oid from pg_constraint where conname = 'deletions_bucket_known'))
        !~ quote_literal(b.id)$$,
  'for every bucket, the audit stores its position and deletions can be ordered'
);

select is_empty(
  $$select d.id from public.deletion_reasons as d where d.clause !~ '^[A-Z][0-9]+$'$$,
  'every deletion reason names its clause'
);

select * from finish();
rollback;
