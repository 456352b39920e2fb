// The function accepts only what the official library signs. The messages are for a generation that waits for one
// and carry its valid token, so that only the signature decides.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import Replicate from "replicate";
import { Webhook } from "standardwebhooks";
import { Person } from "../journeys/person.ts";
import { small } from "../journeys/photos.ts";
import { arm, database } from "../journeys/stack.ts";
import { secret } from "./sandbox.ts";

let alice: Person;
let generation: string;
let address: string;
let body: string;

before(async () => {
  await arm({ fault: "stuck_processing" }, { fault: "webhook_drop" });
  alice = await Person.signUp("alice");
  generation = (await alice.generate(await small)).id;
  const response = await fetch(`${process.env.SANDBOX_CONTROL_URL}/predictions`);
  const predictions = (await response.json()) as { id: string; webhook: string | null }[];
  const { id, webhook } = predictions.find((found) => found.webhook?.includes(generation))!;
  address = webhook!;
  body = JSON.stringify({ id, status: "processing", output: null });
});
after(async () => {
  await alice?.call("POST", `/generations/${generation}/cancel`);
  await database.end();
});

type Headers = Record<string, string>;

function signed(at = new Date(), id = "msg_1", sent = body): Headers {
  return {
    "webhook-id": id,
    "webhook-timestamp": String(Math.floor(at.getTime() / 1000)),
    "webhook-signature": new Webhook(process.env.REPLICATE_WEBHOOK_SECRET!).sign(id, at, sent),
  };
}

function deliver(headers: Headers, sent = body, to = address): Promise<Response> {
  const usual = { "content-type": "application/json" };
  return fetch(to, { method: "POST", headers: { ...usual, ...headers }, body: sent });
}

async function answerTo(headers: Headers, sent = body, to = address): Promise<unknown> {
  const response = await deliver(headers, sent, to);
  assert.equal(response.status, 200);
  return response.json();
}

/** Everything that an accepted event would change. */
async function traces(): Promise<unknown> {
  const [found] = await database`
    select g.state, g.prediction_id, w.checked_at,
      (select count(*) from public.generations) as generations,
      (select count(*) from private.webhook_events) as events,
      (select count(*) from public.processing_log as l where l.generation_id = g.id) as log
    from public.generations as g
    join private.generation_work as w on w.generation_id = g.id
    where g.id = ${generation}`;
  return found;
}

async function leavesNoTrace(deed: () => Promise<void>): Promise<void> {
  const before = await traces();
  await deed();
  assert.deepEqual(await traces(), before);
}

const minutes = (count: number) => new Date(Date.now() + count * 60_000);
const without = (header: string): Headers => {
  const { [header]: _, ...rest } = signed();
  return rest;
};
const changed = (header: string, to: (own: string) => string): Headers => {
  const headers = signed();
  return { ...headers, [header]: to(headers[header]) };
};
const forged = () => new Webhook(secret).sign("msg_1", new Date(), body);

for (const [name, headers, change] of [
  ["with another key", () => changed("webhook-signature", forged)],
  ["of a body that differs in one byte", () => signed(), (sent) => `${sent.slice(0, -1)} `],
  ["of another id", () => changed("webhook-id", () => "msg_2")],
  ["of another time", () => changed("webhook-timestamp", (own) => String(Number(own) + 1))],
  ["from ten minutes ago", () => signed(minutes(-10))],
  ["from ten minutes ahead", () => signed(minutes(10))],
  ["that is empty", () => changed("webhook-signature", () => "")],
  ["that has no version", () => changed("webhook-signature", (own) => own.slice("v1,".length))],
  ["that is missing", () => without("webhook-signature")],
  ["without its id", () => without("webhook-id")],
  ["without its time", () => without("webhook-timestamp")],
  ["without any of its headers", () => ({})],
] as [string, () => Headers, ((sent: string) => string)?][]) {
  test(`an event is refused and leaves no trace: a signature ${name}`, async () => {
    await leavesNoTrace(async () => {
      const response = await deliver(headers(), change ? change(body) : body);
      assert.equal(response.status, 401);
      assert.equal(response.headers.get("content-type"), "application/problem+json");
      const problem = (await response.json()) as { code: string; status: number };
      assert.deepEqual([problem.code, problem.status], ["invalid_signature", 401]);
    });
  });
}

test("a valid event for an unknown generation or token is accepted and ignored", async () => {
  const ignored = { received: true, ignored: true };
  const nobody = address.replace(generation, "00000000-0000-4000-8000-000000000000");
  const wrongToken = address.replace(/token=[^&]*/, "token=x");
  const unknown = body.replace(/"id":"[^"]*"/, '"id":"0123456789abcdefghjkmnpqrs"');
  await leavesNoTrace(async () => {
    assert.deepEqual(await answerTo(signed(), body, nobody), ignored);
    assert.deepEqual(await answerTo(signed(), body, wrongToken), ignored);
    const headers = signed(new Date(), "msg_1", unknown);
    assert.deepEqual(await answerTo(headers, unknown), ignored);
  });
});

test("the function processes an event that the official library signs, once", async () => {
  const events = () => database`
    select id, deliveries from private.webhook_events where generation_id = ${generation}`;
  assert.deepEqual(await answerTo(signed()), { received: true });
  assert.equal((await alice.generation(generation))!.state, "processing");
  assert.deepEqual([...(await events())], [{ id: "msg_1", deliveries: 1 }]);

  const headers = signed();
  const rotated = `v1,AAAA ${headers["webhook-signature"]}`;
  const again = await answerTo({ ...headers, "webhook-signature": rotated });
  assert.deepEqual(again, { received: true });
  assert.deepEqual([...(await events())], [{ id: "msg_1", deliveries: 2 }]);
});

test("the client needs only the environment of the stack", async () => {
  const baseUrl = process.env.REPLICATE_BASE_URL;
  const replicate = new Replicate({ auth: process.env.REPLICATE_API_TOKEN, baseUrl });
  const { key } = await replicate.webhooks.default.secret.get();
  assert.equal(key, process.env.REPLICATE_WEBHOOK_SECRET);
  const model = "black-forest-labs/flux-kontext-pro";
  const output = (await replicate.run(model, { input: { prompt: "a poster" } })) as unknown;
  assert.equal((await fetch(output as string)).headers.get("content-type"), "image/png");
});
