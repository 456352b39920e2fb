// Signed URLs. Each contains a token for one object that is valid for a limited
// time, so no account is needed.

import { signToken, verifyToken } from "../tokens.ts";
import { deliver, findAny } from "./download.ts";
import { Failure, invalidRequest, noObject } from "./failure.ts";
import { readJson } from "./json.ts";
import { type Asked, type StoredObject, asCaller, asStorage } from "./storage.ts";
import { mayUpload, store } from "./upload.ts";

const uploadSeconds = 2 * 60 * 60;

interface Wish {
  expiresIn?: unknown;
  paths?: unknown;
}

async function seconds({ expiresIn }: Wish): Promise<number> {
  if (Number.isInteger(expiresIn) && (expiresIn as number) >= 1) return expiresIn as number;
  throw invalidRequest("body/expiresIn must be an integer >= 1");
}

/** The names that the caller may see. */
function visible(asked: Asked, names: string[]): Promise<Pick<StoredObject, "name">[]> {
  return asCaller(
    asked,
    (sql) => sql<StoredObject[]>`
    select name from storage.objects where bucket_id = ${asked.bucket} and name = any (${names})`,
  );
}

function address({ storage, bucket }: Asked, name: string, lasting: number): string {
  const url = `${bucket}/${name}`;
  return `/object/sign/${url}?token=${signToken({ url }, storage.keys.jwt, lasting)}`;
}

export async function sign(asked: Asked): Promise<Response> {
  const lasting = await seconds(await readJson<Wish>(asked.request));
  if ((await visible(asked, [asked.name])).length === 0) throw noObject();
  return Response.json({ signedURL: address(asked, asked.name, lasting) });
}

export async function signMany(asked: Asked): Promise<Response> {
  const wish = await readJson<Wish>(asked.request);
  const lasting = await seconds(wish);
  if (!Array.isArray(wish.paths) || wish.paths.length === 0) {
    throw invalidRequest("body/paths must NOT have fewer than 1 items");
  }
  const paths = wish.paths.map(String);
  const seen = new Set((await visible(asked, paths)).map(({ name }) => name));
  return Response.json(
    paths.map((path) =>
      seen.has(path)
        ? { error: null, path, signedURL: address(asked, path, lasting) }
        : {
            error: "Either the object does not exist or you do not have access to it",
            path,
            signedURL: null,
          },
    ),
  );
}

export async function signUpload(asked: Asked): Promise<Response> {
  const { storage, bucket, name, caller, request } = asked;
  const upsert = request.headers.get("x-upsert") === "true";
  // Policies see the headers of this request, not those of the later upload: `application/json`, 2 bytes.
  const length = request.headers.get("content-length");
  await mayUpload(asked, { owner: caller.owner, upsert }, {
    mimetype: request.headers.get("content-type") ?? undefined,
    contentLength: length === null ? undefined : Number(length),
  });
  const url = `${bucket}/${name}`;
  const token = signToken({ owner: caller.owner, url, upsert }, storage.keys.jwt, uploadSeconds);
  return Response.json({ url: `/object/upload/sign/${url}?token=${token}`, token });
}

/** Verifies the token in the URL, which must be for exactly this object, and returns its claims. */
function claims({ storage, query, bucket, name }: Asked) {
  const token = query.get("token");
  if (!token) throw invalidRequest("querystring must have required property 'token'");
  const verified = (() => {
    try {
      return verifyToken(token, storage.keys.jwt);
    } catch (error) {
      throw new Failure(400, "InvalidJWT", (error as Error).message);
    }
  })();
  if (verified.url !== `${bucket}/${name}`)
    throw new Failure(400, "InvalidSignature", "Invalid signature");
  return verified as { url: string; exp: number; owner?: string | null; upsert?: boolean };
}

export async function downloadSigned(asked: Asked): Promise<Response> {
  const { exp, upsert } = claims(asked);
  // A token for an upload gives no right to read.
  if (upsert !== undefined) throw new Failure(400, "InvalidSignature", "Invalid signature");
  return deliver(asked, await findAny(asked), exp);
}

/**
 * Uploads with a signed URL. This bypasses every policy while the token is valid,
 * so only a trigger can refuse it.
 */
export async function uploadSigned(asked: Asked): Promise<Response> {
  const { owner, upsert } = claims(asked);
  if (upsert === undefined) throw new Failure(400, "InvalidSignature", "Invalid signature");
  const { key } = await store(asStorage(asked), { owner: owner ?? null, upsert });
  return Response.json({ Key: key });
}
