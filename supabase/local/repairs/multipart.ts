// Hosted takes a file from whichever field of a form holds it; the Supabase client sends it in a field
// without a name. Passed on as a raw body, with what the form says beside it.

const unnamed = Buffer.from('name=""');
const named = Buffer.from('name="file"');

/** The same upload as a raw body; a request that is no form is passed on as it is. */
export async function multipart(request: Request): Promise<Request> {
  const type = request.headers.get("content-type") ?? "";
  if (!type.startsWith("multipart/form-data")) return request;

  const form = await readForm(request, type);
  const file = [...form.values()].find((value) => typeof value !== "string") as File | undefined;
  if (!file) return new Request(request.url, { method: request.method, headers: request.headers });

  const headers = new Headers(request.headers);
  const cacheControl = form.get("cacheControl");
  headers.set("content-type", file.type || "application/octet-stream");
  headers.set("content-length", String(file.size));
  if (typeof cacheControl === "string") headers.set("cache-control", `max-age=${cacheControl}`);
  return new Request(request.url, { method: request.method, headers, body: await file.arrayBuffer() });
}

/** Bun leaves out fields without a name, so that field is given one. */
function readForm(request: Request, type: string): Promise<FormData> {
  return request.arrayBuffer().then((content) => {
    const body = Buffer.from(content);
    const at = body.indexOf(unnamed);
    const whole = at < 0 ? body : Buffer.concat([body.subarray(0, at), named, body.subarray(at + unnamed.length)]);
    return new Response(whole, { headers: { "content-type": type } }).formData() as Promise<FormData>;
  });
}
