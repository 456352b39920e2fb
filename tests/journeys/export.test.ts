// An export contains everything about a user in one file. Third-party tools check it (G2, G5).

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { after, test } from "node:test";
import { Ajv2020 } from "ajv/dist/2020.js";
import { passTime } from "../lab/time.ts";
import { until } from "../waiting.ts";
import { fillGallery } from "./gallery.ts";
import { Person } from "./person.ts";
import { small } from "./photos.ts";
import { cleanUp, database } from "./stack.ts";

const root = resolve(import.meta.dirname, "../..");
const folder = mkdtempSync(join(tmpdir(), "export-"));
after(async () => {
  rmSync(folder, { recursive: true });
  await database.end();
});

interface Document {
  table: string;
  rows: Record<string, unknown>[];
}

interface Export {
  id: string;
  state: string;
  path: string;
  files_total: number;
  files_done: number;
  files_missing: number;
  bytes_total: number;
  bytes_done: number;
  expires_at: string;
}

const order = (person: Person) => person.call("POST", "/privacy/exports");

async function latest(person: Person): Promise<Export> {
  const { data, error } = await person.client.from("exports").select().order("ordered_at", { ascending: false }).limit(1).single();
  if (error) throw error;
  return data as Export;
}

/** Runs sweeps until the latest export is ready. */
async function built(person: Person): Promise<Export> {
  return until("the export to be ready", async () => {
    await cleanUp();
    const found = await latest(person);
    return found.state === "ready" ? found : undefined;
  }, 120_000);
}

/** Downloads an export by its signed URL, as a browser would, and unpacks it with a system tool. */
async function unpacked(person: Person, { path, bytes_total }: Export): Promise<string> {
  const { data, error } = await person.client.storage.from("exports").createSignedUrl(path, 60);
  if (error) throw error;
  const response = await fetch(data.signedUrl);
  assert.equal(response.status, 200);
  const zip = join(mkdtempSync(join(folder, "zip-")), "export.zip");
  writeFileSync(zip, Buffer.from(await response.arrayBuffer()));
  assert.equal(readFileSync(zip).length, bytes_total);
  const target = mkdtempSync(join(folder, "files-"));
  unzip(zip, target);
  execFileSync("sha256sum", ["--check", "--strict", "--quiet", "manifest.sha256"], { cwd: target });
  return target;
}

/** Uses `unzip` if the machine has it, otherwise Python, which verifies the checksums in the same way. */
function unzip(zip: string, target: string): void {
  const hasUnzip = ["/usr/bin/unzip", "/bin/unzip", "/usr/local/bin/unzip"].some((path) => existsSync(path));
  if (hasUnzip) execFileSync("unzip", ["-q", zip, "-d", target]);
  else execFileSync("python3", ["-c", "import sys, zipfile; z = zipfile.ZipFile(sys.argv[1]); assert z.testzip() is None; z.extractall(sys.argv[2])", zip, target]);
}

const schema = JSON.parse(readFileSync(join(root, "docs/export.schema.json"), "utf8"));
const ajv = new Ajv2020({ allErrors: true, strict: true });

interface Described {
  properties: { table: { const: string }; rows: { items: { properties: Record<string, unknown> } } };
}

function rowsOf(table: string): Record<string, unknown> {
  return (schema.oneOf as Described[]).find(({ properties }) => properties.table.const === table)!.properties.rows.items.properties;
}

function check(target: string): Record<string, Record<string, unknown>[]> {
  const tables: Record<string, Record<string, unknown>[]> = {};
  const names = readdirSync(join(target, "data"));
  for (const name of names.filter((each) => each.endsWith(".json"))) {
    const document = JSON.parse(readFileSync(join(target, "data", name), "utf8")) as Document;
    const isValid = ajv.validate(schema, document) as boolean;
    assert.ok(isValid, `${name}: ${ajv.errorsText().slice(0, 500)}`);
    // The schema allows additional columns, but our exports have exactly those that it lists.
    const columns = Object.keys(rowsOf(document.table)).sort();
    for (const row of document.rows) assert.deepEqual(Object.keys(row).sort(), columns, name);
    tables[document.table] = document.rows;
    const csv = "import csv, json, sys; print(json.dumps(list(csv.DictReader(open(sys.argv[1], newline='', encoding='utf-8-sig'), strict=True))))";
    const rows = JSON.parse(execFileSync("python3", ["-c", csv, join(target, "data", `${document.table}.csv`)], { encoding: "utf8", maxBuffer: 1e9 })) as Record<string, string>[];
    assert.equal(rows.length, document.rows.length, name);
    for (const [place, row] of rows.entries()) {
      for (const [column, value] of Object.entries(document.rows[place] as Record<string, unknown>)) {
        if (value === null) assert.equal(row[column], "", `${name}: ${column}`);
        else if (typeof value === "string") assert.equal(row[column], value, `${name}: ${column}`);
      }
    }
  }
  return tables;
}

test("standard tools can unpack, verify and read an export of 200 artworks (G5)", async () => {
  const alice = await Person.signUp("alice", { policy_version: "2026-11" });
  const artworks = await fillGallery(alice, 200);
  await alice.allow("analytics");
  await alice.client.from("usage_events").insert({ feature: "gallery_opened" });
  await alice.client.from("privacy_choices").insert({ purpose: "improvement", allowed: false });
  await alice.client.from("privacy_requests").insert({ kind: "access", message: 'With "quotes", commas,\nand lines; =1+1' });
  assert.equal((await order(alice)).status, 202);
  const done = await built(alice);
  assert.deepEqual([done.files_done, done.bytes_done, done.files_missing], [done.files_total, done.bytes_total, 0]);

  const target = await unpacked(alice, done);
  const tables = check(target);
  assert.equal(tables.generations!.length, 200);
  assert.equal(tables.account![0]!.email, alice.email);
  assert.equal(readdirSync(join(target, "artworks")).length, 200);
  for (const { artwork_path, artwork_sha256 } of artworks.slice(0, 5)) {
    const bytes = readFileSync(join(target, "artworks", artwork_path.split("/")[1]!));
    assert.equal(createHash("sha256").update(bytes).digest("hex"), artwork_sha256);
  }
  assert.match(readFileSync(join(target, "README.txt"), "utf8"), /everything that OpusFlair keeps about you/);
  assert.deepEqual(JSON.parse(readFileSync(join(target, "missing.json"), "utf8")), []);
});

test("an export contains every declared table and the receipts, and answers the request for it (G1, G5)", async () => {
  const alice = await Person.signUp("alice");
  await alice.ended((await alice.generate(await small, { prompt: "with a red hat" })).id);
  await alice.forgotten();
  await alice.client.from("privacy_requests").insert({ kind: "export" });
  await order(alice);
  const done = await built(alice);
  const target = await unpacked(alice, done);
  const tables = check(target);
  const declared = await database`select export_as from private.personal_data where export_as is not null order by 1`;
  assert.deepEqual(Object.keys(tables).sort(), declared.map(({ export_as }) => export_as));
  assert.match(String(tables.generations![0]!.prompt), /with a red hat/);
  assert.equal(tables.credit_entries!.length, 2);
  const [receipt] = readdirSync(join(target, "receipts"));
  assert.equal(readFileSync(join(target, "receipts", receipt!), "utf8"), tables.deletions![0]!.receipt);
  const { data } = await alice.client.from("privacy_request_clock").select("evidence").single();
  assert.deepEqual(data!.evidence, { export: done.id });
  const text = readdirSync(join(target, "data")).map((name) => readFileSync(join(target, "data", name), "utf8")).join();
  assert.ok(!text.includes("request_digest") && !text.includes("lease"));
});

test("an export lists missing objects and contains the rest", async () => {
  const alice = await Person.signUp("alice");
  const [lost, unreadable, kept] = await fillGallery(alice, 3);
  await database.begin(async (sql) => {
    await sql`set local session_replication_role = replica`;
    await sql`delete from storage.objects where name = ${lost!.artwork_path}`;
    // The row of this artwork announces more bytes than Storage has.
    await sql`update storage.objects set metadata = metadata || '{"size": 9999999}' where name = ${unreadable!.artwork_path}`;
  });
  await order(alice);
  const done = await built(alice);
  assert.equal(done.files_missing, 2);
  const target = await unpacked(alice, done);
  const missing = JSON.parse(readFileSync(join(target, "missing.json"), "utf8")) as string[];
  const name = (artwork: { artwork_path: string }) => `artworks/${artwork.artwork_path.split("/")[1]}`;
  assert.deepEqual(missing.sort(), [name(lost!), name(unreadable!)].sort());
  assert.deepEqual(readdirSync(join(target, "artworks")), [name(kept!).slice(9)]);
});

test("a user may have one export built at a time, and three a day", async () => {
  const alice = await Person.signUp("alice");
  for (const _ of [1, 2, 3]) {
    assert.equal((await order(alice)).status, 202);
    const again = await order(alice);
    assert.deepEqual([again.status, ((await again.json()) as { code: string }).code], [409, "export_running"]);
    await built(alice);
  }
  const fourth = await order(alice);
  const { code, retry_after } = (await fourth.json()) as { code: string; retry_after: number };
  assert.deepEqual([fourth.status, code], [429, "too_many_exports"]);
  await passTime(retry_after - 60);
  assert.equal((await order(alice)).status, 429);
  await passTime(61);
  assert.equal((await order(alice)).status, 202);
  await built(alice);
});

test("a sweep deletes an expired export with a receipt, and its link stops working", async () => {
  const alice = await Person.signUp("alice");
  await order(alice);
  const { path } = await built(alice);
  await passTime(7 * 86_400 - 60);
  await cleanUp();
  assert.equal((await latest(alice)).state, "ready");
  await passTime(120);
  await cleanUp();
  assert.equal((await latest(alice)).state, "expired");
  assert.ok((await alice.client.storage.from("exports").createSignedUrl(path, 60)).error);
  const deleted = (await alice.deletions()).find((deletion) => deletion.path === path)!;
  assert.ok(deleted.reason === "export_expired" && deleted.verified_at);
});

test("deleting an artwork also deletes the exports that contain it (R9)", async () => {
  const alice = await Person.signUp("alice");
  const { id } = await alice.ended((await alice.generate(await small)).id);
  await order(alice);
  const { path } = await built(alice);
  assert.equal((await alice.call("DELETE", `/generations/${id}`)).status, 204);
  await cleanUp();
  assert.equal((await latest(alice)).state, "expired");
  const [{ left }] = await database`select count(*)::int as left from storage.objects where name = ${path}`;
  assert.equal(left, 0);
});

test("the audit deletes stray objects in the bucket of exports and keeps the exports that are ready (X3)", async () => {
  const alice = await Person.signUp("alice");
  await order(alice);
  const { path } = await built(alice);
  await database`insert into storage.objects (bucket_id, name, metadata, version)
    select bucket_id, ${`${alice.id}/stray.zip`}, metadata, version from storage.objects where name = ${path}`;
  await passTime(3700);
  for (let sweeps = 0; sweeps < 2; sweeps += 1) await cleanUp();
  const left = await database`select name from storage.objects where bucket_id = 'exports' and name like ${`${alice.id}/%`}`;
  assert.deepEqual(left.map(({ name }) => name), [path]);
});

test("the published schema of exports matches the database", () => {
  execFileSync("node", ["--import", "tsx", "check/export-schema.ts", "--check"], { cwd: join(root, "tests"), stdio: "pipe" });
});
