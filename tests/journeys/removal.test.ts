// Sweeps ask Replicate whether it still keeps data after its hour (T3).

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { passTime } from "../lab/time.ts";
import { Person } from "./person.ts";
import { small } from "./photos.ts";
import { cleanUp, database } from "./stack.ts";

after(() => database.end());

interface Removal {
  prediction_id: string;
  attempts: number;
  removed_at: string | null;
  evidence: string | null;
}

async function removals(person: Person): Promise<Removal[]> {
  const { data, error } = await person.client.from("replicate_removals").select().order("due_at");
  if (error) throw error;
  return data as Removal[];
}

async function kept(): Promise<{ kept: number; overdue: number }> {
  const headers = { accept: "application/json", authorization: `Bearer ${process.env.OPERATOR_SECRET}` };
  const answer = await fetch(`${process.env.FUNCTIONS_URL}/status`, { headers });
  return ((await answer.json()) as { replicate: { kept: number; overdue: number } }).replicate;
}

test("a sweep asks Replicate about each prediction after its hour, and records the answer as evidence", async () => {
  const alice = await Person.signUp("alice");
  const { id } = await alice.ended((await alice.generate(await small)).id);
  await passTime(3500);
  await cleanUp();
  assert.deepEqual((await removals(alice)).map(({ attempts, evidence }) => [attempts, evidence]), [[0, null]]);

  await passTime(300);
  await cleanUp();
  const [removal] = await removals(alice);
  assert.equal(removal!.evidence, "data_removed");
  assert.ok(removal!.removed_at);
  assert.equal(removal!.prediction_id, (await alice.generation(id))!.prediction_id);
});

test("a sweep also asks about predictions whose generation or account was deleted within the hour", async () => {
  const [alice, bob] = [await Person.signUp("alice"), await Person.signUp("bob")];
  for (const person of [alice, bob]) await person.ended((await person.generate(await small)).id);
  const [{ prediction_id }] = (await removals(bob)) as [Removal];
  const [{ id }] = (await alice.client.from("generations").select("id")).data as [{ id: string }];
  assert.equal((await alice.call("DELETE", `/generations/${id}`)).status, 204);
  await database`delete from auth.users where id = ${bob.id}`;
  await passTime(3700);
  await cleanUp();
  assert.deepEqual((await removals(alice)).map(({ evidence }) => evidence), ["data_removed"]);
  const [of] = await database`select person_id, evidence from public.replicate_removals where prediction_id = ${prediction_id}`;
  assert.deepEqual({ ...of }, { person_id: null, evidence: "data_removed" });
});

test("a sweep asks again while Replicate keeps data, and the status shows it; unknown predictions count as removed", async () => {
  const alice = await Person.signUp("alice");
  await alice.ended((await alice.generate(await small)).id);
  await database`insert into public.replicate_removals (prediction_id, person_id, due_at) values ('unknown0000000000000000000', ${alice.id}, now())`;
  const before = await kept();
  // The sweep asks too early, so Replicate still has the data.
  for (let times = 1; times <= 3; times += 1) {
    await database`update public.replicate_removals set due_at = now() where person_id = ${alice.id} and removed_at is null`;
    await database`update private.removal_absences set since = since - interval '2 minutes'`;
    await cleanUp();
  }
  const told = (await removals(alice)).map(({ attempts, evidence }) => [evidence, attempts]).sort();
  assert.deepEqual(told, [["not_found", 3], [null, 3]].sort());
  assert.deepEqual(await kept(), { kept: before.kept, overdue: before.overdue + 1 });

  await passTime(6 * 3600);
  await cleanUp();
  assert.ok((await removals(alice)).every(({ evidence }) => evidence));
  assert.equal((await kept()).overdue, before.overdue);
});

test("only the owner can read the evidence of what Replicate has removed", async () => {
  const [alice, bob] = [await Person.signUp("alice"), await Person.signUp("bob")];
  await alice.generate(await small);
  assert.equal((await removals(alice)).length, 1);
  assert.deepEqual(await removals(bob), []);
});
