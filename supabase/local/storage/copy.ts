// Copies and moves objects, within a bucket or to another one.

import { randomUUID } from "node:crypto";
import { find, findAny } from "./download.ts";
import { noObject } from "./failure.ts";
import { readJson } from "./json.ts";
import { checkObjectName } from "./names.ts";
import { lockName, upsert } from "./rows.ts";
import { type Asked, asCaller, asStorage, findBucket, metadataOf, probe } from "./storage.ts";
import { mayUpload } from "./upload.ts";

interface Wish {
  bucketId: string;
  sourceKey: string;
  destinationBucket?: string;
  destinationKey: string;
}

async function wished(asked: Asked): Promise<{ from: Asked; to: Asked }> {
  const wish = await readJson<Wish>(asked.request);
  checkObjectName(wish.destinationKey);
  const from = { ...asked, bucket: wish.bucketId, name: wish.sourceKey };
  const to = {
    ...asked,
    bucket: wish.destinationBucket ?? wish.bucketId,
    name: wish.destinationKey,
  };
  return { from, to };
}

export async function copy(asked: Asked): Promise<Response> {
  const { from, to } = await wished(asked);
  const { storage, caller } = asked;
  const source = await find(from);
  const { user_metadata } = source;
  const metadata = metadataOf(source);
  const replaces = asked.request.headers.get("x-upsert") === "true";
  const target = { owner: caller.owner, upsert: replaces };
  await mayUpload(to, target, metadata, user_metadata ?? undefined);
  await findBucket(storage, to.bucket);
  const copied = { bucket_id: to.bucket, name: to.name, version: randomUUID() };
  await storage.disk.copy(source, copied);
  const row = { ...copied, owner: caller.owner, user_metadata };
  const { stored, former } = await asCaller(asStorage(asked), async (sql) => {
    const former = await lockName(sql, to.bucket, to.name);
    const lastModified = new Date().toISOString();
    const [stored] = await upsert(sql, { ...row, metadata: { ...metadata, lastModified } });
    return { stored, former };
  }).catch(async (error: unknown) => {
    await storage.disk.remove(copied);
    throw error;
  });
  if (former) await storage.disk.remove({ ...copied, version: former });
  return Response.json({ Id: stored!.id, Key: `${to.bucket}/${to.name}`, ...stored });
}

export async function move(asked: Asked): Promise<Response> {
  const { from, to } = await wished(asked);
  const { storage, caller } = asked;
  const moved = { bucket_id: to.bucket, name: to.name, version: randomUUID() };
  const owned = caller.owner === null ? {} : { owner: caller.owner, owner_id: caller.owner };
  const change = { ...moved, ...owned };
  await probe(from, async (sql) => {
    const seen = await sql`
      update storage.objects set ${sql(change)}
      where bucket_id = ${from.bucket} and name = ${from.name} returning id`;
    if (seen.length === 0) throw noObject();
  });
  const source = await findAny(from);
  await storage.disk.copy(source, moved);
  await asCaller(asStorage(asked), async (sql) => {
    await lockName(sql, to.bucket, to.name);
    await sql`update storage.objects set ${sql(change)} where id = ${source.id}`;
  }).catch(async (error: unknown) => {
    await storage.disk.remove(moved);
    throw error;
  });
  await storage.disk.remove(source);
  return Response.json({
    message: "Successfully moved",
    Id: source.id,
    Key: `${to.bucket}/${to.name}`,
  });
}
