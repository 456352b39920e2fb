// Applies the settings of roles to requests. PostgREST logs in as `authenticator`, whose settings hold for each
// request, and then applies the settings of the request's role. Lite logs in as a superuser, and `set role` does
// not apply any settings.

import { sql } from "kysely";
import type postgres from "postgres";

type Settings = Record<string, string>;

/**
 * Reads only settings that `authenticator` may set, as PostgREST does. Settings of `authenticator` itself
 * count in any case, because it gets them at login.
 */
async function readSettings(database: postgres.Sql): Promise<Map<string, Settings>> {
  const rows = await database<{ role: string; settings: Settings }[]>`
    select r.rolname as role, jsonb_object_agg(p.name, substr(entry, strpos(entry, '=') + 1)) as settings
    from pg_db_role_setting as s
    join pg_roles as r on r.oid = s.setrole
    cross join unnest(s.setconfig) as entry
    join pg_settings as p on p.name = split_part(entry, '=', 1)
    where r.rolname in ('authenticator', 'anon', 'authenticated', 'service_role')
    and (
      p.context = 'user'
      or p.context = 'superuser'
        and (r.rolname = 'authenticator' or has_parameter_privilege('authenticator', p.name, 'set'))
    )
    group by r.rolname`;
  return new Map(rows.map(({ role, settings }) => [role, settings]));
}

/** The settings at the last read. A change takes effect with the next `reload config`. */
export class RoleSettings {
  private roles = new Map<string, Settings>();

  constructor(private readonly database: postgres.Sql) {}

  async read(): Promise<void> {
    this.roles = await readSettings(this.database);
  }

  of(role: string): [name: string, value: string][] {
    return Object.entries({ ...this.roles.get("authenticator"), ...this.roles.get(role) });
  }
}

interface Context {
  auth?: { role?: string };
}

type Apply = (executor: unknown, context: Context, isOther: boolean) => Promise<void>;

/** Wraps the function that sets the role at the start of a request's transaction. */
export function withSettings(apply: Apply, settings: RoleSettings): Apply {
  return async (executor, context, isOther) => {
    const set = settings
      .of(context.auth?.role ?? "anon")
      .map(([name, value]) => sql`set_config(${name}, ${value}, true)`);
    if (set.length > 0) await sql`select ${sql.join(set)}`.execute(executor as never);
    await apply(executor, context, isOther);
  };
}
