// Storage's errors. Almost all are HTTP 400, and the body contains the actual code.

import postgres from "postgres";

export class Failure extends Error {
  constructor(
    readonly code: number,
    readonly error: string,
    message: string,
  ) {
    super(message);
  }

  response(status = [500, 544].includes(this.code) ? this.code : 400, headers: Record<string, string> = {}): Response {
    const body = { statusCode: String(this.code), error: this.error, message: this.message };
    return Response.json(body, { status, headers });
  }
}

export const noBucket = () => new Failure(404, "Bucket not found", "Bucket not found");
export const noObject = () => new Failure(404, "not_found", "Object not found");
const isThere = () => new Failure(409, "Duplicate", "The resource already exists");
export const accessDenied = (message: string) => new Failure(403, "Unauthorized", message);
export const invalidKey = (name: string) => new Failure(400, "InvalidKey", `Invalid key: ${name}`);
export const invalidRequest = (message: string) => new Failure(400, "Error", message);
export const tooLarge = () =>
  new Failure(413, "Payload too large", "The object exceeded the maximum allowed size");

/** Converts an error to the failure that Storage returns. */
export function asFailure(error: unknown): Failure {
  if (error instanceof Failure) return error;
  // The client is gone, so no one reads this response.
  if ((error as Error).name === "AbortError")
    return new Failure(499, "Aborted", "The request was aborted");
  if (error instanceof SyntaxError) return invalidRequest("Body is not valid JSON");
  if (error instanceof postgres.PostgresError) return refusal(error);
  return new Failure(500, "InternalError", "Internal server error");
}

/**
 * A trigger may refuse with 42501 and its own message, or with 23505. Any error
 * that is not listed becomes a 500.
 */
function refusal({ code, message }: postgres.PostgresError): Failure {
  if (code === "42501")
    return accessDenied(
      message.includes("row-level security")
        ? "new row violates row-level security policy"
        : message,
    );
  if (code === "23505") return isThere();
  if (code === "23503")
    return new Failure(404, "InvalidRequest", "The related resource does not exist");
  if (/^22(P02|P05|021)$/.test(code)) return new Failure(400, "InvalidParameter", message);
  if (code === "25006")
    return new Failure(503, "DatabaseReadOnly", "The database is currently in read-only mode. Please try again later.");
  if (code === "55P03") return new Failure(423, "ResourceLocked", "The resource is locked");
  if (code === "57014")
    return new Failure(544, "DatabaseTimeout", "The connection to the database timed out");
  return new Failure(500, "DatabaseError", `database error, code: ${code}`);
}
