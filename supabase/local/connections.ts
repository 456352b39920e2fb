// The database connections of the stack. They must be replaced after the database was away. If it ends while
// a postgres.js connection writes, this connection never writes again, and its queries wait forever.

import postgres from "postgres";
import type { Keys } from "./keys.ts";
import { type Lite, startLite } from "./lite.ts";
import { prepareAuth } from "./platform.ts";
import { connection } from "./postgres.ts";

export interface Connections {
  sql: postgres.Sql;
  lite: Lite;
}

export async function connect(port: number, keys: Keys, site: string): Promise<Connections> {
  const sql = postgres({ ...connection(port, "supabase_admin", keys.adminPassword), max: 10 });
  const lite = await startLite(port, keys, site, sql);
  return { sql, lite };
}

/**
 * Prepares the database for these connections. A database that has restarted is already
 * prepared, and may be read-only.
 */
export async function prepare({ sql, lite }: Connections): Promise<void> {
  await lite.ensureSystemSchema();
  await prepareAuth(sql);
}

/** Closes the connections. Queries that are still waiting fail. */
export function disconnect({ sql, lite }: Connections): void {
  const { driver } = lite.connection as unknown as { driver: postgres.Sql };
  for (const pool of [sql, driver]) pool.end({ timeout: 0 }).catch(() => {});
}
