// The folder of a stack. Only one stack can use it at a time.

import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { runs } from "./alive.ts";
import { endLeftover } from "./postgres.ts";

export interface State {
  folder: string;
  log(name: string): string;
  /** Records the processes and addresses of this stack for other programs. */
  describe(what: object): void;
  leave(): void;
}

export async function enter(path: string, isFresh: boolean): Promise<State> {
  const folder = resolve(path);
  const description = join(folder, "stack.json");
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  claim(description, path);
  await endLeftover(join(folder, "postgres"));
  if (isFresh) {
    for (const name of readdirSync(folder)) {
      if (name !== "stack.json") rmSync(join(folder, name), { recursive: true, force: true });
    }
  }
  for (const name of ["logs", "postgres"])
    mkdirSync(join(folder, name), { recursive: true, mode: 0o700 });
  return {
    folder,
    log: (name) => join(folder, "logs", `${name}.log`),
    describe: (what) =>
      writeFileSync(description, JSON.stringify({ pid: process.pid, ...what }, null, 2)),
    leave: () => rmSync(description, { force: true }),
  };
}

/** Claims the folder, if no running stack has it. A record from a killed stack does not count. */
function claim(description: string, path: string): void {
  try {
    writeFileSync(description, JSON.stringify({ pid: process.pid }), { flag: "wx", mode: 0o600 });
  } catch {
    const pid = claimant(description);
    if (runs(pid, "stack.ts")) {
      throw new Error(`a stack is already running on ${path} (process ${pid}): end it first`);
    }
    rmSync(description, { force: true });
    claim(description, path);
  }
}

function claimant(description: string): number {
  try {
    return JSON.parse(readFileSync(description, "utf8")).pid;
  } catch {
    return 0;
  }
}
