// Storage's errors. Almost all are HTTP 400; the true code is in the body.

import postgres from "postgres";

export class Failure extends Error {
  constructor(
    readonly code: number,
    readonly error: string,
    message: string,
  ) {
    super(message);
  }

  response(status = this.code === 500 ? 500 : 400, headers: Record<string, string> = {}): Response {
    const body = { statusCode: String(this.code), error: this.error, message: this.message };
    return Response.json(body, { status, headers });
  }
}

export const noBucket = () => new Failure(404, "Bucket not found", "Bucket not found");
export const noObject = () => new Failure(404, "not_found", "Object not found");
export const isThere = () => new Failure(409, "Duplicate", "The resource already exists");
export const accessDenied = (message: string) => new Failure(403, "Unauthorized", message);
export const invalidKey = (name: string) => new Failure(400, "InvalidKey", `Invalid key: ${name}`);
export const invalidRequest = (message: string) => new Failure(400, "Error", message);
export const tooLarge = () =>
  new Failure(413, "Payload too large", "The object exceeded the maximum allowed size");

/** What the database refused, as Storage says it. */
export function asFailure(error: unknown): Failure {
  if (error instanceof Failure) return error;
  // Who asked has gone: nobody reads this.
  if ((error as Error).name === "AbortError")
    return new Failure(499, "Aborted", "The request was aborted");
  if (error instanceof SyntaxError) return invalidRequest("Body is not valid JSON");
  if (error instanceof postgres.PostgresError) {
    if (error.code === "42501") return accessDenied("new row violates row-level security policy");
    if (error.code === "23505") return isThere();
    if (error.code === "23503")
      return new Failure(404, "InvalidRequest", "The related resource does not exist");
    if (error.code === "57014")
      return new Failure(544, "DatabaseTimeout", "The connection to the database timed out");
  }
  return new Failure(500, "InternalError", "Internal server error");
}
