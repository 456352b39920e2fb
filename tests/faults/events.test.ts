// Faults between Replicate and us: events, and what becomes of predictions.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Person } from "../journeys/person.ts";
import { small } from "../journeys/photos.ts";
import { arm, cleanUp, database } from "../journeys/stack.ts";
import { pass } from "../lab/time.ts";
import { until } from "../waiting.ts";
import { artworkIsWhole, unheard } from "./generation.ts";
import { lab } from "./lab.ts";
import { predictionThatIs, predictionsOf, send } from "./replicate.ts";
import { sound } from "./sound.ts";

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

test("a fault of the platform is tried again under the same hold", async () => {
  await arm({ fault: "fail_platform", count: 2 });
  const alice = await Person.signUp("alice");
  const { input_path } = await alice.generate(await small);
  await predictionThatIs("failed", input_path);
  await sound(alice, { succeeded: 1 });
  assert.deepEqual((await predictionsOf(input_path)).map(({ status }) => status), ["failed", "failed", "succeeded"]);
});

test("a platform that fails five times has failed, and the credits go back", async () => {
  await arm({ fault: "fail_platform", count: 5 });
  const alice = await Person.signUp("alice");
  const { input_path } = await alice.generate(await small);
  await predictionThatIs("failed", input_path);
  await sound(alice, { platform_error: 1 });
  assert.equal((await predictionsOf(input_path)).length, 5);
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
