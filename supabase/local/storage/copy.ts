// Copies and moves, within a bucket or to another.

import { randomUUID } from "node:crypto";
import { find, findAny } from "./download.ts";
import { isThere, noObject } from "./failure.ts";
import { checkObjectName } from "./names.ts";
import { type Asked, findBucket, probe } from "./storage.ts";
import { mayUpload } from "./upload.ts";

interface Wish {
  bucketId: string;
  sourceKey: string;
  destinationBucket?: string;
  destinationKey: string;
}

async function wished(asked: Asked): Promise<{ from: Asked; to: Asked }> {
  const wish = (await asked.request.json()) as Wish;
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
  const upsert = asked.request.headers.get("x-upsert") === "true";
  await mayUpload(to, { owner: caller.owner, upsert }, source.metadata);
  await findBucket(storage, to.bucket);
  const copied = { bucket_id: to.bucket, name: to.name, version: randomUUID() };
  await storage.disk.copy(source, copied);
  const former = upsert ? await findAny(to).catch(() => undefined) : undefined;
  const [stored] = await storage.sql`
    insert into storage.objects (bucket_id, name, version, owner, owner_id, metadata, user_metadata)
    select ${to.bucket}, ${to.name}, ${copied.version}, ${caller.owner}::uuid, ${caller.owner}, metadata, user_metadata
    from storage.objects where id = ${source.id}
    on conflict (bucket_id, name) do update set version = excluded.version, owner = excluded.owner,
      owner_id = excluded.owner_id, metadata = excluded.metadata, user_metadata = excluded.user_metadata
      where ${upsert}
    returning *`;
  if (!stored) {
    await storage.disk.remove(copied);
    throw isThere();
  }
  if (former) await storage.disk.remove(former);
  return Response.json({ Id: stored.id, Key: `${to.bucket}/${to.name}`, ...stored });
}

export async function move(asked: Asked): Promise<Response> {
  const { from, to } = await wished(asked);
  const { storage } = asked;
  const moved = { bucket_id: to.bucket, name: to.name, version: randomUUID() };
  const change = { ...moved, owner: asked.caller.owner, owner_id: asked.caller.owner };
  await probe(from, async (sql) => {
    const seen = await sql`
      update storage.objects set ${sql(change)}
      where bucket_id = ${from.bucket} and name = ${from.name} returning id`;
    if (seen.length === 0) throw noObject();
  });
  const source = await findAny(from);
  await storage.disk.copy(source, moved);
  const [stored] =
    await storage.sql`update storage.objects set ${storage.sql(change)} where id = ${source.id} returning id`.catch(
      async (error: unknown) => {
        await storage.disk.remove(moved);
        throw error;
      },
    );
  await storage.disk.remove(source);
  return Response.json({
    message: "Successfully moved",
    Id: stored?.id,
    Key: `${to.bucket}/${to.name}`,
  });
}
