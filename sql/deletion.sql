-- Deletions. Each row orders one deletion. The worker with the lease deletes the object and reads it again. The
-- deletion is verified only if the object is gone (R2, R9, X1).

-- Why an object is deleted: a closed list. Each reason has the policy clause behind it and a sentence for users.
create table public.deletion_reasons (
  id text not null,
  clause text not null,
  sentence text not null,
  constraint deletion_reasons_pkey primary key (id)
);

alter table public.deletion_reasons enable row level security;
revoke all on public.deletion_reasons from public, anon, authenticated, service_role;

create policy "Anyone reads what the reasons of deletions mean"
on public.deletion_reasons
for select
to anon, authenticated
using (true);

grant select on public.deletion_reasons to anon, authenticated, service_role;

comment on table public.deletion_reasons is 'The closed list of reasons for which an object is deleted, each with its policy clause.';

insert into public.deletion_reasons (id, clause, sentence) values
  ('prepared', 'R4', 'The photo was checked, and its copy without metadata took its place.'),
  ('succeeded', 'R2', 'The artwork is made, so the photo is not needed any more.'),
  ('failed', 'R4', 'The generation failed, so the photo is not needed any more.'),
  ('canceled', 'R4', 'The generation was canceled, so the photo is not needed any more.'),
  ('limit_reached', 'R1', 'The photo was as old as a photo may get.'),
  ('asked_by_person', 'R9', 'Its owner asked for it.'),
  ('superseded', 'R4', 'It came of an attempt that did not count.'),
  ('export_expired', 'G5', 'The time to fetch the export was over.'),
  ('erasure', 'G3', 'The account that it belonged to was erased, because its user asked for it or no one used it.'),
  ('orphaned', 'X3', 'Nothing referred to it any more.');

create table public.deletions (
  id uuid not null default gen_random_uuid(),
  person_id uuid,
  generation_id uuid,
  bucket text not null,
  path text,
  object_key uuid default gen_random_uuid(),
  bytes bigint,
  content_sha256 text,
  reason text not null,
  ordered_at timestamptz not null default now(),
  due_at timestamptz not null default now(),
  attempts integer not null default 0,
  deleted_at timestamptz,
  verified_at timestamptz,
  receipt text,
  constraint deletions_pkey primary key (id),
  constraint deletions_person_exists foreign key (person_id) references auth.users (id) on delete set null,
  constraint deletions_bucket_known check (bucket in ('inputs', 'artworks', 'exports')),
  constraint deletions_reason_known foreign key (reason) references public.deletion_reasons (id),
  constraint deletions_attempts_not_negative check (attempts >= 0),
  constraint deletions_content_sha256_is_hex check (content_sha256 ~ '^[0-9a-f]{64}$'),
  -- Once the deletion is verified, only the receipt has the digest, in keyed form.
  constraint deletions_content_until_verified check (content_sha256 is null or verified_at is null),
  -- A deletion alone is not enough: we must also have checked that the object is gone.
  constraint deletions_verified_after_deleted check (
    verified_at is null or coalesce(ordered_at <= deleted_at and deleted_at <= verified_at, false)
  ),
  constraint deletions_verified_has_receipt check ((verified_at is null) = (receipt is null)),
  constraint deletions_receipt_is_jws check (receipt ~ '^[\w-]+\.[\w-]+\.[\w-]+$'),
  -- The path names its user, so it is removed with the account. It stays until the deletion is verified, because the
  -- object must be found until then.
  constraint deletions_path_until_verified check (path is not null or verified_at is not null),
  constraint deletions_path_is_keyed check ((path is null) = (object_key is null))
);

create unique index deletions_one_open_order on public.deletions (bucket, path) where verified_at is null;
create index deletions_due_idx on public.deletions (due_at) where verified_at is null;
create index deletions_person_id_idx on public.deletions (person_id, ordered_at desc);
create index deletions_generation_id_idx on public.deletions (generation_id);
-- Each upload checks whether its name was used before.
create index deletions_path_idx on public.deletions (path, bucket);
create index deletions_reason_idx on public.deletions (reason, ordered_at);
create index deletions_verified_at_idx on public.deletions (verified_at);

alter table public.deletions enable row level security;
revoke all on public.deletions from public, anon, authenticated, service_role;

create policy "People see the deletions of what was theirs"
on public.deletions
for select
to authenticated
using (person_id = (select private.person()));

grant select on public.deletions to authenticated, service_role;

comment on table public.deletions is 'Every deletion: why, when it was ordered and done, when the absence of the object was verified, and the receipt.';
comment on column public.deletions.object_key is 'Key for the digest of bucket and path in the receipt. Anyone with this key can show which object the receipt is about.';
comment on column public.deletions.bytes is 'Size of the object in bytes when a worker began to delete it. Null if there was no object.';
comment on column public.deletions.content_sha256 is 'SHA-256 of a photo as we received it, in hex, until the receipt contains it. Null for photos that were never judged, and for all other objects.';
comment on column public.deletions.receipt is 'Proof of the verified deletion: a compact JWS (RFC 7515, Ed25519) (X1).';
comment on column public.deletions.due_at is 'No worker tries before this time. It is the time of the first attempt, the end of a lease, or the time of the next attempt.';

-- The receipt outlives the account. This trigger removes what says whose it was (X1).
create function private.forget_subject()
returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  new.path := null;
  new.object_key := null;
  new.generation_id := null;
  return new;
end;
$$;

create trigger deletions_forget_subject
before update on public.deletions
for each row
when (new.person_id is null and new.verified_at is not null)
execute function private.forget_subject();

create table private.deletion_leases (
  deletion_id uuid not null,
  lease uuid not null,
  constraint deletion_leases_pkey primary key (deletion_id),
  constraint deletion_leases_deletion_exists foreign key (deletion_id)
    references public.deletions (id) on delete cascade
);

create index deletion_leases_lease_idx on private.deletion_leases (lease);

alter table private.deletion_leases enable row level security;
revoke all on private.deletion_leases from public, anon, authenticated, service_role;

comment on table private.deletion_leases is 'Which worker carries out a deletion. A lease ends when its deletion is due again.';

-- The time in RFC 3339 format, in UTC, to the microsecond. Signed text must not depend on a setting of the session.
create function private.timestamp(at timestamptz)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
return to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');

-- The SHA-256 of the photo, if the path is that of an original that was judged. The prepared copy has none, because we
-- made it ourselves.
create function private.judged_content(path text, generation_id uuid)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
begin atomic
  select w.input_sha256
  from public.generations as g
  join private.generation_work as w on w.generation_id = g.id
  where g.id = judged_content.generation_id and g.input_path = judged_content.path;
end;

-- Orders a deletion. Idempotent: an object has at most one pending deletion. If it is ordered again, it is due at the
-- earlier of both times, unless a worker has leased it.
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
  insert into public.deletions as d (bucket, path, reason, person_id, generation_id, content_sha256, due_at)
  values (bucket, path, reason, person_id, generation_id, private.judged_content(path, generation_id), due_at)
  on conflict (bucket, path) where verified_at is null
  do update set due_at = least(d.due_at, excluded.due_at),
    content_sha256 = coalesce(excluded.content_sha256, d.content_sha256)
  where not exists (select from private.deletion_leases as l where l.deletion_id = d.id);
end;

-- The size of an object in bytes, as Storage reports it. Null if the value is not a number, because one such row must
-- not block the deletions of all users.
create function private.object_bytes(metadata jsonb)
returns bigint
language sql
immutable
set search_path = pg_catalog, pg_temp
return case when metadata ->> 'size' ~ '^\d{1,18}$' then (metadata ->> 'size')::bigint end;

-- Hands out due deletions under a lease, each to one caller, for `lease_seconds`. The caller chooses the lease: a
-- retry with the same lease after a lost response gets the same deletions. With `generation_id`, only the deletions of
-- that generation.
create function backend.lease_deletions(
  lease uuid,
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
  is_new constant boolean := lease_deletions.generation_id is not null or not exists (
    select
    from private.deletion_leases as l
    join public.deletions as d on d.id = l.deletion_id and d.verified_at is null
    where l.lease = lease_deletions.lease
  );
  leased jsonb;
begin
  with due as (
    select d.id
    from public.deletions as d
    where d.verified_at is null
      and d.due_at <= now()
      and is_new
      and (lease_deletions.generation_id is null or d.generation_id = lease_deletions.generation_id)
    order by d.due_at
    limit batch
    for update skip locked
  ),
  taken as (
    update public.deletions as d
    set due_at = now() + make_interval(secs => lease_seconds),
      attempts = d.attempts + 1,
      bytes = coalesce(
        (
          select private.object_bytes(o.metadata)
          from storage.objects as o
          where o.bucket_id = d.bucket and o.name = d.path
        ),
        d.bytes
      )
    from due
    where d.id = due.id
    returning d.id
  )
  insert into private.deletion_leases as l (deletion_id, lease)
  select id, lease_deletions.lease from taken
  on conflict (deletion_id) do update set lease = excluded.lease;

  select coalesce(jsonb_agg(jsonb_build_object(
    'id', d.id, 'lease', l.lease, 'generation', d.generation_id, 'bucket', d.bucket, 'path', d.path,
    'object_key', d.object_key, 'bytes', d.bytes, 'content_sha256', d.content_sha256, 'reason', d.reason, 'clause', r.clause,
    'attempts', d.attempts, 'ordered_at', private.timestamp(d.ordered_at),
    -- The time of the response, not of the transaction, which may have waited. Receipts count from this time.
    'leased_at', private.timestamp(clock_timestamp())
  )), '[]')
  into leased
  from private.deletion_leases as l
  join public.deletions as d on d.id = l.deletion_id and d.verified_at is null
  join public.deletion_reasons as r on r.id = d.reason
  where l.lease = lease_deletions.lease
    and (lease_deletions.generation_id is null or d.generation_id = lease_deletions.generation_id);
  return leased;
end;
$$;

comment on function backend.lease_deletions is 'Due deletions for the caller to carry out, with everything that their receipts contain.';

-- `results`: [{id, lease, absent, deleted_at, verified_at, receipt}]. `absent` means that a read after the deletion
-- found nothing; only then are the members after it set. The result counts only if `storage.objects` has no row of the
-- object either. A deletion that is not verified is retried, each time later, and never given up.
create function backend.record_deletions(results jsonb)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  free uuid[];
  recorded jsonb;
begin
  -- Leave out rows that another transaction is changing; they are due again when their lease ends. Waiting for several
  -- rows in turn could end in a deadlock.
  free := array(
    select d.id
    from public.deletions as d
    where d.id in (select (r.value ->> 'id')::uuid from jsonb_array_elements(results) as r)
    for update skip locked
  );
  with result as (
    select d.id, r.deleted_at, r.verified_at, r.receipt,
      r.absent
        -- If the clock jumped in the meantime, the times prove nothing.
        and r.deleted_at >= d.ordered_at
        and r.verified_at <= clock_timestamp() + interval '1 second'
        and not exists (
          select from storage.objects as o where o.bucket_id = d.bucket and o.name = d.path
        ) as gone
    from jsonb_to_recordset(results) as r (
      id uuid, lease uuid, absent boolean, deleted_at timestamptz, verified_at timestamptz, receipt text
    )
    join private.deletion_leases as l on l.deletion_id = r.id and l.lease = r.lease
    join public.deletions as d on d.id = r.id and d.id = any (free) and d.verified_at is null
  ),
  updated as (
    update public.deletions as d
    set deleted_at = case when result.gone then result.deleted_at end,
      verified_at = case when result.gone then result.verified_at end,
      receipt = case when result.gone then result.receipt end,
      content_sha256 = case when result.gone then null else d.content_sha256 end,
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

comment on function backend.record_deletions is 'Records the results of deletions. Returns {verified, remaining}. Ignores results under a lost lease.';

revoke all on function backend.lease_deletions, backend.record_deletions from public, anon, authenticated, service_role;
grant execute on function backend.lease_deletions, backend.record_deletions to service_role;
