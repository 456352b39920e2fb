// Replicate refuses the account, the model or the input of a job.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { afterEach, before, test } from "node:test";
import { type Generation, Person } from "../journeys/person.ts";
import { small } from "../journeys/photos.ts";
import { arm, cleanUp, database } from "../journeys/stack.ts";
import { passTime } from "../lab/time.ts";
import { lab } from "./lab.ts";
import { listen, saying } from "./log.ts";
import { endWhatWaits, predictionsOf } from "./replicate.ts";
import { sound } from "./sound.ts";

before(endWhatWaits);

// A refusal that a failed test left behind would block all later tests.
afterEach(async () => {
  await database`delete from private.account_refusals`;
});

const create = /^POST \/v1\/models\//;

interface Problem {
  code: string;
  detail: string;
}

async function submit(person: Person, input_path: string, key?: string): Promise<Response> {
  return person.submit({ style: "mosaic", input_path }, key);
}

const closed = /We accept no photos at the moment, because the image service accepts no jobs/;

/** What the operator sees about the Replicate account. */
async function account(): Promise<{ refused_status: number | null; table: string }> {
  const authorization = `Bearer ${process.env.OPERATOR_SECRET}`;
  const [json, table] = await Promise.all(["application/json", "text/plain"].map((accept) =>
    fetch(`${process.env.FUNCTIONS_URL}/status`, { headers: { accept, authorization } })));
  const status = (await json!.json()) as { account: { refused_status: number | null } };
  return { ...status.account, table: /^ {2}Replicate account .*$/m.exec(await table!.text())![0] };
}

for (const status of [401, 402, 403]) {
  test(`while Replicate refuses the account with ${status}, the job waits and no other photo is accepted; then all continues on its own`, async () => {
    const [alice, bob] = [await Person.signUp("alice"), await Person.signUp("bob")];
    const photo = await bob.upload(await small);
    const lines = listen();
    lab.replicate.misbehave({ fault: "status", status, when: create, count: Infinity });
    const { id, state, input_path } = await alice.generate(await small);
    assert.equal(state, "reserved");
    assert.deepEqual(await alice.wallet(), { balance: 5, held: 1 });

    // Bob is refused before a photo is accepted, and before credits are held.
    await assert.rejects(bob.upload(await small), closed);
    const answer = await submit(bob, photo);
    const problem = (await answer.json()) as Problem;
    assert.deepEqual([answer.status, problem.code, answer.headers.get("retry-after")], [503, "model_unavailable", "120"]);
    assert.match(problem.detail, closed);
    assert.deepEqual(await bob.wallet(), { balance: 5, held: 0 });

    // One job tries, once in each sweep. The operator gets one alarm.
    const before = lab.replicate.struck;
    await passTime(61);
    // A try is due, but it belongs to a job that already waits.
    assert.equal((await submit(bob, photo)).status, 503);
    await cleanUp();
    await passTime(61);
    await cleanUp();
    assert.equal(lab.replicate.struck, before + 2);
    assert.equal((await alice.generation(id))!.state, "reserved");
    const alarms = saying(lines(), "ERROR", "Replicate");
    assert.equal(alarms.length, 1);
    const alarm = `Replicate refuses our account, so no photos are accepted generation=${id} status=${status}`;
    assert.ok(alarms[0]!.endsWith(alarm), alarms[0]);
    const seen = await account();
    assert.equal(seen.refused_status, status);
    assert.ok(seen.table.endsWith(`REFUSED, ${status} !`), seen.table);

    lab.heal();
    await passTime(61);
    await cleanUp();
    assert.equal((await predictionsOf(input_path)).length, 1);
    assert.deepEqual((await account()).refused_status, null);
    assert.equal((await submit(bob, photo)).status, 201);
    await sound(alice, { succeeded: 1 });
    await sound(bob, { succeeded: 1 });
  });
}

test("if the account is refused past a job's deadline, the job ends, its credits are returned, and one new job tries", async () => {
  const [alice, bob, carol] = [await Person.signUp("alice"), await Person.signUp("bob"), await Person.signUp("carol")];
  const photos = [await bob.upload(await small), await carol.upload(await small)];
  lab.replicate.misbehave({ fault: "status", status: 402, when: create, count: Infinity });
  await alice.generate(await small);
  for (let minute = 0; minute < 11; minute += 1) {
    await passTime(61);
    await cleanUp();
  }
  await sound(alice, { platform_error: 1 });

  // No job waits any more, so a new one has to try.
  const before = lab.replicate.struck;
  const answers = await Promise.all([submit(bob, photos[0]!), submit(carol, photos[1]!)]);
  assert.deepEqual(answers.map(({ status }) => status).sort(), [201, 503]);
  assert.equal(lab.replicate.struck, before + 1);
  await assert.rejects(alice.upload(await small), closed);

  lab.heal();
  await passTime(61);
  await cleanUp();
  const [waited, late] = answers[0]!.status === 201 ? [bob, carol] : [carol, bob];
  assert.equal((await submit(late, late === bob ? photos[0]! : photos[1]!)).status, 201);
  await sound(waited, { succeeded: 1 });
  await sound(late, { succeeded: 1 });
});

test("a request that is refused for its own reason is not the one that tries", async () => {
  const [alice, bob] = [await Person.signUp("alice"), await Person.signUp("bob")];
  const photo = await bob.upload(await small);
  lab.replicate.misbehave({ fault: "status", status: 402, when: create, count: Infinity });
  const { id } = await alice.generate(await small);
  await alice.call("POST", `/generations/${id}/cancel`);
  await passTime(61);
  lab.heal();
  assert.equal((await bob.submit({ style: "none", input_path: photo })).status, 422);
  assert.equal((await submit(bob, photo)).status, 201);
  await sound(bob, { succeeded: 1 });
  await sound(alice, { canceled: 1 });
});

test("while Replicate does not know the model, the job waits and the operator is informed", async () => {
  const alice = await Person.signUp("alice");
  const lines = listen();
  await arm({ fault: "create_refused", value: 404, count: 2 });
  const { state, input_path } = await alice.generate(await small);
  assert.equal(state, "reserved");
  await passTime(61);
  await cleanUp();
  assert.deepEqual(await alice.wallet(), { balance: 5, held: 1 });
  const alarms = saying(lines(), "ERROR", "");
  assert.equal(alarms.length, 2);
  for (const line of alarms) assert.match(line, /Replicate does not know the model or refuses the webhook .*status=404/);
  // Other users are not affected.
  assert.equal((await account()).refused_status, null);
  await sound(alice, { succeeded: 1 });
  assert.equal((await predictionsOf(input_path)).length, 1);
});

test("if a refusal names no member of the input, it is our fault, and the job waits", async () => {
  const alice = await Person.signUp("alice");
  await arm({ fault: "create_refused", value: 422 });
  assert.equal((await alice.generate(await small)).state, "reserved");
  await sound(alice, { succeeded: 1 });
});

test("if the model refuses the photo, the job ends, the credits are returned, and the response says how to start again", async () => {
  const alice = await Person.signUp("alice");
  const [input_path, key] = [await alice.upload(await small), randomUUID()];
  await arm({ fault: "create_422" });
  const answer = await submit(alice, input_path, key);
  const problem = (await answer.json()) as Problem;
  assert.deepEqual([answer.status, problem.code], [422, "dispatch_refused"]);
  assert.match(problem.detail, /Nothing was charged.*Upload it again.*new Idempotency-Key/);
  assert.deepEqual(await alice.wallet(), { balance: 5, held: 0 });
  // The same key returns the same generation, which has failed. No response may promise anything else.
  const again = await submit(alice, input_path, key);
  const failed = (await again.json()) as Generation;
  assert.deepEqual([again.status, failed.state, failed.reason], [200, "failed", "dispatch_refused"]);
  assert.match(String(failed.message), /did not accept this photo or these settings\. Please upload/);
  await sound(alice, { dispatch_refused: 1 });
});

test("each failure sentence says what to do, and none suggests the same request again", async () => {
  const reasons = await database`select id, sentence from public.failure_reasons`;
  assert.ok(reasons.length >= 8);
  for (const { id, sentence } of reasons) {
    assert.match(sentence, /Please (upload|try another)/, id);
    assert.doesNotMatch(sentence, /try again/i, id);
  }
});
