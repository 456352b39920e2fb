-- The plan of an export: its files with their content, written one stretch at a time, and the checksums that workers
-- compute for them.

-- Reads the next stretch and writes it into the plan: new files, and more parts of the file that the last stretch
-- ended in.
create function private.write_stretch(export public.exports, work private.export_work)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  stretch constant jsonb := private.read_stretch(export.person_id, work.section, work.after);
begin
  insert into private.export_files (export_id, position, name, bucket, object, bytes, crc32, missing)
  select export.id, row_number() over (order by n.place) + (
      select coalesce(max(l.position), 0) from private.export_files as l where l.export_id = export.id
    ),
    n.file ->> 'name', n.file ->> 'bucket', n.file ->> 'object', coalesce((n.file ->> 'bytes')::bigint, 0),
    (n.file ->> 'crc32')::bigint, coalesce((n.file ->> 'missing')::boolean, false)
  from jsonb_array_elements(stretch -> 'files') with ordinality as n (file, place)
  where not exists (
    select from private.export_files as f where f.export_id = export.id and f.name = n.file ->> 'name'
  );

  with content as (
    select f.position, f.bytes as bytes_before, n.file ->> 'content' as content,
      (select coalesce(max(p.part) + 1, 0) from private.export_parts as p
        where p.export_id = export.id and p.position = f.position) as part
    from jsonb_array_elements(stretch -> 'files') as n (file)
    join private.export_files as f on f.export_id = export.id and f.name = n.file ->> 'name'
    where n.file ->> 'content' <> ''
  ),
  longer as (
    update private.export_files as f set bytes = f.bytes + octet_length(c.content)
    from content as c
    where f.export_id = export.id and f.position = c.position
  )
  insert into private.export_parts (export_id, position, part, bytes_before, content)
  select export.id, c.position, c.part + cut.place,
    c.bytes_before + octet_length(left(c.content, cut.place * 131072)), substr(c.content, 1 + cut.place * 131072, 131072)
  from content as c
  cross join generate_series(0, (char_length(c.content) - 1) / 131072) as cut (place);

  update private.export_work as w
  set section = stretch ->> 'section',
    after = case when stretch ->> 'after' is not null then array(select jsonb_array_elements_text(stretch -> 'after')) end,
    is_written = stretch ->> 'section' is null
  where w.export_id = export.id;
end;
$$;

create function private.has_uncounted_parts(export uuid)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
begin atomic
  select exists (select from private.export_parts as p where p.export_id = export and p.crc32 is null);
end;

-- Parts whose checksums are not known, as many as fit a response, with the checksums of their file before them.
create function private.uncounted_parts(export uuid)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
begin atomic
  select coalesce(jsonb_agg(jsonb_build_object('position', n.position, 'part', n.part, 'content', n.content,
    'crc32', coalesce(before.crc32, 0), 'sha256_state', before.sha256_state) order by n.position, n.part), '[]')
  from (
    select p.*, sum(octet_length(p.content)) over (order by p.position, p.part) - octet_length(p.content) as bytes_so_far
    from (
      select * from private.export_parts as u
      where u.export_id = export and u.crc32 is null
      order by u.position, u.part
      limit 1000
    ) as p
  ) as n
  left join private.export_parts as before
    on before.export_id = n.export_id and before.position = n.position and before.part = n.part - 1
  where n.bytes_so_far < private.stretch_bytes();
end;

-- Objects whose checksum is not known, as many as a worker can read within a lease. These are artworks from before the
-- checksum was kept, and what else Storage has.
create function private.uncounted_objects(export uuid)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
begin atomic
  select coalesce(jsonb_agg(jsonb_build_object(
    'position', n.position, 'bucket', n.bucket, 'object', n.object, 'bytes', n.bytes
  ) order by n.position), '[]')
  from (
    select f.*, sum(f.bytes) over (order by f.position) - f.bytes as bytes_so_far
    from (
      select * from private.export_files as u
      where u.export_id = export and u.object is not null and u.crc32 is null and not u.missing
      order by u.position
      limit 50
    ) as f
  ) as n
  where n.bytes_so_far < 64 * 1024 * 1024;
end;

-- Records what a worker has computed. An object without a checksum has a row in Storage but no bytes.
create function private.record_export_checksums(export uuid, parts jsonb, objects jsonb)
returns void
language sql
set search_path = pg_catalog, pg_temp
begin atomic
  update private.export_parts as p
  set crc32 = told.crc32, sha256 = told.sha256, sha256_state = told.sha256_state
  from jsonb_to_recordset(parts) as told ("position" integer, part integer, crc32 bigint, sha256 text, sha256_state text)
  where p.export_id = export and p.position = told.position and p.part = told.part;
  update private.export_files as f
  set crc32 = told.crc32, missing = told.crc32 is null, bytes = case when told.crc32 is null then 0 else f.bytes end
  from jsonb_to_recordset(objects) as told ("position" integer, crc32 bigint)
  where f.export_id = export and f.position = told.position and f.object is not null;
end;

-- Everything is written. The plan is finished as soon as no checksum is missing.
create function private.finish_plan(export uuid)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if private.uncounted_objects(export) <> '[]' then
    return;
  end if;
  -- The checksums of a file are those of its last part.
  update private.export_files as f
  set crc32 = whole.crc32, sha256 = whole.sha256
  from (
    select distinct on (p.position) p.position, p.crc32, p.sha256
    from private.export_parts as p
    where p.export_id = export
    order by p.position, p.part desc
  ) as whole
  where f.export_id = export and f.position = whole.position;
  update public.exports as e
  set files_total = f.total, files_missing = f.missing, files_done = 0, bytes_done = 0, bytes_total = null
  from (
    select count(*) filter (where not n.missing) as total, count(*) filter (where n.missing) as missing
    from private.export_files as n
    where n.export_id = export
  ) as f
  where e.id = export;
end;
$$;
