// Each function as a Lambda: a recorded event in, the answer that API Gateway would pass on out.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Webhook } from "standardwebhooks";
import { Person } from "../journeys/person.ts";
import { type Answer, Emulator } from "./emulator.ts";

let emulator: Emulator;
before(async () => {
  emulator = await Emulator.start(["submit", "replicate-webhook", "cleanup"]);
});
after(() => emulator?.stop());

interface Event {
  headers: Record<string, string>;
  body: string;
  [member: string]: unknown;
}

function recorded(name: string): Event {
  return JSON.parse(readFileSync(join(import.meta.dirname, "events", `${name}.json`), "utf8")) as Event;
}

function assertProblem(answer: Answer, status: number, code: string): void {
  assert.equal(answer.statusCode, status, answer.body);
  assert.equal(answer.headers["content-type"], "application/problem+json");
  assert.equal((JSON.parse(answer.body) as { code: string }).code, code);
}

test("submit answers an event without a token with 401", async () => {
  assertProblem(await emulator.invoke("submit", recorded("create-generation")), 401, "not_signed_in");
});

test("submit answers a person's event with what the database says", async () => {
  const alice = await Person.signUp("alice");
  const event = recorded("create-generation");
  event.headers.authorization = `Bearer ${alice.token}`;
  assertProblem(await emulator.invoke("submit", event), 422, "unknown_style");
});

test("replicate-webhook answers a badly signed event with 401", async () => {
  assertProblem(await emulator.invoke("replicate-webhook", recorded("webhook")), 401, "invalid_signature");
});

test("replicate-webhook verifies the bytes that were sent, however the event carries them", async () => {
  const event = recorded("webhook");
  const body = Buffer.from(event.body, "base64").toString();
  const [id, now] = [event.headers["webhook-id"], new Date()];
  event.headers["webhook-timestamp"] = String(Math.floor(now.getTime() / 1000));
  event.headers["webhook-signature"] = new Webhook(process.env.REPLICATE_WEBHOOK_SECRET!).sign(id, now, body);
  const answer = await emulator.invoke("replicate-webhook", event);
  assert.equal(answer.statusCode, 200, answer.body);
  assert.deepEqual(JSON.parse(answer.body), { received: true, ignored: true });
});

test("cleanup makes a pass on a scheduled event, and reports it", async () => {
  const report = await emulator.invoke<Record<string, unknown>>("cleanup", recorded("scheduled"));
  assert.equal(report.complete, true, JSON.stringify(report));
});
