// The core of Storage: rows in `storage`, which are read and written with the
// caller's rights, and bytes on disk.

import type postgres from "postgres";
import type { Keys } from "../keys.ts";
import { type Caller, service } from "./caller.ts";
import type { Disk } from "./disk.ts";
import { noBucket } from "./failure.ts";
import type { Pieces } from "./pieces.ts";

export interface Storage {
  sql: postgres.Sql;
  disk: Disk;
  pieces: Pieces;
  keys: Keys;
}

/** A parsed request. */
export interface Asked {
  storage: Storage;
  request: Request;
  query: URLSearchParams;
  caller: Caller;
  operation: string;
  bucket: string;
  name: string;
}

export interface Bucket {
  id: string;
  public: boolean;
  file_size_limit: string | null;
  allowed_mime_types: string[] | null;
}

export interface StoredObject {
  id: string;
  bucket_id: string;
  name: string;
  version: string | null;
  created_at: string;
  updated_at: string;
  /** In a row that was not created by an upload, this may be anything. */
  metadata: Partial<Metadata> | null;
  user_metadata: Record<string, unknown> | null;
}

export interface Metadata {
  eTag: string;
  size: number;
  mimetype: string;
  cacheControl: string;
  lastModified: string;
  contentLength: number;
  httpStatusCode: number;
}

/** The metadata of an object, with defaults for a row that was not created by an upload. */
export function metadataOf({ metadata }: StoredObject): Metadata {
  const unknown = { eTag: '""', mimetype: "application/octet-stream", cacheControl: "no-cache" };
  const since = new Date(0).toISOString();
  return { ...unknown, size: 0, contentLength: 0, lastModified: since, httpStatusCode: 200, ...metadata };
}

type Work<T> = (transaction: postgres.TransactionSql) => Promise<T>;

/** Runs `work` in one transaction with the caller's role and claims, so policies apply. */
export function asCaller<T>({ storage, caller, operation }: Asked, work: Work<T>): Promise<T> {
  return storage.sql.begin(async (transaction) => {
    await transaction`
      select set_config('role', ${caller.role}, true),
        set_config('request.jwt.claims', ${JSON.stringify(caller.claims)}, true),
        set_config('request.jwt.claim.sub', ${caller.owner ?? ""}, true),
        set_config('request.jwt.claim.role', ${caller.role}, true),
        set_config('storage.operation', ${`storage.${operation}`}, true),
        set_config('storage.allow_delete_query', 'true', true)`;
    return work(transaction);
  }) as Promise<T>;
}

/** The same request with Storage's own rights: policies do not apply, but triggers still fire. */
export function asStorage(asked: Asked): Asked {
  return { ...asked, caller: service };
}

class Undone extends Error {}

/** Checks that the caller may do this: does it with the caller's rights, and rolls it back. */
export async function probe(asked: Asked, work: Work<unknown>): Promise<void> {
  const undone = asCaller(asked, async (transaction) => {
    await work(transaction);
    throw new Undone();
  });
  await undone.catch((error: unknown) => {
    if (!(error instanceof Undone)) throw error;
  });
}

/** Finds a bucket with Storage's own rights, because its limits also apply to callers who cannot see it. */
export async function findBucket({ sql }: Storage, id: string): Promise<Bucket> {
  const [bucket] = await sql<Bucket[]>`
    select id, public, file_size_limit, allowed_mime_types from storage.buckets where id = ${id}`;
  if (!bucket) throw noBucket();
  return bucket;
}

/** The versions in all rows. No other files may be on disk. */
export async function versions(sql: postgres.Sql): Promise<Set<string>> {
  const rows = await sql<
    { version: string }[]
  >`select version from storage.objects where version is not null`;
  return new Set(rows.map(({ version }) => version));
}
