// Time that passes when a test says so: what has happened, happened so much earlier.

import { advance, database } from "../journeys/stack.ts";
import { until } from "../waiting.ts";

const schemas = ["public", "private", "storage"];

/** Makes every time in the database, and the sandbox's clock, `seconds` older, all at once. The sweeper's
 *  heartbeat stays, as if its passes had gone on meanwhile; a test that is about its silence says so. */
export async function pass(seconds: number, sweeper: "at work" | "silent" = "at work"): Promise<void> {
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
  await until("a moment in which nobody changes anything", () =>
    database
      // Also while nobody else can write: time does not stand still in an outage.
      .begin("read write", async (sql) => {
        // No trigger takes this for a change.
        await sql`set local session_replication_role = replica`;
        // Whoever is at work finishes first, and is never waited for with a lock in hand.
        await sql.unsafe(`lock table ${tables} in exclusive mode nowait`);
        for (const { name, changes } of columns) await sql.unsafe(`update ${name} set ${changes}`, [interval]);
        return true;
      })
      .catch(async (error: { code?: string }) => {
        if (error.code !== "55P03") throw error;
        // A vacuum of a table that a test has filled may take longer than anybody waits; it begins again later.
        await database`select pg_cancel_backend(pid) from pg_stat_activity where backend_type = 'autovacuum worker'`;
        return undefined;
      }),
  );
  await advance(seconds);
}
