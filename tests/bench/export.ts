// Measures exports of users with little and with much data. Sweeps build each export, one after the other. The output
// compares speed, the longest sweep, the longest statement and the memory of both sides. The ratios are more reliable
// than the absolute numbers, because the machine is noisy.

import { execFileSync } from "node:child_process";
import { createWriteStream, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { ReadableStream } from "node:stream/web";
import { recordUse } from "../journeys/archive.ts";
import { fillGallery } from "../journeys/gallery.ts";
import { Person } from "../journeys/person.ts";
import { cleanUp, database } from "../journeys/stack.ts";
import { watchMemory } from "../lab/memory.ts";
import { until } from "../waiting.ts";
import { functionsPid } from "./memory.ts";

/** Artworks and usage events. A thousand events a day for a year is the most that a user can have. */
const sizes = (process.env.SIZES ?? "100:20000 2000:365000").split(" ").map((size) => size.split(":").map(Number) as [number, number]);
const kilobytes = Number(process.env.KILOBYTES ?? 1024);
/** One sweep a minute: a longer one would overlap the next. */
const longestSweepSeconds = 60;
/** Hosted Supabase ends an API statement after this time. */
const longestStatementSeconds = 8;
/** The largest allowed ratio of memory, on either side, between the largest and the smallest export. */
const memoryRatio = 1.5;

interface Built {
  artworks: number;
  events: number;
  megabytes: number;
  sweeps: number;
  seconds: number;
  longestSeconds: number;
  statementSeconds: number;
  functionsMegabytes: number;
  backendMegabytes: number;
}

/** Downloads the export by its link. An independent program reads it and verifies every checksum. */
async function verify(person: Person, path: string, artworks: number, events: number): Promise<void> {
  const { data, error } = await person.client.storage.from("exports").createSignedUrl(path, 600);
  if (error) throw error;
  const folder = mkdtempSync(join(tmpdir(), "export-"));
  try {
    const response = await fetch(data.signedUrl);
    await pipeline(Readable.fromWeb(response.body as ReadableStream), createWriteStream(join(folder, "export.zip")));
    const script = "import zipfile; z = zipfile.ZipFile('export.zip'); assert z.testzip() is None; print(sum(n.startswith('artworks/') for n in z.namelist()), sum(1 for _ in z.open('data/usage_events.csv')) - 1)";
    const found = execFileSync("python3", ["-c", script], { cwd: folder, encoding: "utf8" }).trim();
    if (found !== `${artworks} ${events}`) throw new Error(`${found} of ${artworks} artworks and ${events} events are in the export`);
    if (process.env.KEEP) execFileSync("cp", ["export.zip", process.env.KEEP], { cwd: folder });
  } finally {
    rmSync(folder, { recursive: true });
  }
}

async function isLeased(person: Person): Promise<boolean> {
  const leased = await database`
    select from private.export_work as w join public.exports as e on e.id = w.export_id
    where e.person_id = ${person.id} and w.leased_until > now()`;
  return leased.length > 0;
}

async function build(artworks: number, events: number): Promise<Built> {
  const person = await Person.signUp("alice");
  await recordUse(person, events);
  await fillGallery(person, artworks, kilobytes);
  // The photos of the gallery are ordered deleted. That is not measured here.
  for (let isComplete = false; !isComplete; ) isComplete = (await cleanUp()).complete as boolean;
  const ordered = await person.call("POST", "/privacy/exports");
  if (ordered.status !== 202) throw new Error(await ordered.text());
  const watched = watchMemory(database, functionsPid);
  let [sweeps, longest, total] = [0, 0, 0];
  for (;;) {
    const began = performance.now();
    await cleanUp();
    const seconds = (performance.now() - began) / 1000;
    [sweeps, longest, total] = [sweeps + 1, Math.max(longest, seconds), total + seconds];
    const { data, error } = await person.client.from("exports").select("state, path, files_done, files_total, bytes_done").single();
    if (error) throw error;
    const megabytes = data.bytes_done / 2 ** 20;
    const progress = data.files_total === null ? "being planned" : `${data.files_done} of ${data.files_total} files, ${megabytes.toFixed(0)} MB`;
    console.log(`  ${String(artworks).padStart(7)} artworks, ${events} events, sweep ${sweeps}: ${progress} after ${total.toFixed(0)} s`);
    if (data.state === "building") {
      // A sweep that was cut off keeps its lease for a while.
      await until("the lease to end", async () => !(await isLeased(person)) || undefined, 180_000);
      continue;
    }
    if (data.state !== "ready") throw new Error(`the export is ${data.state}`);
    const peak = await watched.stop();
    await verify(person, data.path, artworks, events);
    return { artworks, events, megabytes, sweeps, seconds: total, longestSeconds: longest, ...peak };
  }
}

const results: Built[] = [];
for (const [artworks, events] of sizes) results.push(await build(artworks, events));

console.log("\n  artworks  events     size  sweeps  total time  longest sweep  longest statement  memory: functions  a backend");
for (const each of results) {
  const cells = [
    String(each.artworks).padStart(8), String(each.events).padStart(6), `${each.megabytes.toFixed(0)} MB`.padStart(7),
    String(each.sweeps).padStart(6), `${each.seconds.toFixed(0)} s`.padStart(10), `${each.longestSeconds.toFixed(1)} s`.padStart(13),
    `${each.statementSeconds.toFixed(2)} s`.padStart(17), `${each.functionsMegabytes.toFixed(0)} MB`.padStart(17), `${each.backendMegabytes.toFixed(0)} MB`.padStart(9),
  ];
  console.log(`  ${cells.join("  ")}`);
}

const [first, last] = [results[0]!, results.at(-1)!];
const most = (figure: (built: Built) => number) => Math.max(...results.map(figure));
const found = [
  [most(({ longestSeconds }) => longestSeconds) <= longestSweepSeconds, "every sweep stays within its time"],
  [most(({ statementSeconds }) => statementSeconds) < longestStatementSeconds, "every statement stays within the time limit of the API"],
  [last.functionsMegabytes / first.functionsMegabytes <= memoryRatio, "memory of the functions does not grow with the export"],
  [last.backendMegabytes / first.backendMegabytes <= memoryRatio, "memory of the database does not grow with the export"],
] as const;
for (const [holds, says] of found) console.log(`  ${holds ? "holds" : "DOES NOT HOLD"}: ${says}`);
await database.end();
process.exit(found.every(([holds]) => holds) ? 0 : 1);
