// Uploads: check the bucket's rules, then the caller's rights, then write the bytes and the row.

import { randomUUID } from "node:crypto";
import { type Described, type Incoming, incoming } from "./incoming.ts";
import { Failure, tooLarge } from "./failure.ts";
import { checkObjectName } from "./names.ts";
import { insert, lockName, upsert } from "./rows.ts";
import {
  type Asked,
  type Bucket,
  type Metadata,
  asCaller,
  asStorage,
  findBucket,
  probe,
} from "./storage.ts";
import type { Written } from "./disk.ts";

/**
 * The size limit of the project, as in `supabase/config.toml`. It is large because an export is one object.
 */
export const projectLimit = 5 * 1024 ** 3;

export interface Target {
  owner: string | null;
  upsert: boolean;
}

export async function upload(asked: Asked): Promise<Response> {
  const upsert = asked.request.method === "PUT" || asked.request.headers.get("x-upsert") === "true";
  const { id, key } = await store(asked, { owner: asked.caller.owner, upsert });
  return Response.json({ Id: id, Key: key });
}

export async function store(asked: Asked, target: Target): Promise<{ id: string; key: string }> {
  const { storage, request } = asked;
  const bucket = await findBucket(storage, asked.bucket);
  const file = await incoming(request);
  await mayStore(asked, target, bucket, file);
  return keep(asked, target, bucket, file);
}

/**
 * Checks everything that is known before the bytes arrive: the bucket's rules,
 * the name and the caller's rights.
 */
export async function mayStore(
  asked: Asked,
  target: Target,
  bucket: Bucket,
  described: Described,
): Promise<void> {
  const { declaredType: mimetype, contentLength, userMetadata } = described;
  checkType(mimetype, bucket);
  if (!isForm(asked.request) && (contentLength ?? 0) > limitOf(bucket)) throw tooLarge();
  checkObjectName(asked.name);
  await mayUpload(asked, target, { mimetype, contentLength }, userMetadata);
}

/** Writes the bytes, then the row. */
export async function keep(
  asked: Asked,
  target: Target,
  bucket: Bucket,
  file: Incoming,
): Promise<{ id: string; key: string }> {
  const { storage, bucket: bucketId, name } = asked;
  if ((file.size ?? 0) > limitOf(bucket)) throw tooLarge();
  const place = { bucket_id: bucketId, name, version: randomUUID() };
  const written = await storage.disk.write(place, file.body);
  try {
    if (file.size !== undefined && written.size !== file.size) {
      throw new Failure(400, "InvalidRequest", "The upload was cut short");
    }
    const id = await record(asked, target, place.version, file, written);
    return { id, key: `${bucketId}/${name}` };
  } catch (error) {
    await storage.disk.remove(place);
    throw error;
  }
}

export function limitOf(bucket: Bucket): number {
  return Math.min(Number(bucket.file_size_limit ?? projectLimit), projectLimit);
}

/** The size of the file in a form is only known once the form is read. */
function isForm(request: Request): boolean {
  return request.headers.get("content-type")?.startsWith("multipart/form-data") ?? false;
}

/**
 * Compares types as text: `image/jpg` is not `image/jpeg`, and a type with parameters does not match either.
 */
function checkType(mimetype: string | undefined, bucket: Bucket): void {
  const allowed = bucket.allowed_mime_types ?? [];
  if (mimetype === undefined || allowed.length === 0) return;
  const [type, subtype] = mimetype.split("/");
  const isAllowed = allowed.some((pattern) => {
    const [allowedType, allowedSubtype] = pattern.split("/");
    return (
      subtype !== undefined && type === allowedType && [subtype, "*"].includes(allowedSubtype!)
    );
  });
  if (!isAllowed)
    throw new Failure(415, "invalid_mime_type", `mime type ${mimetype} is not supported`);
}

/**
 * Checks the caller's rights. Policies and triggers see what is known before the first
 * byte, so they do not see the size.
 */
export function mayUpload(
  asked: Asked,
  { owner, upsert: replaces }: Target,
  metadata: Partial<Metadata>,
  userMetadata?: Record<string, unknown>,
): Promise<void> {
  const { bucket, name } = asked;
  const row = { bucket_id: bucket, name, version: "1", owner, metadata };
  return probe(asked, (sql) =>
    (replaces ? upsert : insert)(sql, { ...row, user_metadata: userMetadata ?? null }),
  );
}

/**
 * Writes the row. As on hosted Supabase, an object that appeared under this name meanwhile is replaced. Only
 * a trigger can refuse that.
 */
async function record(
  asked: Asked,
  target: Target,
  version: string,
  file: Incoming,
  written: Written,
): Promise<string> {
  const { storage, bucket, name } = asked;
  const metadata: Metadata = {
    eTag: written.eTag,
    size: written.size,
    mimetype: file.mimetype,
    cacheControl: file.cacheControl,
    lastModified: new Date().toISOString(),
    contentLength: written.size,
    httpStatusCode: 200,
  };
  const row = { bucket_id: bucket, name, version, owner: target.owner, metadata };
  const { id, former } = await asCaller(asStorage(asked), async (sql) => {
    const former = await lockName(sql, bucket, name);
    const [stored] = await upsert(sql, { ...row, user_metadata: file.userMetadata ?? {} });
    return { id: stored!.id, former };
  });
  if (former) await storage.disk.remove({ bucket_id: bucket, name, version: former });
  return id;
}
