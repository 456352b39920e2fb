// Users who send too many rows or bytes. Each limit holds, however many requests arrive simultaneously.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, test } from "node:test";
import { columnsWith } from "../journeys/canary/search.ts";
import { deliver, emailEvent } from "../journeys/inbox.ts";
import { Person } from "../journeys/person.ts";
import { small } from "../journeys/photos.ts";
import { cleanUp, database } from "../journeys/stack.ts";
import { untilWaiting } from "../lab/locks.ts";
import { passTime } from "../lab/time.ts";
import { nameOf } from "./uploads.ts";

after(() => database.end());

const mebibyte = 1024 * 1024;
const times = <T>(count: number, make: (index: number) => PromiseLike<T>) => Promise.all(Array.from({ length: count }, (_, index) => make(index)));

/** Inserts `count` rows simultaneously: a lock on the table holds them back until the first ones have arrived. */
async function together<T>(table: string, count: number, insert: (index: number) => PromiseLike<T>): Promise<T[]> {
  let inserting: Promise<T[]> | undefined;
  await database.begin(async (sql) => {
    await sql.unsafe(`lock table ${table} in exclusive mode`);
    inserting = times(count, insert);
    await untilWaiting(6);
  });
  return inserting!;
}

interface Refusal {
  message: string;
  hint?: string;
}

/** Uploads `count` photos simultaneously. Returns the refusals. */
async function flood(person: Person, count: number, bytes: Buffer): Promise<Refusal[]> {
  const inputs = person.client.storage.from("inputs");
  const answers = await times(count, () => inputs.upload(nameOf(person), bytes, { contentType: "image/jpeg" }));
  return answers.flatMap(({ error }) => (error ? [error as Refusal] : []));
}

async function stored(person: Person): Promise<{ photos: number; bytes: number }> {
  const [row] = await database`
    select count(*)::int as photos, coalesce(sum((metadata ->> 'size')::bigint), 0)::int as bytes
    from storage.objects where bucket_id = 'inputs' and starts_with(name, ${`${person.id}/`})`;
  return { ...row } as { photos: number; bytes: number };
}

/** Fails unless each message names the limit in numbers and does not mention policies or privileges. */
function assertSaid(refusals: Refusal[], number: RegExp): void {
  assert.ok(refusals.length > 0, "no upload was refused");
  for (const { message } of refusals) {
    assert.match(message, number);
    assert.doesNotMatch(message, /row-level|policy|internal|permission/i);
  }
}

test("of 100 simultaneous uploads, the bucket accepts 20 and says why it refuses the rest", async () => {
  const mallory = await Person.signUp("mallory");
  const refusals = await flood(mallory, 100, await small);
  const { photos } = await stored(mallory);
  assert.equal(photos, 20, `${photos} of 100 uploads were accepted`);
  assertSaid(refusals, /20/);
  // Deleting a photo makes room for another.
  const { data } = await mallory.client.storage.from("inputs").list(mallory.id);
  await mallory.client.storage.from("inputs").remove([`${mallory.id}/${data![0]!.name}`]);
  assert.ok(await mallory.upload(await small));
});

test("of 18 simultaneous uploads of 10 MiB, the bucket accepts 150 MiB", async () => {
  const mallory = await Person.signUp("mallory");
  const refusals = await flood(mallory, 18, Buffer.alloc(10 * mebibyte, 1));
  const { bytes } = await stored(mallory);
  assert.equal(bytes, 150 * mebibyte, `${bytes / mebibyte} MiB were accepted`);
  assertSaid(refusals, /150/);
});

const requests = (person: Person) => person.client.from("privacy_requests");

async function filed(person: Person): Promise<{ open: number; all: number }> {
  const [row] = await database`
    select count(*) filter (where closed_at is null)::int as open, count(*)::int as all
    from public.privacy_requests where person_id = ${person.id}`;
  return { ...row } as { open: number; all: number };
}

test("a user who files 38 privacy requests, 30 of them simultaneously, has 10 open", async () => {
  const mallory = await Person.signUp("mallory");
  for (let each = 0; each < 8; each += 1) await requests(mallory).insert({ kind: "access" });
  const answers = await together("public.privacy_requests", 30, () => requests(mallory).insert({ kind: "access" }));
  const { open } = await filed(mallory);
  assert.equal(open, 10, `${open} requests are open`);
  assert.deepEqual(new Set(answers.flatMap(({ error }) => error?.hint ?? [])), new Set(["too_many_requests"]));
});

test("a user who files 30 privacy requests in one call has at most 10 open", async () => {
  const mallory = await Person.signUp("mallory");
  const { error } = await requests(mallory).insert(Array.from({ length: 30 }, () => ({ kind: "access" })));
  assert.equal(error?.hint, "too_many_requests");
  assert.ok((await filed(mallory)).open <= 10);
});

test("a user can file at most 20 privacy requests a day, even if profile edits close them", async () => {
  const mallory = await Person.signUp("mallory");
  for (let round = 0; round < 4; round += 1) {
    for (let each = 0; each < 10; each += 1) await requests(mallory).insert({ kind: "correction" });
    await mallory.client.from("profiles").update({ username: `m${round}_${mallory.id.slice(0, 8)}` }).eq("id", mallory.id);
  }
  assert.deepEqual(await filed(mallory), { open: 0, all: 20 });
  const { error } = await requests(mallory).insert({ kind: "correction" });
  assert.equal(error?.hint, "too_many_requests");
  await passTime(86_460);
  assert.equal((await requests(mallory).insert({ kind: "correction" })).error, null);
});

test("a user who sends 1,060 usage events, in one call and simultaneously, has 1,000 recorded", async () => {
  const mallory = await Person.signUp("mallory");
  await mallory.allow("analytics");
  const insert = (count: number) => mallory.client.from("usage_events").insert(Array.from({ length: count }, () => ({ feature: "opened" })));
  const recorded = async () =>
    (await database`select count(*)::int as count from public.usage_events where person_id = ${mallory.id}`)[0]!.count as number;
  // Insert these without triggers, because the check of each row would take too long.
  await database.begin(async (sql) => {
    await sql`set local session_replication_role = replica`;
    await sql`insert into public.usage_events (person_id, feature) select ${mallory.id}, 'opened' from generate_series(1, 960)`;
  });
  assert.equal((await insert(32)).error, null);
  assert.equal((await insert(10)).error?.hint, "too_many_events");
  assert.equal(await recorded(), 992, "a call that exceeds the limit records nothing");
  const answers = await together("public.usage_events", 58, () => insert(1));
  assert.equal(await recorded(), 1000, `${await recorded()} events were recorded`);
  assert.equal(answers.filter(({ error }) => error?.hint === "too_many_events").length, 50);
});

test("a user who makes 40 choices about one purpose, 22 of them simultaneously, has 20 recorded", async () => {
  const mallory = await Person.signUp("mallory");
  for (let each = 0; each < 18; each += 1) await mallory.client.from("privacy_choices").insert({ purpose: "notices", allowed: each % 2 === 0 });
  await together("public.privacy_choices", 22, (index) => mallory.client.from("privacy_choices").insert({ purpose: "notices", allowed: index % 2 === 0 }));
  const [{ count }] = await database`select count(*)::int as count from public.privacy_choices where person_id = ${mallory.id}`;
  assert.equal(count, 20, `${count} choices were recorded`);
  assert.equal((await mallory.client.from("privacy_choices").insert({ purpose: "analytics", allowed: false })).error, null);
});

for (const [who, known] of [["a stranger", false], ["an account", true]] as const) {
  test(`emails of ${who} open one request a day, which also keeps the texts of further emails`, async () => {
    const address = known ? (await Person.signUp("alice")).email : `stranger.${randomUUID().slice(0, 8)}@example.com`;
    const words = Array.from({ length: 5 }, () => `word${randomUUID().replaceAll("-", "")}`);
    const before = (await database`select count(*)::int as count from public.privacy_requests`)[0]!.count as number;
    const opened = async () => ((await database`select count(*)::int as count from public.privacy_requests`)[0]!.count as number) - before;
    const answers = await times(words.length, (index) => deliver(emailEvent(address, { text: `Please delete ${words[index]}` })));
    assert.deepEqual(new Set(answers.map(({ status }) => status)), new Set([200]));
    assert.equal(await opened(), 1, `${await opened()} requests were opened`);
    for (const word of words) assert.notDeepEqual(await columnsWith(word), [], "the text of an email is lost");

    await passTime(86_460);
    assert.equal((await deliver(emailEvent(address))).status, 200);
    assert.equal(await opened(), 2);
  });
}

test("a user can order three exports a day, even with simultaneous requests", async () => {
  const mallory = await Person.signUp("mallory");
  const statuses: number[] = [];
  for (let round = 0; round < 4; round += 1) {
    const answers = await times(5, () => mallory.call("POST", "/privacy/exports"));
    statuses.push(...answers.map(({ status }) => status));
    await cleanUp();
  }
  const [{ count }] = await database`select count(*)::int as count from public.exports where person_id = ${mallory.id}`;
  assert.equal(count, 3, `${count} exports were built`);
  assert.deepEqual(new Set(statuses.slice(-5)), new Set([429]));
});
