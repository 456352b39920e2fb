// What the official library signs, the function accepts, and nothing else.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { Webhook } from "standardwebhooks";
import { database } from "../journeys/stack.ts";
import { secret } from "./sandbox.ts";

after(() => database.end());

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
