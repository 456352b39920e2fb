-- What an export contains: every declared table as JSON and CSV, the receipts, and the objects of Storage. It is read
-- in stretches. Each stretch has a bounded size and is read at one moment, so no statement takes long or needs much
-- memory.

-- The columns of a declared table that its export contains.
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

-- The schema of an export's files, made from the same declaration. It is published as docs/export.schema.json.
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

-- The columns that order the rows of a declared table, with their types.
create function private.export_key(declared private.personal_data)
returns table (name text, type text, place bigint)
language sql
stable
set search_path = pg_catalog, pg_temp
begin atomic
  select a.attname::text, format_type(a.atttypid, a.atttypmod), k.place
  from pg_index as i
  cross join unnest(coalesce(declared.key, array(
    select p.attname::text
    from unnest(i.indkey::smallint[]) with ordinality as c (attnum, place)
    join pg_attribute as p on p.attrelid = i.indrelid and p.attnum = c.attnum
    order by c.place
  ))) with ordinality as k (name, place)
  join pg_attribute as a on a.attrelid = i.indrelid and a.attname = k.name
  where i.indrelid = declared.relation::regclass and i.indisprimary;
end;

-- The sections of an export, in order: the declared tables, the receipts, the objects of each bucket, and the artworks
-- that a row names and Storage does not have.
create function private.export_sections()
returns table (section text, declared private.personal_data, bucket text, folder text)
language sql
stable
set search_path = pg_catalog, pg_temp
begin atomic
  select '1 ' || d.export_as, d, null, null from private.personal_data as d where d.export_as is not null
  union all
  select '2 receipts', null, null, null
  union all
  select '3 ' || b.bucket, null, b.bucket, b.export_as from private.personal_buckets as b where b.export_as is not null
  union all
  select '4 missing', null, null, null
  order by 1;
end;

-- The query for the rows of a declared table that follow a key: of the user $1, after the key $2, at most $3 rows.
-- Without a declared key, it finds all rows of the user first (`offset 0`). Otherwise the planner might follow the
-- primary key through the rows of all users.
create function private.rows_query(declared private.personal_data, has_after boolean)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  columns constant text[] := private.exported_columns(declared);
  -- RFC 4180: nothing for null, and "" for an empty text.
  cell constant text := $cell$
    case when r.document ->> %1$L ~ '[",\r\n]' or r.document ->> %1$L = ''
      then '"' || replace(r.document ->> %1$L, '"', '""') || '"'
      else coalesce(r.document ->> %1$L, '')
    end
  $cell$;
  key_columns text;
  key_texts text;
  key_values text;
begin
  select string_agg(format('t.%I', k.name), ', ' order by k.place),
    string_agg(format('t.%I::text', k.name), ', ' order by k.place),
    string_agg(format('($2)[%s]::%s', k.place, k.type), ', ' order by k.place)
  into key_columns, key_texts, key_values
  from private.export_key(declared) as k;
  return format(
    $query$
      select array[%1$s] as key, r.document::text as json, concat_ws(',', %2$s) as csv, null::jsonb as file
      from (
        select * from (select t.* from %3$s as t where %4$s %5$s) as t where %6$s order by %7$s limit $3
      ) as t
      cross join lateral (select to_jsonb(r) as document from (select %8$s) as r offset 0) as r
    $query$,
    key_texts,
    (select string_agg(format(cell, c.name), ', ' order by c.place)
      from unnest(columns) with ordinality as c (name, place)),
    declared.relation::regclass,
    declared.subject,
    case when declared.key is null then 'offset 0' end,
    case when has_after then format('(%s) > (%s)', key_columns, key_values) else 'true' end,
    key_columns,
    (select string_agg(format('t.%I', c.name), ', ' order by c.place)
      from unnest(columns) with ordinality as c (name, place))
  );
end;
$$;

-- The query for what follows a key in a section, as (key, json, csv, file): a row of a table as JSON and as CSV, or a
-- file. It is for the user $1, after the key $2 (null at the beginning), at most $3 rows.
create function private.section_query(section text, declared private.personal_data, bucket text, folder text, has_after boolean)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if declared.relation is not null then
    return private.rows_query(declared, has_after);
  elsif section = '2 receipts' then
    return $query$
      select array[d.id::text] as key, null as json, null as csv,
        jsonb_build_object('name', format('receipts/%s.jws', d.id), 'content', d.receipt) as file
      from (select * from public.deletions as d where d.person_id = $1 and d.receipt is not null offset 0) as d
      where $2 is null or d.id > ($2)[1]::uuid
      order by d.id
      limit $3
    $query$;
  elsif bucket is not null then
    -- The checksum that was computed when an artwork was stored is used only if the object still has the stored
    -- length.
    return format($query$
      select array[o.name] as key, null as json, null as csv,
        jsonb_build_object('name', %L || '/' || substr(o.name, 38), 'bucket', o.bucket_id, 'object', o.name,
          'bytes', private.object_bytes(o.metadata), 'crc32', w.artwork_crc32) as file
      from storage.objects as o
      left join public.generations as g
        on g.artwork_path = o.name and o.bucket_id = 'artworks' and g.artwork_bytes = private.object_bytes(o.metadata)
      left join private.generation_work as w on w.generation_id = g.id
      where o.bucket_id = %L
        and o.name collate "C" > coalesce(($2)[1], $1 || '/') and o.name collate "C" < $1 || '0'
      order by o.name collate "C"
      limit $3
    $query$, folder, bucket);
  end if;
  return $query$
    select array[g.id::text] as key, null as json, null as csv,
      jsonb_build_object('name', 'artworks/' || substr(g.artwork_path, 38), 'bucket', 'artworks',
        'object', g.artwork_path, 'missing', true) as file
    from (
      select * from public.generations as g
      where g.person_id = $1 and g.artwork_path is not null
        and not exists (select from storage.objects as o where o.bucket_id = 'artworks' and o.name = g.artwork_path)
      offset 0
    ) as g
    where $2 is null or g.id > ($2)[1]::uuid
    order by g.id
    limit $3
  $query$;
end;
$$;

-- Turns rows of a declared table into the content of its two files, with the beginning and the end of the files.
create function private.table_files(
  declared private.personal_data,
  documents text[],
  lines text[],
  is_first boolean,
  is_last boolean
)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
begin atomic
  select jsonb_build_array(
    jsonb_build_object(
      'name', format('data/%s.json', declared.export_as),
      'content', case when is_first then format('{"format": "opusflair-export-1", "table": "%s", "rows": [', declared.export_as) else '' end
        || case when documents = '{}' then '' when is_first then E'\n' else E',\n' end
        || array_to_string(documents, E',\n')
        || case when is_last then E'\n]}\n' else '' end
    ),
    jsonb_build_object(
      'name', format('data/%s.csv', declared.export_as),
      -- Excel reads a file as UTF-8 if it begins with a byte order mark.
      'content', case when is_first then U&'\FEFF' || array_to_string(private.exported_columns(declared), ',') || E'\r\n' else '' end
        || array_to_string(lines, E'\r\n')
        || case when lines = '{}' then '' else E'\r\n' end
    )
  );
end;

-- Reads what follows a key of a section, across sections, up to the size of a stretch. Returns
-- {section, after, files: [{name, content, bucket, object, bytes, crc32, missing}]}. `section` and `after` say where
-- the next stretch begins. `section` is null after the last stretch. The function is stable, so that it reads
-- everything at one moment.
create function private.read_stretch(person uuid, from_section text, from_after text[])
returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  room integer := private.stretch_bytes();
  rows_left integer := 2000;
  files jsonb[] := '{}';
  documents text[];
  lines text[];
  is_last boolean;
  after text[];
  part record;
  found_row record;
begin
  for part in
    select * from private.export_sections() as s
    where from_section is null or s.section collate "C" >= from_section
    order by s.section collate "C"
  loop
    after := case when part.section = from_section then from_after end;
    documents := '{}';
    lines := '{}';
    for found_row in
      execute private.section_query(part.section, part.declared, part.bucket, part.folder, after is not null)
      using person, after, rows_left
    loop
      if found_row.file is null then
        documents := documents || found_row.json;
        lines := lines || found_row.csv;
        room := room - octet_length(found_row.json) - octet_length(found_row.csv);
      else
        files := files || found_row.file;
        room := room - coalesce(octet_length(found_row.file ->> 'content'), 0);
      end if;
      rows_left := rows_left - 1;
      after := found_row.key;
      exit when room <= 0;
    end loop;
    is_last := room > 0 and rows_left > 0;
    if part.bucket is null and (part.declared).relation is not null then
      files := files || array(select jsonb_array_elements(private.table_files(part.declared, documents, lines,
        part.section is distinct from from_section or from_after is null, is_last)));
    end if;
    if not is_last then
      return jsonb_build_object('section', part.section, 'after', after, 'files', to_jsonb(files));
    end if;
  end loop;
  return jsonb_build_object('files', to_jsonb(files));
end;
$$;
