// The gateway's log. It contains no queries, no names of files or people, and no values of statements (R5).

import { appendFileSync, closeSync, openSync } from "node:fs";

/** Opens a log that only its owner can read. */
export function openLog(path: string) {
  closeSync(openSync(path, "a", 0o600));
  const write = (line: string) => appendFileSync(path, `${new Date().toISOString()} ${line}\n`);
  return {
    /** Logs only the first parts of the path, because the rest may name a person, a file or a token. */
    request(request: Request, status: number, started: number): void {
      const path = new URL(request.url).pathname.split("/").slice(0, 4).join("/");
      write(`${request.method} ${path} ${status} ${Math.round(performance.now() - started)}ms`);
    },
    /** Logs the kind and place of an error, but not its message, which may repeat the request. */
    failure(error: Error & { code?: string }): void {
      const where = error.stack?.split("\n").find((line) => line.trim().startsWith("at "));
      write(`failed: ${error.name} ${error.code ?? ""} ${where?.trim() ?? ""}`);
    },
  };
}

export type Log = ReturnType<typeof openLog>;
