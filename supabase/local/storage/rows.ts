// Writes rows of `storage.objects` in the form that triggers and policies expect.

import type postgres from "postgres";
import type { Metadata } from "./storage.ts";

export interface Row {
  bucket_id: string;
  name: string;
  version: string;
  owner: string | null;
  metadata: Partial<Metadata> | null;
  user_metadata: Record<string, unknown> | null;
}

const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

function columns(sql: postgres.TransactionSql, { owner, metadata, user_metadata, ...rest }: Row) {
  const json = (value: object | null) => (value === null ? null : sql.json(value as never));
  return sql({
    ...rest,
    owner: owner !== null && uuid.test(owner) ? owner : null,
    owner_id: owner,
    metadata: json(metadata),
    user_metadata: json(user_metadata),
  });
}

export function insert(sql: postgres.TransactionSql, row: Row) {
  return sql`insert into storage.objects ${columns(sql, row)}`;
}

/** Inserts or replaces a row. If the service key replaces it, the row keeps its owner. */
export function upsert(sql: postgres.TransactionSql, row: Row) {
  const owned =
    row.owner === null ? sql`` : sql`, owner = excluded.owner, owner_id = excluded.owner_id`;
  return sql<{ id: string }[]>`
    insert into storage.objects ${columns(sql, row)}
    on conflict (name, bucket_id) do update set metadata = excluded.metadata,
      user_metadata = excluded.user_metadata, version = excluded.version ${owned}
    returning *`;
}

/** Locks the name until the transaction ends. Returns the current version. */
export async function lockName(
  sql: postgres.TransactionSql,
  bucket: string,
  name: string,
): Promise<string | undefined> {
  await sql`select pg_advisory_xact_lock(hashtextextended(${`${bucket}/${name}`}, 0))`;
  const [current] = await sql<{ version: string }[]>`
    select version from storage.objects where bucket_id = ${bucket} and name = ${name} for update`;
  return current?.version;
}
