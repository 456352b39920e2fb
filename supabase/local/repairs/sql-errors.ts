// PostgREST's HTTP statuses for database errors. `@supabase/lite` knows some of them, and answers the others
// with HTTP 500 and no code.

interface SqlError {
  code?: unknown;
  message?: string;
  detail?: string;
  hint?: string;
}

interface Answer {
  code: string;
  message?: string;
  details?: string | null;
  hint?: string | null;
}

/** The codes that postgres.js and the system use for a lost or refused connection. */
const lost = /^(CONNECTION_\w+|CONNECT_TIMEOUT|ECONNREFUSED|ECONNRESET|EPIPE)$/;

/**
 * Errors that lite handles better than this table: it rewrites messages, and distinguishes anon from users.
 */
const known = /^(PT...|PGRST|42...|25006)$/;

const statuses: [code: RegExp, status: number][] = [
  [/^23(503|505)$/, 409],
  [/^P0001$/, 400],
  [/^(28|0L|0P)/, 403],
  [/^08/, 503],
  [/^(09|25|2D|38|39|3B|40|53|54|55|57|58|F0|HV|P0|XX)/, 500],
  [/^/, 400],
];

/** Converts a database error to PostgREST's response, in the form in which SQL can set a response in lite. */
export function withStatus(error: unknown): unknown {
  const { code, message, detail, hint } = (error ?? {}) as SqlError;
  if (typeof code === "string" && lost.test(code))
    return answered(503, { code: "PGRST001", message: "Database client error. Retrying the connection." });
  if (typeof code !== "string" || !/^[0-9A-Z]{5}$/.test(code) || known.test(code)) return error;
  const status = statuses.find(([pattern]) => pattern.test(code))![1];
  return answered(status, { code, message, details: detail, hint });
}

function answered(status: number, { code, message, details = null, hint = null }: Answer) {
  return {
    code: "PGRST",
    message: JSON.stringify({ code, message, details, hint }),
    detail: JSON.stringify({ status, headers: {} }),
  };
}
