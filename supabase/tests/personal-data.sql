-- X4: if export, erasure or retention misses a table or bucket, this test fails and says what to declare.
begin;
set local search_path = public, tap;
select plan(19);

-- The tables that foreign keys lead to from `origin`, in any number of steps: only along cascades, or along all.
create function pg_temp.reached_from(origin regclass, only_cascades boolean)
returns setof oid
language sql
as $$
  with recursive reached (relation) as (
    select origin::oid
    union
    select f.conrelid from pg_constraint as f
    join reached as r on r.relation = f.confrelid
    where f.contype = 'f' and (f.confdeltype = 'c' or not only_cascades)
  )
  select relation from reached
$$;

-- Tables that refer to people by a foreign key or a column name, but are not declared.
create temporary view undeclared_tables as
with declared as (
  select to_regclass(d.relation)::oid as relation,
    regexp_replace(d.relation, '^\w+\.(\w+?)s?$', '\1_id') as reference
  from private.personal_data as d
),
suspect as (
  select relation, 'by a foreign key' as by from pg_temp.reached_from('auth.users', false) as relation
  union all
  -- In Auth's own tables, look for a column user_id, or for the JSON column payload.
  select a.attrelid, 'by its column ' || a.attname from pg_attribute as a
  join pg_class as c on c.oid = a.attrelid and c.relnamespace = 'auth'::regnamespace
  where a.attnum > 0 and not a.attisdropped and a.attname in ('user_id', 'payload')
  union all
  select a.attrelid, 'by its column ' || a.attname from pg_attribute as a
  where a.attnum > 0 and not a.attisdropped
    and (
      a.attname ~ '(^|_)(person|people|user|owner|profile|customer|member|account|author)(_?id)?$'
      or a.attname ~ '(^|_)(e?mail|username|sender|recipient|address|phone|ip|user_agent)(_|$)'
      or a.attname in (select reference from declared)
    )
)
select format(
  '%I.%I refers to people (%s): declare it in sql/personal_data.sql: subject, export_as, erasure, retention',
  n.nspname, c.relname, string_agg(s.by, ', ' order by s.by)) as sentence
from suspect as s
join pg_class as c on c.oid = s.relation and c.relkind in ('r', 'p', 'm', 'f')
join pg_namespace as n on n.oid = c.relnamespace and n.nspname in ('public', 'private', 'backend', 'auth')
where s.relation not in (select relation from declared where relation is not null)
group by n.nspname, c.relname;

create temporary view undeclared_buckets as
select b.id || ' is a bucket: declare it in sql/personal_data.sql: export_as, retention' as sentence
from storage.buckets as b
where b.id not in (select bucket from private.personal_buckets);

-- What is wrong with the subject of a declaration, or null if it is correct.
create function pg_temp.fault_of(declared private.personal_data)
returns text
language plpgsql
as $$
declare
  found_rows bigint;
  named_rows bigint := 0;
begin
  execute format('select count(*) from %s as t where %s', declared.relation::regclass, declared.subject)
  into found_rows using gen_random_uuid();
  if declared.names is not null then
    execute format('select count(*) from %s as t where %s', declared.relation::regclass, declared.names)
    into named_rows using 'nobody@example.com'::text;
  end if;
  return case
    when found_rows > 0 or declared.subject !~ '\$1' then 'does not ask whose its rows are'
    when named_rows > 0 or declared.names !~ '\$1' then 'does not ask whom its rows name'
  end;
exception
  when others then
    return sqlerrm;
end;
$$;

-- These rows exist so that a subject that is too wide finds something.
insert into exports (person_id, path) values ('a11ce000-0000-4000-8000-000000000001', 'alice.zip');
insert into privacy_requests (channel, kind, person_id, sender) values ('mail', 'other', null, 'somebody@example.com');

select is_empty(
  'select sentence from undeclared_tables', 'every table that refers to people is declared (X4)'
);
select is_empty('select sentence from undeclared_buckets', 'every bucket is declared (X4)');
select is_empty(
  $$select d.relation || ' does not exist: take it out of sql/personal_data.sql'
    from private.personal_data as d
    where to_regclass(d.relation) is null$$,
  'every declared table exists'
);
select is_empty(
  $$select b.bucket || ' does not exist: take it out of sql/personal_data.sql'
    from private.personal_buckets as b
    where b.bucket not in (select id from storage.buckets)$$,
  'every declared bucket exists'
);
select is_empty(
  $$select format('the subject of %s: %s', d.relation, pg_temp.fault_of(d))
    from private.personal_data as d
    where pg_temp.fault_of(d) is not null$$,
  'every subject identifies the user of a row'
);
select is_empty(
  $$select format('%s has no column %s', d.relation, name) from private.personal_data as d
    cross join unnest(d.columns || d.hidden) as name
    where not exists (
      select from pg_attribute as a
      where a.attrelid = to_regclass(d.relation) and a.attname = name and a.attnum > 0 and not a.attisdropped
    )$$,
  'every column that is named as exported or hidden exists'
);
select is_empty(
  $$select d.relation || ': its export goes on after the key of a row, so name columns in `key` that are unique and never null'
    from private.personal_data as d
    where d.export_as is not null
      and not exists (
        select from pg_index as i
        where i.indrelid = to_regclass(d.relation) and i.indisprimary
          and (d.key is null or not exists (
            select from pg_attribute as a
            where a.attrelid = i.indrelid and a.attnum = any (i.indkey::smallint[]) and a.attname <> all (d.key)
          ))
          and not exists (
            select from unnest(d.key) as name
            where not exists (
              select from pg_attribute as a where a.attrelid = i.indrelid and a.attname = name and a.attnotnull
            )
          )
      )$$,
  'every table that is exported has a key that is unique and never null (G5)'
);

select is_empty(
  $$select format('%s is kept by %s, which is neither a rule of private.retention_rules nor `account`',
      name, retention)
    from (
      select relation, retention from private.personal_data
      union all
      select bucket, retention from private.personal_buckets
    ) as d (name, retention)
    where retention <> 'account' and retention not in (select id from private.retention_rules)$$,
  'every declaration has a retention'
);
select is_empty(
  $$select format('%s is kept by %s, which deletes from %s alone', d.relation, r.id, r.rows_of)
    from private.personal_data as d
    join private.retention_rules as r on r.id = d.retention
    where r.rows_of is not null
      and to_regclass(d.relation)::oid not in (select pg_temp.reached_from(r.rows_of::regclass, true))$$,
  'every retention rule that deletes rows deletes those of the declared table'
);
select is_empty(
  $$select format('%s goes by %s, and is declared to be kept by %s', d.relation, r.id, d.retention)
    from private.personal_data as d
    join private.retention_rules as r on r.rows_of = d.relation
    where d.retention not in (select o.id from private.retention_rules as o where o.rows_of = d.relation)$$,
  'no table has another retention rule than its declared one'
);

select is_empty(
  $$select d.relation || ' does not go with its account: no cascade leads there from auth.users'
    from private.personal_data as d
    where d.erasure = 'with_account'
      and to_regclass(d.relation)::oid not in (select pg_temp.reached_from('auth.users', true))$$,
  'tables that are declared to be deleted with the account are deleted with it'
);
select is_empty(
  $$select d.relation || ' would not stay: a cascade leads there from auth.users'
    from private.personal_data as d
    where d.erasure = 'forget'
      and to_regclass(d.relation)::oid in (select pg_temp.reached_from('auth.users', true))$$,
  'tables that are declared to stay without a name stay'
);

-- A check that finds nothing may be broken. So undeclared tables and buckets are added, and the checks must find them.
create table private.notes (person_id uuid);
create table private.pages (generation uuid references generations);
create table private.lines (page text, sent_to_address text);
create table public.words (generation_id uuid);
insert into storage.buckets (id, name) values ('sketches', 'sketches');
insert into private.personal_data (relation, subject, erasure, retention, why)
values ('private.dust', 't.id = $1', 'delete', 'account', 'a test');

select set_eq(
  'select sentence from undeclared_tables',
  $$select relation || ' refers to people (' || by
      || '): declare it in sql/personal_data.sql: subject, export_as, erasure, retention'
    from (values
      ('private.lines', 'by its column sent_to_address'),
      ('private.notes', 'by its column person_id'),
      ('private.pages', 'by a foreign key'),
      ('public.words', 'by its column generation_id')
    ) as expected (relation, by)$$,
  'a new table that refers to people is found, however it does'
);
select set_eq(
  'select sentence from undeclared_buckets',
  array['sketches is a bucket: declare it in sql/personal_data.sql: export_as, retention'],
  'a new bucket that is not declared is found'
);
select is(
  pg_temp.fault_of(d), given.fault,
  format('the subject `%s` of %s is reported as wrong', coalesce(d.names, d.subject), d.relation)
)
from (values
  ('public.exports', 'true', null, 'does not ask whose its rows are'),
  ('public.exports', 't.owner_id = $1', null, 'column t.owner_id does not exist'),
  ('public.wallets', 't.balance = 7', null, 'does not ask whose its rows are'),
  ('private.dust', 't.id = $1', null, 'relation "private.dust" does not exist'),
  ('public.privacy_requests', 't.person_id = $1', 't.person_id is null', 'does not ask whom its rows name')
) as given (relation, subject, names, fault)
cross join lateral jsonb_populate_record(
  null::private.personal_data,
  jsonb_build_object('relation', relation, 'subject', subject, 'names', names)
) as d;

select * from finish();
rollback;
