// Deletes rows with the caller's rights, and the bytes of each deleted row.

import { findAny } from "./download.ts";
import { accessDenied, invalidRequest } from "./failure.ts";
import { readJson } from "./json.ts";
import { type Asked, type StoredObject, asCaller } from "./storage.ts";

const most = 1000;

/** Deletes objects by their exact names, not by folder. Missing and hidden ones are skipped. */
async function removeAll(asked: Asked, names: string[]): Promise<StoredObject[]> {
  return asCaller(asked, async (sql) => {
    const deleted = await sql<StoredObject[]>`
      delete from storage.objects where bucket_id = ${asked.bucket} and name = any (${names}) returning *`;
    // The bytes are removed before the deletion of rows is committed. If a row is left without bytes,
    // deleting it again repairs that.
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
  // Storage looks for the object with its own rights, so a hidden object and a
  // missing one get different errors.
  await findAny(asked);
  if ((await removeAll(asked, [asked.name])).length === 0) throw accessDenied("Access denied");
  return Response.json({ message: "Successfully deleted" });
}
