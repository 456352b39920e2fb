// Storage answers what is not so.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Person } from "../journeys/person.ts";
import { small } from "../journeys/photos.ts";
import { database } from "../journeys/stack.ts";
import { lab } from "./lab.ts";
import { sound } from "./sound.ts";

const upload = /^POST \/storage\/v1\/object\/artworks/;

test("an upload that is answered and was never stored is made again, and nothing is paid for it", async () => {
  lab.supabase.misbehave({ fault: "status", status: 200, when: upload });
  const alice = await Person.signUp("alice");
  const { id } = await alice.generate(await small);
  assert.equal((await alice.ended(id)).state, "succeeded");
  assert.equal(lab.supabase.struck, 1);
  await sound(alice, { succeeded: 1 });
});

test("uploads that are answered and never stored end in a refund", async () => {
  lab.supabase.misbehave({ fault: "status", status: 200, when: upload, count: 1000 });
  const alice = await Person.signUp("alice");
  await alice.generate(await small);
  await sound(alice, { expired: 1 });
});

test("a deletion that is answered and never done is done again, until the photo is gone", async () => {
  lab.supabase.misbehave({ fault: "status", status: 200, when: /^DELETE \/storage\/v1\/object\/inputs/, count: 2 });
  const alice = await Person.signUp("alice");
  const { id, input_path } = await alice.generate(await small);
  assert.equal((await alice.ended(id)).state, "succeeded");
  await sound(alice, { succeeded: 1 });
  const [{ attempts }] = await database`select attempts from public.deletions where path = ${input_path}`;
  assert.equal(attempts, 3);
});

test("an upload whose answer is lost is made again, and stored once", async () => {
  lab.supabase.misbehave({ fault: "lose_answer", when: upload });
  const alice = await Person.signUp("alice");
  const { id } = await alice.generate(await small);
  assert.equal((await alice.ended(id)).state, "succeeded");
  await sound(alice, { succeeded: 1 });
});
