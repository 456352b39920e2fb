// Owners who try to delay a deletion. Only the functions get leases, and no lease delays the limit of 48 hours.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Person } from "../journeys/person.ts";
import { small } from "../journeys/photos.ts";
import { arm, cleanUp, database } from "../journeys/stack.ts";
import { lab } from "../faults/lab.ts";
import { passTime } from "../lab/time.ts";

/** A running job whose webhook events are lost, so that no event leads to the deletion of its photo. */
async function withLostEvents(person: Person): Promise<string> {
  await arm({ fault: "stuck_processing" }, { fault: "webhook_drop" });
  return (await person.generate(await small)).id;
}

async function photos(person: Person): Promise<number> {
  return (await database`select from storage.objects where bucket_id = 'inputs' and starts_with(name, ${`${person.id}/`})`).length;
}

async function leases(person: Person): Promise<number> {
  const rows = await database`
    select from private.deletion_leases as l join public.deletions as d on d.id = l.deletion_id
    where d.person_id = ${person.id} and d.verified_at is null`;
  return rows.length;
}

async function askDatabase(person: Person, verb: "cancel_generation" | "delete_generation", generation_id: string): Promise<Record<string, unknown>> {
  const { data, error } = await person.client.rpc(verb, { generation_id });
  assert.equal(error, null);
  return data as Record<string, unknown>;
}

function assertNoLease(answer: Record<string, unknown>): void {
  assert.ok("cancel_prediction" in answer);
  assert.ok(!("deletions" in answer), `the answer contains leases: ${JSON.stringify(answer.deletions)}`);
  assert.doesNotMatch(JSON.stringify(answer), /lease/);
}

test("canceling through the database returns the prediction to stop, and no lease of a deletion", async () => {
  const mallory = await Person.signUp("mallory");
  const id = await withLostEvents(mallory);
  for (let asked = 0; asked < 2; asked += 1) {
    assertNoLease(await askDatabase(mallory, "cancel_generation", id));
    assert.equal(await leases(mallory), 0);
  }
});

test("deleting through the database returns no lease of a deletion either", async () => {
  const mallory = await Person.signUp("mallory");
  const id = await withLostEvents(mallory);
  assertNoLease(await askDatabase(mallory, "delete_generation", id));
  assert.equal(await leases(mallory), 0);
});

test("an owner who repeats a cancel for an hour keeps no photo past the first sweep", async () => {
  const mallory = await Person.signUp("mallory");
  const id = await withLostEvents(mallory);
  await askDatabase(mallory, "cancel_generation", id);
  assert.ok((await photos(mallory)) > 0, "the functions were not called, so the photo must still exist");
  let lasted = 0;
  for (let minute = 4; minute <= 60; minute += 4) {
    await passTime(240);
    // Right before each sweep, so that a lease for the owner would never have expired.
    await mallory.client.rpc("cancel_generation", { generation_id: id });
    await cleanUp();
    if ((await photos(mallory)) > 0) lasted = minute;
  }
  assert.equal(lasted, 0, `the photo still existed ${lasted} minutes after the cancel`);
  await mallory.forgotten();
});

test("an owner who repeats a cancel at the last moment keeps no photo past 48 hours", async () => {
  const mallory = await Person.signUp("mallory");
  const id = await withLostEvents(mallory);
  await askDatabase(mallory, "cancel_generation", id);
  await passTime(48 * 3600 + 60);
  await mallory.client.rpc("cancel_generation", { generation_id: id });
  await cleanUp();
  assert.equal(await photos(mallory), 0);
  await mallory.forgotten();
});

test("the next sweep deletes a photo past 48 hours, even if a dead worker has the lease of its deletion", async () => {
  const alice = await Person.signUp("alice");
  await alice.upload(await small);
  await passTime(48 * 3600 + 60);
  // The database leases the deletion, but each response is lost.
  lab.supabase.misbehave({ fault: "lose_answer", when: /rpc\/lease_deletions/, count: 100 });
  assert.equal((await cleanUp()).complete, false);
  const [order] = await database`select due_at > now() as is_leased from public.deletions where person_id = ${alice.id} and verified_at is null`;
  assert.ok(order?.is_leased, "its deletion is leased");
  lab.heal();
  await lab.functions.restart();
  await cleanUp();
  assert.equal(await photos(alice), 0);
  await alice.forgotten();
});

test("an owner who tries to delay deletions cannot turn the badge red", async () => {
  const mallory = await Person.signUp("mallory");
  const id = await withLostEvents(mallory);
  await askDatabase(mallory, "cancel_generation", id);
  const overdue = async () => {
    const response = await fetch(`${process.env.FUNCTIONS_URL}/privacy/status`);
    return ((await response.json()) as { deletions: { overdue: number } }).deletions.overdue;
  };
  const before = await overdue();
  await passTime(25 * 3600);
  await mallory.client.rpc("cancel_generation", { generation_id: id });
  await cleanUp();
  assert.equal(await overdue(), before);
  assert.equal(await photos(mallory), 0);
});
