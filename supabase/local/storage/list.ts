// Lists one level: objects by name, and folders as entries without an id.

import { invalidRequest } from "./failure.ts";
import { readJson } from "./json.ts";
import { type Asked, asCaller } from "./storage.ts";

interface Wish {
  prefix?: string;
  limit?: number;
  offset?: number;
  search?: string;
  sortBy?: { column?: string; order?: string };
}

const columns = ["name", "updated_at", "created_at", "last_accessed_at"];

export async function list(asked: Asked): Promise<Response> {
  const wish = await readJson<Wish>(asked.request);
  const column = wish.sortBy?.column || "name";
  if (!columns.includes(column))
    throw invalidRequest("body/sortBy/column must be equal to one of the allowed values");
  const order = wish.sortBy?.order === "desc" ? "desc" : "asc";
  // Hosted Supabase treats the prefix as a folder, and the search as the start of the names in it.
  const folder =
    wish.prefix && !wish.prefix.endsWith("/") ? `${wish.prefix}/` : (wish.prefix ?? "");
  const search = wish.search ?? "";
  const deeper = search.slice(0, search.lastIndexOf("/") + 1);
  const entries = await asCaller(
    asked,
    (sql) => sql`
    with below as (
      select *, substr(name, ${folder.length + deeper.length + 1}::integer) as rest
      from storage.objects
      where bucket_id = ${asked.bucket} and starts_with(lower(name), lower(${folder + search}))
    ), entries as (
      select distinct split_part(rest, '/', 1) as entry, null::uuid as id, null::timestamptz as updated_at,
        null::timestamptz as created_at, null::timestamptz as last_accessed_at, null::jsonb as metadata
      from below where strpos(rest, '/') > 0
      union all
      select rest, id, updated_at, created_at, last_accessed_at, metadata from below where strpos(rest, '/') = 0
    )
    select ${deeper} || entry as name, id, updated_at, created_at, last_accessed_at, metadata
    from entries
    order by ${column === "name" ? sql`` : sql`id is not null, ${sql(column)} ${sql.unsafe(order)},`}
      lower(entry) collate "C" ${sql.unsafe(order)}, entry collate "C"
    limit ${Math.min(wish.limit ?? 100, 1500)} offset ${wish.offset ?? 0}`,
  );
  return Response.json(entries);
}
