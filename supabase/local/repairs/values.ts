// Converts values between lite and PostgreSQL.

const printed = /^(\d{4,}-\d\d-\d\d) (\d\d:\d\d:\d\d(?:\.\d+)?)([+-]\d\d)?(?::?(\d\d))?$/;

/** Converts to PostgREST's format: PostgreSQL prints `2026-11-23 08:37:50.98+00`. */
function iso(text: string): string {
  return text.replace(printed, (_, day, time, hours, minutes) => {
    return `${day}T${time}${hours === undefined ? "" : `${hours}:${minutes ?? "00"}`}`;
  });
}

const moment = (type: number) => ({
  to: type,
  from: [type],
  serialize: (value: unknown) => value as string,
  parse: iso,
});

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

/**
 * Lite converts jsonb arguments to JSON, but passes strings unchanged. So the string "5" becomes a number
 * here, and not on hosted Supabase. No function takes a bare string, so this does no harm.
 */
const json = (type: number) => ({
  to: type,
  from: [type],
  serialize: (value: unknown) =>
    typeof value === "string" && isJson(value) ? value : JSON.stringify(value),
  parse: (text: string) => JSON.parse(text),
});

/** Numbers, as PostgREST returns them. Lite would return PostgreSQL's text. */
const number = (type: number) => ({
  to: type,
  from: [type],
  serialize: (value: unknown) => String(value),
  parse: Number,
});

export const types = {
  int8: number(20),
  numeric: number(1700),
  json: json(114),
  jsonb: json(3802),
  timestamp: moment(1114),
  timestamptz: moment(1184),
};

const offset = /"(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d{1,6})?)\+00:00"/g;

/** Ends Auth's timestamps with a Z, which the Data API does not do. */
export async function withZ(response: Response): Promise<Response> {
  if (!/\bjson\b/.test(response.headers.get("content-type") ?? "") || !response.body)
    return response;
  const text = (await response.text()).replace(offset, '"$1Z"');
  const headers = new Headers(response.headers);
  headers.delete("content-length");
  return new Response(text, { status: response.status, headers });
}
