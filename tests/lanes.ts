// Runs all tests and checks (`make test`), several steps side by side: while one waits, another uses the processor. Each
// step that needs a stack has its own. The output of a step goes to .local/test/<step>.log. If the step fails, the end
// of the log is printed.

import { spawn } from "node:child_process";
import { closeSync, mkdirSync, openSync, readFileSync, readdirSync } from "node:fs";
import { join, relative, resolve } from "node:path";

interface Step {
  name: string;
  /** For bash, in the root of the repository. */
  command: string;
}

const root = resolve(import.meta.dirname, "..");
const logs = join(root, ".local/test");
const tailLines = 150;
/** How many steps run side by side, besides cargo. */
const width = 4;

interface Needs {
  flags?: string;
  runMs?: number;
  /** About how many pixels an artwork has. Small ones save much time where no test looks at them. */
  pixels?: number;
}

/** On a fresh stack, in the folder `tests`. */
function onStack(name: string, command: string, { flags = "", runMs = 300, pixels }: Needs = {}): Step {
  const stack = `supabase/local/node_modules/.bin/bun supabase/local/stack.ts --state .local/test/${name} --fresh --quiet ${flags}`;
  const sandbox = `SANDBOX_RUN_MS=${runMs}${pixels ? ` SANDBOX_PIXELS=${pixels}` : ""}`;
  return { name, command: `${sandbox} CLEANUP_INTERVAL_SECONDS=0 ${stack} -- bash -euc 'cd tests; ${command}'` };
}

/** Node's test runner. The second reporter records how each test ended. */
function suite(...files: string[]): string {
  const reporters = ["spec", "./policy/reporter.mjs"].map((one) => `--test-reporter=${one} --test-reporter-destination=stdout`);
  return `node --import tsx --test --test-concurrency=1 --test-timeout=600000 ${reporters.join(" ")} ${files.join(" ")}`;
}

const database = "node --import tsx database/run.ts";
const small = { pixels: 256 * 256 };

/** Fault tests that take a minute or more. Some also leave so many rows that letting time pass becomes slow. */
const long = ["ceiling", "outage", "sweep-table", "sweep-table-verbs", "replicate-recovery"];
const others = readdirSync(join(root, "tests/faults"))
  .flatMap((file) => /^(.*)\.test\.ts$/.exec(file)?.[1] ?? [])
  .filter((name) => !long.includes(name));

function faults(name: string, files: string[]): Step {
  return onStack(`faults-${name}`, suite(...files.map((file) => `faults/${file}.test.ts`)), small);
}

/** Steps that call cargo run one after another, because cargo locks its folder. They give way to tests with deadlines. */
const compiling: Step[] = [
  // With HEIC, which adds to the photo crate. That the default refuses HEIC is tested in photos/.
  { name: "unit", command: 'cargo test --workspace --locked --features local/crash-points,photo/heic 2>&1 | tee "$RESULTS/cargo.txt"' },
  { name: "release-panic", command: "cargo run --release --quiet --locked --package release-panic" },
  { name: "photos", command: `cd tests; ${suite("photos/*.test.ts")}` },
  { name: "check", command: "make --no-print-directory check" },
].map(({ name, command }) => ({ name, command: `nice -n 10 bash -euo pipefail -c '${command}'` }));

/** The longest first. */
const onStacks: Step[] = [
  // The database last, because requests may have changed grants or policies.
  onStack("journeys", `${suite("journeys/*.test.ts")}; ${database}`),
  onStack("adversary", suite("adversary/*.test.ts"), small),
  faults("1", others.filter((_, index) => index % 2 === 0)),
  faults("2", others.filter((_, index) => index % 2 === 1)),
  onStack("hosted", suite("stack/*.test.ts", "replicate/*.test.ts")),
  ...long.map((name) => faults(name, [name])),
  onStack("chaos", "SEED=1..3 JOBS=60 node --import tsx chaos/chaos.ts", { runMs: 30, ...small }),
  onStack("tools", suite("chaos/*.test.ts", "mutants/*.test.ts", "policy/*.test.ts")),
  onStack("lambda", suite("lambda/*.test.ts")),
  // Without RESULTS, because the policy wants each test once.
  onStack("old-privileges", `unset RESULTS; ${database}; ${suite("journeys/strangers.test.ts")}`, { flags: "--default-privileges legacy" }),
];

/** When each step that runs began, and its process. */
const running = new Map<string, { began: number; pid: number }>();
const failed: string[] = [];

function clock(milliseconds: number): string {
  const seconds = Math.round(milliseconds / 1000);
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}

async function run({ name, command }: Step): Promise<void> {
  const path = join(logs, `${name}.log`);
  const log = openSync(path, "w");
  const began = performance.now();
  // In a process group of its own, so that all of it can be ended.
  const timed = `TIMEFORMAT="processor time: %U + %S s"; time { ${command}; }`;
  const child = spawn("bash", ["-c", timed], { cwd: root, stdio: ["ignore", log, log], detached: true });
  running.set(name, { began, pid: child.pid! });
  const code = await new Promise<number | null>((done) => child.once("exit", done));
  closeSync(log);
  running.delete(name);
  const took = clock(performance.now() - began);
  if (code === 0) return console.log(`✓ ${name} (${took})`);
  failed.push(name);
  const end = readFileSync(path, "utf8").split("\n").slice(-tailLines).join("\n");
  console.log(`✗ ${name} (${took}): exit code ${code}. All of it: ${relative(root, path)}\n${end}`);
}

function showProgress(): void {
  const now = performance.now();
  console.log(`  still running: ${[...running].map(([name, { began }]) => `${name} (${clock(now - began)})`).join(", ")}`);
}

for (const [signal, code] of [["SIGINT", 130], ["SIGTERM", 143], ["SIGHUP", 129]] as const) {
  process.on(signal, () => {
    for (const { pid } of running.values()) process.kill(-pid, "SIGTERM");
    process.exit(code);
  });
}

mkdirSync(logs, { recursive: true });
const progress = setInterval(showProgress, 60_000);
const queue = onStacks.values();
await Promise.all([compiling, ...Array(width).fill(queue)].map(async (steps: Iterable<Step>) => {
  for (const step of steps) await run(step);
}));
clearInterval(progress);
if (failed.length > 0) {
  console.log(`failed: ${failed.join(", ")}`);
  process.exitCode = 1;
}
