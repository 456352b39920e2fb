// Downloads objects, or only their metadata.

import { Failure, noBucket, noObject } from "./failure.ts";
import { type Asked, type StoredObject, asCaller, findBucket, metadataOf } from "./storage.ts";

/** Finds the object if the caller may see it. */
export async function find(asked: Asked): Promise<StoredObject> {
  const bucket = await findBucket(asked.storage, asked.bucket);
  if (bucket.public) return findAny(asked);
  if (!asked.caller.isAuthenticated) throw noBucket();
  const [object] = await asCaller(
    asked,
    (sql) => sql<StoredObject[]>`
    select * from storage.objects where bucket_id = ${asked.bucket} and name = ${asked.name}`,
  );
  if (!object) throw noObject();
  return object;
}

/** Finds the object with Storage's own rights. */
export async function findAny({ storage, bucket, name }: Asked): Promise<StoredObject> {
  const [object] = await storage.sql<StoredObject[]>`
    select * from storage.objects where bucket_id = ${bucket} and name = ${name}`;
  if (!object) throw noObject();
  return object;
}

export async function download(asked: Asked): Promise<Response> {
  return deliver(asked, await find(asked));
}

export async function downloadPublic(asked: Asked): Promise<Response> {
  const bucket = await findBucket(asked.storage, asked.bucket);
  if (!bucket.public) throw noBucket();
  return deliver(asked, await findAny(asked));
}

export async function info(asked: Asked): Promise<Response> {
  const object = await find(asked);
  const { id, name, version, user_metadata, created_at, bucket_id } = object;
  const metadata = metadataOf(object);
  return Response.json({
    ...{ id, name, version, bucket_id, created_at: new Date(created_at), metadata: user_metadata },
    ...{
      size: metadata.size,
      content_type: metadata.mimetype,
      cache_control: metadata.cacheControl,
    },
    ...{ etag: metadata.eTag, last_modified: new Date(metadata.lastModified) },
  });
}

export async function deliver(
  asked: Asked,
  object: StoredObject,
  expires?: number,
): Promise<Response> {
  const { request, query, storage } = asked;
  const metadata = metadataOf(object);
  const headers = new Headers({
    "accept-ranges": "bytes",
    // Hosted Supabase does not serve uploaded HTML as a page.
    "content-type": metadata.mimetype.includes("text/html") ? "text/plain" : metadata.mimetype,
    etag: metadata.eTag,
    "last-modified": new Date(metadata.lastModified).toUTCString(),
    "x-robots-tag": "none",
  });
  if (expires === undefined) headers.set("cache-control", metadata.cacheControl);
  else headers.set("expires", new Date(expires * 1000).toUTCString());
  const file = query.get("download");
  if (file !== null) headers.set("content-disposition", disposition(file));

  if (request.headers.get("if-none-match") === metadata.eTag)
    return new Response(null, { status: 304, headers });
  const range = rangeOf(request.headers.get("range"), metadata.size);
  if (range) headers.set("content-range", `bytes ${range.first}-${range.last}/${metadata.size}`);
  const bytes = await storage.disk.read(object, range?.first, range?.last);
  if (!bytes) throw noObject();
  headers.set("content-length", String(bytes.byteLength));
  const body = request.method === "HEAD" ? null : bytes;
  return new Response(body, { status: range ? 206 : 200, headers });
}

function disposition(file: string): string {
  if (file === "") return "attachment;";
  const name = encodeURIComponent(file);
  return `attachment; filename=${name}; filename*=UTF-8''${name};`;
}

function rangeOf(header: string | null, size: number): { first: number; last: number } | undefined {
  const [, from, to] = /^bytes=(\d*)-(\d*)$/.exec(header ?? "") ?? [];
  if (from === undefined || (from === "" && to === "")) return undefined;
  const first = from === "" ? Math.max(size - Number(to), 0) : Number(from);
  const last = from === "" || to === "" ? size - 1 : Math.min(Number(to), size - 1);
  if (first > last)
    throw new Failure(416, "InvalidRange", "The requested range is not satisfiable");
  return { first, last };
}
