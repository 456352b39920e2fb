// Owners who try to get model time for free. After the model has begun, only a few cancels a day are free.

import assert from "node:assert/strict";
import { after, afterEach, test } from "node:test";
import { Person } from "../journeys/person.ts";
import { small } from "../journeys/photos.ts";
import { arm, cleanUp, database, disarm } from "../journeys/stack.ts";
import { passTime } from "../lab/time.ts";
import { booksBalance, erase, give, holds, running } from "./owner.ts";

afterEach(() => disarm());
after(() => database.end());

interface Cancelled {
  state: string;
  charged: number;
  free_cancels_left: number;
}

async function cancel(person: Person, id: string): Promise<Cancelled> {
  const response = await person.call("POST", `/generations/${id}/cancel`);
  assert.equal(response.status, 200, await response.clone().text());
  return (await response.json()) as Cancelled;
}

const told = ({ state, charged, free_cancels_left }: Cancelled) => [state, charged, free_cancels_left];

/** The states of all holds that a late cancel has settled. */
async function lateHolds(person: Person): Promise<string[]> {
  const rows = await database<{ state: string }[]>`
    select h.state from public.credit_holds as h join public.wallets as w on w.id = h.wallet_id
    where w.person_id = ${person.id} and h.is_late_cancel order by h.state`;
  return rows.map(({ state }) => state);
}

test("after the model has begun, three cancels a day are free, the fourth is charged, and the response says so", async () => {
  const mallory = await Person.signUp("mallory");
  const jobs = await running(mallory, 4);
  const answers: Cancelled[] = [];
  for (const { id } of jobs) answers.push(await cancel(mallory, id));
  assert.deepEqual(answers.map(told), [["canceled", 0, 2], ["canceled", 0, 1], ["canceled", 0, 0], ["canceled", 1, 0]]);
  assert.deepEqual(await mallory.wallet(), { balance: 4, held: 0 });
  assert.deepEqual(await lateHolds(mallory), ["captured", "released", "released", "released"]);
  const { data } = await mallory.client.from("credit_entries").select("kind, amount, reason").eq("kind", "capture");
  assert.deepEqual(data, [{ kind: "capture", amount: -1, reason: "late cancel" }]);

  // A retry after a lost response gets the same response and is not charged again.
  assert.deepEqual(told(await cancel(mallory, jobs[3]!.id)), ["canceled", 1, 0]);
  assert.equal((await mallory.wallet()).balance, 4);
  await booksBalance();
});

test("cancels are free again a day later", async () => {
  const alice = await Person.signUp("alice");
  for (const { id } of await running(alice, 4)) await cancel(alice, id);
  assert.equal((await alice.wallet()).balance, 4);
  await passTime(86_460);
  await cleanUp();
  const id = (await running(alice))[0]!.id;
  assert.deepEqual(told(await cancel(alice, id)), ["canceled", 0, 2]);
  assert.equal((await alice.wallet()).balance, 4);
});

test("a cancel before the model has begun is always free", async () => {
  const alice = await Person.signUp("alice");
  await arm({ fault: "stuck_starting", count: 5 });
  for (let round = 0; round < 5; round += 1) {
    const { id } = await alice.generate(await small);
    assert.deepEqual(told(await cancel(alice, id)), ["canceled", 0, 3], `cancel ${round + 1}`);
  }
  assert.deepEqual(await alice.wallet(), { balance: 5, held: 0 });
});

test("deleting a generation while the model runs counts as a late cancel", async () => {
  const mallory = await Person.signUp("mallory");
  const jobs = await running(mallory, 5);
  await cancel(mallory, jobs[0]!.id);
  for (const { id } of jobs.slice(1)) assert.equal((await mallory.call("DELETE", `/generations/${id}`)).status, 204);
  await mallory.forgotten();
  assert.deepEqual((await holds(mallory)).sort(), ["captured", "captured", "released", "released", "released"]);
  assert.deepEqual(await mallory.wallet(), { balance: 3, held: 0 });
  await booksBalance();
});

test("refusing the purpose generation counts as a late cancel of each running job", async () => {
  const mallory = await Person.signUp("mallory");
  const jobs = await running(mallory, 5);
  const { error } = await mallory.client.from("privacy_choices").insert({ purpose: "generation", allowed: false });
  assert.equal(error, null);
  for (const { id } of jobs) assert.equal((await mallory.generation(id))!.state, "canceled");
  assert.deepEqual((await holds(mallory)).sort(), ["captured", "captured", "released", "released", "released"]);
  assert.deepEqual(await mallory.wallet(), { balance: 3, held: 0 });
  await booksBalance();
});

test("erasing the account counts as a late cancel of each running job", async () => {
  const mallory = await Person.signUp("mallory");
  const [{ wallet }] = await database`select id as wallet from public.wallets where person_id = ${mallory.id}`;
  await running(mallory, 5);
  await erase(mallory);
  const settled = await database<{ state: string }[]>`select state from public.credit_holds where wallet_id = ${wallet} order by state`;
  assert.deepEqual(settled.map(({ state }) => state), ["captured", "captured", "released", "released", "released"]);
  await booksBalance();
});

test("simultaneous cancels do not get more free cancels", async () => {
  const mallory = await Person.signUp("mallory");
  const jobs = await running(mallory, 5);
  const answers = await Promise.all(jobs.map(({ id }) => cancel(mallory, id)));
  assert.deepEqual(await mallory.wallet(), { balance: 3, held: 0 });
  assert.equal(answers.reduce((sum, { charged }) => sum + charged, 0), 2);
  await booksBalance();
});

test("a row sets the number of free cancels", async () => {
  const alice = await Person.signUp("alice");
  await give(alice, 5);
  const set = (most: number) => database`update private.quotas set most = ${most} where scope = 'late_cancels' and id = 'per_day' returning 1`;
  assert.equal((await set(1)).length, 1);
  try {
    const answers: Cancelled[] = [];
    for (const { id } of await running(alice, 2)) answers.push(await cancel(alice, id));
    assert.deepEqual(answers.map(told), [["canceled", 0, 0], ["canceled", 1, 0]]);
    assert.equal((await set(0)).length, 1);
    const id = (await running(alice))[0]!.id;
    assert.deepEqual(told(await cancel(alice, id)), ["canceled", 1, 0]);
  } finally {
    await set(3);
  }
});
