// The Data API, Auth and Storage: `@supabase/lite`, in this process, on our database.

import { App, setExperimental } from "@supabase/lite";
import { createPostgresConnection } from "@supabase/lite/postgres";
import { DiskAdapter } from "./disk.ts";
import type { Keys } from "./keys.ts";
import { connection as options } from "./postgres.ts";

export type Lite = App;

/** An argument of type jsonb comes from lite as JSON already; encoded once more it would be a string. */
const asJson = (type: number) => ({
  to: type,
  from: [type],
  serialize: (value: unknown) => (typeof value === "string" ? value : JSON.stringify(value)),
  parse: (text: string) => JSON.parse(text),
});

/** Lite prints the errors of queries with their values, which no log may hold (R5). */
function silence(): void {
  for (const method of ["log", "info", "warn", "error", "debug"] as const) console[method] = () => {};
}

export function createLite(port: number, keys: Keys, objects: string, site: string): Lite {
  silence();
  setExperimental("storage", true);
  const { host, username, password, database } = options(port, "supabase_admin", keys.adminPassword);
  const connection = createPostgresConnection({
    url: `postgresql://${username}:${password}@${host}:${port}/${database}`,
    postgresOptions: { max: 10, onnotice: () => {}, types: { json: asJson(114), jsonb: asJson(3802) } },
  } as Parameters<typeof createPostgresConnection>[0]);
  // Lite would grant everything on every table to the API's roles; hosted grants nothing by itself.
  Object.assign(connection, { rlsState: "active" });
  const app = new App({
    connection,
    api: { enabled: true, schemas: ["public", "backend"], extra_search_path: ["extensions"] },
    auth: {
      enabled: true,
      site_url: site,
      jwt_secret: keys.jwt,
      publishable_key: keys.publishable,
      secret_key: keys.secret,
      minimum_password_length: 6,
      email: { enable_signup: true, enable_confirmations: false },
    },
    storage: { enabled: true, file_size_limit: "50MiB" },
    options: { server: { admin: false, logger: false } },
  } as unknown as ConstructorParameters<typeof App>[0]) as unknown as Lite;
  app._storageAdapter = new DiskAdapter(objects) as unknown as Lite["_storageAdapter"];
  return app;
}
