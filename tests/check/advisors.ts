// Runs the Supabase advisors on the live database. They may report no warning that is not accepted below (S4).

import { execFileSync } from "node:child_process";
import { join, resolve } from "node:path";
import postgres from "postgres";
import { record } from "../policy/results.ts";

const root = resolve(import.meta.dirname, "..", "..");
const cli = join(root, "supabase/local/node_modules/.bin/supabase");
const sql = postgres(process.env.DATABASE_URL!, { max: 1, onnotice: () => {} });

interface Finding {
  name: string;
  level: string;
  title?: string;
  detail: string;
}

/** Accepted findings: the lint, what it is about, and the reason. */
const accepted: [lint: string, about: RegExp, reason: string][] = [
  ["rls_enabled_no_policy", /`private\./, "no role of the API can reach the schema, and without a policy no role could read the table"],
  ["unused_index", /./, "the database is new, so no index has been used yet"],
];

function advise(): Finding[] {
  const remote = `--remote=${process.env.DATABASE_URL}?sslmode=disable`;
  const args = ["db", "advisors", "--workdir", root, remote, "--level", "info", "--output-format", "json"];
  const output = execFileSync(cli, args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
  return (JSON.parse(output) as { results: Finding[] }).results;
}

/**
 * The hosted lints read this setting of the database. The CLI replaces it with `[api] schemas` of config.toml, so only
 * the self-test shows what the lints look at.
 */
async function checkSetting(): Promise<void> {
  const [row] = await sql`select current_setting('pgrst.db_schemas', true) as schemas`;
  if (row.schemas !== "public,backend") throw new Error(`pgrst.db_schemas is ${row.schemas}`);
}

/**
 * Self-test: the advisors must find a table that anyone can read, through the lint that checks the exposed schemas. The
 * primary key keeps another lint from reporting instead.
 */
async function checkThatTheySee(): Promise<void> {
  const table = "backend.advisors_self_test";
  await sql.unsafe(`drop table if exists ${table}; create table ${table} (id int primary key); grant select on ${table} to anon`);
  try {
    if (!advise().some(({ name, detail }) => name === "rls_disabled_in_public" && detail.includes(table))) {
      throw new Error(`the advisors did not notice ${table}, which has no row-level security`);
    }
  } finally {
    await sql.unsafe(`drop table ${table}`);
  }
}

await checkSetting();
await checkThatTheySee();
const findings = advise();
const standing = findings.filter(({ name, detail }) => !accepted.some(([lint, about]) => lint === name && about.test(detail)));
await sql.end();
for (const { level, name, detail } of standing) console.error(`  ${level} ${name}: ${detail}`);
record("tests/check/advisors.ts", "the advisors warn of nothing", standing.length > 0 ? "failed" : "passed");
if (standing.length > 0) process.exit(1);
console.log(`  the advisors warn of nothing (${findings.length} accepted, with reasons in ${import.meta.url.split("/").pop()})`);
