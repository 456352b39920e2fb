// Runs the test files that POLICY.md names, on one fresh stack: `make policy`. CLAUSES="R2 G3" runs only the files that
// these clauses name.

import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { chosen } from "./clauses.ts";
import { parse } from "./document.ts";

const root = resolve(import.meta.dirname, "..", "..");
const ids = [...chosen(process.env.CLAUSES ?? "").values()].flat();
const rows = parse(readFileSync(join(root, "POLICY.md"), "utf8")).filter(({ id }) => ids.includes(id));
const tests = rows.flatMap((row) => row.tests);
const files = [...new Set(tests.map(({ file }) => file))];

function bash(title: string, command: string, env: NodeJS.ProcessEnv = {}): void {
  console.log(`\n${title}`);
  const options = { cwd: root, stdio: "inherit", env: { ...process.env, ...env } } as const;
  const { status } = spawnSync("bash", ["-c", `set -o pipefail; ${command}`], options);
  // Continue, because the table shows the failures. Still exit with an error, because POLICY.md may not name the test.
  if (status !== 0) process.exitCode = 1;
}

function quoted(...words: string[]): string {
  return words.map((word) => `'${word.replaceAll("'", `'\\''`)}'`).join(" ");
}

/** The named files of a folder, without the part `from` of their paths. */
function named(folder: string, end: string, from = "tests/"): string[] {
  const found = files.filter((file) => file.startsWith(folder) && file.endsWith(end));
  return found.map((file) => file.slice(from.length));
}

const units = tests.filter(({ file }) => file.endsWith(".rs")).map(({ name }) => name);
const cargo = "cargo test --workspace --locked --features local/crash-points --lib --bins -- --exact";
if (units.length > 0) bash("Unit tests", `${cargo} ${quoted(...units)} 2>&1 | tee "$RESULTS/cargo.txt"`);

const node = "node --import tsx";
const report = ["spec", "./policy/reporter.mjs"].map((reporter) =>
  `--test-reporter=${reporter} --test-reporter-destination=stdout`);
const suite = `${node} --test --test-concurrency=1 --test-timeout=300000 ${report.join(" ")}`;
const checks = named("tests/check/", ".ts").map((check) => `${node} ${check}`);
// One run for each folder: Node would sort the files of all of them by name.
const sequence = ["stack", "replicate", "journeys", "faults"];
const folders = [...new Set(named("tests/", ".test.ts").map((file) => file.split("/")[0]!))];
const place = (folder: string) => (sequence.indexOf(folder) + 1 || sequence.length + 1);
const suites = folders
  .sort((one, other) => place(one) - place(other))
  .map((folder) => `${suite} ${quoted(...named(`tests/${folder}/`, ".test.ts"))}`);
const scripts = named("supabase/tests/", ".sql", "supabase/tests/");
const database = scripts.length > 0 ? [`${node} database/run.ts ${quoted(...scripts)}`] : [];
const steps = [...checks, ...suites, ...database];
const all = `cd tests; red=0; ${steps.map((step) => `${step} || red=1`).join("; ")}; exit $red`;
const stack = "supabase/local/node_modules/.bin/bun supabase/local/stack.ts";
const environment = { SANDBOX_RUN_MS: "300", CLEANUP_INTERVAL_SECONDS: "0" };
const state = "--state .local/policy-stack --fresh";
if (steps.length > 0) bash("Tests on the stack", `${stack} ${state} -- bash -c ${quoted(all)}`, environment);

await import("./policy.ts");
