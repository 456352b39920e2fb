// Faults between a prediction and its artwork.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, afterEach, before, test } from "node:test";
import { type Generation, Person } from "../journeys/person.ts";
import { small } from "../journeys/photos.ts";
import { arm, cleanUp, database, disarm } from "../journeys/stack.ts";
import { type Lab, startLab } from "../lab/lab.ts";
import { pass } from "../lab/time.ts";
import { until } from "../waiting.ts";
import { predictionThatIs, predictionsOf, send } from "./replicate.ts";
import { quiet, sound } from "./sound.ts";

let lab: Lab;
before(async () => void (lab = await startLab()));
afterEach(async () => {
  lab.heal();
  await disarm();
});
after(async () => {
  await lab.stop();
  await database.end();
});

/** A generation whose prediction has succeeded, and nobody was told. */
async function unheard(person: Person): Promise<Generation> {
  await arm({ fault: "webhook_drop" });
  const generation = await person.generate(await small);
  await predictionThatIs("succeeded", generation.input_path);
  return generation;
}

async function artworkIsWhole(person: Person, id: string): Promise<void> {
  const generation = (await person.generation(id))!;
  const { data } = await person.client.storage.from("artworks").download(generation.artwork_path!);
  const digest = createHash("sha256").update(Buffer.from(await data!.arrayBuffer())).digest("hex");
  assert.equal(digest, generation.artwork_sha256);
}

test("webhook a hundred times at once: one artwork, one payment", async () => {
  const alice = await Person.signUp("alice");
  const { id, input_path } = await unheard(alice);
  const prediction = await predictionThatIs("succeeded", input_path);
  const answers = await Promise.all(Array.from({ length: 100 }, () => send(prediction, {}, "msg_hundred")));
  assert.deepEqual(new Set(answers.map(({ status }) => status)), new Set([200]));
  assert.equal((await alice.ended(id)).state, "succeeded");
  const [{ deliveries }] = await database`select deliveries from private.webhook_events where id = 'msg_hundred'`;
  assert.equal(deliveries, 100);
  await sound(alice, { succeeded: 1 });
});

test("processing after succeeded: the state stays", async () => {
  const alice = await Person.signUp("alice");
  const { id, input_path } = await alice.generate(await small);
  await alice.ended(id);
  const [prediction] = await predictionsOf(input_path);
  for (const status of ["starting", "processing", "failed", "canceled"]) {
    assert.equal((await send(prediction!, { status, output: null })).status, 200);
  }
  await sound(alice, { succeeded: 1 });
  await artworkIsWhole(alice, id);
});

test("webhook never: Replicate is asked after a minute", async () => {
  const alice = await Person.signUp("alice");
  const { id } = await unheard(alice);
  await cleanUp();
  assert.notEqual((await alice.generation(id))!.state, "succeeded");
  await pass(61);
  await cleanUp();
  assert.equal((await alice.generation(id))!.state, "succeeded");
  await sound(alice, { succeeded: 1 });
});

test("a receiver that answers with an error is told again, until it has it", async () => {
  lab.webhooks.misbehave({ fault: "status", status: 503, count: 2 });
  const alice = await Person.signUp("alice");
  const { id } = await alice.generate(await small);
  assert.equal((await alice.ended(id)).state, "succeeded");
  await sound(alice, { succeeded: 1 });
});

test("clock ten minutes off: events are refused, and Replicate is asked instead", async () => {
  await arm({ fault: "webhook_clock", count: 20 });
  const alice = await Person.signUp("alice");
  const { id, input_path } = await alice.generate(await small);
  await predictionThatIs("succeeded", input_path);
  await pass(61);
  assert.notEqual((await alice.generation(id))!.state, "succeeded");
  await cleanUp();
  assert.equal((await alice.generation(id))!.state, "succeeded");
  const [{ count }] = await database`select count(*)::int from private.webhook_events where generation_id = ${id}`;
  assert.equal(count, 0);
  await sound(alice, { succeeded: 1 });
});

test("killed after the upload and before the row: the next worker stores it, and there is one artwork", async () => {
  const alice = await Person.signUp("alice");
  const { id } = await unheard(alice);
  await pass(61);
  await lab.functions.crashAt("artwork.stored");
  await assert.rejects(cleanUp());
  await lab.functions.isUp();
  assert.equal((await alice.generation(id))!.state, "storing");
  const stored = await database`select from storage.objects where bucket_id = 'artworks' and starts_with(name, ${alice.id})`;
  assert.equal(stored.length, 1);
  await sound(alice, { succeeded: 1 });
  await artworkIsWhole(alice, id);
});

test("killed after the upload, and its person cancels: nothing of it stays", async () => {
  const alice = await Person.signUp("alice");
  const { id } = await unheard(alice);
  await pass(61);
  await lab.functions.crashAt("artwork.stored");
  await assert.rejects(cleanUp());
  await lab.functions.isUp();
  assert.equal((await alice.call("POST", `/generations/${id}/cancel`)).status, 200);
  await sound(alice, { canceled: 1 });
});

test("storage cut mid-upload: the event comes again and the artwork is stored whole", async () => {
  lab.supabase.misbehave({ fault: "cut_request", bytes: 2000, when: /^POST \/storage\/v1\/object\/artworks/ });
  const alice = await Person.signUp("alice");
  const { id } = await alice.generate(await small);
  assert.equal((await alice.ended(id)).state, "succeeded");
  assert.equal(lab.supabase.struck > 0, true);
  await sound(alice, { succeeded: 1 });
  await artworkIsWhole(alice, id);
});

test("storage says no, whatever is tried: the job ends, and its credits go back", async () => {
  lab.supabase.misbehave({ fault: "status", status: 500, when: /^POST \/storage\/v1\/object\/artworks/, count: 1000 });
  const alice = await Person.signUp("alice");
  await alice.generate(await small);
  await sound(alice, { expired: 1 });
});

for (const [name, fault, reason] of [
  ["output expired", "output_expired", "lost"],
  ["an output that is no picture", "output_wrong_type", "output_invalid"],
  ["an output that is somewhere else", "output_redirect", "output_invalid"],
  ["an output without end", "output_too_large", "output_invalid"],
  ["success without output", "succeed_without_output", "output_invalid"],
] as const) {
  test(`${name}: the job fails as ${reason}, and its credits go back`, async () => {
    await arm({ fault });
    const alice = await Person.signUp("alice");
    await alice.ended((await alice.generate(await small)).id);
    await sound(alice, { [reason]: 1 });
  });
}

test("body shorter than its length: it is fetched again, and stored whole", async () => {
  await arm({ fault: "output_truncated" });
  const alice = await Person.signUp("alice");
  const { id } = await alice.generate(await small);
  assert.equal((await alice.ended(id)).state, "succeeded");
  await sound(alice, { succeeded: 1 });
  await artworkIsWhole(alice, id);
});

test("an output host that stalls is given up, and asked again", async () => {
  await arm({ fault: "output_stall" });
  const alice = await Person.signUp("alice");
  const { id } = await alice.generate(await small);
  assert.equal((await until("the end", async () => {
    const found = await alice.generation(id);
    return found!.state === "succeeded" ? found : undefined;
  }, 40_000)).state, "succeeded");
  await sound(alice, { succeeded: 1 });
});

test("an output host that stalls for one holds up nobody else", async () => {
  const [alice, bob] = [await Person.signUp("alice"), await Person.signUp("bob")];
  for (const person of [alice, bob, alice, bob]) await unheard(person);
  await arm({ fault: "output_stall" });
  await pass(61);
  const sweeping = cleanUp();
  const stored = () => database`
    select id from public.generations where person_id in ${database([alice.id, bob.id])} and state = 'succeeded'`;
  await until("the others to be stored", async () => (await stored()).length === 3 || undefined, 5_000);
  await sweeping;
  await sound(alice, { succeeded: 2 });
  await sound(bob, { succeeded: 2 });
});

test("a fault of the platform is tried again under the same hold", async () => {
  await arm({ fault: "fail_platform", count: 2 });
  const alice = await Person.signUp("alice");
  const { input_path } = await alice.generate(await small);
  await predictionThatIs("failed", input_path);
  await sound(alice, { succeeded: 1 });
  assert.deepEqual((await predictionsOf(input_path)).map(({ status }) => status), ["failed", "failed", "succeeded"]);
});

test("a platform that fails three times has failed, and the credits go back", async () => {
  await arm({ fault: "fail_platform", count: 3 });
  const alice = await Person.signUp("alice");
  const { input_path } = await alice.generate(await small);
  await predictionThatIs("failed", input_path);
  await sound(alice, { platform_error: 1 });
  assert.equal((await predictionsOf(input_path)).length, 3);
});

test("events of a prediction that was given up change nothing", async () => {
  await arm({ fault: "fail_platform" }, { fault: "webhook_duplicate", value: 20 });
  const alice = await Person.signUp("alice");
  const { id, input_path } = await alice.generate(await small);
  const failed = await predictionThatIs("failed", input_path);
  await until("the platform's fault to be known", async () => !(await alice.generation(id))!.prediction_id || undefined);
  await pass(61);
  await arm({ fault: "stuck_processing" });
  await cleanUp();
  for (const status of ["processing", "failed", "succeeded"]) assert.equal((await send(failed, { status })).status, 200);
  const [, second] = await predictionsOf(input_path);
  assert.equal((await alice.generation(id))!.prediction_id, second!.id);
  await alice.call("POST", `/generations/${id}/cancel`);
  await sound(alice, { canceled: 1 });
});

for (const [status, fault] of [["aborted", "stuck_starting"], ["canceled", "stuck_processing"]] as const) {
  test(`a prediction that Replicate calls ${status} has met its deadline`, async () => {
    await arm({ fault });
    const alice = await Person.signUp("alice");
    const { input_path } = await alice.generate(await small);
    await pass(601);
    await predictionThatIs(status, input_path);
    await sound(alice, { expired: 1 });
  });
}

test("worker frozen past its lease: another stores the artwork, and the first changes nothing when it wakes", async () => {
  const alice = await Person.signUp("alice");
  const { id } = await unheard(alice);
  const another = await lab.another();
  await pass(61);
  await lab.functions.freezeAt("artwork.stored");
  const sweeping = cleanUp();
  await lab.functions.isFrozen();
  await pass(180);
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

test("worker frozen while its person deletes: what it has stored is deleted when it wakes", async () => {
  const alice = await Person.signUp("alice");
  const { id } = await unheard(alice);
  const another = await lab.another();
  await pass(61);
  await lab.functions.freezeAt("artwork.stored");
  const sweeping = cleanUp();
  await lab.functions.isFrozen();
  process.env.FUNCTIONS_URL = another.url;
  assert.equal((await alice.call("DELETE", `/generations/${id}`)).status, 204);
  await quiet(alice);
  // As if the upload had only now come through.
  const late = await fetch(`${process.env.SUPABASE_URL}/storage/v1/object/artworks/${alice.id}/${id}.png`, {
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

test("two sweeps at once: each job is settled once", async () => {
  const people = await Promise.all(["alice", "bob", "carol"].map((name) => Person.signUp(name)));
  for (const person of people) for (const _ of [1, 2]) await unheard(person);
  const another = await lab.another();
  await pass(61);
  const secret = { authorization: `Bearer ${process.env.OPERATOR_SECRET}` };
  const sweeps = [lab.functions, another, lab.functions, another].map(({ url }) =>
    fetch(`${url}/cleanup`, { method: "POST", headers: secret }).then((answer) => answer.status));
  assert.deepEqual(await Promise.all(sweeps), [200, 200, 200, 200]);
  for (const person of people) await sound(person, { succeeded: 2 });
});

test("a sweep leaves nothing open past its deadline, and gives a result a last chance", async () => {
  const alice = await Person.signUp("alice");
  const made = await unheard(alice);
  await arm({ fault: "webhook_drop" }, { fault: "stuck_processing" });
  const stuck = await alice.generate(await small);
  await pass(601);
  await cleanUp();
  assert.equal((await alice.generation(made.id))!.state, "succeeded");
  assert.deepEqual([(await alice.generation(stuck.id))!.state, (await alice.generation(stuck.id))!.reason], ["failed", "expired"]);
  await sound(alice, { succeeded: 1, expired: 1 });
});

test("a sweep that dies while it asks for the last time: the next one ends the generation", async () => {
  const alice = await Person.signUp("alice");
  await arm({ fault: "webhook_drop" }, { fault: "stuck_processing" });
  const { id } = await alice.generate(await small);
  await pass(601);
  await lab.functions.crashAt("cleanup.settling");
  await assert.rejects(cleanUp());
  await lab.functions.isUp();
  await pass(121);
  await cleanUp();
  assert.equal((await alice.generation(id))!.reason, "expired");
  await sound(alice, { expired: 1 });
});

const runners = 16;

/** Does something at about the moment at which a prediction succeeds, now before and now after. */
async function race(person: Person, act: (id: string) => Promise<Response>): Promise<number[]> {
  await database`select backend.adjust_credits(${person.id}, ${runners}, 'for a race', ${crypto.randomUUID()})`;
  const began = performance.now();
  await person.ended((await person.generate(await small)).id);
  const usual = performance.now() - began;
  const statuses: number[] = [];
  for (let runner = 0; runner < runners; runner += 1) {
    // So that the limits a minute are not met.
    await pass(10);
    const started = performance.now();
    const { id } = await person.generate(await small);
    const moment = (usual * 1.5 * runner) / runners;
    await new Promise((later) => setTimeout(later, moment - (performance.now() - started)));
    statuses.push((await act(id)).status);
  }
  await quiet(person);
  return statuses;
}

async function booksBalance(person: Person): Promise<void> {
  const [{ captured }] = await database`
    select count(*)::int as captured from public.credit_holds as h join public.wallets as w on w.id = h.wallet_id
    where w.person_id = ${person.id} and h.state = 'captured'`;
  assert.deepEqual(await person.wallet(), { balance: 5 + runners - captured, held: 0 });
  assert.deepEqual([...(await database`select * from backend.audit_credits()`)], []);
  const objects = await database`select name from storage.objects where starts_with(name, ${`${person.id}/`}) order by 1`;
  const artworks = await database`select artwork_path as name from public.generations where person_id = ${person.id} and state = 'succeeded' order by 1`;
  assert.deepEqual([...objects], [...artworks]);
}

test("cancel against success: whoever is first decides, and the books balance", async () => {
  const alice = await Person.signUp("alice");
  const statuses = await race(alice, (id) => alice.call("POST", `/generations/${id}/cancel`));
  assert.deepEqual(new Set(statuses), new Set([200]));
  const ends = await database`select distinct state from public.generations where person_id = ${alice.id} order by 1`;
  assert.deepEqual(ends.map(({ state }) => state), ["canceled", "succeeded"]);
  await booksBalance(alice);
});

test("delete against success: nothing stays, and what was made is paid once", async () => {
  const alice = await Person.signUp("alice");
  const statuses = await race(alice, (id) => alice.call("DELETE", `/generations/${id}`));
  assert.deepEqual(new Set(statuses), new Set([204]));
  const settled = await database`
    select distinct h.state from public.credit_holds as h join public.wallets as w on w.id = h.wallet_id
    where w.person_id = ${alice.id} order by 1`;
  assert.deepEqual(settled.map(({ state }) => state), ["captured", "released"]);
  await booksBalance(alice);
});
