// Hosted writes timestamps as ISO 8601; `@supabase/lite` as PostgreSQL prints them.

const printed = /"(\d{4}-\d{2}-\d{2}) (\d{2}:\d{2}:\d{2}(?:\.\d{1,6})?)\+00"/g;

/** The same answer with each value that is nothing but a timestamp in UTC written as hosted does. */
export async function withTimestamps(response: Response, zone: "+00:00" | "Z"): Promise<Response> {
  if (!/\bjson\b/.test(response.headers.get("content-type") ?? "") || !response.body) return response;
  const text = await response.text();
  const headers = new Headers(response.headers);
  headers.delete("content-length");
  return new Response(text.replace(printed, `"$1T$2${zone}"`), { status: response.status, headers });
}
