// The database, killed as by a power cut.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { database } from "../journeys/stack.ts";
import { until } from "../waiting.ts";

/** Kills PostgreSQL with -m immediate, and waits until the stack has brought it back. */
export async function crashDatabase(): Promise<void> {
  const postmaster = () => JSON.parse(readFileSync(join(process.env.STACK_STATE!, "stack.json"), "utf8")).pids.PostgreSQL as number;
  const killed = postmaster();
  process.kill(killed, "SIGQUIT");
  const isBack = async () => {
    if (postmaster() === killed) return undefined;
    const rows = await database`select 1`.catch(() => []);
    return rows.length === 1 || undefined;
  };
  // Its processes end when the disk lets them, which on a busy machine takes its time.
  await until("the database to be back", isBack, 120_000);
}
