// An owner who wants the picture and the credit. An artwork is readable once it is paid for, and not before.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { afterEach, test } from "node:test";
import { Person } from "../journeys/person.ts";
import { small } from "../journeys/photos.ts";
import { cleanUp, database } from "../journeys/stack.ts";
import { lab } from "../faults/lab.ts";
import { quiet } from "../faults/sound.ts";
import { pass } from "../lab/time.ts";
import { until } from "../waiting.ts";
import { ask, booksBalance, give, holds, running, untilState } from "./owner.ts";

const rounds = 8;
const complete = /rpc\/complete_generation/;

afterEach(() => lab.supabase.heal());

/** The time between the upload of an artwork and its row is usually short. Here it is long enough for a thief. */
function storeSlowly(ms: number, count = 1): void {
  lab.supabase.misbehave({ fault: "delay", ms, when: complete, count });
}

/** The name of the artwork as Storage has it: a thief can guess it, since it begins with the id of the generation. */
async function storedArtwork(id: string): Promise<string> {
  const found = await until("an artwork to be stored", async () =>
    (await database`select name from storage.objects where bucket_id = 'artworks' and position(${id} in name) > 0`)[0]);
  return found.name as string;
}

const cancels: Record<string, (person: Person, id: string) => Promise<{ status: number; code?: string }>> = {
  async "the database"(person, id) {
    const { status, error } = await person.client.rpc("cancel_generation", { generation_id: id });
    return { status, code: error?.hint };
  },
  async "the functions"(person, id) {
    const response = await person.call("POST", `/generations/${id}/cancel`);
    return { status: response.status, code: ((await response.json()) as { code?: string }).code };
  },
};

test("an owner who cancels while the artwork is stored gets the picture or the credit, in none of 8 rounds both", async () => {
  const mallory = await Person.signUp("mallory");
  await give(mallory, rounds);
  let pictures = 0;
  for (let round = 0; round < rounds; round += 1) {
    storeSlowly(400);
    const { id } = await mallory.generate(await small);
    await untilState(mallory, id, "storing");
    const name = await storedArtwork(id);
    const [first, second] = await Promise.all([
      mallory.client.storage.from("artworks").download(name),
      mallory.client.storage.from("artworks").createSignedUrl(name, 3600),
    ]);
    await Object.values(cancels)[round % 2]!(mallory, id);
    await mallory.ended(id);
    const last = await mallory.client.storage.from("artworks").download(name);
    if (first.data || second.data || last.data) pictures += 1;
    // The limit of starts a minute is not what this is about.
    await pass(10);
  }
  await quiet(mallory);
  const paid = (await holds(mallory)).filter((state) => state === "captured").length;
  assert.equal(pictures - paid, 0, `${pictures - paid} of ${rounds} artworks were fetched without paying`);
  assert.deepEqual(await mallory.wallet(), { balance: 5 + rounds - paid, held: 0 });
  await booksBalance();
});

test("an artwork cannot be downloaded, signed or listed before its generation has succeeded", async () => {
  const mallory = await Person.signUp("mallory");
  storeSlowly(1500);
  const { id } = await mallory.generate(await small);
  const name = await storedArtwork(id);
  const artworks = mallory.client.storage.from("artworks");
  const seen = async () => ({
    downloaded: (await artworks.download(name)).data !== null,
    signed: (await artworks.createSignedUrl(name, 3600)).data !== null,
    signedWithOthers: (await artworks.createSignedUrls([name], 3600)).data!.some(({ signedUrl }) => signedUrl),
    listed: (await artworks.list(mallory.id)).data!.length > 0,
    looked: (await ask(mallory.token, "HEAD", `/storage/v1/object/authenticated/artworks/${name}`)).status === 200,
  });
  const before = await seen();
  assert.equal((await mallory.generation(id))!.state, "storing");
  assert.deepEqual(before, { downloaded: false, signed: false, signedWithOthers: false, listed: false, looked: false });
  assert.equal((await mallory.ended(id)).artwork_path, name);
  assert.deepEqual(await seen(), { downloaded: true, signed: true, signedWithOthers: true, listed: true, looked: true });
});

for (const [way, cancel] of Object.entries(cancels)) {
  test(`a cancel by ${way} while the artwork is stored comes too late: it says so, and the artwork is charged`, async () => {
    const alice = await Person.signUp("alice");
    storeSlowly(800);
    const { id } = await alice.generate(await small);
    await untilState(alice, id, "storing");
    assert.deepEqual(await cancel(alice, id), { status: 409, code: "already_finished" });
    assert.equal((await alice.ended(id)).state, "succeeded");
    assert.deepEqual(await cancel(alice, id), { status: 409, code: "already_finished" });
    assert.deepEqual(await alice.wallet(), { balance: 4, held: 0 });
  });
}

test("deleting while the artwork is stored leaves nothing, and only the first three of a day cost nothing", async () => {
  const mallory = await Person.signUp("mallory");
  for (let round = 0; round < 4; round += 1) {
    storeSlowly(500);
    const { id } = await mallory.generate(await small);
    await storedArtwork(id);
    assert.equal((await mallory.call("DELETE", `/generations/${id}`)).status, 204);
    lab.supabase.heal();
  }
  await quiet(mallory);
  await cleanUp();
  assert.deepEqual(await holds(mallory), ["released", "released", "released", "captured"]);
  assert.deepEqual(await mallory.wallet(), { balance: 4, held: 0 });
  const left = await database`select name from storage.objects where starts_with(name, ${mallory.id})`;
  assert.deepEqual([...left], []);
});

test("a slow filter ends after three seconds, and other people do not wait for it", async () => {
  const [mallory, bob] = [await Person.signUp("mallory"), await Person.signUp("bob")];
  const [his] = await running(bob);
  const [held] = await running(mallory, 1, { prompt: "a".repeat(40) });
  await running(mallory, 1, { prompt: randomBytes(500).toString("hex") });
  // The pattern fits the first row at once, which is then locked, and takes forever to fail on the second.
  const filter = encodeURIComponent("(.{9,}).*\\1");
  const began = performance.now();
  const asked = ask(mallory.token, "PATCH", `/rest/v1/generations?prompt=match.${filter}`, JSON.stringify({ favourite: true }))
    .then(({ status }) => ({ status, seconds: (performance.now() - began) / 1000 }));
  await until("the filter to run", async () => {
    const [{ count }] = await database`
      select count(*)::int as count from pg_stat_activity where state = 'active' and query ilike '%update%generations%' and pid <> pg_backend_pid()`;
    return count > 0 || undefined;
  }, 1_500);
  const cancelled = await bob.call("POST", `/generations/${his!.id}/cancel`);
  assert.equal(cancelled.status, 200);
  await cleanUp();
  const others = (performance.now() - began) / 1000;
  const { status, seconds } = await asked;
  assert.ok(status >= 400, `the filter was answered with ${status} after ${seconds.toFixed(1)} s`);
  assert.ok(others < 3, `others waited ${others.toFixed(1)} s`);
  assert.ok(seconds < 4, `the filter ran for ${seconds.toFixed(1)} s`);
  assert.equal((await mallory.call("POST", `/generations/${held!.id}/cancel`)).status, 200);
});
