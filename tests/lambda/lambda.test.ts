// Runs each function as a Lambda: it gets a recorded event and returns the response for API Gateway.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Webhook } from "standardwebhooks";
import { Person } from "../journeys/person.ts";
// This import runs a sweep, which opens the intake.
import "../journeys/stack.ts";
import { type Answer, Emulator } from "./emulator.ts";

let emulator: Emulator;
before(async () => {
  emulator = await Emulator.start(["submit", "replicate-webhook", "cleanup", "privacy", "privacy-inbox"]);
});
after(() => emulator?.stop());

interface Event {
  headers: Record<string, string>;
  body: string;
  isBase64Encoded: boolean;
  [member: string]: unknown;
}

function recorded(name: string): Event {
  const path = join(import.meta.dirname, "events", `${name}.json`);
  return JSON.parse(readFileSync(path, "utf8")) as Event;
}

const own = process.env.REPLICATE_WEBHOOK_SECRET!;

/** The recorded webhook, signed with `secret` at `sent`. */
function signed(secret: string, sent = new Date()): Event {
  const event = recorded("webhook");
  const body = Buffer.from(event.body, "base64").toString();
  const id = event.headers["webhook-id"];
  event.headers["webhook-timestamp"] = String(Math.floor(sent.getTime() / 1000));
  event.headers["webhook-signature"] = new Webhook(secret).sign(id, sent, body);
  return event;
}

function assertProblem(answer: Answer, status: number, code: string): void {
  assert.equal(answer.statusCode, status, answer.body);
  assert.equal(answer.headers["content-type"], "application/problem+json");
  const problem = JSON.parse(answer.body) as { code: string; status: number };
  assert.deepEqual([problem.code, problem.status], [code, status]);
}

test("submit answers an event without a token with 401", async () => {
  const answer = await emulator.invoke("submit", recorded("create-generation"));
  assertProblem(answer, 401, "not_signed_in");
});

test("submit answers the preflight request of a browser, whatever the gateway does about CORS", async () => {
  const event = recorded("create-generation");
  const context = event.requestContext as { http: object };
  const headers = { origin: "https://app.example", "access-control-request-method": "POST", "access-control-request-headers": "authorization,idempotency-key" };
  const answer = await emulator.invoke("submit", { ...event, headers, body: "", requestContext: { ...context, http: { ...context.http, method: "OPTIONS" } } });
  assert.deepEqual([answer.statusCode, answer.headers["access-control-allow-origin"]], [200, "*"]);
  assert.match(answer.headers["access-control-allow-headers"]!, /idempotency-key/);
});

test("submit answers a user's event with the refusal of the database", async () => {
  const alice = await Person.signUp("alice");
  const event = recorded("create-generation");
  event.headers.authorization = `Bearer ${alice.token}`;
  assertProblem(await emulator.invoke("submit", event), 422, "unknown_style");
});

test("replicate-webhook answers an event signed with another key with 401", async () => {
  const event = signed("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo=");
  assertProblem(await emulator.invoke("replicate-webhook", event), 401, "invalid_signature");
});

test("replicate-webhook answers an old event with 401", async () => {
  const event = signed(own, new Date(Date.now() - 600_000));
  assertProblem(await emulator.invoke("replicate-webhook", event), 401, "invalid_signature");
});

test("replicate-webhook verifies the exact body, with and without Base64", async () => {
  const encoded = signed(own);
  const body = Buffer.from(encoded.body, "base64").toString();
  for (const event of [encoded, { ...encoded, body, isBase64Encoded: false }]) {
    const answer = await emulator.invoke("replicate-webhook", event);
    assert.equal(answer.statusCode, 200, answer.body);
    assert.deepEqual(JSON.parse(answer.body), { received: true, ignored: true });
  }
});

test("cleanup runs a sweep on a scheduled event and reports it", async () => {
  const event = recorded("scheduled");
  const report = await emulator.invoke<Record<string, unknown>>("cleanup", event);
  const { complete, closed, expired, ...counts } = report;
  assert.equal(complete, true, JSON.stringify(report));
  assert.deepEqual(Object.keys(counts).sort(), ["dispatched", "emails", "erased", "exported", "remaining", "removed", "settled", "verified"]);
  assert.deepEqual([closed, expired].map((each) => typeof each), ["object", "object"]);
  assert.ok(Object.values(counts).every(Number.isInteger));
});

/** A browser's request for `path`. */
function got(path: string, rawQueryString = ""): Event {
  const event = recorded("webhook");
  const context = event.requestContext as { http: object };
  return { ...event, body: "", rawPath: path, rawQueryString, requestContext: { ...context, http: { ...context.http, path, method: "GET" } } };
}

test("privacy gives anyone the public status, its badge and the keys for receipts", async () => {
  const status = await emulator.invoke("privacy", got("/privacy/status"));
  assert.deepEqual(Object.keys(JSON.parse(status.body)).sort(), ["deletions", "originals", "requests", "sweeper"]);
  const badge = await emulator.invoke("privacy", got("/privacy/badge.svg"));
  assert.equal(badge.headers["content-type"], "image/svg+xml");
  assert.match(badge.body, /^<svg /);
  const keys = await emulator.invoke("privacy", got("/.well-known/jwks.json"));
  assert.equal(JSON.parse(keys.body).keys[0].crv, "Ed25519");
  assertProblem(await emulator.invoke("privacy", got("/privacy/elsewhere")), 404, "no_such_route");
});

test("privacy tells anyone, on any page, whether an artwork is stored here, or how to ask", async () => {
  const mark = (query: string) => emulator.invoke("privacy", got("/privacy/mark", query));
  const { body, headers } = await mark(`sha256=${"a".repeat(64)}`);
  assert.deepEqual([body, headers["access-control-allow-origin"]], ['{"made_here":false}', "*"]);
  assertProblem(await mark(`sha256=${"a".repeat(63)}`), 422, "invalid_request");
});

test("privacy-inbox verifies the exact body, and ignores emails that are not requests", async () => {
  const event = got("/privacy-inbox");
  const context = event.requestContext as { http: object };
  const post = { ...event, requestContext: { ...context, http: { ...context.http, method: "POST" } } } as Event;
  const body = JSON.stringify({ type: "email.received", data: { from: "a@example.com", subject: "Hello" } });
  const secret = process.env.INBOX_WEBHOOK_SECRET!;
  for (const [key, status] of [[own, 401], [secret, 200]] as const) {
    const sent = new Date();
    const signature = new Webhook(key).sign("msg_1", sent, body);
    const headers = { ...event.headers, "webhook-id": "msg_1", "webhook-timestamp": String(Math.floor(sent.getTime() / 1000)), "webhook-signature": signature };
    for (const carried of [{ body, isBase64Encoded: false }, { body: Buffer.from(body).toString("base64"), isBase64Encoded: true }]) {
      const answer = await emulator.invoke("privacy-inbox", { ...post, ...carried, headers });
      assert.equal(answer.statusCode, status, answer.body);
    }
  }
});

test("cleanup runs no sweep for HTTP requests unless they come from the operator", async () => {
  const asked = (path: string) => {
    const event = recorded("webhook");
    const context = event.requestContext as { http: object };
    return { ...event, rawPath: path, requestContext: { ...context, http: { ...context.http, path } } };
  };
  assertProblem(await emulator.invoke("cleanup", asked("/events")), 404, "no_such_route");
  assertProblem(await emulator.invoke("cleanup", asked("/cleanup")), 401, "not_operator");
});
