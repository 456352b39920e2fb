// The Data API and Auth: `@supabase/lite`, in this process, on our database.

import { App } from "@supabase/lite";
import { createPostgresConnection } from "@supabase/lite/postgres";
import type postgres from "postgres";
import type { Keys } from "./keys.ts";
import { address, patience } from "./postgres.ts";
import { RoleSettings, withSettings } from "./repairs/role-settings.ts";
import { type Introspect, refusingNothing } from "./repairs/schema.ts";
import { withStatus } from "./repairs/sql-errors.ts";
import { types } from "./repairs/values.ts";

export type Lite = App;
type Connection = ReturnType<typeof createPostgresConnection>;

/** Silences the console. Lite prints failed queries with their values, which no log may contain (R5). */
function silence(): void {
  for (const method of ["log", "info", "warn", "error", "debug"] as const)
    console[method] = () => {};
}

export async function startLite(
  port: number,
  keys: Keys,
  site: string,
  sql: postgres.Sql,
): Promise<Lite> {
  silence();
  const settings = new RoleSettings(sql);
  await settings.read();
  const lite = new App({
    connection: connect(port, keys, settings),
    api: {
      enabled: true,
      schemas: ["public", "backend"],
      extra_search_path: ["extensions"],
      pg_safe_update: true,
    },
    auth: {
      enabled: true,
      site_url: site,
      jwt_secret: keys.jwt,
      publishable_key: keys.publishable,
      secret_key: keys.secret,
      minimum_password_length: 6,
      email: { enable_signup: true, enable_confirmations: false },
    },
    storage: { enabled: false },
    // The official CLI creates the table of migrations, as on hosted Supabase.
    db: { migrations: { enabled: false } },
    options: { server: { admin: false, logger: false } },
  } as unknown as ConstructorParameters<typeof App>[0]) as unknown as Lite;
  // Like PostgREST, this rereads the schema or the settings of roles when it is notified. The platform
  // notifies it of every schema change. A migration that changes a setting must notify it itself.
  await sql.listen("pgrst", (told) => {
    if (told === "reload config") settings.read().catch(() => {});
    else lite.connection.clearSchemaCache();
  });
  return lite;
}

function connect(port: number, keys: Keys, settings: RoleSettings): Connection {
  const connection = createPostgresConnection({
    url: address(port, "supabase_admin", keys.adminPassword),
    postgresOptions: { max: 10, connect_timeout: patience, onnotice: () => {}, types },
  } as unknown as Parameters<typeof createPostgresConnection>[0]);
  const inner = connection as unknown as {
    applyJwtSessionContext: Parameters<typeof withSettings>[0];
    introspect: Introspect;
  };
  return Object.assign(connection, {
    // By default, lite grants everything on every table to the API's roles. Hosted
    // Supabase grants nothing by default.
    rlsState: "active",
    normalizeDbError: withStatus,
    introspect: refusingNothing(inner.introspect.bind(connection)),
    applyJwtSessionContext: withSettings(inner.applyJwtSessionContext.bind(connection), settings),
  });
}
