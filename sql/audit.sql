-- Both sides of Storage: objects that nothing accounts for, and rows whose object is gone. Each is walked in
-- the order of its names, a bounded stretch at a time, from where the last one ended: any number is looked
-- at in any number of passes, and two passes at once share the walk. Each verb answers {done, closed}:
-- whether it has come to the end, and how many it closed, by what they were.

create table private.audit_places (
  id text not null,
  after text not null default '',
  ended_at timestamptz,
  constraint audit_places_pkey primary key (id)
);

alter table private.audit_places enable row level security;
revoke all on private.audit_places from public, anon, authenticated, service_role;

comment on table private.audit_places is 'Up to where each walk has come; empty where the next one begins anew.';
comment on column private.audit_places.ended_at is 'When it last came to the end; most walks then rest for an hour.';

insert into private.audit_places (id) values
  ('inputs'), ('artworks'), ('generations'), ('exports'), ('people'), ('unconfirmed'), ('ledger');

create function private.audit_place(walk text)
returns text
language sql
set search_path = pg_catalog, pg_temp
begin atomic
  select p.after from private.audit_places as p where p.id = walk for update;
end;

-- The same of a walk in the order of ids.
create function private.audit_id(walk text)
returns uuid
language sql
set search_path = pg_catalog, pg_temp
return coalesce(nullif(private.audit_place(walk), '')::uuid, '00000000-0000-0000-0000-000000000000');

create function private.leave_audit(walk text, last text, closed jsonb)
returns jsonb
language sql
set search_path = pg_catalog, pg_temp
begin atomic
  update private.audit_places as p
  set after = coalesce(last, ''), ended_at = case when last is null then now() else p.ended_at end
  where p.id = walk;
  select jsonb_build_object('done', last is null, 'closed', closed);
end;

-- Whether a walk is under way, or has rested for an hour.
create function private.is_walk_due(walk text)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
return exists (
  select from private.audit_places as p
  where p.id = walk and (p.after <> '' or p.ended_at is null or p.ended_at <= now() - interval '1 hour')
);

-- Orders deleted, of the next `batch` photos: what is past the soft limit, unless an open
-- generation needs it; what is past the hard limit, and then its generation fails (R1); and what an ended
-- generation left, or somebody put back (X3). By the age of the stored object itself, so that what was never
-- submitted goes too.
create function backend.audit_inputs(batch integer default 2000)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  after constant text := private.audit_place('inputs');
  soft constant timestamptz := now() - private.keep('inputs_soft_limit');
  hard constant timestamptz := now() - private.keep('inputs_hard_limit');
  grace constant timestamptz := now() - private.keep('audit_grace');
  names constant text[] := array(
    select o.name
    from storage.objects as o
    where o.bucket_id = 'inputs' and o.name > after
    order by o.name
    limit batch
  );
  -- A prepared photo is as old as its original.
  past_ceiling constant text[] := array(
    select o.name
    from storage.objects as o
    left join private.generation_work as w on w.prepared_path = o.name
    where o.bucket_id = 'inputs' and o.name = any (names) and least(o.created_at, w.input_stored_at) < hard
  );
  locked uuid[];
  counts jsonb;
begin
  if past_ceiling <> '{}' then
    locked := private.lock_generations(array(
      select g.id
      from public.generations as g
      left join private.generation_work as w on w.generation_id = g.id
      where (g.input_path = any (past_ceiling) or w.prepared_path = any (past_ceiling))
        and not private.is_terminal(g.state)
    ));
    update public.generations as g
    set state = 'failed', reason = 'expired'
    where g.id = any (locked) and not private.is_terminal(g.state);

    -- Past the ceiling there is no waiting between two attempts, nor for the lease of a worker.
    with pulled as (
      update public.deletions as d
      set due_at = now()
      from (
        select n.id from public.deletions as n
        where n.bucket = 'inputs' and n.path = any (past_ceiling) and n.verified_at is null and n.due_at > now()
        for update skip locked
      ) as late
      where d.id = late.id
      returning d.id
    )
    delete from private.deletion_leases as l using pulled where l.deletion_id = pulled.id;
  end if;

  -- Each object is looked up by itself: whatever is planned for small tables, it is right for large ones.
  with due as (
    select o.name, g.id as generation_id,
      case when o.created_at < soft then 'limit_reached' else 'orphaned' end as reason
    from storage.objects as o
    left join lateral (
      select n.id, n.state, n.finished_at
      from public.generations as n
      where n.input_path = o.name
        or n.id = (select w.generation_id from private.generation_work as w where w.prepared_path = o.name)
      limit 1
    ) as g on true
    where o.bucket_id = 'inputs' and o.name = any (names)
      and case
        when g.id is null and not private.is_upload_name(o.name) then o.created_at < grace
        when g.id is null then o.created_at < soft
        when private.is_terminal(g.state) then greatest(o.created_at, g.finished_at) < grace
        else false
      end
      and (
        select d.id
        from public.deletions as d
        where d.bucket = 'inputs' and d.path = o.name and d.verified_at is null
      ) is null
  ),
  ordered as (
    insert into public.deletions (bucket, path, reason, person_id, generation_id)
    select 'inputs', due.name, due.reason, private.owner(due.name), due.generation_id
    from due
    on conflict (bucket, path) where verified_at is null do nothing
    returning reason
  ),
  counted as (
    select o.reason, count(*) as objects from ordered as o group by o.reason
  )
  select coalesce(jsonb_object_agg(c.reason, c.objects), '{}') into counts from counted as c;
  return private.leave_audit('inputs', names[cardinality(names)], counts);
end;
$$;

-- Orders deleted, of the next `batch` artworks, what no generation has as its own and nobody is
-- storing: whoever stores one has ordered it deleted before (X3).
create function backend.audit_artworks(batch integer default 2000)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  after constant text := private.audit_place('artworks');
  names constant text[] := array(
    select o.name
    from storage.objects as o
    where o.bucket_id = 'artworks' and o.name > after
    order by o.name
    limit batch
  );
  orphaned integer;
begin
  insert into public.deletions (bucket, path, reason, person_id)
  select 'artworks', o.name, 'orphaned', private.owner(o.name)
  from storage.objects as o
  where o.bucket_id = 'artworks' and o.name = any (names)
    and o.created_at < now() - private.keep('audit_grace')
    and (select g.id from public.generations as g where g.artwork_path = o.name) is null
  on conflict (bucket, path) where verified_at is null do nothing;
  get diagnostics orphaned = row_count;
  return private.leave_audit(
    'artworks', names[cardinality(names)], jsonb_build_object('orphaned', orphaned));
end;
$$;

-- Of the next `batch` generations those whose artwork is no longer in Storage, though nobody
-- here has deleted it: it cannot be brought back, so it is said, and paid back, once (X3).
create function backend.audit_generations(batch integer default 2000)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  after constant uuid := private.audit_id('generations');
  ids constant uuid[] := array(
    select g.id from public.generations as g where g.id > after order by g.id limit batch
  );
  locked constant uuid[] := private.lock_generations(array(
    select g.id
    from public.generations as g
    where g.id = any (ids)
      and g.state = 'succeeded'
      and g.artwork_missing_at is null
      and g.finished_at < now() - private.keep('audit_grace')
      and (
        select o.id from storage.objects as o where o.bucket_id = 'artworks' and o.name = g.artwork_path
      ) is null
  ));
  missing integer;
begin
  with missed as (
    update public.generations as g
    set artwork_missing_at = now()
    where g.id = any (locked) and g.artwork_missing_at is null
    returning g.id
  ),
  noted as (
    insert into private.outcomes (subject, outcome) select 'artwork', 'missing' from missed
  ),
  -- What the hold took: a generation's own row is not where money is read from.
  refunded as (
    insert into public.credit_entries (wallet_id, kind, amount, reason, key)
    select h.wallet_id, 'refund', h.amount, 'artwork missing', 'artwork-missing:' || m.id
    from missed as m
    join public.credit_holds as h on h.generation_id = m.id and h.state = 'captured'
    on conflict (key) do nothing
  )
  select count(*) into missing from missed;
  return private.leave_audit(
    'generations', ids[cardinality(ids)]::text, jsonb_build_object('missing', missing));
end;
$$;

-- Orders deleted, of the next `batch` exports, what no export has as its own (X3).
create function backend.audit_exports(batch integer default 2000)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  after constant text := private.audit_place('exports');
  names constant text[] := array(
    select o.name
    from storage.objects as o
    where o.bucket_id = 'exports' and o.name > after
    order by o.name
    limit batch
  );
  orphaned integer;
begin
  insert into public.deletions (bucket, path, reason, person_id)
  select 'exports', o.name, 'orphaned', private.owner(o.name)
  from storage.objects as o
  where o.bucket_id = 'exports' and o.name = any (names)
    and o.created_at < now() - private.keep('audit_grace')
    and not exists (select from public.exports as e where e.path = o.name and e.state in ('building', 'ready'))
  on conflict (bucket, path) where verified_at is null do nothing;
  get diagnostics orphaned = row_count;
  return private.leave_audit(
    'exports', names[cardinality(names)], jsonb_build_object('orphaned', orphaned));
end;
$$;

comment on function backend.audit_exports is 'Exports that are nobody''s: orders them deleted (X3).';
comment on function backend.audit_inputs is 'Photos past their limit, and photos left over: orders them deleted (R1, X3).';
comment on function backend.audit_artworks is 'Artworks that are nobody''s: orders them deleted (X3).';
comment on function backend.audit_generations is 'Artworks that are gone behind our back: says so and gives the credits back (X3).';

revoke all on function
  backend.audit_inputs, backend.audit_artworks, backend.audit_generations, backend.audit_exports
from public, anon, authenticated, service_role;
grant execute on function
  backend.audit_inputs, backend.audit_artworks, backend.audit_generations, backend.audit_exports
to service_role;
