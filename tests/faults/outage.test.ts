// Replicate is down for an hour.

import assert from "node:assert/strict";
import { test } from "node:test";
import { type Generation, Person } from "../journeys/person.ts";
import { small } from "../journeys/photos.ts";
import { arm, cleanUp, database } from "../journeys/stack.ts";
import { passTime } from "../lab/time.ts";
import { lab } from "./lab.ts";
import { predictionThatIs } from "./replicate.ts";
import { sound } from "./sound.ts";

test("when Replicate is down for an hour, running jobs are refunded, new jobs wait, and work resumes on its own", async () => {
  const [alice, bob, carol] = [await Person.signUp("alice"), await Person.signUp("bob"), await Person.signUp("carol")];
  // One job is running when Replicate goes down, and its event is lost.
  await arm({ fault: "webhook_drop" });
  const running = await alice.generate(await small);
  await predictionThatIs("succeeded", running.input_path);
  lab.replicate.misbehave({ fault: "refuse", count: Infinity });

  const tried: Generation[] = [];
  for (let minute = 0; minute < 60; minute += 1) {
    if (minute % 15 === 0) {
      const answer = await bob.submit({ style: "mosaic", input_path: await bob.upload(await small) });
      assert.equal(answer.status, 201);
      tried.push((await answer.json()) as Generation);
    }
    await passTime(60);
    await cleanUp();
    const late = await database`
      select id, state from public.generations
      where state not in ('succeeded', 'failed', 'canceled') and deadline_at < now() - interval '1 minute'`;
    assert.deepEqual([...late], [], `minute ${minute}`);
  }
  assert.deepEqual(await bob.wallet(), { balance: 5, held: 0 });
  assert.equal((await alice.generation(running.id))!.state, "failed");

  // Just before Replicate is back. After this, no one does anything more.
  const last = await carol.generate(await small);
  assert.equal(last.state, "reserved");
  lab.heal();
  await sound(carol, { succeeded: 1 });
  await sound(alice, { expired: 1 });
  await sound(bob, { lost: tried.length });
});

test("when Replicate keeps answering with an error, the job ends refunded and the user reads why", async () => {
  const alice = await Person.signUp("alice");
  lab.replicate.misbehave({ fault: "status", status: 429, count: Infinity });
  const { id } = await alice.generate(await small);
  for (let minute = 0; minute < 12; minute += 1) {
    await passTime(60);
    await cleanUp();
  }
  const { data } = await alice.client.from("generations").select("reason, failure_reasons(sentence)").eq("id", id).single();
  assert.equal(data!.reason, "platform_error");
  assert.match(JSON.stringify(data!.failure_reasons), /image service had a fault/);
  lab.heal();
  await sound(alice, { platform_error: 1 });
});
