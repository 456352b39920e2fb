// Reads an export as its owner receives it: as a stream, with a third-party ZIP reader.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { Unzip } from "fflate";
import type { Person } from "./person.ts";
import { database } from "./stack.ts";

export interface Entry {
  name: string;
  bytes: number;
  sha256: string;
  /** Kept for every file except artworks, because no test reads the content of an artwork. */
  content?: Buffer;
}

/** A signed URL of the newest export that is ready. */
export async function linkOf(person: Person): Promise<string> {
  const { data } = await person.client.from("exports").select("path").eq("state", "ready").order("ordered_at", { ascending: false }).limit(1).single();
  const { data: signed, error } = await person.client.storage.from("exports").createSignedUrl(data!.path, 600);
  if (error) throw error;
  return signed.signedUrl;
}

/** Reads every file of an archive from front to back. The reader sees only the bytes that have arrived so far. */
export async function readAsItComes(url: string): Promise<Entry[]> {
  const entries: Entry[] = [];
  const unzip = new Unzip((file) => {
    assert.equal(typeof file.size, "number", `${file.name}: its size is not known before its data`);
    const digest = createHash("sha256");
    const pieces: Uint8Array[] = [];
    let bytes = 0;
    file.ondata = (error, piece, isLast) => {
      if (error) throw error;
      digest.update(piece);
      bytes += piece.length;
      // Copy the piece, because the reader may reuse its buffer.
      if (!file.name.startsWith("artworks/")) pieces.push(piece.slice());
      if (!isLast) return;
      assert.equal(bytes, file.size, file.name);
      entries.push({ name: file.name, bytes, sha256: digest.digest("hex"), content: pieces.length ? Buffer.concat(pieces) : undefined });
    };
    file.start();
  });
  const response = await fetch(url);
  assert.equal(response.status, 200);
  for await (const piece of response.body!) unzip.push(piece);
  unzip.push(new Uint8Array(0), true);
  return entries;
}

/** Fails unless Python finds the stored CRC-32 correct for every file. */
export async function hasItsChecksums(url: string): Promise<void> {
  const archive = Buffer.from(await (await fetch(url)).arrayBuffer());
  const script = "import io, sys, zipfile; print(zipfile.ZipFile(io.BytesIO(sys.stdin.buffer.read())).testzip())";
  const wrong = execFileSync("python3", ["-c", script], { input: archive, encoding: "utf8" }).trim();
  assert.equal(wrong, "None");
}

/** Fails unless the manifest lists every other file with its SHA-256 digest. */
export function agreesWithItsManifest(entries: Entry[]): void {
  const manifest = entries.find(({ name }) => name === "manifest.sha256")!.content!.toString();
  const said = Object.fromEntries(manifest.trimEnd().split("\n").map((line) => [line.slice(66), line.slice(0, 64)]));
  const found = Object.fromEntries(entries.filter(({ name }) => name !== "manifest.sha256").map(({ name, sha256 }) => [name, sha256]));
  assert.deepEqual(found, said);
}

export function rowsIn(entries: Entry[], table: string): Record<string, unknown>[] {
  const content = entries.find(({ name }) => name === `data/${table}.json`)!.content!;
  return (JSON.parse(content.toString()) as { rows: Record<string, unknown>[] }).rows;
}

/** Inserts past usage events with the values that the app records. */
export async function recordUse(person: Person, events: number): Promise<void> {
  await database.begin(async (sql) => {
    // Skip the triggers: the daily limit is tested elsewhere.
    await sql`set local session_replication_role = replica`;
    await sql`
      insert into public.usage_events
        (person_id, at, feature, browser, browser_version, viewport_width, viewport_height, pixel_ratio, image_formats)
      select ${person.id}, now() - make_interval(secs => n * 86.39), 'gallery_opened', 'chrome', 140, 1920, 1080, 2.0, '{avif,jpeg,png,webp}'
      from generate_series(1, ${events}) as n`;
  });
}
