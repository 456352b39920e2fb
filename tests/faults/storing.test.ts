// Faults between an output and its artwork.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Person } from "../journeys/person.ts";
import { small } from "../journeys/photos.ts";
import { arm, cleanUp, database } from "../journeys/stack.ts";
import { passTime } from "../lab/time.ts";
import { until } from "../waiting.ts";
import { artworkIsWhole, withLostEvents } from "./generation.ts";
import { lab } from "./lab.ts";
import { quiet, sound } from "./sound.ts";

test("if a worker dies between the upload and its record, the next worker stores the artwork, and there is one", async () => {
  const alice = await Person.signUp("alice");
  const { id } = await withLostEvents(alice);
  await passTime(61);
  await lab.functions.crashAt("artwork.stored");
  await assert.rejects(cleanUp());
  await lab.functions.crashed();
  assert.equal((await alice.generation(id))!.state, "storing");
  const stored = await database`select from storage.objects where bucket_id = 'artworks' and starts_with(name, ${alice.id})`;
  assert.equal(stored.length, 1);
  await sound(alice, { succeeded: 1 });
  await artworkIsWhole(alice, id);
});

test("if a worker dies after the upload and the user deletes the generation, nothing stays", async () => {
  const alice = await Person.signUp("alice");
  const { id } = await withLostEvents(alice);
  await passTime(61);
  await lab.functions.crashAt("artwork.stored");
  await assert.rejects(cleanUp());
  await lab.functions.crashed();
  assert.equal((await alice.call("DELETE", `/generations/${id}`)).status, 204);
  await sound(alice, {});
});

test("if Storage breaks off an upload, the event is sent again and the artwork is stored whole", async () => {
  lab.supabase.misbehave({ fault: "cut_request", bytes: 2000, when: /^POST \/storage\/v1\/object\/artworks/ });
  const alice = await Person.signUp("alice");
  const { id } = await alice.generate(await small);
  assert.equal((await alice.ended(id)).state, "succeeded");
  assert.equal(lab.supabase.struck > 0, true);
  await sound(alice, { succeeded: 1 });
  await artworkIsWhole(alice, id);
});

test("if Storage refuses every attempt, the job ends and its credits are returned", async () => {
  lab.supabase.misbehave({ fault: "status", status: 500, when: /^POST \/storage\/v1\/object\/artworks/, count: 1000 });
  const alice = await Person.signUp("alice");
  await alice.generate(await small);
  await sound(alice, { expired: 1 });
});

for (const [name, fault, reason] of [
  ["an output that is no picture", "output_wrong_type", "output_invalid"],
  ["an output without end", "output_too_large", "output_invalid"],
  ["success without output", "succeed_without_output", "output_invalid"],
] as const) {
  test(`${name}: the job fails as ${reason}, and its credits are returned`, async () => {
    await arm({ fault });
    const alice = await Person.signUp("alice");
    await alice.ended((await alice.generate(await small)).id);
    await sound(alice, { [reason]: 1 });
  });
}

test("if an output is shorter than its declared length, it is fetched again and stored whole", async () => {
  await arm({ fault: "output_truncated" });
  const alice = await Person.signUp("alice");
  const { id } = await alice.generate(await small);
  assert.equal((await alice.ended(id)).state, "succeeded");
  await sound(alice, { succeeded: 1 });
  await artworkIsWhole(alice, id);
});

test("if the output host stalls, the attempt ends and is repeated later", async () => {
  await arm({ fault: "output_stall" });
  const alice = await Person.signUp("alice");
  const { id } = await alice.generate(await small);
  assert.equal((await until("the end", async () => {
    const found = await alice.generation(id);
    return found!.state === "succeeded" ? found : undefined;
  }, 40_000)).state, "succeeded");
  await sound(alice, { succeeded: 1 });
});

test("an output host that stalls for one job does not block other jobs", async () => {
  const [alice, bob] = [await Person.signUp("alice"), await Person.signUp("bob")];
  for (const person of [alice, bob, alice, bob]) await withLostEvents(person);
  await arm({ fault: "output_stall" });
  await passTime(61);
  const sweeping = cleanUp();
  const stored = () => database`
    select id from public.generations where person_id in ${database([alice.id, bob.id])} and state = 'succeeded'`;
  await until("the others to be stored", async () => (await stored()).length === 3 || undefined, 5_000);
  await sweeping;
  await sound(alice, { succeeded: 2 });
  await sound(bob, { succeeded: 2 });
});

test("if a worker freezes past its lease, another stores the artwork, and the first changes nothing when it wakes", async () => {
  const alice = await Person.signUp("alice");
  const { id } = await withLostEvents(alice);
  const another = await lab.another();
  await passTime(61);
  await lab.functions.freezeAt("artwork.stored");
  const sweeping = cleanUp();
  await lab.functions.isFrozen();
  await passTime(180);
  process.env.FUNCTIONS_URL = another.url;
  await cleanUp();
  const stored = (await alice.generation(id))!;
  assert.equal(stored.state, "succeeded");
  lab.functions.thaw();
  process.env.FUNCTIONS_URL = lab.functions.url;
  await sweeping;
  assert.deepEqual(await alice.generation(id), stored);
  await sound(alice, { succeeded: 1 });
  await artworkIsWhole(alice, id);
});

test("if a worker freezes while the user deletes the generation, what it stores late is deleted", async () => {
  const alice = await Person.signUp("alice");
  const { id } = await withLostEvents(alice);
  const another = await lab.another();
  await passTime(61);
  await lab.functions.freezeAt("artwork.stored");
  const sweeping = cleanUp();
  await lab.functions.isFrozen();
  process.env.FUNCTIONS_URL = another.url;
  assert.equal((await alice.call("DELETE", `/generations/${id}`)).status, 204);
  await quiet(alice);
  // As if the upload had only now finished.
  const late = await fetch(`${process.env.SUPABASE_URL}/storage/v1/object/artworks/${alice.id}/${id}-1.png`, {
    method: "POST",
    headers: { apikey: process.env.SUPABASE_SECRET_KEY!, "content-type": "image/png" },
    body: "late",
  });
  assert.equal(late.status, 200);
  lab.functions.thaw();
  process.env.FUNCTIONS_URL = lab.functions.url;
  await sweeping;
  await sound(alice, {});
});
