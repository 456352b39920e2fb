// Time passes when a test says so: everything that has happened becomes older.

import { advance, database } from "../journeys/stack.ts";
import { until } from "../waiting.ts";

const schemas = ["public", "private", "storage"];

/**
 * Makes every time in the database, and the sandbox's clock, `seconds` older, all at once. The heartbeat of the sweep
 * stays, as if sweeps had run meanwhile. Only for "silent", the heartbeat gets older, too.
 */
export async function passTime(seconds: number, sweeper: "at work" | "silent" = "at work"): Promise<void> {
  const columns = await database`
    select format('%I.%I', c.table_schema, c.table_name) as name,
      string_agg(format('%1$I = %1$I - $1::interval', c.column_name), ', ') as changes
    from information_schema.columns as c
    join information_schema.tables as t using (table_schema, table_name)
    where c.table_schema in ${database(schemas)} and c.data_type = 'timestamp with time zone' and t.table_type = 'BASE TABLE'
      and (c.table_name <> 'heartbeats' or ${sweeper === "silent"})
    group by 1 order by 1`;
  const interval = `${seconds} seconds`;
  const tables = columns.map(({ name }) => name).join(", ");
  await until("a moment in which no session changes anything", () =>
    database
      // Also in a read-only outage, because time does not stand still.
      .begin("read write", async (sql) => {
        // No trigger may take this for a change.
        await sql`set local session_replication_role = replica`;
        // Running statements finish first. We never wait for them while we hold a lock.
        await sql.unsafe(`lock table ${tables} in exclusive mode nowait`);
        for (const { name, changes } of columns) await sql.unsafe(`update ${name} set ${changes}`, [interval]);
        return true;
      })
      .catch(async (error: { code?: string }) => {
        if (error.code !== "55P03") throw error;
        // A vacuum of a large table may take longer than the test waits. PostgreSQL starts it again later.
        await database`select pg_cancel_backend(pid) from pg_stat_activity where backend_type = 'autovacuum worker'`;
        return undefined;
      }),
  );
  await advance(seconds);
}
