// Hosted lists one level: names relative to the folder, deeper folders as entries without an id.

import type { Handler } from "./storage.ts";

interface Entry {
  name: string;
  id: string | null;
  [column: string]: unknown;
}

interface Question {
  prefix?: string;
  limit?: number;
  offset?: number;
  search?: string;
  sortBy?: { column?: string; order?: string };
}

const page = 1000;

export async function list(request: Request, lite: Handler): Promise<Response> {
  const question = (await request.json()) as Question;
  const folder = question.prefix ? `${question.prefix.replace(/^\/+|\/+$/g, "")}/` : "";
  const found = await everything(request, lite, folder);
  if (found instanceof Response) return found;

  const wanted = (question.search ?? "").toLowerCase();
  const column = question.sortBy?.column ?? "name";
  const direction = question.sortBy?.order === "desc" ? -1 : 1;
  const entries = level(found, folder)
    .filter((entry) => entry.name.toLowerCase().startsWith(wanted))
    .sort((a, b) => direction * compare(a[column], b[column]));
  const offset = question.offset ?? 0;
  return Response.json(entries.slice(offset, offset + (question.limit ?? 100)));
}

/** All objects below the folder that the caller may see. */
async function everything(request: Request, lite: Handler, prefix: string): Promise<Entry[] | Response> {
  const found: Entry[] = [];
  for (let offset = 0; ; offset += page) {
    const headers = new Headers(request.headers);
    headers.delete("content-length");
    const response = await lite(
      new Request(request.url, {
        method: "POST",
        headers,
        body: JSON.stringify({ prefix, limit: page, offset, sortBy: { column: "name", order: "asc" } }),
      }),
    );
    if (!response.ok) return response;
    const batch = (await response.json()) as Entry[];
    found.push(...batch);
    if (batch.length < page) return found;
  }
}

function level(objects: Entry[], folder: string): Entry[] {
  const entries = new Map<string, Entry>();
  for (const object of objects) {
    if (!object.name.startsWith(folder)) continue;
    const [name, ...deeper] = object.name.slice(folder.length).split("/");
    const isFolder = deeper.length > 0;
    if (isFolder && entries.has(name)) continue;
    const nothing = { id: null, updated_at: null, created_at: null, last_accessed_at: null, metadata: null };
    entries.set(name, isFolder ? { name, ...nothing } : { ...object, name });
  }
  return [...entries.values()];
}

function compare(a: unknown, b: unknown): number {
  const [left, right] = [String(a ?? ""), String(b ?? "")];
  return left < right ? -1 : left > right ? 1 : 0;
}
