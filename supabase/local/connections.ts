// What holds connections to the database, to be made anew after that was away: a connection of postgres.js
// whose database went while it was writing never writes again, and whoever uses it waits for ever.

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

/** What they need in the database. One that has come back has it, and may be read-only. */
export async function prepare({ sql, lite }: Connections): Promise<void> {
  await lite.ensureSystemSchema();
  await prepareAuth(sql);
}

/** Whoever still waits for an answer is told that there will be none. */
export function disconnect({ sql, lite }: Connections): void {
  const { driver } = lite.connection as unknown as { driver: postgres.Sql };
  for (const pool of [sql, driver]) pool.end({ timeout: 0 }).catch(() => {});
}
