// Refuses text that PostgreSQL cannot store. Otherwise lite would answer 500 or store a different text.

import { isStorableAddress, isStorableJson } from "../text.ts";

/** Refuses with PostgREST's error. */
export async function refuseUnstorable(request: Request): Promise<Response | undefined> {
  const error = { details: null as string | null, hint: null };
  if (!isStorableAddress(new URL(request.url))) {
    const message = 'invalid byte sequence for encoding "UTF8"';
    return Response.json({ code: "22021", message, ...error }, { status: 400 });
  }
  if (await hasStorableBody(request)) return undefined;
  error.details = "The body has a NUL character, or half of a surrogate pair.";
  const message = "unsupported Unicode escape sequence";
  return Response.json({ code: "22P05", message, ...error }, { status: 400 });
}

/** Refuses with Auth's error for unreadable requests. */
export async function refuseUnreadable(request: Request): Promise<Response | undefined> {
  if (isStorableAddress(new URL(request.url)) && (await hasStorableBody(request))) return undefined;
  const msg = "The request has a NUL character, or half of a surrogate pair.";
  return Response.json({ code: 400, error_code: "validation_failed", msg }, { status: 400 });
}

async function hasStorableBody(request: Request): Promise<boolean> {
  return request.body === null || isStorableJson(await request.clone().text());
}
