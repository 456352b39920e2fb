// Faults between a reservation and its prediction.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import { Person } from "../journeys/person.ts";
import { small } from "../journeys/photos.ts";
import { arm, cleanUp, database } from "../journeys/stack.ts";
import { pass } from "../lab/time.ts";
import { lab } from "./lab.ts";
import { predictionThatIs, predictionsOf } from "./replicate.ts";
import { sound } from "./sound.ts";

const create = /^POST \/v1\/models\//;

/** Submits where the functions may die: what a client sees then is a lost connection. */
async function submitInVain(person: Person, input_path: string): Promise<void> {
  await assert.rejects(person.submit({ style: "mosaic", input_path }));
  await lab.functions.crashed();
}

test("killed after the hold and before the submission: another submits it, under the same hold", async () => {
  const alice = await Person.signUp("alice");
  const input_path = await alice.upload(await small);
  await lab.functions.crashAt("submit.begun");
  await submitInVain(alice, input_path);
  assert.deepEqual(await alice.wallet(), { balance: 5, held: 1 });
  assert.equal((await predictionsOf(input_path)).length, 0);
  await sound(alice, { succeeded: 1 });
  assert.equal((await predictionsOf(input_path)).length, 1);
});

for (const point of ["submit.leased", "submit.checked", "submit.recorded"] as const) {
  test(`killed at ${point}: another goes on, and one prediction is made`, async () => {
    const alice = await Person.signUp("alice");
    const input_path = await alice.upload(await small);
    await lab.functions.crashAt(point);
    await submitInVain(alice, input_path);
    await sound(alice, { succeeded: 1 });
    assert.equal((await predictionsOf(input_path)).length, 1);
  });
}

test("killed after the prediction was created: it is found again, and none is made twice", async () => {
  await arm({ fault: "webhook_drop" });
  const alice = await Person.signUp("alice");
  const input_path = await alice.upload(await small);
  await lab.functions.crashAt("submit.created");
  await submitInVain(alice, input_path);
  await predictionThatIs("succeeded", input_path);
  await sound(alice, { succeeded: 1 });
  assert.equal((await predictionsOf(input_path)).length, 1);
});

test("submit accepted but its answer lost, and no event comes: it is found by its photo", async () => {
  await arm({ fault: "webhook_drop" });
  lab.replicate.misbehave({ fault: "lose_answer", when: create });
  const alice = await Person.signUp("alice");
  const { id, state, input_path } = await alice.generate(await small);
  assert.equal(state, "reserved");
  await predictionThatIs("succeeded", input_path);
  assert.equal((await alice.generation(id))!.prediction_id, null);
  await sound(alice, { succeeded: 1 });
  assert.equal((await predictionsOf(input_path)).length, 1);
});

test("submit accepted but its answer lost: the events name it", async () => {
  lab.replicate.misbehave({ fault: "lose_answer", when: create });
  const alice = await Person.signUp("alice");
  const { id } = await alice.generate(await small);
  assert.equal((await alice.ended(id)).state, "succeeded");
  await sound(alice, { succeeded: 1 });
});

test("a create call that never arrived is made again once Replicate says that there is nothing", async () => {
  lab.replicate.misbehave({ fault: "refuse", when: create });
  const alice = await Person.signUp("alice");
  const { state, input_path } = await alice.generate(await small);
  assert.equal(state, "reserved");
  await sound(alice, { succeeded: 1 });
  assert.equal((await predictionsOf(input_path)).length, 1);
});

test("while Replicate cannot be asked whether it was created, nothing is created twice", async () => {
  await arm({ fault: "webhook_drop" });
  lab.replicate.misbehave({ fault: "lose_answer", when: create });
  lab.replicate.misbehave({ fault: "status", status: 500, when: /^GET \/v1\/predictions$/, count: 3 });
  const alice = await Person.signUp("alice");
  const { input_path } = await alice.generate(await small);
  await pass(100);
  await cleanUp();
  assert.equal((await predictionsOf(input_path)).length, 1);
  await sound(alice, { succeeded: 1 });
  assert.equal((await predictionsOf(input_path)).length, 1);
});

// A throttled call is certainly none and made again at once; after the others Replicate is asked first.
for (const [status, count] of [[429, 4], [500, 2], [503, 2]] as const) {
  test(`Replicate answers ${status} for a while: the job waits and is made, once`, async () => {
    lab.replicate.misbehave({ fault: "status", status, when: create, count });
    const alice = await Person.signUp("alice");
    const { state, input_path } = await alice.generate(await small);
    assert.equal(state, "reserved");
    await sound(alice, { succeeded: 1 });
    assert.equal((await predictionsOf(input_path)).length, 1);
  });
}

test("Storage is not there while a photo is checked: the job waits and is made", async () => {
  lab.supabase.misbehave({ fault: "status", status: 500, when: /^GET \/storage\/v1\/object\/inputs/, count: 3 });
  const alice = await Person.signUp("alice");
  assert.equal((await alice.generate(await small)).state, "reserved");
  await sound(alice, { succeeded: 1 });
});

test("a photo that its owner takes back before it is submitted ends its job clearly", async () => {
  lab.supabase.misbehave({ fault: "status", status: 500, when: /^GET \/storage\/v1\/object\/inputs/, count: 3 });
  const alice = await Person.signUp("alice");
  const { input_path } = await alice.generate(await small);
  const { error } = await alice.client.storage.from("inputs").remove([input_path]);
  assert.equal(error, null);
  await sound(alice, { input_not_found: 1 });
});

test("webhook before attach: the event names the prediction, and the late answer changes nothing", async () => {
  lab.supabase.misbehave({ fault: "delay", ms: 2500, when: /rpc\/attach_prediction/ });
  const alice = await Person.signUp("alice");
  const { id, state } = await alice.generate(await small);
  assert.equal(state, "succeeded");
  assert.equal((await alice.generation(id))!.state, "succeeded");
  await sound(alice, { succeeded: 1 });
});

test("a worker frozen before it submits wakes up late: what it makes is canceled, and one artwork is made", async () => {
  const alice = await Person.signUp("alice");
  const input_path = await alice.upload(await small);
  const another = await lab.another();
  await lab.functions.freezeAt("submit.recorded");
  const submitting = alice.submit({ style: "mosaic", input_path });
  await lab.functions.isFrozen();
  await pass(120);
  process.env.FUNCTIONS_URL = another.url;
  await arm({ fault: "stuck_processing" });
  await cleanUp();
  const [first] = await predictionsOf(input_path);
  assert.ok(first, "another worker has submitted it");
  lab.functions.thaw();
  process.env.FUNCTIONS_URL = lab.functions.url;
  assert.equal((await submitting).status, 201);
  const made = await predictionsOf(input_path);
  assert.deepEqual(made.slice(1).map(({ status }) => status), ["canceled"]);
  const { data } = await alice.client.from("generations").select("id, prediction_id").single();
  assert.equal(data!.prediction_id, first.id);
  await alice.call("POST", `/generations/${data!.id}/cancel`);
  await sound(alice, { canceled: 1 });
});

test("a worker frozen while its person cancels: it is told so, not that its photo is missing", async () => {
  const alice = await Person.signUp("alice");
  const input_path = await alice.upload(await small);
  const another = await lab.another();
  await lab.functions.freezeAt("submit.leased");
  const submitting = alice.submit({ style: "mosaic", input_path });
  await lab.functions.isFrozen();
  const { data } = await alice.client.from("generations").select("id").single();
  process.env.FUNCTIONS_URL = another.url;
  assert.equal((await alice.call("POST", `/generations/${data!.id}/cancel`)).status, 200);
  process.env.FUNCTIONS_URL = lab.functions.url;
  lab.functions.thaw();
  const answer = await submitting;
  assert.deepEqual([answer.status, ((await answer.json()) as { code: string }).code], [409, "generation_ended"]);
  await sound(alice, { canceled: 1 });
});

test("a worker frozen before its create call wakes up late: while another is at it, it makes nothing", async () => {
  const alice = await Person.signUp("alice");
  const input_path = await alice.upload(await small);
  await lab.functions.freezeAt("submit.checked");
  const submitting = alice.submit({ style: "mosaic", input_path });
  await lab.functions.isFrozen();
  await pass(120);
  await database`select backend.lease_submissions(gen_random_uuid(), 100)`;
  lab.functions.thaw();
  const answer = await submitting;
  assert.deepEqual([answer.status, ((await answer.json()) as { state: string }).state], [201, "reserved"]);
  assert.equal((await predictionsOf(input_path)).length, 0);
  await sound(alice, { succeeded: 1 });
  assert.equal((await predictionsOf(input_path)).length, 1);
});

test("a worker frozen after its create call wakes up late: what it made counts, while nobody has made another", async () => {
  await arm({ fault: "webhook_drop" });
  const alice = await Person.signUp("alice");
  const input_path = await alice.upload(await small);
  await lab.functions.freezeAt("submit.created");
  const submitting = alice.submit({ style: "mosaic", input_path });
  await lab.functions.isFrozen();
  await pass(120);
  // Another has leased it, and dies before it does anything.
  const [{ leased }] = await database`select backend.lease_submissions(gen_random_uuid(), 100) as leased`;
  assert.equal(leased.length, 1);
  lab.functions.thaw();
  assert.equal((await submitting).status, 201);
  await predictionThatIs("succeeded", input_path);
  await sound(alice, { succeeded: 1 });
  assert.equal((await predictionsOf(input_path)).length, 1);
});

test("a generation that is deleted while its prediction is created is stopped, and Replicate is asked whether it keeps anything (T3)", async () => {
  const alice = await Person.signUp("alice");
  const input_path = await alice.upload(await small);
  await arm({ fault: "stuck_processing" });
  await lab.functions.freezeAt("submit.created");
  const submitting = alice.submit({ style: "mosaic", input_path });
  await lab.functions.isFrozen();
  const [{ id }] = await database`select id from public.generations where input_path = ${input_path}`;
  assert.equal((await alice.client.rpc("delete_generation", { generation_id: id })).error, null);
  lab.functions.thaw();
  assert.equal((await submitting).status, 409);
  const [prediction] = await predictionsOf(input_path);
  const removals = await database`select prediction_id from public.replicate_removals where prediction_id = ${prediction!.id}`;
  assert.equal(removals.length, 1);
  await cleanUp();
  assert.ok((await predictionsOf(input_path)).every(({ status }) => status === "canceled"));
});

test("eight submits with credit for one: one is taken, seven are told what is missing", async () => {
  const alice = await Person.signUp("alice");
  await database`select backend.adjust_credits(${alice.id}, -4, 'for a test', ${randomUUID()})`;
  const paths = await Promise.all(Array.from({ length: 8 }, async () => alice.upload(await small)));
  const answers = await Promise.all(paths.map((input_path) => alice.submit({ style: "mosaic", input_path })));
  assert.deepEqual(answers.map(({ status }) => status).sort(), [201, ...Array(7).fill(402)]);
  const refused = (await answers.find(({ status }) => status === 402)!.json()) as Record<string, unknown>;
  assert.deepEqual([refused.detail, refused.price, refused.available], ["This costs 1 credit and you have 0.", 1, 0]);
  const { id } = (await answers.find(({ status }) => status === 201)!.json()) as { id: string };
  assert.equal((await alice.ended(id)).state, "succeeded");
  assert.deepEqual(await alice.wallet(), { balance: 0, held: 0 });
});

test("the same key eight times at once is one generation", async () => {
  const alice = await Person.signUp("alice");
  const [input_path, key] = [await alice.upload(await small), randomUUID()];
  const answers = await Promise.all(Array.from({ length: 8 }, () => alice.submit({ style: "mosaic", input_path }, key)));
  assert.deepEqual(answers.map(({ status }) => status).sort(), [...Array(7).fill(200), 201]);
  await sound(alice, { succeeded: 1 });
  assert.equal((await predictionsOf(input_path)).length, 1);
});
