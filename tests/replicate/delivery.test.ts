// The official libraries accept the sandbox's webhook events, which it sends when and as often as Replicate does.

import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { type WebhookEventType, validateWebhook } from "replicate";
import { Webhook } from "standardwebhooks";
import { until } from "../waiting.ts";
import { type Delivery, Receiver } from "./receiver.ts";
import { Sandbox, pro, secret } from "./sandbox.ts";

let sandbox: Sandbox;
let receiver: Receiver;

before(async () => {
  [sandbox, receiver] = await Promise.all([Sandbox.start(), Receiver.start()]);
});
after(async () => {
  receiver.stop();
  await sandbox.stop();
});
afterEach(async () => {
  receiver.answer = 200;
  await sandbox.disarm();
});

/** Creates a prediction and waits until `count` of its events have arrived. */
async function receive(count: number, events: WebhookEventType[]): Promise<Delivery[]> {
  const { id } = await sandbox.client().predictions.create({
    model: pro,
    input: { prompt: "a poster", seed: 3 },
    webhook: receiver.address,
    webhook_events_filter: events,
  });
  await until(`${count} events of ${id}`, async () => receiver.of(id).length >= count || undefined);
  return receiver.of(id);
}

const statuses = (deliveries: Delivery[]) => deliveries.map(({ prediction }) => prediction.status);
const ids = (deliveries: Delivery[]) => deliveries.map(({ headers }) => headers["webhook-id"]);

test("the official libraries accept every event and refuse every changed one", async () => {
  const events: WebhookEventType[] = ["start", "output", "logs", "completed"];
  const deliveries = await receive(4, events);
  assert.equal(new Set(ids(deliveries)).size, 4);
  for (const { headers, body } of deliveries) {
    const verified = new Webhook(secret).verify(body, headers) as Delivery["prediction"];
    assert.equal(verified.webhook, receiver.address);
    assert.deepEqual(verified.webhook_events_filter, events);
    const { "webhook-id": id, "webhook-timestamp": timestamp } = headers;
    const signature = headers["webhook-signature"];
    assert.equal(await validateWebhook({ id, timestamp, signature, body, secret }), true);
    const changed = body.replace('"id"', '"iD"');
    assert.throws(() => new Webhook(secret).verify(changed, headers));
    assert.equal(await validateWebhook({ id, timestamp, signature, body: changed, secret }), false);
    assert.ok(!/[\n ]/.test(body.replace(/"(?:[^"\\]|\\.)*"/g, '""')), "compact JSON");
  }
});

test("an event shows the prediction at that moment", async () => {
  assert.deepEqual(statuses(await receive(2, ["start", "completed"])), ["processing", "succeeded"]);
  const [logs] = await receive(1, ["logs"]);
  assert.equal(logs.prediction.status, "processing");
  assert.match(logs.prediction.logs!, /Using seed: 3/);
  const [output] = await receive(1, ["output"]);
  assert.equal(output.prediction.status, "processing");
  assert.match(output.prediction.output, /^http:.*\.png$/);
});

test("the last event is sent for every end state", async () => {
  await sandbox.arm({ fault: "fail_moderation" });
  assert.deepEqual(statuses(await receive(2, ["start", "completed"])), ["processing", "failed"]);
  await sandbox.arm({ fault: "stuck_processing" });
  receiver.answer = ({ prediction: { id, status } }) => {
    if (status === "processing") void sandbox.client().predictions.cancel(id);
    return 200;
  };
  assert.deepEqual(statuses(await receive(2, ["start", "completed"])), ["processing", "canceled"]);
});

test("the last event is sent six times within a minute, with the same id, and then given up", async () => {
  receiver.answer = 500;
  const [{ prediction }] = await receive(1, ["completed"]);
  for (let tries = 2; tries <= 6; tries++) {
    await sandbox.advance(30);
    const sent = () => receiver.of(prediction.id).length;
    await until(`try ${tries}`, async () => sent() === tries || undefined);
  }
  assert.equal(new Set(ids(receiver.of(prediction.id))).size, 1);
  await sandbox.advance(600);
  receiver.answer = 200;
  await receive(1, ["completed"]);
  assert.equal(receiver.of(prediction.id).length, 6);
});

test("an accepted attempt is the last one, and only the last event is retried", async () => {
  receiver.answer = ({ prediction: { id } }) => (receiver.of(id).length < 3 ? 503 : 200);
  const [start, end] = await receive(2, ["start", "completed"]);
  await sandbox.advance(30);
  const { id } = start.prediction;
  await until("the second attempt", async () => receiver.of(id).length === 3 || undefined);
  const [, ...ends] = ids(receiver.of(id));
  assert.deepEqual(ends, [end.headers["webhook-id"], end.headers["webhook-id"]]);
  await sandbox.advance(600);
  await receive(1, ["completed"]);
  assert.equal(receiver.of(id).length, 3);
});

test("a redirect is neither followed nor retried", async () => {
  receiver.answer = 301;
  const [{ prediction }] = await receive(1, ["completed"]);
  await sandbox.advance(600);
  receiver.answer = 200;
  await receive(1, ["completed"]);
  assert.equal(receiver.of(prediction.id).length, 1);
});

test("faults can drop, duplicate, delay and reorder events, and sign them incorrectly", async () => {
  await sandbox.arm({ fault: "webhook_duplicate", value: 2 });
  assert.equal(new Set(ids(await receive(3, ["completed"]))).size, 1);

  await sandbox.arm({ fault: "webhook_reorder" });
  assert.deepEqual(statuses(await receive(2, ["start", "completed"])), ["succeeded", "processing"]);

  await sandbox.arm({ fault: "webhook_delay", value: 400 });
  const began = performance.now();
  await receive(1, ["completed"]);
  assert.ok(performance.now() - began >= 400);

  await sandbox.arm({ fault: "webhook_bad_signature" });
  const [{ body, headers }] = await receive(1, ["completed"]);
  assert.throws(() => new Webhook(secret).verify(body, headers));

  await sandbox.arm({ fault: "webhook_drop" });
  const received = receiver.deliveries.length;
  const replicate = sandbox.client();
  const { id } = await replicate.predictions.create({
    model: pro,
    input: { prompt: "a poster" },
    webhook: receiver.address,
  });
  const end = async () => (await replicate.predictions.get(id)).completed_at;
  await until("its end", async () => (await end()) ?? undefined);
  await receive(1, ["completed"]);
  assert.deepEqual([receiver.of(id).length, receiver.deliveries.length], [0, received + 1]);
});
