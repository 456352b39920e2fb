-- After Auth and Storage have made their tables: whose they are, and what hosted lets others do.

do $$
declare
  owned record;
begin
  for owned in
    select c.oid::regclass as name, n.nspname as schema
    from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
    where n.nspname in ('auth', 'storage', 'supabase_migrations') and c.relkind in ('r', 'p')
  loop
    execute format(
      'alter table %s owner to %I', owned.name,
      case owned.schema when 'supabase_migrations' then 'postgres' else format('supabase_%s_admin', owned.schema) end
    );
  end loop;
end;
$$;

alter schema supabase_migrations owner to postgres;
grant usage on schema auth, storage to anon, authenticated, service_role, postgres;
grant select, insert, update, delete, references, trigger on all tables in schema auth to postgres;
grant all on all tables in schema storage to anon, authenticated, service_role, postgres;
-- Storage's own policies say what people may do; hosted keeps the rest of its tables to itself.
alter table storage.objects enable row level security;
alter table storage.buckets enable row level security;

-- Hosted lets `postgres` make policies on Storage's tables by an extension of its own. Membership is the
-- nearest thing that PostgreSQL has; a test sees to it that migrations use it for nothing else.
grant supabase_storage_admin to postgres;

-- Hosted refuses to delete objects behind Storage's back: the bytes would stay.
create or replace function storage.protect_delete()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  if current_user <> 'supabase_admin' and coalesce(current_setting('storage.operation', true), '') = ''
    and coalesce(current_setting('storage.allow_delete_query', true), '') <> 'true'
  then
    raise exception 'Direct deletion from storage tables is not allowed. Use the Storage API instead.'
      using errcode = '42501', hint = 'This prevents accidental data loss from orphaned objects.';
  end if;
  return null;
end;
$$;

create or replace trigger protect_objects_delete
before delete on storage.objects
for each statement
execute function storage.protect_delete();

create or replace trigger protect_buckets_delete
before delete on storage.buckets
for each statement
execute function storage.protect_delete();

-- Hosted reads the claims as PostgREST sets them today, and as it did before.
create or replace function auth.uid()
returns uuid
language sql
stable
as $$
  select coalesce(
    nullif(current_setting('request.jwt.claim.sub', true), ''),
    nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'
  )::uuid
$$;

create or replace function auth.role()
returns text
language sql
stable
as $$
  select coalesce(
    nullif(current_setting('request.jwt.claim.role', true), ''),
    nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role'
  )
$$;
