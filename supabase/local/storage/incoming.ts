// What an upload carries: a raw body with headers, or a form with the same in its fields.

import { Failure } from "./failure.ts";

export interface Incoming {
  body: AsyncIterable<Uint8Array>;
  mimetype: string;
  cacheControl: string;
  /** Unset when nobody said it. */
  contentLength?: number;
  userMetadata?: Record<string, unknown>;
}

export async function incoming(request: Request): Promise<Incoming> {
  const type = request.headers.get("content-type") ?? "";
  return type.startsWith("multipart/form-data") ? form(request) : raw(request, type);
}

async function form(request: Request): Promise<Incoming> {
  const fields = await request.formData().catch(() => undefined);
  // Whichever field holds it: the Supabase client sends one without a name.
  const file = fields && [...fields.values()].find((value): value is File => typeof value !== "string");
  if (!fields || !file) throw new Failure(400, "InvalidRequest", "No content provided");
  const text = (name: string) => {
    const value = fields.get(name);
    return typeof value === "string" ? value : undefined;
  };
  const cacheTime = text("cacheControl");
  return {
    body: file.stream() as unknown as AsyncIterable<Uint8Array>,
    mimetype: text("contentType") || file.type || "application/octet-stream",
    cacheControl: cacheTime ? `max-age=${cacheTime}` : "no-cache",
    contentLength: file.size,
    userMetadata: parse(text("metadata") ?? text("userMetadata")),
  };
}

function raw(request: Request, type: string): Incoming {
  const length = request.headers.get("content-length");
  const metadata = request.headers.get("x-metadata");
  return {
    body: (request.body ?? new Blob([]).stream()) as unknown as AsyncIterable<Uint8Array>,
    mimetype: type || "application/octet-stream",
    cacheControl: request.headers.get("cache-control") ?? "no-cache",
    contentLength: length === null ? undefined : Number(length),
    userMetadata: parse(metadata === null ? undefined : Buffer.from(metadata, "base64").toString("utf8")),
  };
}

/** Hosted ignores metadata that is no JSON. */
function parse(text: string | undefined): Record<string, unknown> | undefined {
  try {
    return text === undefined ? undefined : JSON.parse(text);
  } catch {
    return undefined;
  }
}
