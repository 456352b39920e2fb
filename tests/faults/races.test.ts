// A user cancels or deletes at the moment at which the model succeeds.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Person } from "../journeys/person.ts";
import { small } from "../journeys/photos.ts";
import { database } from "../journeys/stack.ts";
import { passTime } from "../lab/time.ts";
import "./lab.ts";
import { quiet } from "./sound.ts";

const runners = 16;

/** Acts close to the moment at which a prediction succeeds, sometimes before and sometimes after it. */
async function race(person: Person, act: (id: string) => Promise<Response>): Promise<number[]> {
  await database`select backend.adjust_credits(${person.id}, ${runners}, 'for a race', ${crypto.randomUUID()})`;
  const began = performance.now();
  await person.ended((await person.generate(await small)).id);
  const usual = performance.now() - began;
  const statuses: number[] = [];
  for (let runner = 0; runner < runners; runner += 1) {
    // Time passes, so that the limit per minute is not reached.
    await passTime(10);
    const started = performance.now();
    const { id } = await person.generate(await small);
    const moment = (usual * 1.5 * runner) / runners;
    await new Promise((later) => setTimeout(later, moment - (performance.now() - started)));
    statuses.push((await act(id)).status);
  }
  await quiet(person);
  return statuses;
}

async function booksBalance(person: Person): Promise<void> {
  const [{ captured }] = await database`
    select count(*)::int as captured from public.credit_holds as h join public.wallets as w on w.id = h.wallet_id
    where w.person_id = ${person.id} and h.state = 'captured'`;
  assert.deepEqual(await person.wallet(), { balance: 5 + runners - captured, held: 0 });
  assert.deepEqual([...(await database`select * from backend.audit_credits()`)], []);
  const objects = await database`select name from storage.objects where starts_with(name, ${`${person.id}/`}) order by 1`;
  const artworks = await database`select artwork_path as name from public.generations where person_id = ${person.id} and state = 'succeeded' order by 1`;
  assert.deepEqual([...objects], [...artworks]);
}

test("if a cancel and a success race, the first one decides, and the books balance", async () => {
  const alice = await Person.signUp("alice");
  const statuses = await race(alice, (id) => alice.call("POST", `/generations/${id}/cancel`));
  // Once the model has delivered, it is too late to cancel.
  assert.deepEqual(new Set(statuses), new Set([200, 409]));
  const ends = await database`select distinct state from public.generations where person_id = ${alice.id} order by 1`;
  assert.deepEqual(ends.map(({ state }) => state), ["canceled", "succeeded"]);
  await booksBalance(alice);
});

test("a delete that races a success leaves no object, and a finished artwork is charged once", async () => {
  const alice = await Person.signUp("alice");
  const statuses = await race(alice, (id) => alice.call("DELETE", `/generations/${id}`));
  assert.deepEqual(new Set(statuses), new Set([204]));
  const settled = await database`
    select distinct h.state from public.credit_holds as h join public.wallets as w on w.id = h.wallet_id
    where w.person_id = ${alice.id} order by 1`;
  assert.deepEqual(settled.map(({ state }) => state), ["captured", "released"]);
  await booksBalance(alice);
});
