// Kills the database as a power cut would, or makes it read-only as a full disk would.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { database } from "../journeys/stack.ts";
import { until } from "../waiting.ts";

/** Kills PostgreSQL with -m immediate, and waits until the stack has restarted it. */
export async function crashDatabase(): Promise<void> {
  const postmaster = () => JSON.parse(readFileSync(join(process.env.STACK_STATE!, "stack.json"), "utf8")).pids.PostgreSQL as number;
  const killed = postmaster();
  process.kill(killed, "SIGQUIT");
  const isBack = async () => {
    if (postmaster() === killed) return undefined;
    const rows = await database`select 1`.catch(() => []);
    return rows.length === 1 || undefined;
  };
  // The processes end when their disk operations end, which takes longer on a busy machine.
  await until("the database to be back", isBack, 120_000);
}

/** Connections stay open, as on hosted projects. The setting applies to each transaction that begins later. */
async function setReadOnly(state: "on" | "off"): Promise<void> {
  await database.unsafe(state === "on"
    ? "alter system set default_transaction_read_only = on"
    : "alter system reset default_transaction_read_only");
  await database`select pg_reload_conf()`;
  const seen = await until(`transactions that are read-only: ${state}`, async () => {
    const [found] = await database`select current_setting('transaction_read_only') as state, clock_timestamp()::text as at`.catch(() => []);
    return found?.state === state ? (found.at as string) : undefined;
  });
  await until("the transactions from before to end", async () => {
    const left = await database`
      select from pg_stat_activity
      where datname = current_database() and pid <> pg_backend_pid() and xact_start < ${seen}::text::timestamptz`.catch(() => undefined);
    return left?.length === 0 || undefined;
  });
}

/** Makes the database read-only, like a hosted project whose disk is nearly full. */
export function makeReadOnly(): Promise<void> {
  return setReadOnly("on");
}

/** Makes the database writable again. */
export function makeWritable(): Promise<void> {
  return setReadOnly("off");
}
