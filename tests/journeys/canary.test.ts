// R5: what people send shows nowhere but where it belongs. Every flow is made with planted texts in all that
// is sent, with the functions at their most talkative; then everything that was written is searched.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import { quiet } from "../faults/sound.ts";
import { functionsLog } from "../lab/functions.ts";
import { startLab } from "../lab/lab.ts";
import { pass } from "../lab/time.ts";
import { type Flows, asked } from "./canary/asked.ts";
import { broken, poison } from "./canary/broken.ts";
import { rights } from "./canary/rights.ts";
import { canary, people, pixels, secrets } from "./canary/planted.ts";
import { columnsWith, contentsBelow, filesBelow, find } from "./canary/search.ts";
import { cleanUp, database, disarm } from "./stack.ts";

after(() => database.end());

const state = process.env.STACK_STATE!;
const root = join(import.meta.dirname, "..", "..");

/** The body of every error that anybody is answered. */
const refusals: string[] = [];
const plainFetch = globalThis.fetch;
globalThis.fetch = async (...request) => {
  const response = await plainFetch(...request);
  if (!response.ok) refusals.push(await response.clone().text());
  return response;
};

/** The messages of the log lines in the source. */
function messages(): Set<string> {
  const sources = filesBelow(join(root, "functions")).filter((path) => /\/src\/.*(?<!tests)\.rs$/.test(path));
  const calls = sources.flatMap((path) => [...readFileSync(path, "utf8").matchAll(/tracing::\w+!\([^;]*?"([^"]+)",?\s*\);/g)]);
  return new Set(calls.map(([, message]) => message!));
}

/** Everything that the functions write while the flows are made. */
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
    // Photos that were never submitted wait for a day (R1).
    await pass(25 * 3600);
    await cleanUp();
    for (const person of people) await quiet(person);
  } finally {
    await lab.stop();
  }
  return readFileSync(functionsLog).subarray(length).toString().trimEnd().split("\n");
}

const content = new Map([...pixels, ["a planted text", Buffer.from(canary)]]);
const all = () => new Map([...content, ...secrets]);

function assertNothingWithheld(lines: string[]): void {
  assert.deepEqual(lines.filter((line) => line.includes("[withheld]")), [], "something was to be logged that may not be");
}

test("whatever happens, the functions log technical metadata alone (R5)", async () => {
  const lines = await written({ ...asked, ...rights, ...broken }, { POISON: poison });
  assertNothingWithheld(lines);
  assert.ok(lines.length > 150, `${lines.length} lines`);
  const unseen = [...messages()].filter((message) => !lines.some((line) => `${line} `.includes(` ${message} `)));
  assert.deepEqual(unseen, [], "every line is met");
});

test("as on Lambda, each line is an object of its level and its fields", async () => {
  const lines = await written(asked, { AWS_LAMBDA_FUNCTION_NAME: "canary" });
  assertNothingWithheld(lines);
  assert.ok(lines.length > 80, `${lines.length} lines`);
  for (const line of lines) assert.deepEqual(Object.keys(JSON.parse(line)).sort(), ["fields", "level"], line);
});

test("nothing that was planted, and no secret, is in any log of the stack", () => {
  const logs = filesBelow(join(state, "logs"));
  assert.ok(logs.length >= 5, logs.join());
  assert.deepEqual(find(all(), contentsBelow(join(state, "logs"))), []);
});

test("no error repeats what was sent", () => {
  assert.ok(refusals.length > 80, `${refusals.length} errors`);
  assert.deepEqual(find(all(), refusals.map((body) => [body, Buffer.from(body)])), []);
});

test("the database holds a planted text where it belongs, and nowhere else", async () => {
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

test("what is left in Storage holds nothing of a photo, in its name or its bytes", () => {
  const stored = contentsBelow(join(state, "storage"));
  assert.ok(stored.length > 5);
  // An export is its person's own: it holds what they wrote, and no photo.
  const isExport = ([path]: [string, Buffer]) => path.startsWith(join(state, "storage", "exports"));
  assert.ok(stored.some(isExport));
  assert.deepEqual(find(pixels, stored), []);
  assert.deepEqual(find(content, stored.filter((each) => !isExport(each))), []);
});
