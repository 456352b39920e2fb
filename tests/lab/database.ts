// The database, killed as by a power cut, or read-only as with a full disk.

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

/** Each other connection ends, and comes back with the settings that hold then. */
const endConnections = "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()";

/** Nothing can be written any more, as on a hosted project whose disk is nearly full. */
export async function makeReadOnly(): Promise<void> {
  await database.unsafe("alter database postgres set default_transaction_read_only = on");
  await database.unsafe(endConnections);
}

/** Ends that; resolves when this process can write, too. */
export async function makeWritable(): Promise<void> {
  await until("the database to be writable again", () =>
    database
      .begin("read write", (sql) => sql.unsafe("alter database postgres reset default_transaction_read_only"))
      .then(() => true as const, () => undefined));
  await database.unsafe(endConnections);
  // The connections of this process are among them.
  await until("connections that write", async () => {
    const [found] = await database`show default_transaction_read_only`.catch(() => []);
    return found?.default_transaction_read_only === "off" || undefined;
  });
}
