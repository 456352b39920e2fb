// What Replicate reports about a prediction, a list or an output.

import assert from "node:assert/strict";
import { createServer, request } from "node:http";
import { before, test } from "node:test";
import { Person } from "../journeys/person.ts";
import { small } from "../journeys/photos.ts";
import { arm, cleanUp, database, disarm } from "../journeys/stack.ts";
import { passTime } from "../lab/time.ts";
import { until } from "../waiting.ts";
import { artworkIsWhole, withLostEvents } from "./generation.ts";
import { lab } from "./lab.ts";
import { listen, saying } from "./log.ts";
import { endWhatWaits, predictionThatIs, predictionsOf } from "./replicate.ts";
import { sound } from "./sound.ts";

before(endWhatWaits);

const state = async (person: Person, id: string) => (await person.generation(id))!.state;

for (const [fault, name] of [["fail_high_demand", "E003"], ["fail_unavailable", "E004"]] as const) {
  test(`${name} is a platform fault, so another prediction is made under the same hold`, async () => {
    await arm({ fault, count: 2 });
    const alice = await Person.signUp("alice");
    const { input_path } = await alice.generate(await small);
    await predictionThatIs("failed", input_path);
    assert.deepEqual(await alice.wallet(), { balance: 5, held: 1 });
    await sound(alice, { succeeded: 1 });
    assert.deepEqual((await predictionsOf(input_path)).map(({ status }) => status), ["failed", "failed", "succeeded"]);
  });
}

test("E006 is a fault of the photo, so the job ends as input_invalid and the credits are returned", async () => {
  await arm({ fault: "fail_input" });
  const alice = await Person.signUp("alice");
  const { id, input_path } = await alice.generate(await small);
  assert.equal((await alice.ended(id)).reason, "input_invalid");
  await sound(alice, { input_invalid: 1 });
  assert.equal((await predictionsOf(input_path)).length, 1);
});

test("an unknown status does not end the job: the sweep asks again", async () => {
  const alice = await Person.signUp("alice");
  const { id } = await withLostEvents(alice);
  await arm({ fault: "get_odd_status" });
  await passTime(61);
  await cleanUp();
  assert.equal(await state(alice, id), "dispatched");
  await sound(alice, { succeeded: 1 });
});

test("an unreadable response affects only its own prediction: the same sweep settles the others", async () => {
  const people = [await Person.signUp("alice"), await Person.signUp("bob"), await Person.signUp("carol")];
  for (const person of people) for (let job = 0; job < 4; job += 1) await withLostEvents(person);
  // As many predictions as a sweep asks about at once.
  await arm({ fault: "get_unreadable", count: 8 });
  await passTime(61);
  await cleanUp();
  const [{ count }] = await database`
    select count(*)::int from public.generations where person_id in ${database(people.map(({ id }) => id))} and state = 'succeeded'`;
  assert.equal(count, 4);
  for (const person of people) await sound(person, { succeeded: 4 });
});

test("an unreadable entry of the list hides no other entry", async () => {
  await arm({ fault: "webhook_drop", count: 2 });
  lab.replicate.misbehave({ fault: "lose_answer", when: /^POST \/v1\/models\// });
  const [alice, bob] = [await Person.signUp("alice"), await Person.signUp("bob")];
  const { id, input_path } = await alice.generate(await small);
  await predictionThatIs("succeeded", input_path);
  await bob.generate(await small);
  await arm({ fault: "list_unreadable" });
  await passTime(100);
  await cleanUp();
  assert.equal(await state(alice, id), "succeeded");
  await sound(alice, { succeeded: 1 });
  await sound(bob, { succeeded: 1 });
  assert.equal((await predictionsOf(input_path)).length, 1);
});

test("an unreadable entry may be the wanted prediction, so no second prediction is made", async () => {
  await arm({ fault: "webhook_drop" });
  lab.replicate.misbehave({ fault: "lose_answer", when: /^POST \/v1\/models\// });
  const alice = await Person.signUp("alice");
  const { input_path } = await alice.generate(await small);
  await predictionThatIs("succeeded", input_path);
  await arm({ fault: "list_unreadable" });
  await passTime(100);
  await cleanUp();
  assert.equal((await predictionsOf(input_path)).length, 1);
  await sound(alice, { succeeded: 1 });
  assert.equal((await predictionsOf(input_path)).length, 1);
});

test("one 404 for a prediction proves nothing: the sweep asks again, and the artwork is stored", async () => {
  const alice = await Person.signUp("alice");
  const { id } = await withLostEvents(alice);
  await arm({ fault: "get_404" });
  await passTime(61);
  await cleanUp();
  assert.equal(await state(alice, id), "dispatched");
  assert.deepEqual(await alice.wallet(), { balance: 5, held: 1 });
  await sound(alice, { succeeded: 1 });
  await artworkIsWhole(alice, id);
});

test("if a prediction is 404 for minutes, its job ends as lost and the credits are returned", async () => {
  const alice = await Person.signUp("alice");
  const { id } = await withLostEvents(alice);
  await arm({ fault: "get_404", count: 100 });
  for (const [seconds, becomes] of [[61, "dispatched"], [181, "failed"]] as const) {
    await passTime(seconds);
    await cleanUp();
    assert.equal(await state(alice, id), becomes);
  }
  await sound(alice, { lost: 1 });
});

test("two 404s with a good response between them do not end the job", async () => {
  const alice = await Person.signUp("alice");
  await arm({ fault: "webhook_drop" }, { fault: "stuck_processing" });
  const { id } = await alice.generate(await small);
  for (const [seconds, fault] of [[61, "get_404"], [61, undefined], [181, "get_404"]] as const) {
    if (fault) await arm({ fault });
    await passTime(seconds);
    await cleanUp();
  }
  assert.equal(await state(alice, id), "processing");
  await alice.call("POST", `/generations/${id}/cancel`);
  await sound(alice, { canceled: 1 });
});

for (const [what, fault] of [["a 404", "output_expired"], ["a redirect", "output_redirect"]] as const) {
  test(`after ${what}, an output is fetched again and stored`, async () => {
    await arm({ fault });
    const alice = await Person.signUp("alice");
    const lines = listen();
    const { id } = await alice.generate(await small);
    const alarms = () => saying(lines(), "ERROR", "an output cannot be fetched");
    await until("the error in the log", async () => alarms().length > 0 || undefined);
    await sound(alice, { succeeded: 1 });
    assert.equal(alarms().length, 1);
    await artworkIsWhole(alice, id);
  });
}

/** Waits until a worker has tried to fetch the output, and has given back its lease. */
async function untilTried(id: string): Promise<void> {
  await until("a first try to fetch the output", async () => {
    const [work] = await database`
      select from public.generations as g join private.generation_work as w on w.generation_id = g.id
      where g.id = ${id} and g.state = 'storing' and w.lease is null`;
    return work;
  });
}

test("if an output is 404 for minutes, its job ends as lost and the credits are returned", async () => {
  await arm({ fault: "output_expired", count: 1000 });
  const alice = await Person.signUp("alice");
  const { id } = await alice.generate(await small);
  await untilTried(id);
  await passTime(61);
  await cleanUp();
  assert.equal(await state(alice, id), "storing");
  await passTime(181);
  await cleanUp();
  assert.equal(await state(alice, id), "failed");
  await sound(alice, { lost: 1 });
});

test("if an output is redirected until the deadline, the job ends as output_invalid and the credits are returned", async () => {
  await arm({ fault: "output_redirect", count: 1000 });
  const alice = await Person.signUp("alice");
  const { id } = await alice.generate(await small);
  await untilTried(id);
  await passTime(400);
  await cleanUp();
  assert.equal(await state(alice, id), "storing");
  await sound(alice, { output_invalid: 1 });
});

test("an output without a file extension is stored under the type of its bytes", async () => {
  await arm({ fault: "output_unnamed" });
  const alice = await Person.signUp("alice");
  const { id } = await alice.generate(await small, { settings: { output_format: "jpg" } });
  const { state, artwork_path, artwork_content_type } = await alice.ended(id);
  assert.deepEqual([state, artwork_content_type], ["succeeded", "image/jpeg"]);
  assert.match(artwork_path!, /-\d+\.jpg$/);
  await sound(alice, { succeeded: 1 });
});

test("an output of unknown type is stored without a file extension", async () => {
  await arm({ fault: "output_unnamed" }, { fault: "output_expired" });
  const alice = await Person.signUp("alice");
  const { id } = await alice.generate(await small);
  const { state, artwork_path, artwork_content_type } = await alice.ended(id);
  assert.deepEqual([state, artwork_content_type], ["succeeded", "image/png"]);
  assert.match(artwork_path!, /-1$/);
  await sound(alice, { succeeded: 1 });
  await artworkIsWhole(alice, id);
});

test("an output on another host waits for the operator, and the log says which variable to change", async () => {
  await arm({ fault: "output_elsewhere" });
  const alice = await Person.signUp("alice");
  const lines = listen();
  const { id } = await alice.generate(await small);
  await until("the output to be refused", async () => (await state(alice, id)) === "storing" || undefined);
  await until("the error in the log", async () =>
    saying(lines(), "ERROR", "REPLICATE_OUTPUT_HOSTS does not list").length > 0 || undefined);
  assert.deepEqual(await alice.wallet(), { balance: 5, held: 1 });

  // The host exists, so the operator adds it to the list.
  const sandbox = new URL(process.env.REPLICATE_BASE_URL!);
  const elsewhere = createServer((incoming, outgoing) => {
    request({ host: sandbox.hostname, port: sandbox.port, path: incoming.url }, (answer) => {
      outgoing.writeHead(answer.statusCode!, answer.headers);
      answer.pipe(outgoing);
    }).end();
  });
  await new Promise<void>((listening, failed) => elsewhere.once("error", failed).listen(Number(sandbox.port), "127.0.0.2", listening));
  try {
    const repaired = await lab.another({ REPLICATE_OUTPUT_HOSTS: "127.0.0.1,127.0.0.2" });
    // Repeated events would postpone the question to Replicate.
    for (let minute = 0; minute < 8 && (await state(alice, id)) === "storing"; minute += 1) {
      await passTime(61);
      await cleanUp(repaired.url);
    }
    assert.equal(await state(alice, id), "succeeded");
    await sound(alice, { succeeded: 1 });
  } finally {
    await new Promise((closed) => void elsewhere.close(closed));
  }
});

test("a single 404 is not evidence that Replicate has removed data (T3)", async () => {
  const alice = await Person.signUp("alice");
  await alice.generate(await small);
  await sound(alice, { succeeded: 1 });
  const removal = async () => (await database`select evidence, due_at > now() as waits from public.replicate_removals where person_id = ${alice.id}`)[0]!;
  await arm({ fault: "get_404", count: 1000 });
  await passTime(3700);
  await cleanUp();
  assert.deepEqual({ ...(await removal()) }, { evidence: null, waits: true });
  await disarm();
  await passTime(301);
  await cleanUp();
  assert.equal((await removal()).evidence, "data_removed");
});

test("a second 404 minutes later is evidence of a removal; an unreadable response is not", async () => {
  const alice = await Person.signUp("alice");
  await alice.generate(await small);
  await sound(alice, { succeeded: 1 });
  const evidence = async () => (await database`select evidence from public.replicate_removals where person_id = ${alice.id}`)[0]!.evidence;
  await passTime(3700);
  await arm({ fault: "get_unreadable", count: 1000 });
  await cleanUp();
  assert.equal(await evidence(), null);
  await disarm();
  await arm({ fault: "get_404", count: 1000 });
  for (const found of [null, "not_found"]) {
    await passTime(601);
    await cleanUp();
    assert.equal(await evidence(), found);
  }
  const [{ count }] = await database`
    select count(*)::int from private.removal_absences as a
    join public.replicate_removals as r using (prediction_id)
    where r.person_id = ${alice.id}`;
  assert.equal(count, 0);
});
