// Runs supabase/tests/*.sql (pgTAP) as role `postgres`, each in a transaction that it rolls back.

import { execFileSync } from "node:child_process";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import postgres from "postgres";

const folder = join(import.meta.dirname, "..", "..", "supabase", "tests");
const admin = postgres(process.env.DATABASE_ADMIN_URL!, { onnotice: () => {}, max: 1 });
const sql = postgres(process.env.DATABASE_URL!, { onnotice: () => {}, max: 1 });

const archive = join(import.meta.dirname, "..", "node_modules/@electric-sql/pglite-pgtap/dist/pgtap.tar.gz");

/** pgTAP is plain SQL; a copy is in an npm package of PGlite's. */
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

/** TAP comes as the rows of the file's many statements. */
async function run(file: string): Promise<Tally> {
  const results = (await sql.unsafe(readFileSync(join(folder, file), "utf8")).simple()) as unknown as object[][];
  const lines = results.flat().flatMap((row) => Object.values(row)).filter((value) => typeof value === "string");
  const tap = lines.flatMap((line) => (line as string).split("\n"));
  const planned = Number(tap.find((line) => /^1\.\.\d+$/.test(line))?.slice(3) ?? 0);
  const passed = tap.filter((line) => /^ok \d+/.test(line)).length;
  const failures = tap.filter((line) => /^not ok \d+/.test(line)).length;
  for (const line of tap) {
    if (/^(ok|not ok) \d+/.test(line)) console.log(`  ${line.replace(/^(ok|not ok) \d+ - /, "$1 - ")}`);
    else if (line.startsWith("#") && failures > 0) console.log(`  ${line}`);
  }
  const missing = Math.max(planned - passed - failures, planned === 0 ? 1 : 0);
  if (missing > 0) console.log(`  not ok - ${file} planned ${planned} tests and ran ${passed + failures}`);
  return { passed, failed: failures + missing };
}

const total: Tally = { passed: 0, failed: 0 };
await installPgTap();
try {
  for (const file of readdirSync(folder).filter((name) => name.endsWith(".sql")).sort()) {
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
