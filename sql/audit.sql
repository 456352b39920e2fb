-- Audits both sides of Storage: objects that no row accounts for, and rows whose object is gone. Each audit walks in
-- the order of names or IDs, one batch at a time, from where the last batch ended. So it covers any number of objects
-- in any number of sweeps, and two sweeps at once share the walk. Each function returns {done, closed}: whether the
-- walk has reached the end, and how many findings it closed, by kind.

create table private.audit_places (
  id text not null,
  after text not null default '',
  ended_at timestamptz,
  constraint audit_places_pkey primary key (id)
);

alter table private.audit_places enable row level security;
revoke all on private.audit_places from public, anon, authenticated, service_role;

comment on table private.audit_places is 'How far each walk has come. Empty if the next batch starts from the beginning.';
comment on column private.audit_places.ended_at is 'When the walk last reached the end. Most walks then rest for an hour.';

insert into private.audit_places (id) values
  ('inputs'), ('artworks'), ('generations'), ('exports'), ('people'), ('unconfirmed'), ('ledger');

-- Locks the place of a walk and returns how far it has come. `leave_audit` records where the batch ended.
create function private.enter_audit(walk text)
returns text
language sql
set search_path = pg_catalog, pg_temp
begin atomic
  select p.after from private.audit_places as p where p.id = walk for update;
end;

-- Like `enter_audit`, for a walk in the order of IDs.
create function private.enter_audit_by_id(walk text)
returns uuid
language sql
set search_path = pg_catalog, pg_temp
return coalesce(nullif(private.enter_audit(walk), '')::uuid, '00000000-0000-0000-0000-000000000000');

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

-- Whether a walk is in progress, or has rested for an hour.
create function private.is_walk_due(walk text)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
return exists (
  select from private.audit_places as p
  where p.id = walk and (p.after <> '' or p.ended_at is null or p.ended_at <= now() - interval '1 hour')
);

-- Orders the deletion of these photos among the next `batch`:
--   - photos past the soft limit that no open generation needs (R1)
--   - photos past the hard limit; their generations fail (R1)
--   - photos that were left behind or put back after their generation ended, and copies without a generation (X3)
-- The age is that of the stored object, so photos that were never submitted are deleted, too.
create function backend.audit_inputs(batch integer default 2000)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  after constant text := private.enter_audit('inputs');
  soft constant timestamptz := now() - private.retention('inputs_soft_limit');
  hard constant timestamptz := now() - private.retention('inputs_hard_limit');
  audit_cutoff constant timestamptz := now() - private.retention('audit_grace');
  names constant text[] := array(
    select o.name
    from storage.objects as o
    where o.bucket_id = 'inputs' and o.name > after
    order by o.name
    limit batch
  );
  -- A prepared copy is as old as its original.
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

    -- Past the hard limit, a deletion is due now: neither the pause between two attempts nor the lease of a worker
    -- holds it up.
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

  -- Each object is looked up on its own, so a plan that was made for small tables stays right for large ones.
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
        when g.id is null and not private.is_upload_name(o.name) then o.created_at < audit_cutoff
        when g.id is null then o.created_at < soft
        when private.is_terminal(g.state) then greatest(o.created_at, g.finished_at) < audit_cutoff
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

-- Among the next `batch` artworks, orders the deletion of those that no generation has and no worker is storing. A
-- worker that stores one has ordered its deletion before (X3).
create function backend.audit_artworks(batch integer default 2000)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  after constant text := private.enter_audit('artworks');
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
    and o.created_at < now() - private.retention('audit_grace')
    and (select g.id from public.generations as g where g.artwork_path = o.name) is null
  on conflict (bucket, path) where verified_at is null do nothing;
  get diagnostics orphaned = row_count;
  return private.leave_audit(
    'artworks', names[cardinality(names)], jsonb_build_object('orphaned', orphaned));
end;
$$;

-- Finds, among the next `batch` generations, those whose artwork is missing from Storage although we did not delete
-- it. It cannot be restored, so the generation is marked and the credits are returned, once (X3).
create function backend.audit_generations(batch integer default 2000)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  after constant uuid := private.enter_audit_by_id('generations');
  ids constant uuid[] := array(
    select g.id from public.generations as g where g.id > after order by g.id limit batch
  );
  locked constant uuid[] := private.lock_generations(array(
    select g.id
    from public.generations as g
    where g.id = any (ids)
      and g.state = 'succeeded'
      and g.artwork_missing_at is null
      and g.finished_at < now() - private.retention('audit_grace')
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
  -- The refund is what the hold captured. Amounts are never read from the generation's own row.
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

-- Among the next `batch` files in the bucket exports, orders the deletion of those that belong to no export (X3).
create function backend.audit_exports(batch integer default 2000)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  after constant text := private.enter_audit('exports');
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
    and o.created_at < now() - private.retention('audit_grace')
    and not exists (select from public.exports as e where e.path = o.name and e.state in ('building', 'ready'))
  on conflict (bucket, path) where verified_at is null do nothing;
  get diagnostics orphaned = row_count;
  return private.leave_audit(
    'exports', names[cardinality(names)], jsonb_build_object('orphaned', orphaned));
end;
$$;

comment on function backend.audit_exports is 'Orders the deletion of files in the bucket exports that belong to no export (X3).';
comment on function backend.audit_inputs is 'Orders the deletion of photos past their limit and of photos left behind (R1, X3).';
comment on function backend.audit_artworks is 'Orders the deletion of artworks that belong to no generation (X3).';
comment on function backend.audit_generations is 'Finds artworks that are missing although we did not delete them. Marks the generations and returns the credits (X3).';

revoke all on function
  backend.audit_inputs, backend.audit_artworks, backend.audit_generations, backend.audit_exports
from public, anon, authenticated, service_role;
grant execute on function
  backend.audit_inputs, backend.audit_artworks, backend.audit_generations, backend.audit_exports
to service_role;
