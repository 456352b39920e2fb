// Third-party programs read the archive of an export, from a file and as a stream (G5).

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { until } from "../waiting.ts";
import { agreesWithItsManifest, linkOf, readAsItComes } from "./archive.ts";
import { fillGallery } from "./gallery.ts";
import { Person } from "./person.ts";
import { small } from "./photos.ts";
import { cleanUp, database } from "./stack.ts";

const folder = mkdtempSync(join(tmpdir(), "export-archive-"));
after(async () => {
  rmSync(folder, { recursive: true });
  await database.end();
});

const artist = 'Zoë "春" O\'Neil';

/** One new artwork, three from before checksums were stored, and one with a name in several alphabets. */
async function withGallery(): Promise<{ person: Person; made: string; old: string[] }> {
  const person = await Person.signUp("alice");
  const old = await fillGallery(person, 3, 20);
  const { id } = await person.ended((await person.generate(await small)).id);
  const name = `${person.id}/${foreign.slice("artworks/".length)}`;
  const version = randomUUID();
  mkdirSync(join(process.env.STACK_STATE!, "storage", "artworks", name), { recursive: true });
  writeFileSync(join(process.env.STACK_STATE!, "storage", "artworks", name, version), "a picture");
  await database`
    insert into storage.objects (bucket_id, name, version, metadata)
    values ('artworks', ${name}, ${version}, '{"size": 9, "mimetype": "image/png"}')`;
  const { error } = await person.client.from("privacy_requests").insert({ kind: "access", message: artist });
  if (error) throw error;
  await person.call("POST", "/privacy/exports");
  await until("the export to be ready", async () => {
    await cleanUp();
    const { data } = await person.client.from("exports").select("state").single();
    return data!.state === "ready" || undefined;
  }, 120_000);
  return { person, made: id, old: old.map(({ artwork_path }) => `artworks/${artwork_path.split("/")[1]}`) };
}

const foreign = "artworks/Frühling 春 весна.png";
const gallery = withGallery();

async function downloaded(): Promise<string> {
  const { person } = await gallery;
  const file = join(folder, "export.zip");
  if (!existsSync(file)) writeFileSync(file, Buffer.from(await (await fetch(await linkOf(person))).arrayBuffer()));
  return file;
}

test("a program can read an export as a stream, because sizes precede the data (G5)", async () => {
  const { person, old } = await gallery;
  const entries = await readAsItComes(await linkOf(person));
  agreesWithItsManifest(entries);
  const artworks = entries.map(({ name }) => name).filter((name) => name.startsWith("artworks/"));
  assert.equal(artworks.length, 5);
  for (const name of [...old, foreign]) assert.ok(artworks.includes(name), name);
});

test("every file in an export has a correct checksum before its data", async () => {
  const script = `
import struct, sys, zipfile, zlib
data = open(sys.argv[1], "rb").read()
at, names = 0, []
while data[at:at + 4] == b"PK\\x03\\x04":
    flags, method, _, _, crc, packed, size, name, extra = struct.unpack("<HHHHIIIHH", data[at + 6:at + 30])
    assert flags == 1 << 11 and method == 0 and packed == size, (at, flags, method)
    start = at + 30 + name + extra
    assert zlib.crc32(data[start:start + size]) == crc, data[at + 30:at + 30 + name]
    names.append(data[at + 30:at + 30 + name].decode())
    at = start + size
assert data[at:at + 4] == b"PK\\x01\\x02", at
archive = zipfile.ZipFile(sys.argv[1])
assert archive.testzip() is None and archive.namelist() == names
print(len(names))`;
  assert.ok(Number(execFileSync("python3", ["-c", script, await downloaded()], { encoding: "utf8" })) > 40);
});

test("the checksum of an artwork is stored with it, or computed by the export for older artworks", async () => {
  const { person, made } = await gallery;
  const [{ artwork_path, artwork_crc32 }] = await database`
    select g.artwork_path, w.artwork_crc32 from public.generations as g
    join private.generation_work as w on w.generation_id = g.id where g.id = ${made}`;
  const script = "import sys, zipfile; print(zipfile.ZipFile(sys.argv[1]).getinfo(sys.argv[2]).CRC)";
  const name = `artworks/${artwork_path.split("/")[1]}`;
  const crc = Number(execFileSync("python3", ["-c", script, await downloaded(), name], { encoding: "utf8" }));
  assert.equal(Number(artwork_crc32), crc);
  const kept = await database`
    select from public.generations as g join private.generation_work as w on w.generation_id = g.id
    where g.person_id = ${person.id} and w.artwork_crc32 is not null`;
  assert.equal(kept.length, 1, "only the new artwork has a stored checksum");
});

test("every CSV in an export begins with one byte order mark, so that Excel reads it as UTF-8", async () => {
  const { person } = await gallery;
  const tables = (await readAsItComes(await linkOf(person))).filter(({ name }) => name.endsWith(".csv"));
  assert.ok(tables.length > 15);
  for (const { name, content } of tables) {
    assert.deepEqual([...content!.subarray(0, 3)], [0xef, 0xbb, 0xbf], name);
    assert.ok(!content!.subarray(3).includes("\ufeff"), name);
  }
  assert.ok(tables.find(({ name }) => name === "data/privacy_requests.csv")!.content!.includes(artist.replaceAll('"', '""')));
});
