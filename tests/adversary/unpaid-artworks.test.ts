// An owner who wants both the picture and the credit. An artwork is readable only after it is paid for.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { afterEach, test } from "node:test";
import { Person } from "../journeys/person.ts";
import { small } from "../journeys/photos.ts";
import { cleanUp, database } from "../journeys/stack.ts";
import { lab } from "../faults/lab.ts";
import { quiet } from "../faults/sound.ts";
import { until } from "../waiting.ts";
import { ask, booksBalance, give, holds, running, untilState } from "./owner.ts";

const rounds = 8;
const complete = /rpc\/complete_generation/;

afterEach(() => lab.supabase.heal());

/** Extends the usually short time between the upload of an artwork and its row, so that a thief has enough of it. */
function storeSlowly(ms: number, count = 1): void {
  lab.supabase.misbehave({ fault: "delay", ms, when: complete, count });
}

/** Lets artworks be stored, but not their rows, so that the generations stay `storing`. */
function stopBeforeTheRow(): void {
  lab.supabase.misbehave({ fault: "refuse", when: complete, count: 1e9 });
}

/** The name of the artwork in Storage. A thief can guess it, because it begins with the id of the generation. */
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

test("an owner who cancels while the artwork is stored never gets both the picture and the credit in 8 rounds", async () => {
  const mallory = await Person.signUp("mallory");
  await give(mallory, rounds);
  const steal = async (round: number): Promise<boolean> => {
    const { id } = await mallory.generate(await small);
    await untilState(mallory, id, "storing");
    const name = await storedArtwork(id);
    const artworks = mallory.client.storage.from("artworks");
    const [downloaded, signed] = await Promise.all([artworks.download(name), artworks.createSignedUrl(name, 3600)]);
    await Object.values(cancels)[round % 2]!(mallory, id);
    await mallory.ended(id);
    return Boolean(downloaded.data ?? signed.data ?? (await artworks.download(name)).data);
  };
  let pictures = 0;
  // As many at once as one user may run.
  for (let round = 0; round < rounds; round += 4) {
    storeSlowly(1500, 4);
    const stolen = await Promise.all([0, 1, 2, 3].map((each) => steal(round + each)));
    pictures += stolen.filter(Boolean).length;
  }
  await quiet(mallory);
  const paid = (await holds(mallory)).filter((state) => state === "captured").length;
  assert.equal(pictures - paid, 0, `${pictures - paid} of ${rounds} artworks were fetched without paying`);
  assert.deepEqual(await mallory.wallet(), { balance: 5 + rounds - paid, held: 0 });
  await booksBalance();
});

test("users cannot download, sign or list an artwork before its generation has succeeded", async () => {
  const mallory = await Person.signUp("mallory");
  stopBeforeTheRow();
  const { id } = await mallory.generate(await small);
  let name = await storedArtwork(id);
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
  lab.supabase.heal();
  await quiet(mallory);
  assert.equal((await mallory.generation(id))!.state, "succeeded");
  // A later attempt may have stored the artwork again.
  name = (await mallory.generation(id))!.artwork_path!;
  assert.deepEqual(await seen(), { downloaded: true, signed: true, signedWithOthers: true, listed: true, looked: true });
});

for (const [way, cancel] of Object.entries(cancels)) {
  test(`a cancel through ${way} while the artwork is stored is refused as too late, and the artwork is charged`, async () => {
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

test("deleting a generation while its artwork is stored leaves nothing, and only the first three a day are free", async () => {
  const mallory = await Person.signUp("mallory");
  stopBeforeTheRow();
  const jobs = await Promise.all([1, 2, 3, 4].map(async () => mallory.generate(await small)));
  for (const { id } of jobs) {
    await storedArtwork(id);
    assert.equal((await mallory.call("DELETE", `/generations/${id}`)).status, 204);
  }
  lab.supabase.heal();
  await quiet(mallory);
  await cleanUp();
  assert.deepEqual((await holds(mallory)).sort(), ["captured", "released", "released", "released"]);
  assert.deepEqual(await mallory.wallet(), { balance: 4, held: 0 });
  const left = await database`select name from storage.objects where starts_with(name, ${mallory.id})`;
  assert.deepEqual([...left], []);
});

test("the database ends a slow filter after three seconds, and other users do not wait for it", async () => {
  const [mallory, bob] = [await Person.signUp("mallory"), await Person.signUp("bob")];
  const [his] = await running(bob);
  const [held] = await running(mallory, 1, { prompt: "a".repeat(40) });
  await running(mallory, 1, { prompt: randomBytes(500).toString("hex") });
  // The pattern matches the first row at once, which is then locked, and takes forever to fail on the second.
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
  assert.ok(status >= 400, `the filter got status ${status} after ${seconds.toFixed(1)} s`);
  assert.ok(others < 3, `others waited ${others.toFixed(1)} s`);
  assert.ok(seconds < 4, `the filter ran for ${seconds.toFixed(1)} s`);
  assert.equal((await mallory.call("POST", `/generations/${held!.id}/cancel`)).status, 200);
});
