// The plan of an export is written in parts. Each call is bounded, and any worker can do the next one (G5).

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, test } from "node:test";
import { crc32 } from "node:zlib";
import postgres, { type Sql } from "postgres";
import { agreesWithItsManifest, hasItsChecksums, linkOf, readAsItComes, recordUse, rowsIn } from "../journeys/archive.ts";
import { fillGallery } from "../journeys/gallery.ts";
import { Person } from "../journeys/person.ts";
import { cleanUp, database } from "../journeys/stack.ts";
import { megabytesOf, watchMemory } from "../lab/memory.ts";
import { passTime } from "../lab/time.ts";
import { lab } from "./lab.ts";

// Later tests let time pass, which updates every row. Each of them would take minutes with these rows.
afterEach(() => database`delete from public.usage_events`);

interface Step {
  is_planned: boolean;
  parts: { position: number; part: number; content: string; crc32: number }[];
}

/** A worker, played by the test on its own connection. */
class Worker {
  readonly sql: Sql = postgres(process.env.DATABASE_ADMIN_URL!, { max: 1, onnotice: () => {} });
  readonly lease = randomUUID();
  private parts: { position: number; part: number; crc32: number }[] = [];

  constructor(private readonly id: string) {}

  async begin(): Promise<void> {
    await this.sql`update private.export_work set due_at = '2000-01-01' where export_id = ${this.id}`;
    const [{ leased }] = await this.sql`select backend.lease_export(${this.lease}::uuid) as leased`;
    assert.equal(leased.id, this.id);
  }

  /** Takes one step. Returns its response and the length of the response. */
  async step(): Promise<{ step: Step; bytes: number }> {
    const [{ answer }] = await this.sql`
      select backend.plan_export(${this.id}::uuid, ${this.lease}::uuid, ${this.sql.json(this.parts)})::text as answer`;
    const step = JSON.parse(answer) as Step;
    this.parts = [];
    for (const { position, part, content, crc32: before } of step.parts) {
      const last = this.parts.at(-1);
      this.parts.push({ position, part, crc32: crc32(content, last?.position === position ? last.crc32 : before) });
    }
    return { step, bytes: Buffer.byteLength(answer) };
  }

  /** Returns the lease of the export. */
  async end(): Promise<void> {
    await this.sql`select backend.release_export(${this.id}::uuid, ${this.lease}::uuid, false)`;
    await this.sql.end();
  }
}

async function ordered(person: Person): Promise<string> {
  const response = await person.call("POST", "/privacy/exports");
  assert.equal(response.status, 202);
  return ((await response.json()) as { id: string }).id;
}

const stateOf = async (person: Person) => (await person.client.from("exports").select("state, files_missing, files_total").single()).data!;

async function sweepUntilReady(person: Person, functions?: string): Promise<void> {
  for (let sweeps = 0; (await stateOf(person)).state !== "ready"; sweeps += 1) {
    assert.ok(sweeps < 12, "not exported");
    await cleanUp(functions);
  }
}

/** The path of the object on the disk of Storage. */
async function fileOf(object: string): Promise<string> {
  const folder = join(process.env.STACK_STATE!, "storage", "artworks", object);
  return join(folder, readdirSync(folder)[0]!);
}

/** Measures each call of the planning. */
async function planned(events: number): Promise<{ calls: number; longestAnswer: number; megabytes: number }> {
  const person = await Person.signUp("alice");
  await recordUse(person, events);
  const worker = new Worker(await ordered(person));
  await worker.begin();
  const [{ pid }] = await worker.sql`select pg_backend_pid() as pid`;
  const before = megabytesOf(pid, "RssAnon");
  const seen = { calls: 0, longestAnswer: 0, megabytes: 0 };
  for (let isPlanned = false; !isPlanned; ) {
    const { step, bytes } = await worker.step();
    isPlanned = step.is_planned;
    seen.calls += 1;
    seen.longestAnswer = Math.max(seen.longestAnswer, bytes);
    seen.megabytes = Math.max(seen.megabytes, megabytesOf(pid, "RssAnon") - before);
  }
  await worker.end();
  await database`delete from public.exports where person_id = ${person.id}`;
  return seen;
}

test("planning an export of more rows takes more calls, but no larger answers and no more memory per call (G5)", async () => {
  const few = await planned(500);
  const many = await planned(20_000);
  assert.ok(many.calls > few.calls + 10 && many.calls < 60, `${few.calls} and ${many.calls} calls`);
  // The functions read responses of at most 4 MiB.
  assert.ok(many.longestAnswer < 1024 * 1024, `an answer of ${many.longestAnswer} bytes`);
  assert.ok(many.megabytes < few.megabytes + 16, `${few.megabytes} and ${many.megabytes} MB`);
});

test("another worker can continue the plan of an export, which has each remaining row once and in order", async () => {
  const person = await Person.signUp("alice");
  await recordUse(person, 6000);
  await ordered(person);
  // Some events are written and some are not. The last count is not recorded.
  await database.unsafe(`
    create function private.refuse_stretch() returns trigger language plpgsql as $$begin raise exception 'too much'; end$$;
    create trigger refuse_stretch before update on private.export_work for each row
    when (old.section = '1 usage_events' and old.after is not null and new.after is distinct from old.after)
    execute function private.refuse_stretch()`);
  try {
    await cleanUp();
  } finally {
    await database`drop function private.refuse_stretch cascade`;
  }
  const [{ uncounted }] = await database`select count(*)::int as uncounted from private.export_parts where crc32 is null`;
  assert.ok(uncounted > 0);
  await passTime(60);
  // Meanwhile some events that were not yet written are deleted, and new ones are recorded.
  await database`delete from public.usage_events where id in (select max(id) from public.usage_events where person_id = ${person.id} group by at::date)
    and at > (select max(at) from public.usage_events where person_id = ${person.id}) - interval '1 day'`;
  const stays = await database`select id from public.usage_events where person_id = ${person.id} order by at, id`;
  await recordUse(person, 3);
  await sweepUntilReady(person);

  const entries = await readAsItComes(await linkOf(person));
  agreesWithItsManifest(entries);
  const ids = rowsIn(entries, "usage_events").map(({ id }) => Number(id));
  assert.equal(new Set(ids).size, ids.length, "a row is there twice");
  const kept = new Set(stays.map(({ id }) => Number(id)));
  assert.deepEqual(ids.filter((id) => kept.has(id)), [...kept]);
  const lines = entries.find(({ name }) => name === "data/usage_events.csv")!.content!.toString().trimEnd().split("\r\n");
  assert.deepEqual(lines.slice(1).map((line) => Number(line.split(",")[0])), ids);
});

test("an export of many rows takes no more memory in the functions than its pieces do", async () => {
  const person = await Person.signUp("alice");
  await recordUse(person, 20_000);
  await ordered(person);
  const functions = await lab.another();
  const before = megabytesOf(functions.pid, "RssAnon");
  const watched = watchMemory(database, functions.pid);
  await sweepUntilReady(person, functions.url);
  const { functionsMegabytes, backendMegabytes } = await watched.stop();
  const [{ bytes_total }] = await database`select bytes_total::int from public.exports where person_id = ${person.id}`;
  assert.ok(bytes_total > 7_000_000, `${bytes_total} bytes`);
  // Three pieces of 6 MiB: one that is being filled, one that is being sent, and the client's copy of it.
  assert.ok(functionsMegabytes - before < 32, `${functionsMegabytes - before} MB in the functions`);
  assert.ok(backendMegabytes < 96, `${backendMegabytes} MB in a backend`);
});

test("a worker that continues in the middle of a long file reads only the rest of it", async () => {
  const person = await Person.signUp("alice");
  await recordUse(person, 40_000);
  await ordered(person);
  await lab.functions.crashAt("export.sent");
  await cleanUp(lab.functions.url).catch(() => undefined);
  await lab.functions.crashed();
  await lab.functions.restart();
  await passTime(125);
  // One piece of a longer file has arrived.
  const [file] = await database`
    select f.bytes::int, f.is_sent from private.export_files as f join public.exports as e on e.id = f.export_id
    where e.person_id = ${person.id} and f.name = 'data/usage_events.json'`;
  assert.ok(file!.bytes > 6 * 2 ** 20 && !file!.is_sent, JSON.stringify(file));
  const before = lab.supabase.struck;
  lab.supabase.misbehave({ fault: "delay", ms: 0, when: /rpc\/read_export_parts$/, count: Infinity });
  await sweepUntilReady(person, lab.functions.url);
  lab.heal();
  const [{ bytes_total }] = await database`select bytes_total::int from public.exports where person_id = ${person.id}`;
  // A response holds 512 KiB, and at most one part more.
  const needed = Math.ceil((bytes_total - 6 * 2 ** 20) / (512 * 1024));
  const read = lab.supabase.struck - before;
  assert.ok(read > 0 && read <= needed, `${read} answers for ${needed}`);
  const entries = await readAsItComes(await linkOf(person));
  agreesWithItsManifest(entries);
  assert.equal(rowsIn(entries, "usage_events").length, 40_000);
});

test("an artwork that disappears during an export is listed as missing, and the rest of the archive opens", async () => {
  const person = await Person.signUp("alice");
  const [lost, ...kept] = await fillGallery(person, 8, 2000);
  await ordered(person);
  await lab.functions.crashAt("export.sent");
  await cleanUp().catch(() => undefined);
  await lab.functions.crashed();
  await lab.functions.restart();
  await passTime(125);
  // The row stays. Only Storage has lost the bytes.
  const [last] = await database`
    select f.object from private.export_files as f join public.exports as e on e.id = f.export_id
    where e.person_id = ${person.id} and f.object is not null order by f.position desc limit 1`;
  const gone = [lost!, ...kept].find(({ artwork_path }) => artwork_path === last!.object)!;
  rmSync(await fileOf(gone.artwork_path));
  await sweepUntilReady(person);
  assert.equal((await stateOf(person)).files_missing, 1);
  const entries = await readAsItComes(await linkOf(person));
  agreesWithItsManifest(entries);
  const missing = JSON.parse(entries.find(({ name }) => name === "missing.json")!.content!.toString());
  assert.deepEqual(missing, [`artworks/${gone.artwork_path.split("/")[1]}`]);
  assert.equal(entries.filter(({ name }) => name.startsWith("artworks/")).length, 7);
});

test("if the bytes of an artwork do not match its checksum, the checksum is computed again and the artwork is exported", async () => {
  const person = await Person.signUp("alice");
  const [changed] = await fillGallery(person, 2, 20);
  await database`
    insert into private.generation_work (generation_id, request_digest, artwork_crc32)
    values (${changed!.id}, '', 7)`;
  await ordered(person);
  const file = await fileOf(changed!.artwork_path);
  const bytes = readFileSync(file);
  writeFileSync(file, bytes.fill(0, bytes.length - 20));
  await sweepUntilReady(person);
  assert.equal((await stateOf(person)).files_missing, 0);
  const link = await linkOf(person);
  await hasItsChecksums(link);
  const entries = await readAsItComes(link);
  agreesWithItsManifest(entries);
  assert.equal(entries.find(({ name }) => name.endsWith(`${changed!.id}.png`))!.bytes, bytes.length);
});
