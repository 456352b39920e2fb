// Measures sweeps over thousands of expired photos, which are deleted and verified. The output compares the time per
// object, the longest sweep and the memory. The ratios are more reliable than the absolute numbers.

import { randomUUID } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { cleanUp, database } from "../journeys/stack.ts";
import { peakMegabytes } from "./memory.ts";

const sizes = (process.env.SIZES ?? "1000 10000 100000").split(" ").map(Number);
/** One sweep a minute: a longer one would overlap the next. */
const longestSweepSeconds = 60;
/** The largest allowed ratio of the time per object, between the most and the fewest objects. */
const dearestRatio = 1.5;
/** The largest allowed ratio of the function's memory, between the largest and the smallest sweep. */
const memoryRatio = 1.5;

const state = process.env.STACK_STATE!;

/** Adds objects that were uploaded 25 hours ago: rows and bytes. */
async function plant(count: number): Promise<void> {
  const folder = join(state, "storage", "inputs", randomUUID());
  const person = folder.slice(-36);
  for (let made = 0; made < count; made += 1000) {
    const rows = Array.from({ length: Math.min(1000, count - made) }, () => ({ name: `${randomUUID()}.jpg`, version: randomUUID() }));
    for (const { name, version } of rows) {
      mkdirSync(join(folder, name), { recursive: true });
      writeFileSync(join(folder, name, version), "a photo");
    }
    await database`
      insert into storage.objects (bucket_id, name, version, created_at, metadata)
      select 'inputs', ${`${person}/`} || o.name, o.version, now() - interval '25 hours', '{"size": 7, "mimetype": "image/jpeg"}'
      from jsonb_to_recordset(${database.json(rows)}) as o (name text, version text)`;
  }
}

interface Swept {
  objects: number;
  sweeps: number;
  longestSeconds: number;
  microsecondsEach: number;
  peakMegabytes: number;
}

async function sweep(objects: number): Promise<Swept> {
  await plant(objects);
  peakMegabytes();
  let [sweeps, verified, longest, total] = [0, 0, 0, 0];
  for (let complete = false; !complete; ) {
    const began = performance.now();
    const report = await cleanUp();
    const seconds = (performance.now() - began) / 1000;
    complete = report.complete as boolean;
    sweeps += 1;
    verified += report.verified as number;
    longest = Math.max(longest, seconds);
    total += seconds;
    console.log(`  ${String(objects).padStart(7)} expired, sweep ${sweeps}: ${verified} verified absent after ${total.toFixed(0)} s`);
  }
  const [{ left }] = await database`select count(*)::int as left from storage.objects where bucket_id = 'inputs'`;
  if (left > 0 || verified !== objects) throw new Error(`${left} are left, ${verified} of ${objects} were verified`);
  return { objects, sweeps, longestSeconds: longest, microsecondsEach: (total / objects) * 1e6, peakMegabytes: peakMegabytes() };
}

const results: Swept[] = [];
for (const size of sizes) results.push(await sweep(size));

console.log("\n  objects  sweeps  longest sweep   an object   peak memory");
for (const { objects, sweeps, longestSeconds, microsecondsEach, peakMegabytes: peak } of results)
  console.log(`  ${String(objects).padStart(7)}  ${String(sweeps).padStart(6)}  ${longestSeconds.toFixed(1).padStart(11)} s  ${microsecondsEach.toFixed(0).padStart(7)} µs  ${peak.toFixed(0).padStart(9)} MB`);

const [first, last] = [results[0]!, results.at(-1)!];
const found = [
  [last.microsecondsEach / first.microsecondsEach <= dearestRatio, "an object costs the same among many"],
  [Math.max(...results.map(({ longestSeconds }) => longestSeconds)) <= longestSweepSeconds, "every sweep stays within its time"],
  [last.peakMegabytes / first.peakMegabytes <= memoryRatio, "memory does not grow with what is due"],
] as const;
for (const [holds, says] of found) console.log(`  ${holds ? "holds" : "DOES NOT HOLD"}: ${says}`);
await database.end();
process.exit(found.every(([holds]) => holds) ? 0 : 1);
