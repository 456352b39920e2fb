// Storage gives answers that are not true.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Person } from "../journeys/person.ts";
import { small } from "../journeys/photos.ts";
import { cleanUp, database } from "../journeys/stack.ts";
import { lab } from "./lab.ts";
import { sound } from "./sound.ts";

const upload = /^POST \/storage\/v1\/object\/artworks/;

test("if Storage confirms an upload but does not store it, the upload is repeated and nothing extra is charged", async () => {
  lab.supabase.misbehave({ fault: "status", status: 200, when: upload });
  const alice = await Person.signUp("alice");
  const { id } = await alice.generate(await small);
  assert.equal((await alice.ended(id)).state, "succeeded");
  assert.equal(lab.supabase.struck, 1);
  await sound(alice, { succeeded: 1 });
});

test("if Storage never stores the confirmed uploads, the job ends with a refund", async () => {
  lab.supabase.misbehave({ fault: "status", status: 200, when: upload, count: 1000 });
  const alice = await Person.signUp("alice");
  await alice.generate(await small);
  await sound(alice, { expired: 1 });
});

test("a deletion that Storage confirms but does not carry out is repeated until the photo is gone", async () => {
  lab.supabase.misbehave({ fault: "status", status: 200, when: /^DELETE \/storage\/v1\/object\/inputs/, count: 2 });
  const alice = await Person.signUp("alice");
  const { id } = await alice.generate(await small);
  assert.equal((await alice.ended(id)).state, "succeeded");
  await sound(alice, { succeeded: 1 });
  // Once for the original and once for its prepared copy.
  const tries = await database`select attempts from public.deletions where generation_id = ${id} and bucket = 'inputs'`;
  assert.deepEqual(tries.map(({ attempts }) => attempts), [2, 2]);
});

test("a bulk deletion that was only partly done is repeated for the rest", async () => {
  const alice = await Person.signUp("alice");
  const paths = await Promise.all(Array.from({ length: 9 }, async () => alice.upload(await small)));
  await database`update storage.objects set created_at = now() - interval '25 hours' where name = any(${paths})`;
  lab.supabase.misbehave({ fault: "halve", when: /^DELETE \/storage\/v1\/object\/inputs/, count: 2 });
  const partial = await cleanUp();
  assert.deepEqual([partial.verified, partial.remaining], [5, 4]);
  await sound(alice, {});
  const attempts = await database`select attempts, count(*)::int as count from public.deletions where path = any(${paths}) group by attempts order by attempts`;
  assert.deepEqual(attempts.map(({ attempts, count }) => [attempts, count]), [[1, 5], [2, 2], [3, 2]]);
});

test("a deletion is not verified while the listing still has the object, even if fetching it finds nothing", async () => {
  const alice = await Person.signUp("alice");
  const path = await alice.upload(await small);
  await database`update storage.objects set created_at = now() - interval '25 hours' where name = ${path}`;
  lab.supabase.misbehave({ fault: "status", status: 200, when: /^DELETE \/storage\/v1\/object\/inputs/ });
  const body = JSON.stringify({ statusCode: "404", error: "not_found", message: "Object not found" });
  lab.supabase.misbehave({ fault: "status", status: 400, body, when: /^GET \/storage\/v1\/object\/inputs/ });
  const report = await cleanUp();
  assert.deepEqual([report.verified, report.remaining], [0, 1]);
  const [{ verified_at, receipt }] = await database`select verified_at, receipt from public.deletions where path = ${path}`;
  assert.deepEqual([verified_at, receipt], [null, null]);
  await sound(alice, {});
});

test("a check that fails (500, 429, a broken response) does not prove that an object is gone", async () => {
  const look = /^GET \/storage\/v1\/object\/inputs/;
  for (const fault of [{ fault: "status", status: 500 }, { fault: "status", status: 429 }, { fault: "refuse" }] as const) {
    const alice = await Person.signUp("alice");
    const path = await alice.upload(await small);
    await database`update storage.objects set created_at = now() - interval '25 hours' where name = ${path}`;
    // As often as one check is tried.
    lab.supabase.misbehave({ ...fault, when: look, count: 3 });
    assert.deepEqual((await cleanUp()).remaining, 1);
    await sound(alice, {});
  }
});

test("an upload whose response is lost is repeated and stored once", async () => {
  lab.supabase.misbehave({ fault: "lose_answer", when: upload });
  const alice = await Person.signUp("alice");
  const { id } = await alice.generate(await small);
  assert.equal((await alice.ended(id)).state, "succeeded");
  await sound(alice, { succeeded: 1 });
});
