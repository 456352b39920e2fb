// Reads the content and metadata of an upload: a raw body with headers, a form with
// fields, or pieces with TUS metadata.

import { Failure } from "./failure.ts";
import { parseForm } from "./form.ts";

export interface Described {
  mimetype: string;
  /** Undefined if a resumable upload names no type. Then the bucket's rules for types are not checked. */
  declaredType?: string;
  cacheControl: string;
  /** The length that the request states. For a form it includes the form's own lines. */
  contentLength?: number;
  userMetadata?: Record<string, unknown>;
}

export interface Incoming extends Described {
  body: AsyncIterable<Uint8Array>;
  /** The size of the file. Undefined for a raw body without a length. Then no limit is checked in advance. */
  size?: number;
}

export async function incoming(request: Request): Promise<Incoming> {
  const type = request.headers.get("content-type") ?? "";
  return type.startsWith("multipart/form-data") ? form(request, type) : raw(request, type);
}

async function form(request: Request, type: string): Promise<Incoming> {
  const form = parseForm(Buffer.from(await request.arrayBuffer()), type);
  if (!form?.file) throw new Failure(400, "InvalidRequest", "No content provided");
  const { fields, file } = form;
  const cacheTime = fields.get("cacheControl");
  const mimetype = fields.get("contentType") || file.type || "application/octet-stream";
  return {
    body: new Blob([file.bytes]).stream() as unknown as AsyncIterable<Uint8Array>,
    ...{ mimetype, declaredType: mimetype },
    cacheControl: cacheTime ? `max-age=${cacheTime}` : "no-cache",
    contentLength: lengthOf(request),
    size: file.bytes.byteLength,
    userMetadata: parse(fields.get("metadata") ?? fields.get("userMetadata")),
  };
}

function lengthOf(request: Request): number | undefined {
  const length = request.headers.get("content-length");
  return length === null ? undefined : Number(length);
}

function raw(request: Request, type: string): Incoming {
  const mimetype = type || "application/octet-stream";
  const metadata = request.headers.get("x-metadata");
  return {
    body: (request.body ?? new Blob([]).stream()) as unknown as AsyncIterable<Uint8Array>,
    ...{ mimetype, declaredType: mimetype },
    cacheControl: request.headers.get("cache-control") ?? "no-cache",
    ...{ contentLength: lengthOf(request), size: lengthOf(request) },
    userMetadata: parse(
      metadata === null ? undefined : Buffer.from(metadata, "base64").toString("utf8"),
    ),
  };
}

/** Parses an Upload-Metadata header: keys, each with its value in base64. */
export function pairs(header: string): Map<string, string> {
  const parts = header.split(",").map((pair) => pair.trim().split(" "));
  return new Map(parts.map(([key, value]) => [key!, Buffer.from(value ?? "", "base64").toString()]));
}

export function describedBy(pairs: Map<string, string>, contentLength: number): Described {
  const cacheTime = pairs.get("cacheControl") ?? "";
  const declaredType = pairs.get("contentType") || undefined;
  return {
    ...{ mimetype: declaredType ?? "binary/octet-stream", declaredType },
    cacheControl: /^-?\d+$/.test(cacheTime) ? `max-age=${cacheTime}` : "no-cache",
    contentLength,
    userMetadata: parse(pairs.get("metadata")),
  };
}

/** Hosted Supabase ignores metadata that is not JSON. */
function parse(text: string | undefined): Record<string, unknown> | undefined {
  try {
    return text === undefined ? undefined : JSON.parse(text);
  } catch {
    return undefined;
  }
}
