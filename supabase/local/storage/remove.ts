// Deletions: rows by the caller's rights, and with each row its bytes.

import { findAny } from "./download.ts";
import { accessDenied, invalidRequest } from "./failure.ts";
import { readJson } from "./json.ts";
import { type Asked, type StoredObject, asCaller } from "./storage.ts";

const most = 1000;

/** Exact names, not folders; what is missing or hidden is left out. */
async function removeAll(asked: Asked, names: string[]): Promise<StoredObject[]> {
  return asCaller(asked, async (sql) => {
    const deleted = await sql<StoredObject[]>`
      delete from storage.objects where bucket_id = ${asked.bucket} and name = any (${names}) returning *`;
    // Before the rows are gone for good: a row without bytes is repaired by deleting it again.
    for (const object of deleted) await asked.storage.disk.remove(object);
    if (deleted.length > 0)
      await asked.storage.pieces.forget(asked.bucket, new Set(deleted.map(({ name }) => name)));
    return deleted;
  });
}

export async function removeMany(asked: Asked): Promise<Response> {
  const { prefixes } = await readJson<{ prefixes?: unknown }>(asked.request);
  if (!Array.isArray(prefixes)) throw invalidRequest("body must have required property 'prefixes'");
  if (prefixes.length === 0) throw invalidRequest("body/prefixes must NOT have fewer than 1 items");
  if (prefixes.length > most)
    throw invalidRequest(`body/prefixes must NOT have more than ${most} items`);
  const deleted = await removeAll(asked, prefixes.map(String));
  return Response.json(deleted);
}

export async function removeOne(asked: Asked): Promise<Response> {
  // Storage looks for it as itself: what is hidden is told apart from what is not there.
  await findAny(asked);
  if ((await removeAll(asked, [asked.name])).length === 0) throw accessDenied("Access denied");
  return Response.json({ message: "Successfully deleted" });
}
