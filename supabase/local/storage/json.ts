// Reads JSON bodies, and refuses text that PostgreSQL cannot store.

import { isStorableJson } from "../text.ts";
import { invalidRequest } from "./failure.ts";

export async function readJson<T>(request: Request): Promise<T> {
  const text = await request.text();
  if (!isStorableJson(text))
    throw invalidRequest("body must not have a NUL character, or half of a surrogate pair");
  const body = JSON.parse(text);
  if (typeof body !== "object" || body === null) throw invalidRequest("body must be object");
  return body;
}
