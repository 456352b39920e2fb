// The CORS headers of hosted Supabase.

const exposed =
  "content-range, content-location, location, preference-applied, retry-after, x-request-id, x-total-count, " +
  "tus-extension, tus-max-size, tus-resumable, tus-version, upload-length, upload-metadata, upload-offset";
const methods = "GET, POST, PUT, PATCH, DELETE, HEAD, OPTIONS";
const usual = "authorization, x-client-info, apikey, content-type, idempotency-key";

export function preflight(request: Request, more: Record<string, string> = {}): Response {
  return new Response(null, {
    status: 204,
    headers: {
      "access-control-allow-origin": "*",
      "access-control-allow-methods": methods,
      "access-control-allow-headers":
        request.headers.get("access-control-request-headers") ?? usual,
      "access-control-max-age": "86400",
      ...more,
    },
  });
}

export function withCors(response: Response): Response {
  const headers = new Headers(response.headers);
  headers.set("access-control-allow-origin", "*");
  headers.set("access-control-expose-headers", exposed);
  return new Response(response.body, { status: response.status, headers });
}
