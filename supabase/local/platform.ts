// The contents of a hosted project's database before the first migration.

import { join } from "node:path";
import type postgres from "postgres";

const read = (name: string) => Bun.file(join(import.meta.dir, "platform", `${name}.sql`)).text();

/** Prepares the platform in one transaction, so a start that was killed halfway can simply run again. */
export async function preparePlatform(
  sql: postgres.Sql,
  password: string,
  grantsByDefault: boolean,
): Promise<void> {
  const files = [await read("roles"), await read("storage"), await read("guard")];
  await sql.begin(async (transaction) => {
    const [role] = await transaction`select from pg_roles where rolname = 'postgres'`;
    if (role) return;
    for (const file of files) await transaction.unsafe(file).simple();
    await transaction.unsafe(`alter role postgres password '${password}'`);
    if (grantsByDefault) await grantByDefault(transaction);
  });
}

/** Runs only on the first start, because a migration may have revoked these grants since. */
async function grantByDefault(sql: postgres.TransactionSql): Promise<void> {
  for (const kind of ["tables", "sequences", "functions"])
    await sql.unsafe(`alter default privileges for role postgres in schema public
      grant all on ${kind} to anon, authenticated, service_role`);
}

export async function prepareAuth(sql: postgres.Sql): Promise<void> {
  const file = await read("auth");
  await sql.begin((transaction) => transaction.unsafe(file).simple());
}
