-- What an export is made of: every declared table as JSON and CSV, the receipts, and the objects of Storage, all of
-- one moment.

create function private.csv_cell(value text)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
return case
  when value ~ '[",\r\n]' or value = '' then '"' || replace(value, '"', '""') || '"'
  else coalesce(value, '')
end;

-- RFC 4180, the columns in the order given. Nothing for null; "" for an empty text.
create function private.csv(rows jsonb, columns text[])
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
return array_to_string(columns, ',') || E'\r\n' || coalesce((
  select string_agg(
    (select string_agg(private.csv_cell(r.value ->> c.name), ',' order by c.place)
      from unnest(columns) with ordinality as c (name, place)) || E'\r\n', '' order by r.place)
  from jsonb_array_elements(rows) with ordinality as r (value, place)
), '');

-- The columns of a declared table that its export has.
create function private.exported_columns(declared private.personal_data)
returns text[]
language sql
stable
set search_path = pg_catalog, pg_temp
return array(
  select a.attname::text
  from pg_attribute as a
  where a.attrelid = declared.relation::regclass and a.attnum > 0 and not a.attisdropped
    and (declared.columns is null or a.attname = any (declared.columns))
    and a.attname <> all (declared.hidden)
  order by a.attnum
);

-- The schema of an export's files, made from the same declaration; published as docs/export.schema.json.
create function private.export_columns()
returns table (export_as text, "position" integer, name text, type text, nullable boolean)
language sql
stable
set search_path = pg_catalog, pg_temp
begin atomic
  select d.export_as, a.attnum::integer, a.attname::text, format_type(a.atttypid, a.atttypmod),
    not a.attnotnull or starts_with(d.relation, 'auth.')
  from private.personal_data as d
  join pg_attribute as a on a.attrelid = d.relation::regclass
  where d.export_as is not null and a.attname = any (private.exported_columns(d))
  order by d.export_as, a.attnum;
end;

-- What is somebody's in one declared table, as an array of objects.
create function private.rows_of(declared private.personal_data, person uuid)
returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  found_rows jsonb;
  columns constant text := (
    select string_agg(format('t.%I', name), ', ') from unnest(private.exported_columns(declared)) as name
  );
begin
  execute format(
    'select coalesce(jsonb_agg(to_jsonb(r)), ''[]'') from (select %s from %s as t where %s order by 1) as r',
    columns, declared.relation::regclass, declared.subject)
  into found_rows using person;
  return found_rows;
end;
$$;

-- Everything at one moment: data by the declaration, then receipts, then objects.
create function private.write_plan(export public.exports)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  with declared as (
    select d, d.export_as as name, private.rows_of(d, export.person_id) as found_rows
    from private.personal_data as d
    where d.export_as is not null
  ),
  documents as (
    select 1 as place, format('data/%s.json', name) as name, null as bucket, null as object, null::bigint as bytes,
      jsonb_pretty(jsonb_build_object('format', 'opusflair-export-1', 'table', name, 'rows', found_rows)) || E'\n' as content
    from declared
    union all
    select 2, format('data/%s.csv', name), null, null, null, private.csv(found_rows, private.exported_columns(d))
    from declared
    union all
    select 3, format('receipts/%s.jws', r.id), null, null, null, r.receipt
    from public.deletions as r
    where r.person_id = export.person_id and r.receipt is not null
    union all
    select 4, b.export_as || '/' || substr(o.name, 38), o.bucket_id, o.name, private.object_bytes(o.metadata), null
    from storage.objects as o
    join private.personal_buckets as b on b.bucket = o.bucket_id and b.export_as is not null
    where o.name collate "C" >= export.person_id || '/' and o.name collate "C" < export.person_id || '0'
    union all
    -- What a row speaks of, and Storage does not have.
    select 5, 'artworks/' || substr(g.artwork_path, 38), 'artworks', g.artwork_path, null, null
    from public.generations as g
    where g.person_id = export.person_id and g.artwork_path is not null
      and not exists (select from storage.objects as o where o.bucket_id = 'artworks' and o.name = g.artwork_path)
  )
  insert into private.export_files (export_id, position, name, bucket, object, content, bytes, missing)
  select export.id, row_number() over (order by d.place, d.name), d.name, d.bucket, d.object, d.content,
    coalesce(d.bytes, octet_length(d.content), 0), d.place = 5
  from documents as d;

  update public.exports as e
  set files_total = f.total, files_missing = f.missing, files_done = 0, bytes_done = 0, bytes_total = null
  from (
    select count(*) filter (where not n.missing) as total, count(*) filter (where n.missing) as missing
    from private.export_files as n
    where n.export_id = export.id
  ) as f
  where e.id = export.id;
end;
$$;
