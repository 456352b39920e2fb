// Faults between a reservation and its prediction.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import { Person } from "../journeys/person.ts";
import { small } from "../journeys/photos.ts";
import { arm, cleanUp, database } from "../journeys/stack.ts";
import { passTime } from "../lab/time.ts";
import { lab } from "./lab.ts";
import { predictionThatIs, predictionsOf } from "./replicate.ts";
import { sound } from "./sound.ts";

const create = /^POST \/v1\/models\//;

/** Submits while the functions die. The client then sees a lost connection. */
async function submitInVain(person: Person, input_path: string): Promise<void> {
  await assert.rejects(person.submit({ style: "mosaic", input_path }));
  await lab.functions.crashed();
}

test("if a worker dies after the hold and before the dispatch, another worker dispatches the job under the same hold", async () => {
  const alice = await Person.signUp("alice");
  const input_path = await alice.upload(await small);
  await lab.functions.crashAt("submit.begun");
  await submitInVain(alice, input_path);
  assert.deepEqual(await alice.wallet(), { balance: 5, held: 1 });
  assert.equal((await predictionsOf(input_path)).length, 0);
  await sound(alice, { succeeded: 1 });
  assert.equal((await predictionsOf(input_path)).length, 1);
});

for (const point of ["dispatch.leased", "dispatch.checked", "dispatch.recorded"] as const) {
  test(`if a worker dies at ${point}, another continues, and one prediction is made`, async () => {
    const alice = await Person.signUp("alice");
    const input_path = await alice.upload(await small);
    await lab.functions.crashAt(point);
    await submitInVain(alice, input_path);
    await sound(alice, { succeeded: 1 });
    assert.equal((await predictionsOf(input_path)).length, 1);
  });
}

test("if a worker dies after it created the prediction, the prediction is found and not made twice", async () => {
  await arm({ fault: "webhook_drop" });
  const alice = await Person.signUp("alice");
  const input_path = await alice.upload(await small);
  await lab.functions.crashAt("dispatch.created");
  await submitInVain(alice, input_path);
  await predictionThatIs("succeeded", input_path);
  await sound(alice, { succeeded: 1 });
  assert.equal((await predictionsOf(input_path)).length, 1);
});

test("if the response to a create call is lost and no event comes, the prediction is found by its photo", async () => {
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

test("if the response to a create call is lost, the events name the prediction", async () => {
  lab.replicate.misbehave({ fault: "lose_answer", when: create });
  const alice = await Person.signUp("alice");
  const { id } = await alice.generate(await small);
  assert.equal((await alice.ended(id)).state, "succeeded");
  await sound(alice, { succeeded: 1 });
});

test("a create call that never arrived is repeated once Replicate says that no prediction exists", async () => {
  lab.replicate.misbehave({ fault: "refuse", when: create });
  const alice = await Person.signUp("alice");
  const { state, input_path } = await alice.generate(await small);
  assert.equal(state, "reserved");
  await sound(alice, { succeeded: 1 });
  assert.equal((await predictionsOf(input_path)).length, 1);
});

test("while Replicate cannot say whether a prediction exists, no second one is created", async () => {
  await arm({ fault: "webhook_drop" });
  lab.replicate.misbehave({ fault: "lose_answer", when: create });
  lab.replicate.misbehave({ fault: "status", status: 500, when: /^GET \/v1\/predictions$/, count: 3 });
  const alice = await Person.signUp("alice");
  const { input_path } = await alice.generate(await small);
  await passTime(100);
  await cleanUp();
  assert.equal((await predictionsOf(input_path)).length, 1);
  await sound(alice, { succeeded: 1 });
  assert.equal((await predictionsOf(input_path)).length, 1);
});

// A throttled call has certainly created nothing, so it is repeated at once. In the other cases, the worker asks
// Replicate first.
for (const [status, count] of [[429, 4], [500, 2], [503, 2]] as const) {
  test(`while Replicate answers ${status}, the job waits; then it is done once`, async () => {
    lab.replicate.misbehave({ fault: "status", status, when: create, count });
    const alice = await Person.signUp("alice");
    const { state, input_path } = await alice.generate(await small);
    assert.equal(state, "reserved");
    await sound(alice, { succeeded: 1 });
    assert.equal((await predictionsOf(input_path)).length, 1);
  });
}

test("if Storage is down while a photo is checked, the job waits and is done later", async () => {
  lab.supabase.misbehave({ fault: "status", status: 500, when: /^GET \/storage\/v1\/object\/inputs/, count: 3 });
  const alice = await Person.signUp("alice");
  assert.equal((await alice.generate(await small)).state, "reserved");
  await sound(alice, { succeeded: 1 });
});

test("if the owner deletes a photo before the dispatch, the job ends as input_not_found", async () => {
  lab.supabase.misbehave({ fault: "status", status: 500, when: /^GET \/storage\/v1\/object\/inputs/, count: 3 });
  const alice = await Person.signUp("alice");
  const { input_path } = await alice.generate(await small);
  const { error } = await alice.client.storage.from("inputs").remove([input_path]);
  assert.equal(error, null);
  await sound(alice, { input_not_found: 1 });
});

test("an event that arrives before attach_prediction names the prediction, and the late call changes nothing", async () => {
  lab.supabase.misbehave({ fault: "delay", ms: 2500, when: /rpc\/attach_prediction/ });
  const alice = await Person.signUp("alice");
  const { id, state } = await alice.generate(await small);
  assert.equal(state, "succeeded");
  assert.equal((await alice.generation(id))!.state, "succeeded");
  await sound(alice, { succeeded: 1 });
});

test("if a worker freezes before its dispatch and wakes up late, the prediction that it makes is canceled", async () => {
  const alice = await Person.signUp("alice");
  const input_path = await alice.upload(await small);
  const another = await lab.another();
  await lab.functions.freezeAt("dispatch.recorded");
  const submitting = alice.submit({ style: "mosaic", input_path });
  await lab.functions.isFrozen();
  await passTime(120);
  process.env.FUNCTIONS_URL = another.url;
  await arm({ fault: "stuck_processing" });
  await cleanUp();
  const [first] = await predictionsOf(input_path);
  assert.ok(first, "another worker has dispatched it");
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

test("if the user cancels while a worker is frozen, the worker learns that the generation has ended", async () => {
  const alice = await Person.signUp("alice");
  const input_path = await alice.upload(await small);
  const another = await lab.another();
  await lab.functions.freezeAt("dispatch.leased");
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

test("if a worker freezes before its create call and another holds the lease, the first one creates nothing", async () => {
  const alice = await Person.signUp("alice");
  const input_path = await alice.upload(await small);
  await lab.functions.freezeAt("dispatch.checked");
  const submitting = alice.submit({ style: "mosaic", input_path });
  await lab.functions.isFrozen();
  await passTime(120);
  await database`select backend.lease_dispatches(gen_random_uuid(), 100)`;
  lab.functions.thaw();
  const answer = await submitting;
  assert.deepEqual([answer.status, ((await answer.json()) as { state: string }).state], [201, "reserved"]);
  assert.equal((await predictionsOf(input_path)).length, 0);
  await sound(alice, { succeeded: 1 });
  assert.equal((await predictionsOf(input_path)).length, 1);
});

test("if a worker freezes after its create call, its prediction counts as long as no other was made", async () => {
  await arm({ fault: "webhook_drop" });
  const alice = await Person.signUp("alice");
  const input_path = await alice.upload(await small);
  await lab.functions.freezeAt("dispatch.created");
  const submitting = alice.submit({ style: "mosaic", input_path });
  await lab.functions.isFrozen();
  await passTime(120);
  // Another worker has the lease, and dies before it does anything.
  const [{ leased }] = await database`select backend.lease_dispatches(gen_random_uuid(), 100) as leased`;
  assert.equal(leased.length, 1);
  lab.functions.thaw();
  assert.equal((await submitting).status, 201);
  await predictionThatIs("succeeded", input_path);
  await sound(alice, { succeeded: 1 });
  assert.equal((await predictionsOf(input_path)).length, 1);
});

test("deleting a generation while its prediction is created stops it, and Replicate is asked whether it keeps data (T3)", async () => {
  const alice = await Person.signUp("alice");
  const input_path = await alice.upload(await small);
  await arm({ fault: "stuck_processing" });
  await lab.functions.freezeAt("dispatch.created");
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

test("of eight requests with credits for one, one is accepted and seven learn what is missing", async () => {
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

test("the same idempotency key eight times at once makes one generation", async () => {
  const alice = await Person.signUp("alice");
  const [input_path, key] = [await alice.upload(await small), randomUUID()];
  const answers = await Promise.all(Array.from({ length: 8 }, () => alice.submit({ style: "mosaic", input_path }, key)));
  assert.deepEqual(answers.map(({ status }) => status).sort(), [...Array(7).fill(200), 201]);
  await sound(alice, { succeeded: 1 });
  assert.equal((await predictionsOf(input_path)).length, 1);
});
