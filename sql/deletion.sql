-- Deletions. An order is a row; whoever holds its lease deletes the object and reads again to see
-- that it is gone; only then is the order verified (R2, R9, X1).

create table private.retention_rules (
  id text not null,
  clause text not null,
  keep interval not null,
  constraint retention_rules_pkey primary key (id),
  constraint retention_rules_keep_positive check (keep > '0')
);

alter table private.retention_rules enable row level security;

comment on table private.retention_rules is 'How long things are kept: one row a rule, with the clause of the policy it comes from.';

insert into private.retention_rules (id, clause, keep) values
  ('inputs_soft_limit', 'R1', '24 hours');

create table private.heartbeats (
  id text not null,
  at timestamptz not null default now(),
  constraint heartbeats_pkey primary key (id)
);

alter table private.heartbeats enable row level security;

comment on table private.heartbeats is 'When each scheduled task last completed a pass (X2).';

create table public.deletions (
  id uuid not null default gen_random_uuid(),
  person_id uuid,
  generation_id uuid,
  bucket text not null,
  path text not null,
  reason text not null,
  ordered_at timestamptz not null default now(),
  due_at timestamptz not null default now(),
  attempts integer not null default 0,
  deleted_at timestamptz,
  verified_at timestamptz,
  constraint deletions_pkey primary key (id),
  constraint deletions_person_exists foreign key (person_id) references auth.users (id) on delete set null,
  constraint deletions_bucket_known check (bucket in ('inputs', 'artworks')),
  constraint deletions_reason_known check (
    reason in ('succeeded', 'failed', 'canceled', 'limit_reached', 'asked_by_person', 'superseded')
  ),
  constraint deletions_attempts_not_negative check (attempts >= 0),
  -- Gone is not enough: somebody must have looked.
  constraint deletions_verified_after_deleted check (
    verified_at is null or coalesce(deleted_at <= verified_at, false)
  )
);

create unique index deletions_one_open_order on public.deletions (bucket, path) where verified_at is null;
create index deletions_due_idx on public.deletions (due_at) where verified_at is null;
create index deletions_person_id_idx on public.deletions (person_id, ordered_at desc);
create index deletions_generation_id_idx on public.deletions (generation_id);

alter table public.deletions enable row level security;

create policy "People see the deletions of what was theirs"
on public.deletions
for select
to authenticated
using (person_id = (select auth.uid()));

grant select on public.deletions to authenticated, service_role;

comment on table public.deletions is 'Every deletion: why, when ordered, when done, when its absence was verified.';
comment on column public.deletions.due_at is 'Nobody tries before this: the first attempt, the end of a lease, or the next attempt.';

create table private.deletion_leases (
  deletion_id uuid not null,
  lease uuid not null,
  constraint deletion_leases_pkey primary key (deletion_id),
  constraint deletion_leases_deletion_exists foreign key (deletion_id)
    references public.deletions (id) on delete cascade
);

alter table private.deletion_leases enable row level security;

comment on table private.deletion_leases is 'Who is executing a deletion; a lease ends when its deletion is due again.';

-- Idempotent: an object has at most one open order. Ordered again, it is due at the earlier of both,
-- unless somebody is executing it at this moment.
create function private.order_deletion(
  bucket text,
  path text,
  reason text,
  person_id uuid,
  generation_id uuid,
  due_at timestamptz default now()
)
returns void
language sql
set search_path = pg_catalog, pg_temp
begin atomic
  insert into public.deletions as d (bucket, path, reason, person_id, generation_id, due_at)
  values (bucket, path, reason, person_id, generation_id, due_at)
  on conflict (bucket, path) where verified_at is null
  do update set due_at = least(d.due_at, excluded.due_at)
  where not exists (select from private.deletion_leases as l where l.deletion_id = d.id);
end;

-- Hands out due deletions, each to one caller, until the lease ends. With a generation, only its own.
create function backend.lease_deletions(
  batch integer default 100,
  lease_seconds integer default 60,
  generation_id uuid default null
)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  leased jsonb;
begin
  with due as (
    select d.id
    from public.deletions as d
    where d.verified_at is null
      and d.due_at <= now()
      and (lease_deletions.generation_id is null or d.generation_id = lease_deletions.generation_id)
    order by d.due_at
    limit batch
    for update skip locked
  ),
  taken as (
    update public.deletions as d
    set due_at = now() + make_interval(secs => lease_seconds), attempts = d.attempts + 1
    from due
    where d.id = due.id
    returning d.id, d.bucket, d.path, d.attempts
  ),
  leases as (
    insert into private.deletion_leases as l (deletion_id, lease)
    select id, gen_random_uuid() from taken
    on conflict (deletion_id) do update set lease = excluded.lease
    returning l.deletion_id, l.lease
  )
  select coalesce(jsonb_agg(jsonb_build_object(
    'id', taken.id, 'lease', leases.lease, 'bucket', taken.bucket, 'path', taken.path,
    'attempts', taken.attempts
  )), '[]')
  into leased
  from taken
  join leases on leases.deletion_id = taken.id;
  return leased;
end;
$$;

comment on function backend.lease_deletions is 'Due deletions for the caller to execute; answers [{id, lease, bucket, path, attempts}].';

-- `results`: [{id, lease, absent}], absent = a read after the deletion found nothing. It counts only
-- if the listing agrees. What remains is tried again, later each time, and never given up.
create function backend.record_deletions(results jsonb)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  recorded jsonb;
begin
  with result as (
    select d.id, d.attempts, r.absent and not exists (
      select from storage.objects as o where o.bucket_id = d.bucket and o.name = d.path
    ) as gone
    from jsonb_to_recordset(results) as r (id uuid, lease uuid, absent boolean)
    join private.deletion_leases as l on l.deletion_id = r.id and l.lease = r.lease
    join public.deletions as d on d.id = r.id and d.verified_at is null
  ),
  updated as (
    update public.deletions as d
    set deleted_at = case when result.gone then clock_timestamp() end,
      verified_at = case when result.gone then clock_timestamp() end,
      due_at = now() + least(interval '1 hour', interval '10 seconds' * power(2, least(d.attempts, 10)))
    from result
    where d.id = result.id
    returning d.id, d.verified_at
  ),
  ended as (
    delete from private.deletion_leases as l using updated where l.deletion_id = updated.id
  )
  select jsonb_build_object(
    'verified', count(*) filter (where verified_at is not null),
    'remaining', count(*) filter (where verified_at is null)
  )
  into recorded
  from updated;
  return recorded;
end;
$$;

comment on function backend.record_deletions is 'Reports executed deletions; answers {verified, remaining}. Results under a lost lease are ignored.';

-- R1: by the age of the stored object itself, so that what was never submitted goes too.
create function backend.order_overdue_inputs(batch integer default 1000)
returns integer
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  ordered integer;
begin
  with overdue as (
    select o.name
    from storage.objects as o
    where o.bucket_id = 'inputs'
      and o.created_at < now() - (select keep from private.retention_rules where id = 'inputs_soft_limit')
      and not exists (
        select from public.deletions as d
        where d.bucket = 'inputs' and d.path = o.name and d.verified_at is null
      )
    order by o.created_at
    limit batch
  ),
  inserted as (
    insert into public.deletions (bucket, path, reason, person_id, generation_id)
    select 'inputs', overdue.name, 'limit_reached', u.id, g.id
    from overdue
    left join auth.users as u on u.id::text = split_part(overdue.name, '/', 1)
    left join public.generations as g on g.input_path = overdue.name
    on conflict do nothing
    returning 1
  )
  select count(*) into ordered from inserted;
  return ordered;
end;
$$;

comment on function backend.order_overdue_inputs is 'Orders the deletion of inputs past their soft limit; answers how many (R1).';

create function backend.record_heartbeat(task text)
returns void
language sql
security definer
set search_path = pg_catalog, pg_temp
begin atomic
  insert into private.heartbeats as h (id, at) values (task, now())
  on conflict (id) do update set at = excluded.at;
end;

comment on function backend.record_heartbeat is 'Says that a scheduled task has completed a pass (X2).';

grant execute on function
  backend.lease_deletions, backend.record_deletions, backend.order_overdue_inputs, backend.record_heartbeat
to service_role;
