// Resumable uploads: the TUS protocol 1.0.0 with creation and termination. The rules of normal uploads apply,
// and each piece is checked against them, as on hosted Supabase.

import { randomUUID } from "node:crypto";
import { Failure, asFailure, invalidRequest } from "./failure.ts";
import { type Described, describedBy, pairs } from "./incoming.ts";
import { type Upload, pieceBytes } from "./pieces.ts";
import { type Asked, findBucket } from "./storage.ts";
import { keep, limitOf, mayStore, projectLimit } from "./upload.ts";

const path = "/storage/v1/upload/resumable";
const piecesType = "application/offset+octet-stream";
const protocol = { "tus-resumable": "1.0.0", "tus-version": "1.0.0" };
const capabilities = {
  ...protocol,
  "tus-extension": "creation,creation-with-upload,termination",
  "tus-max-size": String(projectLimit),
};

const wrongPiece = (bytes: number) =>
  invalidRequest(`The next piece must have ${bytes} bytes: all but the last have ${pieceBytes}`);

/** The headers that OPTIONS returns in addition to CORS. */
export function announced(pathname: string): Record<string, string> {
  return pathname === path || pathname.startsWith(`${path}/`) ? capabilities : {};
}

/**
 * Errors keep their own HTTP status here, as on hosted Supabase, because clients act on
 * it. The body is only the message.
 */
function speaking(answer: (asked: Asked) => Promise<Response>) {
  return async (asked: Asked): Promise<Response> => {
    try {
      if (asked.request.headers.get("tus-resumable") !== protocol["tus-resumable"])
        throw new Failure(412, "PreconditionFailed", "Tus-Resumable Required");
      return await answer(asked);
    } catch (error) {
      const failure = asFailure(error);
      if (failure.code >= 500) throw error;
      return new Response(failure.message, { status: failure.code, headers: protocol });
    }
  };
}

function reply(status: number, headers: Record<string, string> = {}): Response {
  return new Response(null, { status, headers: { ...protocol, ...headers } });
}

export const create = speaking(async (asked) => {
  const { request, storage } = asked;
  const metadata = request.headers.get("upload-metadata") ?? "";
  const said = pairs(metadata);
  const upload: Upload = {
    version: randomUUID(),
    bucket: said.get("bucketName") ?? "",
    name: said.get("objectName") ?? "",
    length: count(request, "upload-length"),
    metadata,
  };
  await checked(asked, upload);
  await storage.pieces.begin(upload);
  const id = Buffer.from(idOf(upload)).toString("base64url");
  const location = `${new URL(request.url).origin}${path}/${id}`;
  if (request.headers.get("content-type") !== piecesType && upload.length > 0)
    return reply(201, { location });
  try {
    const offset = await take(asked, upload, 0);
    return reply(201, { location, "upload-offset": String(offset) });
  } catch (error) {
    await storage.pieces.remove(upload);
    throw error;
  }
});

export const inspect = speaking(async (asked) => {
  const upload = await begun(asked);
  return reply(200, {
    "upload-offset": String(await asked.storage.pieces.offset(upload)),
    "upload-length": String(upload.length),
    "upload-metadata": upload.metadata,
    "cache-control": "no-store",
  });
});

export const append = speaking(async (asked) => {
  const { request, storage } = asked;
  if (request.headers.get("content-type") !== piecesType)
    throw new Failure(415, "InvalidRequest", `Content-Type must be ${piecesType}`);
  const upload = await begun(asked);
  return storage.pieces.alone(upload, async () => {
    const offset = await storage.pieces.offset(upload);
    if (count(request, "upload-offset") !== offset)
      throw new Failure(409, "InvalidRequest", "Upload-Offset conflict");
    if (offset === upload.length) throw invalidRequest("The upload is whole");
    return reply(204, { "upload-offset": String(await take(asked, upload, offset)) });
  });
});

export const terminate = speaking(async (asked) => {
  const upload = await begun(asked);
  const { pieces } = asked.storage;
  await checked(asked, upload);
  return pieces.alone(upload, async () => {
    if ((await pieces.offset(upload)) === upload.length)
      throw invalidRequest("Cannot terminate an already completed upload");
    await pieces.remove(upload);
    return reply(204);
  });
});

/** Stores the piece at `offset`. If it is the last one, also writes the object. Returns the next offset. */
async function take(asked: Asked, upload: Upload, offset: number): Promise<number> {
  const { request, storage } = asked;
  const bytes = Math.min(pieceBytes, upload.length - offset);
  const { rules, described } = await checked(asked, upload);
  const body = (request.body ?? new Blob([]).stream()) as unknown as AsyncIterable<Uint8Array>;
  const size = await storage.pieces.write(upload, body, (size) => {
    if (size > bytes) throw wrongPiece(bytes);
  });
  if (size !== bytes) throw wrongPiece(bytes);
  if (offset + bytes < upload.length) {
    await storage.pieces.keep(upload, offset);
  } else {
    await keep(...rules, { ...described, size: upload.length, body: storage.pieces.all(upload) });
    await storage.pieces.end(upload);
  }
  return offset + bytes;
}

/**
 * Checks the bucket's rules and the caller's rights. Hosted Supabase also reads `x-upsert` from each request.
 */
async function checked(asked: Asked, upload: Upload) {
  const { bucket, name, length, metadata } = upload;
  const described: Described = describedBy(pairs(metadata), length);
  const upsert = asked.request.headers.get("x-upsert") === "true";
  const found = await findBucket(asked.storage, bucket);
  if (length > limitOf(found))
    throw new Failure(413, "Payload too large", "Maximum size exceeded");
  const rules = [
    { ...asked, bucket, name },
    { owner: asked.caller.owner, upsert },
    found,
  ] as const;
  await mayStore(...rules, described);
  return { rules, described };
}

/**
 * Finds an upload. Any caller may see its progress, but to continue it, a user needs the rights of a normal
 * upload to this name. In these paths, the id is in the place of the bucket.
 */
async function begun({ storage, bucket }: Asked): Promise<Upload> {
  const id = Buffer.from(bucket, "base64url").toString();
  const upload = await storage.pieces.find(id.slice(id.lastIndexOf("/") + 1));
  if (!upload || idOf(upload) !== id)
    throw new Failure(404, "not_found", "The file for this url was not found");
  return upload;
}

function idOf({ bucket, name, version }: Upload): string {
  return `${bucket}/${name}/${version}`;
}

function count(request: Request, header: string): number {
  const text = request.headers.get(header) ?? "";
  if (/^\d{1,15}$/.test(text)) return Number(text);
  throw invalidRequest(`headers must have property '${header}', a number of bytes`);
}
