// Faults between Replicate and our functions: webhook events and the end of predictions.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Person } from "../journeys/person.ts";
import { small } from "../journeys/photos.ts";
import { arm, cleanUp, database } from "../journeys/stack.ts";
import { passTime } from "../lab/time.ts";
import { until } from "../waiting.ts";
import { artworkIsWhole, withLostEvents } from "./generation.ts";
import { lab } from "./lab.ts";
import { predictionThatIs, predictionsOf, send } from "./replicate.ts";
import { sound } from "./sound.ts";

test("a webhook event that arrives a hundred times at once makes one artwork and one charge", async () => {
  const alice = await Person.signUp("alice");
  const { id, input_path } = await withLostEvents(alice);
  const prediction = await predictionThatIs("succeeded", input_path);
  const answers = await Promise.all(Array.from({ length: 100 }, () => send(prediction, {}, "msg_hundred")));
  assert.deepEqual(new Set(answers.map(({ status }) => status)), new Set([200]));
  assert.equal((await alice.ended(id)).state, "succeeded");
  const [{ deliveries }] = await database`select deliveries from private.webhook_events where id = 'msg_hundred'`;
  assert.equal(deliveries, 100);
  await sound(alice, { succeeded: 1 });
});

test("a processing event after success does not change the state", async () => {
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

test("if no webhook event arrives, the sweep asks Replicate after a minute", async () => {
  const alice = await Person.signUp("alice");
  const { id } = await withLostEvents(alice);
  await cleanUp();
  assert.notEqual((await alice.generation(id))!.state, "succeeded");
  await passTime(61);
  await cleanUp();
  assert.equal((await alice.generation(id))!.state, "succeeded");
  await sound(alice, { succeeded: 1 });
});

test("Replicate sends an event again until our function accepts it", async () => {
  lab.webhooks.misbehave({ fault: "status", status: 503, count: 2 });
  const alice = await Person.signUp("alice");
  const { id } = await alice.generate(await small);
  assert.equal((await alice.ended(id)).state, "succeeded");
  await sound(alice, { succeeded: 1 });
});

test("if the clock is ten minutes off, events are refused and the sweep asks Replicate instead", async () => {
  await arm({ fault: "webhook_clock", count: 20 });
  const alice = await Person.signUp("alice");
  const { id, input_path } = await alice.generate(await small);
  await predictionThatIs("succeeded", input_path);
  await passTime(61);
  assert.notEqual((await alice.generation(id))!.state, "succeeded");
  await cleanUp();
  assert.equal((await alice.generation(id))!.state, "succeeded");
  const [{ count }] = await database`select count(*)::int from private.webhook_events where generation_id = ${id}`;
  assert.equal(count, 0);
  await sound(alice, { succeeded: 1 });
});

test("after a platform fault, the job is retried under the same hold", async () => {
  await arm({ fault: "fail_platform", count: 2 });
  const alice = await Person.signUp("alice");
  const { input_path } = await alice.generate(await small);
  await predictionThatIs("failed", input_path);
  await sound(alice, { succeeded: 1 });
  assert.deepEqual((await predictionsOf(input_path)).map(({ status }) => status), ["failed", "failed", "succeeded"]);
});

test("after five platform faults, the job fails and the credits are returned", async () => {
  await arm({ fault: "fail_platform", count: 5 });
  const alice = await Person.signUp("alice");
  const { input_path } = await alice.generate(await small);
  await predictionThatIs("failed", input_path);
  await sound(alice, { platform_error: 1 });
  assert.equal((await predictionsOf(input_path)).length, 5);
});

test("events of an abandoned prediction change nothing", async () => {
  await arm({ fault: "fail_platform" }, { fault: "webhook_duplicate", value: 20 });
  const alice = await Person.signUp("alice");
  const { id, input_path } = await alice.generate(await small);
  const failed = await predictionThatIs("failed", input_path);
  await until("the platform's fault to be known", async () => !(await alice.generation(id))!.prediction_id || undefined);
  await passTime(61);
  await arm({ fault: "stuck_processing" });
  // A sweep skips a job that one of the duplicate events is just reading.
  const second = await until("the second prediction", async () => {
    await cleanUp();
    return (await predictionsOf(input_path))[1];
  });
  for (const status of ["processing", "failed", "succeeded"]) assert.equal((await send(failed, { status })).status, 200);
  assert.equal((await predictionsOf(input_path)).length, 2);
  assert.equal((await alice.generation(id))!.prediction_id, second.id);
  await alice.call("POST", `/generations/${id}/cancel`);
  await sound(alice, { canceled: 1 });
});

for (const [status, fault] of [["aborted", "stuck_starting"], ["canceled", "stuck_processing"]] as const) {
  test(`a prediction with the status ${status} has reached its deadline`, async () => {
    await arm({ fault });
    const alice = await Person.signUp("alice");
    const { input_path } = await alice.generate(await small);
    await passTime(601);
    await predictionThatIs(status, input_path);
    await sound(alice, { expired: 1 });
  });
}
