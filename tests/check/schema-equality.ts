// `sql/` is the source, and `supabase/migrations/` brings a live database to the same state. Applied to empty databases,
// both must give the same schema.

import { spawnSync } from "node:child_process";
import { readFileSync, readdirSync } from "node:fs";
import { join, resolve } from "node:path";
import postgres from "postgres";
import { record } from "../policy/results.ts";

const root = resolve(import.meta.dirname, "..", "..");
const read = (...path: string[]) => readFileSync(join(root, ...path), "utf8");
const admin = postgres(process.env.DATABASE_ADMIN_URL!, { max: 1, onnotice: () => {} });

function address(database: string): string {
  const url = new URL(process.env.DATABASE_ADMIN_URL!);
  url.pathname = `/${database}`;
  return url.href;
}

/** Creates an empty database and applies the scripts as role `postgres`, which is not a superuser on hosted projects. */
async function build(database: string, scripts: string[]): Promise<string> {
  await admin.unsafe(`drop database if exists ${database}`);
  await admin.unsafe(`create database ${database} owner postgres`);
  const url = new URL(process.env.DATABASE_URL!);
  url.pathname = `/${database}`;
  const sql = postgres(url.href, { max: 1, onnotice: () => {} });
  for (const script of [read("tests/check/skeleton.sql"), ...scripts]) await sql.unsafe(script).simple();
  await sql.end();
  return address(database);
}

/** The rows that the scripts insert, such as buckets and retention rules. pg-delta does not compare rows. */
async function rows(database: string): Promise<Set<string>> {
  const sql = postgres(address(database), { max: 1 });
  const tables = await sql`
    select format('%I.%I', schemaname, tablename) as name
    from pg_catalog.pg_tables
    where schemaname not in ('pg_catalog', 'information_schema')`;
  const found = new Set<string>();
  for (const { name } of tables) {
    // Keys are random.
    const shown = name === "private.keys" ? "to_jsonb(t) - 'key'" : "to_jsonb(t)";
    for (const { row } of await sql.unsafe(`select (${shown})::text as row from ${name} as t`)) found.add(`${name} ${row}`);
  }
  await sql.end();
  return found;
}

const sources = read("sql/order.txt").trim().split("\n").map((name) => read("sql", name));
const migrations = readdirSync(join(root, "supabase/migrations")).sort().map((name) => read("supabase/migrations", name));
const unlisted = readdirSync(join(root, "sql")).filter((name) => name.endsWith(".sql") && !read("sql/order.txt").includes(name));

const replayed = await build("equality_replayed", migrations);
const desired = await build("equality_source", sources);
const pgdelta = join(root, "supabase/local/node_modules/.bin/pgdelta");
const { stdout, stderr, status } = spawnSync(pgdelta, ["diff", "--source", replayed, "--desired", desired], { encoding: "utf8" });
const [had, wanted] = [await rows("equality_replayed"), await rows("equality_source")];
for (const database of ["equality_replayed", "equality_source"]) await admin.unsafe(`drop database ${database}`);
await admin.end();

const rowsApart = [
  ...[...had].filter((row) => !wanted.has(row)).map((row) => `  only by the migrations: ${row}`),
  ...[...wanted].filter((row) => !had.has(row)).map((row) => `  only by sql/: ${row}`),
];

// Only exactly these words mean that the schemas are equal.
const alike = status === 0 && stdout.trim() === "No differences found.";
const equal = alike && rowsApart.length === 0 && unlisted.length === 0;
record("tests/check/schema-equality.ts", "sql/ and the migrations give the same schema", equal ? "passed" : "failed");
if (!equal) {
  console.error(`sql/ and supabase/migrations/ give different schemas:\n${stdout}${stderr}${rowsApart.join("\n")}`);
  if (unlisted.length > 0) console.error(`not in sql/order.txt: ${unlisted.join(", ")}`);
  console.error("make a new migration with the difference (or `make migration` while nothing is deployed)");
  process.exit(1);
}
console.log(`  sql/ (${sources.length} files) and ${migrations.length} migration(s) give the same schema`);
