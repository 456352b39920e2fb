// Failures between our functions and Replicate, and how generations end then.

import assert from "node:assert/strict";
import { after, afterEach, test } from "node:test";
import { Webhook } from "standardwebhooks";
import { until } from "../waiting.ts";
import { Person } from "./person.ts";
import { small } from "./photos.ts";
import { arm, cleanUp, database, disarm } from "./stack.ts";

afterEach(disarm);
after(() => database.end());

/** Fails unless the generation ended without a charge, without a hold and without any object left. */
async function endedWithoutCharge(alice: Person, id: string, state: string, reason: string | null): Promise<void> {
  const generation = await alice.ended(id);
  assert.deepEqual([generation.state, generation.reason], [state, reason]);
  assert.deepEqual(await alice.wallet(), { balance: 5, held: 0 });
  await cleanUp();
  await alice.forgotten();
  assert.deepEqual((await alice.client.storage.from("inputs").list(alice.id)).data, []);
  assert.deepEqual((await alice.client.storage.from("artworks").list(alice.id)).data, []);
}

/** Makes a generation look as if its prediction was last checked `interval` ago. */
async function silenceFor(id: string, interval: string): Promise<void> {
  await database`update private.generation_work set checked_at = now() - ${interval}::interval where generation_id = ${id}`;
}

/** Sends an event about a prediction, signed as Replicate would. */
async function tell(body: Record<string, unknown>, query: string, id = "msg_test"): Promise<Response> {
  const text = JSON.stringify(body);
  const now = new Date();
  return fetch(`${process.env.FUNCTIONS_URL}/replicate-webhook${query}`, {
    method: "POST",
    headers: {
      "content-type": "application/json",
      "webhook-id": id,
      "webhook-timestamp": String(Math.floor(now.getTime() / 1000)),
      "webhook-signature": new Webhook(process.env.REPLICATE_WEBHOOK_SECRET!).sign(id, now, text),
    },
    body: text,
  });
}

for (const [fault, reason] of [
  ["fail_moderation", "content_flagged"],
  ["fail_model", "model_error"],
  ["succeed_without_output", "output_invalid"],
  ["output_wrong_type", "output_invalid"],
  ["output_too_large", "output_invalid"],
] as const) {
  test(`the fault ${fault} ends a generation as ${reason} and returns its credits`, async () => {
    await arm({ fault });
    const alice = await Person.signUp("alice");
    const { id } = await alice.generate(await small);
    await endedWithoutCharge(alice, id, "failed", reason);
  });
}

test("an incomplete output is downloaded again and stored once", async () => {
  await arm({ fault: "output_truncated" });
  const alice = await Person.signUp("alice");
  const { id } = await alice.generate(await small);
  const { state, artwork_bytes } = await alice.ended(id);
  assert.equal(state, "succeeded");
  const { data } = await alice.client.storage.from("artworks").list(alice.id);
  assert.deepEqual(data!.map(({ metadata }) => metadata?.size), [artwork_bytes]);
  assert.deepEqual(await alice.wallet(), { balance: 4, held: 0 });
});

test("a throttled create call is retried", async () => {
  await arm({ fault: "create429" });
  const alice = await Person.signUp("alice");
  assert.equal((await alice.ended((await alice.generate(await small)).id)).state, "succeeded");
});

test("a job that Replicate keeps throttling waits, and a later sweep dispatches it", async () => {
  await arm({ fault: "create429", count: 3 });
  const alice = await Person.signUp("alice");
  const { id, state } = await alice.generate(await small);
  assert.equal(state, "reserved");
  assert.deepEqual(await alice.wallet(), { balance: 5, held: 1 });
  await database`update private.generation_work set dispatch_at = now() where generation_id = ${id}`;
  assert.equal((await cleanUp()).dispatched, 1);
  assert.equal((await alice.ended(id)).state, "succeeded");
});

test("if the response to a create call is lost, webhook events still deliver the artwork", async () => {
  await arm({ fault: "create_hang" });
  const alice = await Person.signUp("alice");
  const { id } = await alice.generate(await small);
  assert.equal((await alice.ended(id)).state, "succeeded");
  assert.deepEqual(await alice.wallet(), { balance: 4, held: 0 });
});

test("if webhook events are lost, a sweep asks Replicate for the result", async () => {
  await arm({ fault: "webhook_drop" });
  const alice = await Person.signUp("alice");
  const { id } = await alice.generate(await small);
  const { prediction_id } = (await alice.generation(id))!;
  await until("the prediction to end", async () => {
    const answer = await fetch(`${process.env.REPLICATE_BASE_URL}/predictions/${prediction_id}`, {
      headers: { authorization: `Bearer ${process.env.REPLICATE_API_TOKEN}` },
    });
    return ((await answer.json()) as { status: string }).status === "succeeded" || undefined;
  });
  assert.equal((await alice.generation(id))!.state, "dispatched");
  await silenceFor(id, "2 minutes");
  await cleanUp();
  assert.equal((await alice.generation(id))!.state, "succeeded");
  await alice.forgotten();
});

test("duplicate and reordered webhook events change nothing", async () => {
  await arm({ fault: "webhook_duplicate", value: 5 }, { fault: "webhook_reorder" });
  const alice = await Person.signUp("alice");
  const { id } = await alice.generate(await small);
  assert.equal((await alice.ended(id)).state, "succeeded");
  await until("all deliveries", async () => {
    const [{ deliveries }] = await database`
      select coalesce(sum(deliveries), 0)::int as deliveries from private.webhook_events where generation_id = ${id}`;
    return deliveries === 7 || undefined;
  });
  assert.equal((await alice.generation(id))!.state, "succeeded");
  assert.deepEqual(await alice.wallet(), { balance: 4, held: 0 });
  assert.equal((await alice.client.storage.from("artworks").list(alice.id)).data!.length, 1);
});

test("a sweep ends a generation that is past its deadline", async () => {
  await arm({ fault: "stuck_processing" }, { fault: "webhook_drop" });
  const alice = await Person.signUp("alice");
  const { id } = await alice.generate(await small);
  await database`update public.generations set deadline_at = now() where id = ${id}`;
  await cleanUp();
  await endedWithoutCharge(alice, id, "failed", "expired");
});

test("a generation whose prediction Replicate no longer knows ends as lost, and its credits are returned", async () => {
  await arm({ fault: "webhook_drop" }, { fault: "stuck_processing" }, { fault: "get404", count: 2 });
  const alice = await Person.signUp("alice");
  const { id } = await alice.generate(await small);
  await silenceFor(id, "2 minutes");
  await cleanUp();
  assert.equal((await alice.generation(id))!.state, "dispatched");
  await database`update private.generation_work set absent_since = absent_since - interval '3 minutes' where generation_id = ${id}`;
  await silenceFor(id, "2 minutes");
  await cleanUp();
  await endedWithoutCharge(alice, id, "failed", "lost");
});

test("a success that arrives after the user has canceled is discarded", async () => {
  await arm({ fault: "webhook_drop" }, { fault: "stuck_processing" });
  const alice = await Person.signUp("alice");
  const { id } = await alice.generate(await small);
  const { prediction_id } = (await alice.generation(id))!;
  await alice.call("POST", `/generations/${id}/cancel`);
  const [{ token }] = await database`
    select encode(capability_digest, 'hex') as token from private.generation_work where generation_id = ${id}`;
  const late = { id: prediction_id, status: "succeeded", output: "http://127.0.0.1:9/out.png" };
  assert.equal((await tell(late, `?generation=${id}&token=${token}`, "msg_late")).status, 200);
  await endedWithoutCharge(alice, id, "canceled", null);
});

test("an event without the valid token of its generation is ignored", async () => {
  await arm({ fault: "webhook_drop" }, { fault: "stuck_processing" });
  const alice = await Person.signUp("alice");
  const { id } = await alice.generate(await small);
  const { prediction_id } = (await alice.generation(id))!;
  for (const query of [`?generation=${id}&token=guess`, `?generation=${id}`, "", "?generation=x"]) {
    const response = await tell({ id: prediction_id, status: "failed", error: "x" }, query, `msg_${query.length}`);
    assert.equal(response.status, 200);
    assert.deepEqual(await response.json(), { received: true, ignored: true });
  }
  assert.ok(["dispatched", "processing"].includes((await alice.generation(id))!.state));
  const events = await database`select from private.webhook_events where generation_id = ${id}`;
  assert.equal(events.length, 0);
  await alice.call("DELETE", `/generations/${id}`);
});

test("an event with an invalid signature is refused and leaves no trace", async () => {
  await arm({ fault: "webhook_bad_signature", count: 20 });
  const alice = await Person.signUp("alice");
  const { id } = await alice.generate(await small);
  const body = { id: "x", status: "succeeded" };
  const response = await fetch(`${process.env.FUNCTIONS_URL}/replicate-webhook?generation=${id}`, {
    method: "POST",
    body: JSON.stringify(body),
  });
  assert.equal(response.status, 401);
  assert.equal(((await response.json()) as { code: string }).code, "invalid_signature");
  const events = await database`select from private.webhook_events where generation_id = ${id}`;
  assert.equal(events.length, 0);
  await alice.call("DELETE", `/generations/${id}`);
});
