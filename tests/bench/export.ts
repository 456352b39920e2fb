// What an export costs: galleries of some artworks and of thousands, each built in passes that take over from one
// another. Its speed, the longest pass and the memory it took, side by side, so that the ratios tell what the machine's
// noise does not.

import { execFileSync } from "node:child_process";
import { createWriteStream, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { ReadableStream } from "node:stream/web";
import { fillGallery } from "../journeys/gallery.ts";
import { Person } from "../journeys/person.ts";
import { cleanUp, database } from "../journeys/stack.ts";
import { peakMegabytes } from "./memory.ts";

const sizes = (process.env.SIZES ?? "100 2000").split(" ").map(Number);
const kilobytes = 1024;
/** A pass a minute: one that takes longer runs into the next. */
const longestPassSeconds = 60;
/** Of the functions' memory, for the largest gallery against the smallest. */
const memoryRatio = 1.5;

interface Built {
  artworks: number;
  megabytes: number;
  passes: number;
  longestSeconds: number;
  megabytesASecond: number;
  peakMegabytes: number;
}

/** Fetched by its link, and read by a program that is not ours, checksum by checksum. */
async function verify(person: Person, path: string, artworks: number): Promise<void> {
  const { data, error } = await person.client.storage.from("exports").createSignedUrl(path, 600);
  if (error) throw error;
  const folder = mkdtempSync(join(tmpdir(), "export-"));
  try {
    const response = await fetch(data.signedUrl);
    await pipeline(Readable.fromWeb(response.body as ReadableStream), createWriteStream(join(folder, "export.zip")));
    const script = "import zipfile; z = zipfile.ZipFile('export.zip'); assert z.testzip() is None; print(sum(n.startswith('artworks/') for n in z.namelist()))";
    const found = Number(execFileSync("python3", ["-c", script], { cwd: folder, encoding: "utf8" }));
    if (found !== artworks) throw new Error(`${found} of ${artworks} artworks are in the export`);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

async function build(artworks: number): Promise<Built> {
  const person = await Person.signUp("alice");
  await fillGallery(person, artworks, kilobytes);
  // The gallery's own photos are ordered deleted: that is not what is measured.
  for (let isComplete = false; !isComplete; ) isComplete = (await cleanUp()).complete as boolean;
  const ordered = await person.call("POST", "/privacy/exports");
  if (ordered.status !== 202) throw new Error(await ordered.text());
  peakMegabytes();
  let [passes, longest, total] = [0, 0, 0];
  for (;;) {
    const began = performance.now();
    await cleanUp();
    const seconds = (performance.now() - began) / 1000;
    [passes, longest, total] = [passes + 1, Math.max(longest, seconds), total + seconds];
    const { data, error } = await person.client.from("exports").select("state, path, files_done, files_total, bytes_done").single();
    if (error) throw error;
    const megabytes = data.bytes_done / 2 ** 20;
    console.log(`  ${String(artworks).padStart(7)} artworks, pass ${passes}: ${data.files_done} of ${data.files_total} files, ${megabytes.toFixed(0)} MB after ${total.toFixed(0)} s`);
    if (data.state === "building") continue;
    if (data.state !== "ready") throw new Error(`the export is ${data.state}`);
    const peak = peakMegabytes();
    await verify(person, data.path, artworks);
    return { artworks, megabytes, passes, longestSeconds: longest, megabytesASecond: megabytes / total, peakMegabytes: peak };
  }
}

const results: Built[] = [];
for (const size of sizes) results.push(await build(size));

console.log("\n  artworks       size  passes  longest pass    speed   peak memory");
for (const { artworks, megabytes, passes, longestSeconds, megabytesASecond, peakMegabytes: peak } of results)
  console.log(`  ${String(artworks).padStart(8)}  ${megabytes.toFixed(0).padStart(6)} MB  ${String(passes).padStart(6)}  ${longestSeconds.toFixed(1).padStart(10)} s  ${megabytesASecond.toFixed(0).padStart(4)} MB/s  ${peak.toFixed(0).padStart(8)} MB`);

const [first, last] = [results[0]!, results.at(-1)!];
const found = [
  [Math.max(...results.map(({ longestSeconds }) => longestSeconds)) <= longestPassSeconds, "every pass keeps to its time"],
  [last.peakMegabytes / first.peakMegabytes <= memoryRatio, "memory does not grow with the gallery"],
] as const;
for (const [holds, says] of found) console.log(`  ${holds ? "holds" : "DOES NOT HOLD"}: ${says}`);
await database.end();
process.exit(found.every(([holds]) => holds) ? 0 : 1);
