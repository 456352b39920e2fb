// `/functions/v1/*` goes to the Rust functions, with the body as it came: signatures are made of bytes.

/** Of this connection alone. */
const hopByHop = ["connection", "host", "keep-alive", "transfer-encoding", "upgrade"];

export async function forwardToFunctions(request: Request, functions: string): Promise<Response> {
  const { pathname, search } = new URL(request.url);
  const path = pathname.slice("/functions/v1".length) || "/";
  const headers = new Headers(request.headers);
  for (const name of hopByHop) headers.delete(name);
  const answered = await fetch(`${functions}${path}${search}`, {
    method: request.method,
    headers,
    body: request.body,
    redirect: "manual",
    decompress: false,
    signal: request.signal,
  } as RequestInit).catch(() => undefined);
  if (answered) return answered;
  return Response.json(
    { title: "Bad Gateway", status: 502, detail: "The functions are not running." },
    { status: 502, headers: { "content-type": "application/problem+json" } },
  );
}
