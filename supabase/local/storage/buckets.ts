// Buckets are rows, so policies decide who may change them. Without a policy, only the secret key may.

import { Failure, noBucket } from "./failure.ts";
import { readJson } from "./json.ts";
import { checkBucketName } from "./names.ts";
import { type Asked, type StoredObject, asCaller } from "./storage.ts";

interface Wish {
  id?: string;
  name?: string;
  public?: boolean;
  file_size_limit?: number | string | null;
  allowed_mime_types?: string[] | null;
}

const units: Record<string, number> = { b: 1, kb: 1e3, mb: 1e6, gb: 1e9 };

function bytes(limit: Wish["file_size_limit"]): number | null {
  if (limit === null || limit === undefined || typeof limit === "number") return limit ?? null;
  const [, amount, unit] = /^(\d+(?:\.\d+)?)(gb|mb|kb|b)?$/i.exec(limit) ?? [];
  if (amount) return Math.floor(Number(amount) * units[(unit ?? "b").toLowerCase()]!);
  throw new Failure(
    400,
    "InvalidRequest",
    "Invalid file size format, hint: use 20GB / 20MB / 30KB / 3B",
  );
}

const shown = (bucket: Record<string, unknown>) => ({
  ...bucket,
  owner: bucket.owner ?? "",
  file_size_limit: bucket.file_size_limit === null ? null : Number(bucket.file_size_limit),
});

export async function createBucket(asked: Asked): Promise<Response> {
  const wish = await readJson<Wish>(asked.request);
  const name = wish.name ?? wish.id ?? "";
  checkBucketName(name);
  const { owner } = asked.caller;
  await asCaller(asked, (sql) => {
    const row = {
      ...{ id: wish.id ?? name, name, owner, owner_id: owner, public: wish.public ?? false },
      ...{
        file_size_limit: bytes(wish.file_size_limit),
        allowed_mime_types: wish.allowed_mime_types ?? null,
      },
    };
    return sql`insert into storage.buckets ${sql(row)}`;
  });
  return Response.json({ name });
}

export async function listBuckets(asked: Asked): Promise<Response> {
  const buckets = await asCaller(asked, (sql) => sql`select * from storage.buckets order by name`);
  return Response.json(buckets.map(shown));
}

export async function getBucket(asked: Asked): Promise<Response> {
  const [bucket] = await asCaller(
    asked,
    (sql) => sql`select * from storage.buckets where id = ${asked.bucket}`,
  );
  if (!bucket) throw noBucket();
  return Response.json(shown(bucket));
}

export async function updateBucket(asked: Asked): Promise<Response> {
  const wish = await readJson<Wish>(asked.request);
  const change: Record<string, unknown> = { updated_at: new Date() };
  if (wish.public !== undefined) change.public = wish.public;
  if (wish.file_size_limit !== undefined) change.file_size_limit = bytes(wish.file_size_limit);
  if (wish.allowed_mime_types !== undefined) change.allowed_mime_types = wish.allowed_mime_types;
  const changed = await asCaller(
    asked,
    (sql) => sql`update storage.buckets set ${sql(change)} where id = ${asked.bucket} returning id`,
  );
  if (changed.length === 0) throw noBucket();
  return Response.json({ message: "Successfully updated" });
}

export async function emptyBucket(asked: Asked): Promise<Response> {
  await getBucket(asked);
  await asCaller(asked, async (sql) => {
    const deleted = await sql<StoredObject[]>`
      delete from storage.objects where bucket_id = ${asked.bucket} returning *`;
    for (const object of deleted) await asked.storage.disk.remove(object);
  });
  return Response.json({
    message: "Empty bucket has been queued. Completion may take up to an hour.",
  });
}

export async function deleteBucket(asked: Asked): Promise<Response> {
  const deleted = await asCaller(
    asked,
    (sql) => sql`delete from storage.buckets where id = ${asked.bucket} returning id`,
  ).catch((error: { code?: string }) => {
    if (error.code !== "23503") throw error;
    throw new Failure(409, "InvalidRequest", "The bucket you tried to delete is not empty");
  });
  if (deleted.length === 0) throw noBucket();
  return Response.json({ message: "Successfully deleted" });
}
