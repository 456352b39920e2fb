// Faults of the sweep itself.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Person } from "../journeys/person.ts";
import { small } from "../journeys/photos.ts";
import { arm, cleanUp } from "../journeys/stack.ts";
import { passTime } from "../lab/time.ts";
import { withLostEvents } from "./generation.ts";
import { lab } from "./lab.ts";
import { sound } from "./sound.ts";

test("two sweeps at once settle each job once", async () => {
  const people = await Promise.all(["alice", "bob", "carol"].map((name) => Person.signUp(name)));
  for (const person of people) for (const _ of [1, 2]) await withLostEvents(person);
  const another = await lab.another();
  await passTime(61);
  const secret = { authorization: `Bearer ${process.env.OPERATOR_SECRET}` };
  const sweeps = [lab.functions, another, lab.functions, another].map(({ url }) =>
    fetch(`${url}/cleanup`, { method: "POST", headers: secret }).then((answer) => answer.status));
  assert.deepEqual(await Promise.all(sweeps), [200, 200, 200, 200]);
  for (const person of people) await sound(person, { succeeded: 2 });
});

test("a sweep ends every job past its deadline, and first asks for a result one last time", async () => {
  const alice = await Person.signUp("alice");
  const made = await withLostEvents(alice);
  await arm({ fault: "webhook_drop" }, { fault: "stuck_processing" });
  const stuck = await alice.generate(await small);
  await passTime(601);
  await cleanUp();
  assert.equal((await alice.generation(made.id))!.state, "succeeded");
  assert.deepEqual([(await alice.generation(stuck.id))!.state, (await alice.generation(stuck.id))!.reason], ["failed", "expired"]);
  await sound(alice, { succeeded: 1, expired: 1 });
});

test("if a sweep dies while it asks for the last time, the next one ends the generation", async () => {
  const alice = await Person.signUp("alice");
  await arm({ fault: "webhook_drop" }, { fault: "stuck_processing" });
  const { id } = await alice.generate(await small);
  await passTime(601);
  await lab.functions.crashAt("cleanup.settling");
  await assert.rejects(cleanUp());
  await lab.functions.crashed();
  await passTime(121);
  await cleanUp();
  assert.equal((await alice.generation(id))!.reason, "expired");
  await sound(alice, { expired: 1 });
});
