// `make mutants`: applies each mutant of list.ts to a copy of the sources, one at a time, and reports whether a test
// noticed. ONLY=pattern selects the mutants whose clause or name matches the pattern.

import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { parse } from "../policy/document.ts";
import { faultOf } from "../policy/judge.ts";
import { readResults } from "../policy/results.ts";
import { mutants } from "./list.ts";
import { type Mutant, isCargo, isDatabase } from "./mutant.ts";

const root = resolve(import.meta.dirname, "..", "..");
const copy = join(root, ".local", "mutants", "source");
const target = join(root, ".local", "mutants", "target");
const results = join(root, ".local", "mutants", "results");
const stack = join(root, "supabase/local/node_modules/.bin/bun");
const rows = parse(readFileSync(join(root, "POLICY.md"), "utf8"));

/** Copies only the sources. The stack and the tests are those of the repository. */
function prepare(): void {
  rmSync(copy, { recursive: true, force: true });
  mkdirSync(copy, { recursive: true });
  const crates = [...readFileSync(join(root, "Cargo.toml"), "utf8").matchAll(/^ +"(tests\/[a-z-]+)",$/gm)].map(([, crate]) => crate!);
  for (const part of ["Cargo.toml", "Cargo.lock", "functions", ...crates, "sql", "supabase/config.toml", "supabase/migrations", "supabase/seed"]) {
    cpSync(join(root, part), join(copy, part), { recursive: true });
  }
}

function migrate(): void {
  const order = readFileSync(join(copy, "sql/order.txt"), "utf8").trim().split("\n");
  const schema = order.map((file) => readFileSync(join(copy, "sql", file), "utf8")).join("");
  writeFileSync(join(copy, "supabase/migrations/20261123000000_first_generation.sql"), schema);
}

function build(): boolean {
  const args = ["build", "--quiet", "--offline", "--workspace", "--features", "local/crash-points", "--target-dir", target];
  return spawnSync("cargo", args, { cwd: copy, stdio: ["ignore", "ignore", "inherit"] }).status === 0;
}

function passesUnitTests(name: string): boolean {
  const args = ["test", "--quiet", "--offline", "--package", name, "--lib", "--target-dir", target];
  return spawnSync("cargo", args, { cwd: copy, stdio: "ignore" }).status === 0;
}

function passes(suite: string): boolean {
  if (isCargo(suite)) return passesUnitTests(suite.split(" ")[1]!);
  // If the stack does not start, that says nothing about the mutant. The machine may be busy, so the suite runs again.
  const status = run(suite) ?? run(suite);
  if (status === undefined) throw new Error(`${suite} ran no test: the stack did not come up`);
  return status === 0;
}

/** The exit status of a suite on the stack, or undefined if it ran no test. */
function run(suite: string): number | null | undefined {
  const reporter = "--test-reporter=./policy/reporter.mjs --test-reporter-destination=stdout";
  const test = `node --import tsx --test --test-concurrency=1 --test-timeout=300000 ${reporter}`;
  rmSync(results, { recursive: true, force: true });
  mkdirSync(results, { recursive: true });
  // A database suite can name flags for its stack: `database --default-privileges legacy`.
  const [, ...flags] = suite.split(" ");
  const command = isDatabase(suite) ? "node --import tsx database/run.ts" : `${test} ${suite}`;
  const own = ["--state", join(root, ".local/mutants/stack"), "--fresh", "--quiet", "--project", copy, ...flags];
  const { status } = spawnSync(stack, [join(root, "supabase/local/stack.ts"), ...own, "--", "sh", "-c", command], {
    cwd: join(root, "tests"),
    stdio: "ignore",
    env: { ...process.env, RESULTS: results, OPUSFLAIR_BIN_DIR: join(target, "debug"), SANDBOX_RUN_MS: "100", CLEANUP_INTERVAL_SECONDS: "0" },
  });
  return readResults(results, root).length > 0 ? status : undefined;
}

/** Whether a test that POLICY.md names for the clause failed in the last suite. */
function isRed(clause: string, suite: string): boolean {
  const folder = isDatabase(suite) ? "supabase/tests/" : `tests/${suite}`;
  const tests = rows.filter(({ id }) => id === clause).flatMap((row) => row.tests).filter(({ file }) => file.startsWith(folder));
  return tests.some((test) => faultOf(test, readResults(results, root), () => true) !== undefined);
}

/** The suite that noticed, or undefined if none did. */
function noticedBy({ clause, file, line, instead = "", seenBy }: Mutant): string | undefined {
  const path = join(copy, file);
  const whole = readFileSync(path, "utf8");
  writeFileSync(path, whole.replace(line, () => instead));
  migrate();
  try {
    if (file.endsWith(".rs") && !build()) return "the compiler";
    return seenBy.find((suite) => !passes(suite) && (!clause || isRed(clause, suite)));
  } finally {
    writeFileSync(path, whole);
    migrate();
    if (file.endsWith(".rs")) build();
  }
}

/**
 * The suite that noticed, and a line that also names the first failed test. A mutant that cannot be judged does not
 * stop the others.
 */
function noticed(mutant: Mutant): { by?: string; says: string } {
  try {
    const useless = mutant.seenBy.find((suite) => red.includes(suite));
    if (useless) throw new Error(`${useless} fails without any mutant`);
    const by = noticedBy(mutant);
    if (!by || by === "the compiler") return { says: by ? `noticed by ${by}` : "NOT NOTICED" };
    const first = readResults(results, root).find(({ outcome }) => outcome === "failed");
    return { by, says: `noticed by ${by}${first && !isCargo(by) ? ` › ${first.name}` : ""}` };
  } catch (error) {
    return { says: `NOT JUDGED, ${(error as Error).message}` };
  }
}

const chosen = mutants.filter(({ clause = "", name }) => new RegExp(process.env.ONLY ?? "").test(`${clause} ${name}`));
prepare();
migrate();
if (!build()) throw new Error("the copy does not compile");
const suites = [...new Set(chosen.flatMap(({ seenBy }) => seenBy))];
// A suite that already fails cannot notice anything.
const red = suites.filter((suite) => !passes(suite));
let survivors = 0;
for (const mutant of chosen) {
  const seen = noticed(mutant);
  if (!seen.by) survivors += 1;
  const about = mutant.clause ? `${mutant.clause}, ` : "";
  console.log(`  ${seen.says}: ${about}${mutant.name}`);
}
console.log(`${chosen.length - survivors} of ${chosen.length} were noticed`);
process.exit(survivors === 0 && chosen.length > 0 ? 0 : 1);
