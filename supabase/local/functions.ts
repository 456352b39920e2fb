// Forwards `/functions/v1/*` to the Rust functions. The body is forwarded unchanged, because signatures are
// computed over its bytes.

/** Headers that apply only to this connection. */
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
