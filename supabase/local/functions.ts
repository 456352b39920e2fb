// `/functions/v1/*` goes to the Rust functions, with the body as it came: signatures are made of bytes.

const cors = {
  "access-control-allow-origin": "*",
  "access-control-allow-headers":
    "authorization, x-client-info, apikey, content-type, idempotency-key",
  "access-control-allow-methods": "GET, POST, PUT, PATCH, DELETE, OPTIONS",
  "access-control-expose-headers": "location, retry-after, x-request-id",
};

export async function forwardToFunctions(request: Request, functions: string): Promise<Response> {
  if (request.method === "OPTIONS") return new Response(null, { status: 204, headers: cors });

  const { pathname, search } = new URL(request.url);
  const path = pathname.replace(/^\/functions\/v1/, "");
  const headers = new Headers(request.headers);
  headers.delete("host");
  const answered = await fetch(`${functions}${path}${search}`, {
    method: request.method,
    headers,
    body: request.body,
    redirect: "manual",
    decompress: false,
  } as RequestInit).catch(() => undefined);
  if (!answered) {
    return Response.json(
      { title: "Bad Gateway", status: 502, detail: "The functions are not running." },
      { status: 502, headers: { ...cors, "content-type": "application/problem+json" } },
    );
  }
  const response = new Response(answered.body, { status: answered.status, headers: answered.headers });
  for (const [name, value] of Object.entries(cors)) response.headers.set(name, value);
  return response;
}
