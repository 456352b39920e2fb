// A confirmed address gets welcome credits once, however often its owner erases the account and signs up again.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, test } from "node:test";
import type { Person } from "../journeys/person.ts";
import { cleanUp, database } from "../journeys/stack.ts";
import { ask, booksBalance, erase, service, signUpAs } from "./owner.ts";

after(() => database.end());

const welcome = 5;
const fresh = (name = "mallory") => `${name}${randomUUID().slice(0, 8)}`;

async function balanceOf(id: string): Promise<number> {
  const [wallet] = await database`select balance from public.wallets where person_id = ${id}`;
  return wallet!.balance as number;
}

const balance = (person: Person) => balanceOf(person.id);

async function asAdmin(method: string, path: string, body: object): Promise<{ id: string }> {
  const { status, body: answer } = await ask(service, method, `/auth/v1/admin/users${path}`, JSON.stringify(body), { apikey: service });
  assert.equal(status, 200, JSON.stringify(answer));
  return answer as { id: string };
}

test("an account with a confirmed address gets its welcome credits at once", async () => {
  assert.equal(await balance(await signUpAs(`${fresh()}@example.com`)), welcome);
});

test("an owner who erases the account and signs up again with the same address gets no welcome credits", async () => {
  const email = `${fresh()}@example.com`;
  const balances: number[] = [];
  for (let times = 0; times < 3; times += 1) {
    const mallory = await signUpAs(times === 1 ? email.toUpperCase() : email);
    balances.push(await balance(mallory));
    await erase(mallory);
  }
  assert.deepEqual(balances, [welcome, 0, 0]);
  await booksBalance();
});

for (const [provider, first, second] of [
  ["gmail.com", "a.b", "ab"],
  ["gmail.com", "ab", "a.b+shop"],
  ["gmail.com", "ab", "AB+1"],
  ["outlook.com", "ab", "ab+1"],
  ["icloud.com", "ab", "Ab+1"],
  ["proton.me", "ab", "ab+1"],
  ["fastmail.com", "ab", "ab+1"],
] as const) {
  test(`${first}@${provider} and ${second}@${provider} count as one address`, async () => {
    const own = fresh("x");
    const balances = [await balance(await signUpAs(`${own}${first}@${provider}`)), await balance(await signUpAs(`${own}${second}@${provider}`))];
    assert.deepEqual(balances, [welcome, 0]);
  });
}

test("gmail.com and googlemail.com count as one provider", async () => {
  const own = fresh();
  const balances = [await balance(await signUpAs(`${own}@gmail.com`)), await balance(await signUpAs(`${own}@googlemail.com`))];
  assert.deepEqual(balances, [welcome, 0]);
});

for (const [provider, first, second] of [
  ["example.com", "a.b", "ab"],
  ["example.com", "ab", "ab+1"],
  // Outlook ignores only the plus tag.
  ["outlook.com", "a.b", "ab"],
] as const) {
  test(`${first}@${provider} and ${second}@${provider} count as two people`, async () => {
    const own = fresh("y");
    const people = [await signUpAs(`${own}${first}@${provider}`), await signUpAs(`${own}${second}@${provider}`)];
    assert.deepEqual(await Promise.all(people.map(balance)), [welcome, welcome]);
    // There are rules, so the result does not come from an empty table.
    const [{ rules }] = await database`select count(*)::int as rules from private.address_rules`;
    assert.ok(rules > 0);
  });
}

test("an account gets its welcome credits when its address is confirmed, and only once", async () => {
  const email = `${fresh()}@example.com`;
  const { id } = await asAdmin("POST", "", { email, password: randomUUID() });
  assert.equal(await balanceOf(id), 0);
  await asAdmin("PUT", `/${id}`, { user_metadata: { name: "Mallory" } });
  assert.equal(await balanceOf(id), 0);
  await asAdmin("PUT", `/${id}`, { email_confirm: true });
  assert.equal(await balanceOf(id), welcome);
  // The account gets no more credits for a second address.
  await asAdmin("PUT", `/${id}`, { email: `${fresh()}@example.com`, email_confirm: true });
  assert.equal(await balanceOf(id), welcome);
  await booksBalance();
});

test("an anonymous account gets no welcome credits until it has a confirmed address", async () => {
  const id = randomUUID();
  await database`insert into auth.users (id, aud, role, is_anonymous) values (${id}, 'authenticated', 'authenticated', true)`;
  assert.equal(await balanceOf(id), 0);
  await database`update auth.users set email = ${`${fresh()}@example.com`}, email_confirmed_at = now(), is_anonymous = false where id = ${id}`;
  assert.equal(await balanceOf(id), welcome);
});

test("simultaneous accounts with the same address get welcome credits once", async () => {
  const own = fresh();
  const people = await Promise.all(Array.from({ length: 8 }, (_, tag) => signUpAs(`${own}+${tag}@gmail.com`)));
  const balances = await Promise.all(people.map(balance));
  assert.deepEqual(balances.sort(), [0, 0, 0, 0, 0, 0, 0, welcome]);
  await booksBalance();
});

test("a row sets the number of welcome credits, and 0 means none", async () => {
  const set = (most: number) => database`update private.quotas set most = ${most} where scope = 'welcome_credits' and id = 'per_address' returning 1`;
  const balances: number[] = [];
  try {
    for (const most of [0, 2]) {
      assert.equal((await set(most)).length, 1);
      balances.push(await balance(await signUpAs(`${fresh()}@example.com`)));
    }
  } finally {
    await set(welcome);
  }
  assert.deepEqual(balances, [0, 2]);
});

test("only a keyed hash of an address is kept, and it is deleted after a year", async () => {
  const email = `${fresh()}@example.com`;
  await erase(await signUpAs(email));
  const [remembered] = await database`select w::text as row, w.address_hash from private.welcomed_addresses as w order by at desc limit 1`;
  assert.ok(remembered, "the hash stays after the erasure");
  assert.ok(!remembered.row.includes(email));
  const [{ plain }] = await database`
    select exists (select from private.welcomed_addresses as w where w.address_hash::text in (
      encode(sha256(convert_to(${email}, 'utf8')), 'hex'), sha256(convert_to(${email}, 'utf8'))::text)) as plain`;
  assert.equal(plain, false, "a hash without a key can be guessed");

  const older = (past: string) => database`
    update private.welcomed_addresses set at = now() - private.retention('welcomed_addresses') - ${past}::interval
    where address_hash = ${remembered.address_hash}`;
  const left = async () => (await database`select from private.welcomed_addresses where address_hash = ${remembered.address_hash}`).length;
  await older("-1 minute");
  await cleanUp();
  assert.equal(await left(), 1);
  await older("1 minute");
  await cleanUp();
  assert.equal(await left(), 0);
  assert.equal(await balance(await signUpAs(email)), welcome);
});
