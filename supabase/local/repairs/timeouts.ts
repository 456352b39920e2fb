// PostgREST applies the settings of the role that it takes on; `set role` by itself does not.

import { sql } from "kysely";
import type postgres from "postgres";

/** The statement timeout of each role of the API, as the platform set it. */
export async function readTimeouts(database: postgres.Sql): Promise<Map<string, string>> {
  const rows = await database<{ role: string; setting: string }[]>`
    select r.rolname as role, split_part(setting, '=', 2) as setting
    from pg_db_role_setting as s
    join pg_roles as r on r.oid = s.setrole
    cross join unnest(s.setconfig) as setting
    where setting like 'statement_timeout=%'`;
  return new Map(rows.map(({ role, setting }) => [role, setting]));
}

interface Context {
  auth?: { role?: string };
}

type Apply = (executor: unknown, context: Context, isOther: boolean) => Promise<void>;

/** Wraps what takes on the role at the beginning of a request's transaction. */
export function withTimeout(apply: Apply, timeouts: Map<string, string>): Apply {
  return async (executor, context, isOther) => {
    // Who has none has that of the role that PostgREST itself comes as.
    const timeout = timeouts.get(context.auth?.role ?? "anon") ?? timeouts.get("authenticator");
    if (timeout)
      await sql`select set_config('statement_timeout', ${timeout}, true)`.execute(
        executor as never,
      );
    await apply(executor, context, isOther);
  };
}
