// Runs supabase/tests/*.sql (pgTAP) as role `postgres`. Each file runs in a transaction that it rolls back.
// With arguments, only the files of these names run.

import { execFileSync } from "node:child_process";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import postgres from "postgres";
import { record } from "../policy/results.ts";

const folder = join(import.meta.dirname, "..", "..", "supabase", "tests");
const admin = postgres(process.env.DATABASE_ADMIN_URL!, { onnotice: () => {}, max: 1 });
const sql = postgres(process.env.DATABASE_URL!, { onnotice: () => {}, max: 1 });

const archive = join(import.meta.dirname, "..", "node_modules/@electric-sql/pglite-pgtap/dist/pgtap.tar.gz");

/** pgTAP is plain SQL. An npm package of PGlite contains a copy. */
function pgTap(): string {
  const script = "share/postgresql/extension/pgtap--1.3.5.sql";
  const text = execFileSync("tar", ["-xzOf", archive, script], { encoding: "utf8", maxBuffer: 1e8 });
  return text.replaceAll(/^\\.*$/gm, "");
}

async function installPgTap(): Promise<void> {
  await admin.unsafe("drop schema if exists tap cascade; create schema tap; grant usage on schema tap to public");
  await admin.unsafe(`set search_path = tap; ${pgTap()}; reset search_path`).simple();
}

interface Tally {
  passed: number;
  failed: number;
}

/** What is wrong with a whole file, apart from its failed tests. */
function faults(script: string, tap: string[]): string[] {
  const plans = tap.flatMap((line) => /^1\.\.(\d+)$/.exec(line)?.[1] ?? []).map(Number);
  const ran = tap.filter((line) => /^(not )?ok \d+/.test(line)).length;
  const found: string[] = [];
  if (ran === 0) found.push("ran no test");
  if (plans.length !== 1 || plans[0] !== ran) found.push(`planned ${plans.join(" and ") || 0} tests and ran ${ran}`);
  if (tap.some((line) => /^ok \d+.*# SKIP\b/i.test(line))) found.push("skips a test");
  // Data that a file leaves behind would affect the next files.
  if (!/\brollback;\s*$/i.test(script) || /^\s*commit\b/im.test(script)) found.push("does not end by rolling back");
  return found;
}

function note(file: string, line: string): void {
  const [, not, name, directive] = /^(not )?ok \d+ - (.*?)(?: # (SKIP|TODO)\b.*)?$/i.exec(line) ?? [];
  if (name) record(`supabase/tests/${file}`, name, directive ? "skipped" : not ? "failed" : "passed");
}

/** TAP comes as the rows of the file's statements. */
async function run(file: string): Promise<Tally> {
  const script = readFileSync(join(folder, file), "utf8");
  const results = (await sql.unsafe(script).simple()) as unknown as object[][];
  const lines = results.flat().flatMap((row) => Object.values(row)).filter((value) => typeof value === "string");
  const tap = lines.flatMap((line) => (line as string).split("\n"));
  const passed = tap.filter((line) => /^ok \d+/.test(line)).length;
  const failures = tap.filter((line) => /^not ok \d+/.test(line)).length;
  for (const line of tap) {
    note(file, line);
    if (/^(ok|not ok) \d+/.test(line)) console.log(`  ${line.replace(/^(ok|not ok) \d+ - /, "$1 - ")}`);
    else if (line.startsWith("#") && failures > 0) console.log(`  ${line}`);
  }
  const wrong = faults(script, tap);
  for (const fault of wrong) console.log(`  not ok - ${file} ${fault}`);
  return { passed, failed: failures + wrong.length };
}

const chosen = process.argv.slice(2);
const all = readdirSync(folder).filter((name) => name.endsWith(".sql")).sort();
const files = chosen.length > 0 ? chosen : all;

const total: Tally = { passed: 0, failed: 0 };
await installPgTap();
try {
  for (const file of files) {
    console.log(file);
    const { passed, failed } = await run(file).catch(async (error: Error) => {
      await sql.unsafe("rollback");
      console.log(`  not ok - ${error.message}`);
      return { passed: 0, failed: 1 };
    });
    total.passed += passed;
    total.failed += failed;
  }
} finally {
  await admin.unsafe("drop schema tap cascade");
  await Promise.all([admin.end(), sql.end()]);
}
console.log(`${total.passed} passed, ${total.failed} failed`);
process.exit(total.failed === 0 && total.passed > 0 ? 0 : 1);
