// The Data API has an outage. These tests check what it means for the user, the credits, the photo and the operator.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import { Person } from "../journeys/person.ts";
import { small } from "../journeys/photos.ts";
import { type Answer, error, html } from "./answers.ts";
import { lab } from "./lab.ts";
import { listen, saying } from "./log.ts";
import { sound } from "./sound.ts";

const begin = /rpc\/begin_generation$/;

const outages: [what: string, answer: Answer, operator: string][] = [
  ["the project is read-only", error(405, "25006", "cannot execute INSERT in a read-only transaction"), "the project is read-only: look at its disk: status 405, code 25006"],
  ["the schema cache does not know the function yet", error(404, "PGRST202", "Could not find the function in the schema cache"), "code PGRST202"],
  ["the schema cache does not know a table yet", error(404, "PGRST205", "Could not find the table in the schema cache"), "code PGRST205"],
  ["the schema cache is not loaded", error(503, "PGRST002", "Could not query the database for the schema cache. Retrying."), "code PGRST002"],
  ["the Data API does not reach the database", error(503, "PGRST000", "Database connection error. Retrying the connection."), "code PGRST000"],
  ["the Data API has no connection free", error(504, "PGRST003", "Timed out acquiring connection from connection pool."), "code PGRST003"],
  ["the statement took too long", error(500, "57014", "canceling statement due to statement timeout"), "code 57014"],
  ["the database has no connection left", error(503, "53300", "sorry, too many clients already"), "code 53300"],
  ["Cloudflare cannot connect to the project", html(522, "522: Connection timed out"), "status 522"],
];

for (const [what, answer, operator] of outages) {
  test(`${what}: a submission gets 503 and no credits are held; after the outage it is accepted`, async () => {
    const alice = await Person.signUp("alice");
    const [input_path, key] = [await alice.upload(await small), randomUUID()];
    const submit = () => alice.submit({ style: "mosaic", input_path }, key);
    const lines = listen();
    // As often as one call is tried.
    lab.supabase.misbehave({ fault: "status", ...answer, when: begin, count: 3 });
    const struck = lab.supabase.struck;
    const response = await submit();
    const problem = (await response.json()) as Record<string, unknown>;
    assert.deepEqual([response.status, problem.code, lab.supabase.struck - struck], [503, "unavailable", 3]);
    assert.ok(Number(response.headers.get("retry-after")) > 0);
    assert.doesNotMatch(JSON.stringify(problem), /25006|PGRST|57014|53300|disk/);
    assert.deepEqual(await alice.wallet(), { balance: 5, held: 0 });
    assert.equal(saying(lines(), "ERROR", operator).length, 1, lines().join("\n"));

    assert.equal((await submit()).status, 201);
    await sound(alice, { succeeded: 1 });
  });
}

test("if the Data API cannot reach the database, the API answers 503 and not that an artwork was not made here", async () => {
  const answer = error(503, "PGRST000", "Database connection error. Retrying the connection.");
  lab.supabase.misbehave({ fault: "status", ...answer, when: /rpc\/is_made_here$/, count: 3 });
  const response = await fetch(`${lab.functions.url}/privacy/mark?sha256=${"a".repeat(64)}`);
  const problem = (await response.json()) as Record<string, unknown>;
  assert.deepEqual([response.status, problem.code], [503, "unavailable"]);
  assert.equal(response.headers.get("cache-control"), null, "a cached copy would outlive the outage");
  assert.ok(Number(response.headers.get("retry-after")) > 0);
});

const passing: [what: string, answer: Answer][] = [
  ["the project is read-only for a moment", error(405, "25006", "cannot execute UPDATE in a read-only transaction")],
  ["the schema cache does not know the function for a moment", error(404, "PGRST202", "Could not find the function in the schema cache")],
  ["a proxy answers with HTML", html(502, "502: Bad gateway")],
];

for (const [what, answer] of passing) {
  test(`${what} while a photo is prepared: the call is retried at once, and the user notices nothing`, async () => {
    const alice = await Person.signUp("alice");
    lab.supabase.misbehave({ fault: "status", ...answer, when: /rpc\/record_input$/, count: 2 });
    const { id, state } = await alice.generate(await small);
    assert.notEqual(state, "reserved");
    assert.equal((await alice.ended(id)).state, "succeeded");
    await sound(alice, { succeeded: 1 });
  });
}

test("if an outage lasts while a photo is prepared, the job waits under its hold and the log says why", async () => {
  const alice = await Person.signUp("alice");
  const lines = listen();
  lab.supabase.misbehave({ fault: "status", ...error(500, "57014", "canceling statement due to statement timeout"), when: /rpc\/record_input$/, count: 3 });
  const { state } = await alice.generate(await small);
  assert.equal(state, "reserved");
  assert.deepEqual(await alice.wallet(), { balance: 5, held: 1 });
  const failed = saying(lines(), "WARN", "a dispatch failed");
  assert.ok(failed.some((line) => line.includes("the statement took too long")), lines().join("\n"));
  await sound(alice, { succeeded: 1 });
});
