// Supabase, Replicate or our database asks to retry later. These tests check who waits, how long, and who does not.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import { Person } from "../journeys/person.ts";
import { small } from "../journeys/photos.ts";
import { failure } from "./answers.ts";
import { lab } from "./lab.ts";
import { sound } from "./sound.ts";

test("a refusal with 429 or 503 is final: the request is sent once, and the response says when to retry", async () => {
  for (const status of [429, 503]) {
    const alice = await Person.signUp("alice");
    const refused = {
      code: `PT${status}`,
      message: "That is too much for now.",
      details: JSON.stringify({ retry_after: 60 }),
      hint: "too_much",
    };
    const struck = lab.supabase.struck;
    lab.supabase.misbehave({ fault: "status", status, body: JSON.stringify(refused), when: /rpc\/begin_generation$/, count: 3 });
    const response = await alice.submit({ style: "mosaic", input_path: `${alice.id}/${randomUUID()}.jpg` });
    const problem = (await response.json()) as Record<string, unknown>;
    assert.equal(lab.supabase.struck - struck, 1, "the request was repeated");
    assert.deepEqual([response.status, problem.code, response.headers.get("retry-after")], [status, "too_much", "60"]);
    assert.deepEqual(await alice.wallet(), { balance: 5, held: 0 });
    lab.heal();
  }
});

test("Storage is not asked before its Retry-After time, and an invalid time does not end the process", async () => {
  const busy = failure("503", "SlowDown", "Please reduce your request rate.");
  const prepared = /^POST \/storage\/v1\/object\/inputs\/.*\/prepared\//;
  for (const [value, ms] of [["2", 2_000], ["nan", 0], ["inf", 0], ["-1", 0], ["Fri, 27 Nov 2026 18:00:00 GMT", 0]] as const) {
    const alice = await Person.signUp("alice");
    const [input_path, restarts] = [await alice.upload(await small), lab.functions.restarts];
    lab.supabase.misbehave({ fault: "status", ...busy, headers: { "retry-after": value }, when: prepared });
    const began = performance.now();
    const response = await alice.submit({ style: "mosaic", input_path });
    assert.equal(response.status, 201, value);
    assert.notEqual(((await response.json()) as { state: string }).state, "reserved");
    assert.ok(performance.now() - began >= ms, value);
    assert.equal(lab.functions.restarts, restarts);
    await sound(alice, { succeeded: 1 });
  }
});

test("if Retry-After is longer than a request may last, the request does not wait and the sweep continues later", async () => {
  const alice = await Person.signUp("alice");
  const busy = { ...failure("503", "SlowDown", "Please reduce your request rate."), headers: { "retry-after": "3600" } };
  const struck = lab.supabase.struck;
  lab.supabase.misbehave({ fault: "status", ...busy, when: /^POST \/storage\/v1\/object\/inputs\/.*\/prepared\//, count: 3 });
  assert.equal((await alice.generate(await small)).state, "reserved");
  assert.equal(lab.supabase.struck - struck, 1);
  lab.heal();
  await sound(alice, { succeeded: 1 });
});

test("if Replicate throttles with an invalid Retry-After, the prediction is still made", async () => {
  for (const value of ["nan", "inf", "-1", "1e308"]) {
    const alice = await Person.signUp("alice");
    const restarts = lab.functions.restarts;
    lab.replicate.misbehave({ fault: "status", status: 429, headers: { "retry-after": value }, when: /^POST \/v1\/models/ });
    const { id } = await alice.generate(await small);
    assert.equal((await alice.ended(id)).state, "succeeded");
    assert.equal(lab.functions.restarts, restarts, `retry-after: ${value} ended the process`);
    await sound(alice, { succeeded: 1 });
  }
});
