// Users without a confirmed email can erase their accounts, and sweeps erase unconfirmed accounts (G3, R10).

import assert from "node:assert/strict";
import { randomInt } from "node:crypto";
import { after, test } from "node:test";
import { startLab } from "../lab/lab.ts";
import { MailServer } from "../lab/mail.ts";
import { Person } from "./person.ts";
import { cleanUp, database } from "./stack.ts";
import { days } from "./years.ts";

const mailServer = await MailServer.start();
const lab = await startLab(mailServer.env);

after(async () => {
  await lab.stop();
  await mailServer.stop();
  await database.end();
});

async function exists(id: string): Promise<boolean> {
  return (await database`select from auth.users where id = ${id}`).length === 1;
}

async function erase(token: string, body: Record<string, string>): Promise<{ status: number; code?: string }> {
  const response = await fetch(`${process.env.FUNCTIONS_URL}/privacy/erasures`, {
    method: "POST",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  return { status: response.status, code: ((await response.json()) as { code?: string }).code };
}

/** An account like one from an anonymous sign-in, which the project of these tests does not offer. */
async function anonymous(): Promise<Person> {
  const person = await Person.signUp("nameless");
  await database`update auth.users set email = null, email_confirmed_at = null, is_anonymous = true where id = ${person.id}`;
  return person;
}

/** Calls the database with a session whose sign-in was an hour ago. */
async function eraseLate({ id }: Person): Promise<string> {
  const [{ session }] = await database`select id as session from auth.sessions where user_id = ${id}`;
  const amr = [{ method: "anonymous", timestamp: Math.floor(Date.now() / 1000) - 3600 }];
  const claims = JSON.stringify({ sub: id, role: "authenticated", session_id: session, aal: "aal1", amr });
  return database.begin(async (sql) => {
    await sql`select set_config('request.jwt.claims', ${claims}, true)`;
    await sql`set local role authenticated`;
    return (await sql`select public.erase_account() ->> 'stage' as stage`)[0]!.stage as string;
  });
}

test("a user with a phone number and no email can erase the account by typing the number (G3)", async () => {
  const alice = await Person.signUp("alice");
  const phone = `49${randomInt(1e9, 9e9)}`;
  await database`update auth.users set email = null, email_confirmed_at = null, phone = ${phone}, phone_confirmed_at = now() where id = ${alice.id}`;
  assert.deepEqual(await erase(alice.token, { phone: "+49 1" }), { status: 422, code: "phone_differs" });
  assert.deepEqual(await erase(alice.token, {}), { status: 422, code: "phone_differs" });
  assert.equal((await erase(alice.token, { phone: `+${phone.slice(0, 2)} ${phone.slice(2)}` })).status, 202);
  await cleanUp();
  assert.ok(!(await exists(alice.id)));
});

test("a user with an unconfirmed email can erase the account by typing it, and gets no email (G3)", async () => {
  const alice = await Person.signUp("alice");
  await database`update auth.users set email_confirmed_at = null where id = ${alice.id}`;
  assert.deepEqual(await erase(alice.token, {}), { status: 422, code: "email_differs" });
  assert.equal((await erase(alice.token, { email: alice.email })).status, 202);
  await cleanUp();
  await cleanUp();
  assert.ok(!(await exists(alice.id)));
  assert.deepEqual(mailServer.to(alice.email), []);
});

test("an anonymous user, who cannot sign in again, can erase the account (G3)", async () => {
  const [nameless, named] = [await anonymous(), await Person.signUp("named")];
  assert.equal(await eraseLate(nameless), "ordered");
  await assert.rejects(eraseLate(named), /sign in again/);
  assert.equal((await erase(nameless.token, {})).status, 202);
  await cleanUp();
  assert.ok(!(await exists(nameless.id)));
});

test("a sweep erases an unconfirmed account after 30 days without an email, and keeps a confirmed one (R10)", async () => {
  const [stays, goes, returns] = [await Person.signUp("stays"), await Person.signUp("goes"), await Person.signUp("returns")];
  const { id: nameless } = await anonymous();
  const unconfirmed = async () =>
    (await database`select count(*)::int as count from private.erasures where reason = 'unconfirmed' and stage = 'done'`)[0]!.count as number;
  const before = await unconfirmed();
  for (const { id } of [goes, returns]) await database`update auth.users set email_confirmed_at = null where id = ${id}`;
  await days(29);
  for (const id of [stays.id, goes.id, returns.id, nameless]) assert.ok(await exists(id));
  await database`update public.profiles set active_at = now() where id = ${returns.id}`;
  await days(1);
  await days(1);
  assert.deepEqual(await Promise.all([stays.id, goes.id, returns.id, nameless].map(exists)), [true, false, true, false]);
  for (const person of [stays, goes, returns]) assert.deepEqual(mailServer.to(person.email), []);
  assert.ok((await unconfirmed()) - before >= 2);
});

test("if no server accepts the last email, its address is deleted a week after the erasure (G3)", async () => {
  mailServer.isDown = true;
  const alice = await Person.signUp("alice");
  assert.equal((await erase(alice.token, { email: alice.email })).status, 202);
  await cleanUp();
  const waiting = async () => (await database`select from private.emails where address = ${alice.email}`).length;
  assert.ok(!(await exists(alice.id)));
  await days(6);
  assert.equal(await waiting(), 1);
  await days(2);
  assert.equal(await waiting(), 0);
});
