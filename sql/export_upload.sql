-- How a planned export gets to Storage. Its content is read from the plan, and each piece is recorded before it is
-- sent.

-- The next `batch` files of a plan, after the position `after`.
create function backend.list_export_files(export_id uuid, after integer, batch integer default 1000)
returns jsonb
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
begin atomic
  select coalesce(jsonb_agg(jsonb_build_object(
    'position', f.position, 'name', f.name, 'bucket', f.bucket, 'object', f.object, 'bytes', f.bytes,
    'missing', f.missing, 'crc32', f.crc32, 'sha256', f.sha256
  ) order by f.position), '[]')
  from (
    select * from private.export_files as n
    where n.export_id = list_export_files.export_id and n.position > after
    order by n.position
    limit batch
  ) as f;
end;

-- The content of files from the byte `at` of the file `place` on, as much as fits a response:
-- [{position, bytes_before, content}]. The first part may begin before that byte.
create function backend.read_export_parts(export_id uuid, place integer, at bigint)
returns jsonb
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
begin atomic
  select coalesce(jsonb_agg(
    jsonb_build_object('position', n.position, 'bytes_before', n.bytes_before, 'content', n.content)
    order by n.position, n.part
  ), '[]')
  from (
    select p.*, sum(octet_length(p.content)) over (order by p.position, p.part) - octet_length(p.content) as bytes_so_far
    from (
      select * from private.export_parts as f
      where f.export_id = read_export_parts.export_id
        and (f.position, f.part) >= (read_export_parts.place, (
          select coalesce(max(b.part), 0)
          from private.export_parts as b
          where b.export_id = read_export_parts.export_id and b.position = read_export_parts.place
            and b.bytes_before <= read_export_parts.at
        ))
      order by f.position, f.part
      limit 1000
    ) as p
  ) as n
  where n.bytes_so_far < private.stretch_bytes();
end;

-- A worker calls this before it sends a piece, with the SHA-256 of the files that end in it. Returns whether the
-- worker still has the lease. If not, it must stop.
create function backend.record_export_piece(
  export_id uuid,
  lease uuid,
  upload text,
  bytes_done bigint,
  bytes_total bigint,
  files jsonb
)
returns boolean
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform from private.export_work as w
  where w.export_id = record_export_piece.export_id and w.lease = record_export_piece.lease
  for update;
  if not found or not exists (
    select from public.exports as e
    where e.id = record_export_piece.export_id and e.state = 'building' and e.files_total is not null
  ) then
    return false;
  end if;
  update private.export_work as w
  set upload = record_export_piece.upload, leased_until = now() + interval '2 minutes', attempts = 0
  where w.export_id = record_export_piece.export_id and w.lease = record_export_piece.lease;

  update private.export_files as f
  set sha256 = told.sha256, is_sent = true
  from jsonb_to_recordset(files) as told ("position" integer, sha256 text)
  where f.export_id = record_export_piece.export_id and f.position = told.position;
  update public.exports as e
  set bytes_done = record_export_piece.bytes_done,
    bytes_total = record_export_piece.bytes_total,
    files_done = (
      select count(*) from private.export_files as f where f.export_id = e.id and f.is_sent
    )
  where e.id = record_export_piece.export_id;
  return true;
end;
$$;

-- The plan is no longer valid, so the upload is abandoned. `missing` is an object that has a row in Storage but no
-- bytes: from then on, it is listed as missing. `changed` is an object whose bytes do not fit its checksum: the
-- checksum is computed again. With neither, a new plan is written.
create function backend.restart_export(
  export_id uuid,
  lease uuid,
  missing text default null,
  changed text default null
)
returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform from private.export_work as w
  where w.export_id = restart_export.export_id and w.lease = restart_export.lease
  for update;
  if not found then
    return;
  end if;
  if missing is null and changed is null then
    perform private.abandon_export(restart_export.export_id);
    return;
  end if;
  perform private.abandon_export_upload(restart_export.export_id);
  update private.export_files as f
  set missing = f.missing or coalesce(f.object = restart_export.missing, false),
    bytes = case when f.object = restart_export.missing then 0 else f.bytes end,
    crc32 = case when f.object in (restart_export.missing, changed) then null else f.crc32 end,
    sha256 = case when f.object is null then f.sha256 end,
    is_sent = false
  where f.export_id = restart_export.export_id;
  update public.exports as e
  set files_total = null, files_done = 0, bytes_done = 0, bytes_total = null
  where e.id = restart_export.export_id;
end;
$$;

-- Everything is uploaded. Returns whether Storage holds the whole archive. If not, the export is not done.
create function backend.finish_export(export_id uuid, lease uuid)
returns boolean
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  export public.exports;
begin
  perform from private.export_work as w
  where w.export_id = finish_export.export_id and w.lease = finish_export.lease
  for update;
  if not found then
    return true;
  end if;
  select e.* into export
  from public.exports as e
  where e.id = finish_export.export_id and e.state = 'building'
  for update;
  if export.id is null then
    return true;
  end if;
  if not exists (
    select from storage.objects as o
    where o.bucket_id = 'exports' and o.name = export.path and private.object_bytes(o.metadata) = export.bytes_total
  ) then
    return false;
  end if;

  update public.exports as e
  set state = 'ready', ready_at = now(), expires_at = now() + private.retention('exports'),
    bytes_done = e.bytes_total, files_done = e.files_total
  where e.id = export.id;
  delete from private.export_work as w where w.export_id = export.id;
  delete from private.export_files as f where f.export_id = export.id;
  perform private.answer_requests(export.person_id, array['access', 'export'], 'export', export.id::text);
  return true;
end;
$$;

comment on function backend.list_export_files is 'The files of an export.';
comment on function backend.read_export_parts is 'The content of files of an export, in parts.';
comment on function backend.record_export_piece is 'Records what is about to be sent. Returns whether the caller may send it.';
comment on function backend.restart_export is 'Restarts an export whose content has changed.';
comment on function backend.finish_export is 'Completes an export that is uploaded, so that the user can download it.';

revoke all on function
  backend.list_export_files, backend.read_export_parts, backend.record_export_piece, backend.restart_export,
  backend.finish_export
from public, anon, authenticated, service_role;
grant execute on function
  backend.list_export_files, backend.read_export_parts, backend.record_export_piece, backend.restart_export,
  backend.finish_export
to service_role;
