// R5: what users send appears only where it belongs. The flows plant texts in everything they send, while the
// functions log at their most verbose level. Then the tests search everything that was written.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import { quiet } from "../faults/sound.ts";
import { functionsLog } from "../lab/functions.ts";
import { startLab } from "../lab/lab.ts";
import { passTime } from "../lab/time.ts";
import { Emulator } from "../lambda/emulator.ts";
import { type Flows, asked } from "./canary/asked.ts";
import { broken, poison } from "./canary/broken.ts";
import { rights } from "./canary/rights.ts";
import { canary, people, pixels, secrets } from "./canary/planted.ts";
import { columnsWith, contentsBelow, filesBelow, find } from "./canary/search.ts";
import { cleanUp, database, disarm } from "./stack.ts";

after(() => database.end());

const state = process.env.STACK_STATE!;
const root = join(import.meta.dirname, "..", "..");

/** The body of every error response. */
const refusals: string[] = [];
const plainFetch = globalThis.fetch;
globalThis.fetch = async (...request) => {
  const response = await plainFetch(...request);
  if (!response.ok) refusals.push(await response.clone().text());
  return response;
};

/** The messages of all log statements in the source. */
function messages(): Set<string> {
  const sources = filesBelow(join(root, "functions")).filter((path) => /\/src\/.*(?<!tests)\.rs$/.test(path));
  const calls = sources.flatMap((path) => [...readFileSync(path, "utf8").matchAll(/tracing::\w+!\([^;]*?"([^"]+)",?\s*\);/g)]);
  return new Set(calls.map(([, message]) => message!));
}

/** Runs the flows and returns the lines that the functions log meanwhile. */
async function written(flows: Flows, env: Record<string, string> = {}): Promise<string[]> {
  const { length } = readFileSync(functionsLog, { flag: "a+" });
  const lab = await startLab({ RUST_LOG: "trace", ...env });
  try {
    for (const [name, flow] of Object.entries(flows)) {
      await flow(lab).catch((cause: Error) => {
        throw new Error(`${name}: ${cause.message}`, { cause });
      });
      lab.heal();
      await disarm();
    }
    // Photos that were not submitted stay for a day (R1).
    await passTime(25 * 3600);
    await cleanUp();
    for (const person of people) await quiet(person);
  } finally {
    await lab.stop();
  }
  return readFileSync(functionsLog).subarray(length).toString().trimEnd().split("\n");
}

/** The messages that only a function on Lambda logs: an event is not ours. */
async function loggedOnLambda(): Promise<string[]> {
  const log = join(state, "logs", "lambda.log");
  const emulator = await Emulator.start(["cleanup"], log);
  await assert.rejects(emulator.invoke("cleanup", { [canary]: canary, source: canary }), /UnknownEvent/);
  await emulator.stop();
  return readFileSync(log, "utf8").trimEnd().split("\n").map((line) => ` ${JSON.parse(line).fields.message} `);
}

const content = new Map([...pixels, ["a planted text", Buffer.from(canary)]]);
const all = () => new Map([...content, ...secrets]);

function assertNothingWithheld(lines: string[]): void {
  assert.deepEqual(lines.filter((line) => line.includes("[withheld]")), [], "a log statement tried to log a value that is not allowed");
}

test("the functions log only technical metadata, whatever happens (R5)", async () => {
  const lines = await written({ ...asked, ...rights, ...broken }, { POISON: poison });
  assertNothingWithheld(lines);
  assert.ok(lines.length > 150, `${lines.length} lines`);
  lines.push(...(await loggedOnLambda()));
  const unseen = [...messages()].filter((message) => !lines.some((line) => `${line} `.includes(` ${message} `)));
  assert.deepEqual(unseen, [], "every log statement is reached");
});

test("on Lambda, the functions log each line as a JSON object with its level and fields", async () => {
  const lines = await written(asked, { AWS_LAMBDA_FUNCTION_NAME: "canary" });
  assertNothingWithheld(lines);
  assert.ok(lines.length > 80, `${lines.length} lines`);
  for (const line of lines) assert.deepEqual(Object.keys(JSON.parse(line)).sort(), ["fields", "level"], line);
});

test("no log of the stack contains a planted text or a secret", () => {
  const logs = filesBelow(join(state, "logs"));
  assert.ok(logs.length >= 5, logs.join());
  assert.deepEqual(find(all(), contentsBelow(join(state, "logs"))), []);
});

test("no error response repeats what was sent", () => {
  assert.ok(refusals.length > 80, `${refusals.length} errors`);
  assert.deepEqual(find(all(), refusals.map((body) => [body, Buffer.from(body)])), []);
});

test("the database holds planted texts only in the columns for them", async () => {
  assert.deepEqual(await columnsWith(canary), [
    "auth.audit_log_entries.payload",
    "auth.identities.email",
    "auth.identities.identity_data",
    "auth.users.email",
    "auth.users.raw_user_meta_data",
    "public.generations.idempotency_key",
    "public.generations.prompt",
    "public.privacy_requests.message",
    "public.profiles.username",
  ]);
});

test("the objects left in Storage contain nothing of a photo, in their names or their bytes", () => {
  const stored = contentsBelow(join(state, "storage"));
  assert.ok(stored.length > 5);
  // An export contains the texts that its owner wrote, and no photo.
  const isExport = ([path]: [string, Buffer]) => path.startsWith(join(state, "storage", "exports"));
  assert.ok(stored.some(isExport));
  assert.deepEqual(find(pixels, stored), []);
  assert.deepEqual(find(content, stored.filter((each) => !isExport(each))), []);
});
