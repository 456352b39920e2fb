// The second version of lists: full names, separate folders, and a cursor instead of an offset.

import { invalidRequest } from "./failure.ts";
import { readJson } from "./json.ts";
import { type Asked, asCaller } from "./storage.ts";

interface Wish {
  prefix?: string;
  limit?: number;
  cursor?: string;
  with_delimiter?: boolean;
  sortBy?: { column?: string; order?: string };
}

const columns = ["name", "updated_at", "created_at"];

/** The end of a page: the sort value and the name of its last entry. */
type Position = [string, string];

function position(cursor: string | undefined): Position | undefined {
  if (!cursor) return undefined;
  try {
    return JSON.parse(Buffer.from(cursor, "base64").toString("utf8"));
  } catch {
    throw invalidRequest("body/cursor is not a cursor");
  }
}

export async function listV2(asked: Asked): Promise<Response> {
  const wish = await readJson<Wish>(asked.request);
  const prefix = wish.prefix ?? "";
  const column = wish.sortBy?.column ?? "name";
  if (!columns.includes(column))
    throw invalidRequest("body/sortBy/column must be equal to one of the allowed values");
  const isDescending = wish.sortBy?.order === "desc";
  const limit = Math.min(wish.limit ?? 1000, 1000);
  const from = position(wish.cursor);
  const found = await asCaller(
    asked,
    (sql) => sql`
    with below as (
      select *, case when ${wish.with_delimiter === true} then strpos(substr(name, ${prefix.length + 1}::integer), '/') else 0 end as cut
      from storage.objects where bucket_id = ${asked.bucket} and starts_with(name, ${prefix})
    ), entries as (
      select distinct left(name, ${prefix.length}::integer + cut) as name, null::uuid as id, null::timestamptz as updated_at,
        null::timestamptz as created_at, null::timestamptz as last_accessed_at, null::jsonb as metadata
      from below where cut > 0
      union all
      select name, id, updated_at, created_at, last_accessed_at, metadata from below where cut = 0
    ), sorted as (
      select *, ${column === "name" ? sql`''` : sql`coalesce(${sql(column)}::text, '')`} collate "C" as value from entries
    )
    select * from sorted
    where ${from ? sql`(value, name collate "C") ${isDescending ? sql`<` : sql`>`} (${from[0]}, ${from[1]})` : sql`true`}
    order by value ${isDescending ? sql`desc` : sql`asc`}, name collate "C" ${isDescending ? sql`desc` : sql`asc`}
    limit ${limit + 1}`,
  );
  const page = found.slice(0, limit);
  const last = page.at(-1);
  const hasNext = found.length > limit;
  const key = (name: string) => name.slice(prefix.lastIndexOf("/") + 1).replace(/\/$/, "");
  return Response.json({
    hasNext,
    ...(hasNext && last
      ? { nextCursor: Buffer.from(JSON.stringify([last.value, last.name])).toString("base64") }
      : {}),
    folders: page.filter(({ id }) => id === null).map(({ name }) => ({ key: key(name), name })),
    objects: page
      .filter(({ id }) => id !== null)
      .map(({ value: _, ...object }) =>
        wish.with_delimiter ? { key: key(object.name), ...object } : object,
      ),
  });
}
