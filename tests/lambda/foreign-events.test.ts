// Events that a function must not act on. Lambda passes on what another service sends, or what is typed in the console.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { cleanUp, database } from "../journeys/stack.ts";
import { type Answer, Emulator } from "./emulator.ts";

let emulator: Emulator;
before(async () => {
  emulator = await Emulator.start(["submit", "cleanup"]);
});
after(async () => {
  await emulator?.stop();
  await database.end();
});

const recorded = (name: string) => JSON.parse(readFileSync(join(import.meta.dirname, "events", `${name}.json`), "utf8"));
const scheduled = recorded("scheduled");

/** An HTTP request in payload format 1.0, as a REST API sends it, and an HTTP API on request. */
function rest(path: string): object {
  return {
    version: "1.0",
    resource: path,
    path,
    httpMethod: "POST",
    headers: { "content-type": "application/json", host: "a1b2c3d4e5.execute-api.eu-central-1.amazonaws.com" },
    multiValueHeaders: { "content-type": ["application/json"] },
    queryStringParameters: null,
    multiValueQueryStringParameters: null,
    pathParameters: null,
    stageVariables: null,
    requestContext: { accountId: "123456789012", apiId: "a1b2c3d4e5", httpMethod: "POST", path, stage: "prod", requestId: "JKJaXmPLvHcESHA=", identity: { sourceIp: "203.0.113.7" } },
    body: JSON.stringify(scheduled),
    isBase64Encoded: false,
  };
}

const loadBalancer = {
  requestContext: { elb: { targetGroupArn: "arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/opusflair/49e9d65c45c6791a" } },
  httpMethod: "POST",
  path: "/events",
  queryStringParameters: {},
  headers: { "content-type": "application/json", "x-forwarded-for": "203.0.113.7" },
  body: JSON.stringify(scheduled),
  isBase64Encoded: false,
};

const foreign: [string, unknown][] = [
  ["a request of a REST API", rest("/events")],
  ["a request of a REST API for the operator's route", rest("/cleanup")],
  ["a request of a load balancer", loadBalancer],
  ["the console's test event", { key1: "value1", key2: "value2", key3: "value3" }],
  ["an upload to a bucket of S3", { Records: [{ eventVersion: "2.1", eventSource: "aws:s3", eventName: "ObjectCreated:Put", s3: { bucket: { name: "photos" }, object: { key: "a.jpg" } } }] }],
  ["a message of SQS", { Records: [{ messageId: "059f36b4", eventSource: "aws:sqs", body: JSON.stringify(scheduled) }] }],
  ["a message of SNS", { Records: [{ EventSource: "aws:sns", Sns: { Type: "Notification", Message: JSON.stringify(scheduled) } }] }],
  ["an event of another application on EventBridge", { ...scheduled, source: "com.example.app" }],
  ["an event of AWS that no schedule sent", { ...scheduled, source: "aws.ec2", "detail-type": "EC2 Instance State-change Notification" }],
  ["an object without members", {}],
  ["null", null],
  ["a text", "Scheduled Event"],
  ["a list of scheduled events", [scheduled]],
];

/** When the last sweep ran. */
async function lastSweep(): Promise<string> {
  const [{ at }] = await database`select max(at)::text as at from private.heartbeats`;
  return at as string;
}

for (const [what, event] of foreign) {
  test(`${what} is a failed invocation and starts no sweep`, async () => {
    await cleanUp();
    const before = await lastSweep();
    await assert.rejects(emulator.invoke("cleanup", event), /UnknownEvent/);
    assert.equal(await lastSweep(), before);
    await assert.rejects(emulator.invoke("submit", event), /UnknownEvent/);
  });
}

for (const [what, source] of [["an EventBridge rule", "aws.events"], ["the EventBridge Scheduler", "aws.scheduler"]] as const) {
  test(`the event of ${what} starts a sweep`, async () => {
    const before = await lastSweep();
    await emulator.invoke("cleanup", { ...scheduled, source });
    assert.notEqual(await lastSweep(), before);
  });
}

test("a scheduled event that a function without a schedule gets is a failed invocation", async () => {
  await assert.rejects(emulator.invoke("submit", scheduled), /ScheduledWorkFailed/);
});

test("a sweep that fails is a failed invocation", async () => {
  await database`revoke execute on function backend.record_heartbeat from service_role`;
  try {
    await assert.rejects(emulator.invoke("cleanup", scheduled), /ScheduledWorkFailed/);
  } finally {
    await database`grant execute on function backend.record_heartbeat to service_role`;
  }
});

test("behind a named stage, a request finds its route", async () => {
  const event = recorded("create-generation");
  const named = { ...event, rawPath: `/prod${event.rawPath}`, requestContext: { ...event.requestContext, stage: "prod", http: { ...event.requestContext.http, path: `/prod${event.rawPath}` } } };
  const { statusCode, body } = await emulator.invoke<Answer>("submit", named);
  assert.deepEqual([statusCode, JSON.parse(body).code], [401, "not_signed_in"]);
});
