// Runs random jobs and faults, waits until all is quiet, and checks every invariant: SEED=7 or SEED=1..20, JOBS=500.

import { rmSync } from "node:fs";
import { join } from "node:path";
import { database } from "../journeys/stack.ts";
import { startLab } from "../lab/lab.ts";
import { invariants } from "./invariants.ts";
import { Run } from "./run.ts";
import { digest, draw } from "./schedule.ts";

type Row = Record<string, string | number>;

const jobs = Number(process.env.JOBS || 500);
const [first, last] = (process.env.SEED || "1").split("..").map(Number) as [number, number?];
const lab = await startLab();
const another = await lab.another();
const unsound: string[] = [];

/** Empties the stack, so that every seed starts from the same state. */
async function empty(): Promise<void> {
  await database.begin(async (sql) => {
    // The triggers of the ledger refuse to empty it, so they are off in this transaction.
    await sql`set local session_replication_role = replica`;
    await sql`truncate auth.users, public.wallets, public.deletions, storage.objects cascade`;
  });
  for (const bucket of ["inputs", "artworks"])
    rmSync(join(process.env.STACK_STATE!, "storage", bucket), { recursive: true, force: true });
}

async function outcomes() {
  const [counts] = await database<{ succeeded: number; failed: number; canceled: number; deleted: number; held: number }[]>`
    select count(*) filter (where g.state = 'succeeded')::int as succeeded,
      count(*) filter (where g.state = 'failed')::int as failed,
      count(*) filter (where g.state = 'canceled')::int as canceled,
      count(*) filter (where g.id is null)::int as deleted,
      count(*)::int as held
    from public.credit_holds as h
    left join public.generations as g on g.id = h.generation_id`;
  return counts!;
}

function struck(): number {
  return lab.supabase.struck + lab.replicate.struck + lab.webhooks.struck;
}

async function chaos(seed: number): Promise<Row> {
  const began = performance.now();
  const [struckBefore, killsBefore] = [struck(), lab.functions.restarts];
  await empty();
  const schedule = draw(seed, jobs);
  const run = new Run(lab, another);
  await run.carryOut(schedule, (done) => show(`seed ${seed}: ${done} of ${schedule.steps.length} steps`));
  show(`seed ${seed}: waiting until all is quiet`);
  await run.untilQuiet();

  const counts: Row = {};
  for (const { name, says, violations } of invariants) {
    const found = await violations({ ...run.told, late: run.late, given: run.given });
    counts[name] = found.length;
    if (found.length > 0) unsound.push(`seed ${seed}, ${name}: ${says}; but\n  ${found.slice(0, 5).join("\n  ")}`);
  }
  const { held, ...ended } = await outcomes();
  return {
    seed,
    schedule: digest(schedule),
    jobs,
    ...ended,
    refused: run.told.keys - held,
    struck: struck() - struckBefore,
    kills: lab.functions.restarts - killsBefore,
    sweeps: run.sweeps,
    judged: run.judged,
    ...counts,
    seconds: Math.round((performance.now() - began) / 1000),
  };
}

/** Shows progress on one line, which the next call overwrites. */
function show(progress: string): void {
  if (process.stdout.isTTY) process.stdout.write(`\r\x1b[K${progress}`);
}

function print(row: Row): void {
  const line = (cells: [string, string | number][]) =>
    cells.map(([name, cell]) => String(cell).padStart(name === "schedule" ? 16 : Math.max(name.length, 4))).join(" ");
  show("");
  if (row.seed === first) console.log(line(Object.keys(row).map((name) => [name, name])));
  console.log(line(Object.entries(row)));
}

try {
  for (let seed = first; seed <= (last ?? first); seed += 1) print(await chaos(seed));
} finally {
  await lab.stop();
  await database.end();
}
for (const what of unsound) console.log(`\n${what}`);
const seeds = new Set(unsound.map((what) => /^seed (\d+)/.exec(what)![1]));
for (const seed of seeds) console.log(`\nagain: make chaos SEED=${seed} JOBS=${jobs}`);
process.exit(unsound.length > 0 ? 1 : 0);
