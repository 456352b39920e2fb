// What the sandbox signs, the official libraries accept; what they sign, the function accepts.

import assert from "node:assert/strict";
import { type Server, createServer } from "node:http";
import { after, before, test } from "node:test";
import { type Prediction, validateWebhook } from "replicate";
import { Webhook } from "standardwebhooks";
import { database } from "../journeys/stack.ts";
import { until } from "../waiting.ts";
import { Sandbox, pro, secret } from "./sandbox.ts";

interface Delivery {
  headers: Record<string, string>;
  body: string;
}

let sandbox: Sandbox;
let receiver: Server;
let address: string;
let deliveries: Delivery[];
let answer = 200;

before(async () => {
  sandbox = await Sandbox.start();
  receiver = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk) => chunks.push(chunk));
    request.on("end", () => {
      deliveries.push({ headers: request.headers as Record<string, string>, body: Buffer.concat(chunks).toString() });
      response.writeHead(answer).end();
    });
  });
  await new Promise<void>((resolve) => receiver.listen(0, "127.0.0.1", resolve));
  address = `http://127.0.0.1:${(receiver.address() as { port: number }).port}/hook?own=1`;
});
after(async () => {
  receiver.close();
  await Promise.all([sandbox.stop(), database.end()]);
});

async function eventsOf(events: string[]): Promise<Delivery[]> {
  deliveries = [];
  const { id } = await sandbox.client().predictions.create({
    model: pro,
    input: { prompt: "a mosaic" },
    webhook: address,
    webhook_events_filter: events as never,
  });
  const isLast = ({ body }: Delivery) => (JSON.parse(body) as Prediction).completed_at !== undefined;
  await until(`the events of ${id}`, async () => (deliveries.filter(isLast).length > 0 ? true : undefined));
  return deliveries;
}

test("the official libraries accept every event that the sandbox signs, and none that was changed", async () => {
  const events = await eventsOf(["start", "completed"]);
  assert.equal(events.length, 2);
  for (const { headers, body } of events) {
    const verified = new Webhook(secret).verify(body, headers) as Prediction & { webhook: string };
    assert.equal(verified.webhook, address);
    const { "webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": signature } = headers;
    assert.equal(await validateWebhook({ id, timestamp, signature, body, secret }), true);
    assert.throws(() => new Webhook(secret).verify(body.replace('"id"', '"iD"'), headers));
    assert.ok(!/[\n ]/.test(body.replace(/"(?:[^"\\]|\\.)*"/g, '""')), "compact JSON");
  }
  const statuses = events.map(({ body }) => (JSON.parse(body) as Prediction).status);
  assert.deepEqual(statuses, ["processing", "succeeded"]);
});

test("only the events that were asked for are sent", async () => {
  assert.equal((await eventsOf(["completed"])).length, 1);
});

test("the last event is sent again, under the same id, until it is accepted", async () => {
  answer = 500;
  const first = await eventsOf(["completed"]);
  answer = 200;
  await until("another try", async () => (deliveries.length > 1 ? true : undefined));
  assert.equal(deliveries[1].headers["webhook-id"], first[0].headers["webhook-id"]);
});

const body = JSON.stringify({ id: "0123456789abcdefghjkmnpqrs", status: "succeeded", output: null });
const own = () => new Webhook(process.env.REPLICATE_WEBHOOK_SECRET!);

function deliver(headers: Record<string, string>, sent = body): Promise<Response> {
  return fetch(`${process.env.FUNCTIONS_URL}/replicate-webhook?generation=00000000-0000-4000-8000-000000000000&token=x`, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: sent,
  });
}

function signed(at: Date, id = "msg_1"): Record<string, string> {
  return {
    "webhook-id": id,
    "webhook-timestamp": String(Math.floor(at.getTime() / 1000)),
    "webhook-signature": own().sign(id, at, body),
  };
}

async function traces(): Promise<number> {
  const [{ count }] = await database`select (select count(*) from private.webhook_events) + (select count(*) from public.processing_log) as count`;
  return Number(count);
}

test("what the official library signs, the function accepts; an unknown prediction it ignores", async () => {
  const response = await deliver(signed(new Date()));
  assert.equal(response.status, 200);
  assert.deepEqual(await response.json(), { received: true, ignored: true });
});

test("one good signature among several is enough", async () => {
  const headers = signed(new Date());
  const response = await deliver({ ...headers, "webhook-signature": `v1,AAAA ${headers["webhook-signature"]}` });
  assert.equal(response.status, 200);
});

const now = Date.now();
for (const [name, headers, sent] of [
  ["made with another key", { ...signed(new Date()), "webhook-signature": new Webhook(secret).sign("msg_1", new Date(), body) }, body],
  ["of another body", signed(new Date()), body.replace("succeeded", "failed")],
  ["of another id", { ...signed(new Date()), "webhook-id": "msg_2" }, body],
  ["from ten minutes ago", signed(new Date(now - 600_000)), body],
  ["from ten minutes ahead", signed(new Date(now + 600_000)), body],
  ["that is missing", {}, body],
  ["that is empty", { ...signed(new Date()), "webhook-signature": "" }, body],
  ["without its timestamp", { "webhook-id": "msg_1", "webhook-signature": signed(new Date())["webhook-signature"] }, body],
] as [string, Record<string, string>, string][]) {
  test(`a signature ${name} is refused and leaves no trace`, async () => {
    const before = await traces();
    const response = await deliver(headers, sent);
    assert.equal(response.status, 401);
    assert.equal(response.headers.get("content-type"), "application/problem+json");
    assert.equal(((await response.json()) as { code: string }).code, "invalid_signature");
    assert.equal(await traces(), before);
  });
}
