// The gateway's log: no query, no name of a file or a person, no value of a statement (R5).

import { appendFileSync, closeSync, openSync } from "node:fs";

/** Made for its owner's eyes alone. */
export function openLog(path: string) {
  closeSync(openSync(path, "a", 0o600));
  const write = (line: string) => appendFileSync(path, `${new Date().toISOString()} ${line}\n`);
  return {
    /** The first parts of the path alone: the rest may name a person, a file or a token. */
    request(request: Request, status: number, started: number): void {
      const path = new URL(request.url).pathname.split("/").slice(0, 4).join("/");
      write(`${request.method} ${path} ${status} ${Math.round(performance.now() - started)}ms`);
    },
    /** What it was and where; its message may repeat what was sent. */
    failure(error: Error & { code?: string }): void {
      const where = error.stack?.split("\n").find((line) => line.trim().startsWith("at "));
      write(`failed: ${error.name} ${error.code ?? ""} ${where?.trim() ?? ""}`);
    },
  };
}

export type Log = ReturnType<typeof openLog>;
