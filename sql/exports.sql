-- Exports: everything that belongs to a user, in one ZIP file (G2, G5). A row orders an export, and the sweep builds
-- it in small steps. It writes the plan, one stretch at a time, and then uploads the archive, one piece at a time.
-- Each step is recorded, so that any worker can take the next one.

create table public.exports (
  id uuid not null default gen_random_uuid(),
  person_id uuid not null,
  state text not null default 'building',
  path text not null,
  files_total integer,
  files_done integer not null default 0,
  files_missing integer not null default 0,
  bytes_total bigint,
  bytes_done bigint not null default 0,
  ordered_at timestamptz not null default now(),
  ready_at timestamptz,
  expires_at timestamptz,
  constraint exports_pkey primary key (id),
  constraint exports_person_exists foreign key (person_id) references auth.users (id) on delete cascade,
  constraint exports_path_unique unique (path),
  constraint exports_state_known check (state in ('building', 'ready', 'failed', 'canceled', 'expired')),
  constraint exports_ready_expires check ((ready_at is null) = (expires_at is null)),
  constraint exports_ready_when_built check ((state in ('ready', 'expired')) <= (ready_at is not null))
);

create unique index exports_one_at_a_time on public.exports (person_id) where state = 'building';
create index exports_person_id_idx on public.exports (person_id, ordered_at desc);
create index exports_ordered_at_idx on public.exports (ordered_at);
create index exports_expires_at_idx on public.exports (expires_at) where state = 'ready';

alter table public.exports enable row level security;
revoke all on public.exports from public, anon, authenticated, service_role;

create policy "People see their own exports"
on public.exports
for select
to authenticated
using (person_id = (select private.person()));

grant select on public.exports to authenticated, service_role;

comment on table public.exports is 'Exports and their progress (G5). The user downloads an export from the bucket exports, at `path`, until `expires_at`.';

create table private.export_work (
  export_id uuid not null,
  upload text,
  attempts integer not null default 0,
  due_at timestamptz not null default now(),
  lease uuid,
  leased_until timestamptz,
  section text,
  after text[],
  is_written boolean not null default false,
  constraint export_work_pkey primary key (export_id),
  constraint export_work_export_exists foreign key (export_id) references public.exports (id) on delete cascade,
  constraint export_work_lease_has_end check ((lease is null) = (leased_until is null))
);

alter table private.export_work enable row level security;
revoke all on private.export_work from public, anon, authenticated, service_role;

comment on table private.export_work is 'Which worker builds an export, how far its plan has come, and where it is uploaded to.';
comment on column private.export_work.section is 'The section of the plan that is being written (`private.export_sections`). Null before the first.';
comment on column private.export_work.after is 'The key of the last row of that section that is in the plan. Null before its first row.';
comment on column private.export_work.is_written is 'Whether every section is in the plan. Checksums may still be missing.';
comment on column private.export_work.upload is 'Address of the resumable upload. Storage knows how far it has come.';

create table private.export_files (
  export_id uuid not null,
  position integer not null,
  name text not null,
  bucket text,
  object text,
  bytes bigint not null,
  missing boolean not null default false,
  crc32 bigint,
  sha256 text,
  is_sent boolean not null default false,
  constraint export_files_pkey primary key (export_id, position),
  constraint export_files_export_exists foreign key (export_id) references public.exports (id) on delete cascade,
  constraint export_files_object_has_bucket check ((object is null) = (bucket is null))
);

alter table private.export_files enable row level security;
revoke all on private.export_files from public, anon, authenticated, service_role;

comment on table private.export_files is 'The plan of an export: its files, in order. Deleted when the export is done.';
comment on column private.export_files.object is 'An object of Storage. Null if the content is in private.export_parts.';
comment on column private.export_files.crc32 is 'A ZIP file has the CRC-32 before the data, so it is known before the upload begins.';
comment on column private.export_files.sha256 is 'For the manifest, which is the last file. For an object it is computed during its upload, for other content with the plan.';
comment on column private.export_files.is_sent is 'Whether its last byte is in a piece that a worker was about to send.';

create table private.export_parts (
  export_id uuid not null,
  position integer not null,
  part integer not null,
  bytes_before bigint not null,
  content text not null,
  crc32 bigint,
  sha256 text,
  sha256_state text,
  constraint export_parts_pkey primary key (export_id, position, part),
  constraint export_parts_file_exists foreign key (export_id, position)
    references private.export_files (export_id, position) on delete cascade
);

create index export_parts_uncounted_idx on private.export_parts (export_id, position, part) where crc32 is null;
create index export_files_uncounted_idx on private.export_files (export_id, position)
  where object is not null and crc32 is null and not missing;

alter table private.export_parts enable row level security;
revoke all on private.export_parts from public, anon, authenticated, service_role;

comment on table private.export_parts is 'The content of files that are not objects of Storage, in parts that a function can hold in memory.';
comment on column private.export_parts.bytes_before is 'Bytes of the file before this part.';
comment on column private.export_parts.crc32 is 'CRC-32 of the file up to the end of this part. Null until a worker has computed it.';
comment on column private.export_parts.sha256 is 'SHA-256 of the file up to the end of this part.';
comment on column private.export_parts.sha256_state is 'The state from which another worker continues the SHA-256 of the file.';

create function private.request_export()
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  quota constant private.quotas := private.quota('exports', 'per_day');
  person uuid;
  free_at timestamptz;
  ordered public.exports;
begin
  -- One export per user at a time. The account is checked after the lock, because it may have been closed while the
  -- call waited.
  perform private.lock_person(auth.uid());
  person := private.require_person();
  perform private.require_second_factor(person);
  if exists (select from public.exports as e where e.person_id = person and e.state = 'building') then
    perform private.refuse(409, 'export_running', 'An export is being built. Please wait until it is ready.');
  end if;
  select min(latest.ordered_at) + quota.span into free_at
  from (
    select e.ordered_at from public.exports as e
    where e.person_id = person and e.ordered_at > now() - quota.span and e.state <> 'failed'
    order by e.ordered_at desc
    limit quota.most
  ) as latest
  having count(*) = quota.most;
  if free_at is not null then
    perform private.refuse(429, 'too_many_exports',
      format('You can order %s exports a day. Please try again later.', quota.most), private.retry_at(free_at));
  end if;

  ordered.id := gen_random_uuid();
  insert into public.exports (id, person_id, path)
  values (ordered.id, person, format('%s/%s.zip', person, ordered.id))
  returning * into ordered;
  insert into private.export_work (export_id) values (ordered.id);
  perform private.note_activity(person);
  return to_jsonb(ordered);
end;
$$;

create function public.request_export()
returns jsonb
language sql
set search_path = pg_catalog, pg_temp
return private.request_export();

comment on function public.request_export is 'Orders an export of everything that belongs to the caller (G5). Returns its row. See the table exports for its progress.';

revoke all on function private.request_export, public.request_export from public, anon, authenticated, service_role;
grant execute on function private.request_export, public.request_export to authenticated;

-- Leases the export that has waited longest to one worker, and returns {id, path, upload, bytes_total, is_planned}, or
-- null if there is none. An export is given up after 40 attempts without progress, or after three days.
create function backend.lease_export(lease uuid)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  export public.exports;
  work private.export_work;
begin
  for work in
    select w.*
    from private.export_work as w
    join public.exports as e on e.id = w.export_id
    where (w.lease is null or w.leased_until <= now())
      and (w.attempts >= 40 or e.ordered_at < now() - interval '3 days')
    for update of w skip locked
  loop
    perform private.abandon_export(work.export_id);
    update public.exports as e set state = 'failed' where e.id = work.export_id;
    insert into private.outcomes (subject, outcome) values ('export', 'failed');
    delete from private.export_work as w where w.export_id = work.export_id;
  end loop;

  select w.* into work
  from private.export_work as w
  join public.exports as e on e.id = w.export_id
  where e.state = 'building' and w.due_at <= now()
    and (w.lease is null or w.lease = lease_export.lease or w.leased_until <= now())
  order by w.due_at
  limit 1
  for update of w skip locked;
  if not found then
    return null;
  end if;

  update private.export_work as w
  set lease = lease_export.lease, leased_until = now() + interval '2 minutes', attempts = w.attempts + 1
  where w.export_id = work.export_id;
  select * into export from public.exports as e where e.id = work.export_id;
  return jsonb_build_object(
    'id', export.id, 'path', export.path, 'upload', work.upload,
    'bytes_total', export.bytes_total, 'is_planned', export.files_total is not null
  );
end;
$$;

-- How much of a plan one statement writes, and about how much content one response holds, in bytes. JSON may make the
-- content six times as long, and the functions read responses of at most 4 MiB.
create function private.stretch_bytes()
returns integer
language sql
immutable
set search_path = pg_catalog, pg_temp
return 512 * 1024;

-- Takes one step of the plan. The caller repeats it until `is_planned`. It records the checksums that the caller has
-- computed, and returns the next ones to compute:
-- {is_planned, parts: [{position, part, content, crc32, sha256_state}], objects: [{position, bucket, object, bytes}]}.
-- The `crc32` and the `sha256_state` of a part are those of its file before the part. If no checksum of a part is
-- missing, it writes the next stretch of the plan. So a retry, or the next worker, gets what the last one has not
-- reported. Returns null if the lease was lost. The argument `parts` is [{position, part, crc32, sha256,
-- sha256_state}]. `objects` is [{position, crc32}], with null for an object that is missing.
create function backend.plan_export(export_id uuid, lease uuid, parts jsonb default '[]', objects jsonb default '[]')
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  export public.exports;
  work private.export_work;
begin
  select w.* into work
  from private.export_work as w
  where w.export_id = plan_export.export_id and w.lease = plan_export.lease
  for update;
  select e.* into export from public.exports as e where e.id = work.export_id and e.state = 'building';
  if export.id is null then
    return null;
  end if;
  perform private.record_export_checksums(export.id, parts, objects);
  if export.files_total is null and not private.has_uncounted_parts(export.id) then
    if work.is_written then
      perform private.finish_plan(export.id);
    else
      perform private.write_stretch(export, work);
    end if;
  end if;
  -- Each checksum resets the attempts, so a plan that makes progress is not given up.
  update private.export_work as w
  set leased_until = now() + interval '2 minutes',
    attempts = case when parts = '[]' and objects = '[]' then w.attempts else 0 end
  where w.export_id = export.id;
  return jsonb_build_object(
    'is_planned', (select e.files_total is not null from public.exports as e where e.id = export.id),
    'parts', private.uncounted_parts(export.id),
    'objects', private.uncounted_objects(export.id)
  );
end;
$$;

-- Gives an export back. It is due at once, or a little later after a failure.
create function backend.release_export(export_id uuid, lease uuid, failed boolean)
returns void
language sql
security definer
set search_path = pg_catalog, pg_temp
begin atomic
  update private.export_work as w
  set lease = null, leased_until = null,
    due_at = case when failed then now() + interval '10 seconds' * least(w.attempts, 30) else now() end
  where w.export_id = release_export.export_id and w.lease = release_export.lease;
end;

comment on function backend.lease_export is 'Leases to the caller the export that has waited longest.';
comment on function backend.plan_export is 'Takes one step of the plan of an export: writes the next stretch, and returns which checksums to compute.';
comment on function backend.release_export is 'Gives back the lease of an export, so that the next worker can take it.';

revoke all on function
  backend.lease_export, backend.plan_export, backend.release_export
from public, anon, authenticated, service_role;
grant execute on function
  backend.lease_export, backend.plan_export, backend.release_export
to service_role;
