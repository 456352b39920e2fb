// Hosted takes a file from whichever field of a form holds it; the Supabase client sends it in a field
// without a name. Passed on as a raw body, with what the form says beside it.

/** The same upload as a raw body; a request that is no form is passed on as it is. */
export async function multipart(request: Request): Promise<Request> {
  const type = request.headers.get("content-type") ?? "";
  if (!type.startsWith("multipart/form-data")) return request;

  const form = await request.formData();
  const file = [...form.values()].find((value) => typeof value !== "string") as File | undefined;
  if (!file) return new Request(request.url, { method: request.method, headers: request.headers });

  const headers = new Headers(request.headers);
  const cacheControl = form.get("cacheControl");
  headers.set("content-type", file.type || "application/octet-stream");
  headers.set("content-length", String(file.size));
  if (typeof cacheControl === "string") headers.set("cache-control", `max-age=${cacheControl}`);
  return new Request(request.url, { method: request.method, headers, body: await file.arrayBuffer() });
}
