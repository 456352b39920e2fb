// Inactive accounts get a series of notices and are then erased. Users who come back keep everything (R10).

import assert from "node:assert/strict";
import { after, afterEach, test } from "node:test";
import { startLab } from "../lab/lab.ts";
import { untilWaiting } from "../lab/locks.ts";
import { MailServer } from "../lab/mail.ts";
import { passTime } from "../lab/time.ts";
import { fillGallery } from "./gallery.ts";
import { Person } from "./person.ts";
import { cleanUp, database } from "./stack.ts";
import { days, elapse } from "./years.ts";

const mailServer = await MailServer.start();
const lab = await startLab(mailServer.env);

afterEach(() => {
  mailServer.isDown = false;
});
after(async () => {
  await lab.stop();
  await mailServer.stop();
  await database.end();
});

const subjects = (person: Person) => mailServer.to(person.email).map(({ subject }) => /in (.*)$/.exec(subject)?.[1] ?? subject);
const exists = async (person: Person) => (await database`select from auth.users where id = ${person.id}`).length === 1;

/** Counts the work left for sweeps: accounts to erase, erasures in progress and emails that are due. */
async function open(): Promise<number> {
  const [{ count }] = await database`
    select (select count(*) from public.profiles as p where p.closed_at is null and private.is_given_up(p.id))::int
      + (select count(*) from private.erasures where stage <> 'done')::int
      + (select count(*) from private.emails where sent_at is null and due_at <= now())::int as count`;
  return count;
}

async function comeBack(person: Person): Promise<void> {
  await database`update auth.users set last_sign_in_at = now() where id = ${person.id}`;
}

test("over a year, 100 inactive accounts get notices on time and are erased on time, unless their users return (R10)", async () => {
  const people = await Promise.all(Array.from({ length: 100 }, (_, number) => Person.signUp(`p${number}`)));
  const [active, returning, late, refusing] = people as [Person, Person, Person, Person];
  const quiet = people.slice(4);
  await fillGallery(returning, 1, 20);
  await refusing.client.from("privacy_choices").insert({ purpose: "notices", allowed: false });

  for (const [passed, rungs] of [[304, []], [1, ["60 days"]], [29, ["60 days"]], [1, ["60 days", "30 days"]], [22, ["60 days", "30 days"]], [1, ["60 days", "30 days", "7 days"]], [5, ["60 days", "30 days", "7 days"]], [1, ["60 days", "30 days", "7 days", "1 day"]]] as [number, string[]][]) {
    await comeBack(active);
    await days(passed);
    for (const person of [returning, late, ...quiet]) assert.deepEqual(subjects(person), rungs, `${passed} days later`);
    for (const person of [active, refusing]) assert.deepEqual(subjects(person), []);
  }
  // On the last day, one user signs in and another one uses the product.
  await comeBack(returning);
  await database`update public.profiles set active_at = now() where id = ${late.id}`;
  await days(1);
  // Accounts of other tests are just as old by now, and each sweep erases only some. If Auth does not answer, an erasure
  // waits for minutes.
  for (let sweeps = 0; sweeps < 60 && (await open()) > 0; sweeps += 1) {
    await passTime(60);
    await cleanUp();
  }
  const left = (await Promise.all(people.map(exists))).map((is, place) => (is ? place : -1)).filter((place) => place >= 0);
  assert.deepEqual(left, [0, 1, 2, 3]);
  for (const person of quiet) assert.deepEqual(subjects(person).slice(4), ["Your OpusFlair account is erased"]);
  assert.equal((await database`select from public.generations where person_id = ${returning.id}`).length, 1);
  assert.equal((await database`select from storage.objects where name like ${`${returning.id}/%`}`).length, 1);

  // After another year, the notices begin with the first one again.
  await comeBack(active);
  await days(305);
  assert.deepEqual(subjects(returning).slice(4), ["60 days"]);
});

test("late notices delay the erasure, so that no account is erased without warning", async () => {
  const alice = await Person.signUp("alice");
  mailServer.isDown = true;
  await days(400);
  assert.ok(await exists(alice));
  mailServer.isDown = false;
  await days(1);
  assert.deepEqual(subjects(alice), ["60 days"]);
  await days(29);
  assert.deepEqual(subjects(alice), ["60 days"]);
  await days(1);
  assert.deepEqual(subjects(alice), ["60 days", "30 days"]);
  await days(23);
  await days(6);
  assert.deepEqual(subjects(alice).length, 4);
  assert.ok(await exists(alice));
  await days(1);
  await days(0);
  assert.ok(!(await exists(alice)));
});

test("users who return after their last notice do not delay the erasure of others", async () => {
  const people = await Promise.all(["p1", "p2", "p3", "p4"].map((name) => Person.signUp(name)));
  const [quiet, ...returned] = people.sort((one, other) => (one.id < other.id ? 1 : -1)) as [Person, ...Person[]];
  for (const passed of [305, 30, 23, 6]) await days(passed);
  for (const person of returned) await comeBack(person);
  await elapse(1);
  // One at a time: a user who returned must not take the place of an account to erase.
  for (let erased = 1; erased > 0; ) [{ erased }] = (await database`select backend.erase_inactive(1) as erased`) as unknown as [{ erased: number }];
  const closed = await database`select id from public.profiles where id = any (${people.map(({ id }) => id)}) and closed_at is not null`;
  assert.deepEqual(closed.map(({ id }) => id), [quiet.id]);
  await cleanUp();
  assert.ok(!(await exists(quiet)));
});

test("renewing a session counts as activity, even without a sign-in", async () => {
  const alice = await Person.signUp("alice");
  await days(300);
  assert.equal((await alice.client.auth.refreshSession()).error, null);
  await days(60);
  assert.deepEqual(subjects(alice), []);
  assert.ok(await exists(alice));
  await comeBack(alice);
});

test("signing out counts as activity, although Auth deletes the session", async () => {
  const alice = await Person.signUp("alice");
  await days(300);
  assert.equal((await alice.client.auth.refreshSession()).error, null);
  await days(1);
  await alice.client.auth.signOut();
  assert.equal((await database`select from auth.sessions where user_id = ${alice.id}`).length, 0);
  await days(60);
  assert.deepEqual(subjects(alice), []);
  await comeBack(alice);
});

test("a delayed notice is not sent to users who have returned or refused notices", async () => {
  const [alice, bob, carol] = await Promise.all(["alice", "bob", "carol"].map((name) => Person.signUp(name))) as [Person, Person, Person];
  mailServer.isDown = true;
  await days(305);
  assert.equal((await database`select from private.emails where kind = 'inactive' and person_id = any (${[alice.id, bob.id, carol.id]})`).length, 3);
  await comeBack(alice);
  await bob.client.from("privacy_choices").insert({ purpose: "notices", allowed: false });
  await database`update public.profiles set active_at = now() - interval '310 days' where id = ${bob.id}`;
  mailServer.isDown = false;
  await passTime(86_400);
  await cleanUp();
  assert.deepEqual([subjects(alice), subjects(bob), subjects(carol)], [[], [], ["60 days"]]);
  for (const person of [bob, carol]) await comeBack(person);
});

test("without a mail server, no inactive account is erased, however much time passes", async () => {
  const other = await lab.another({ SMTP_URL: "" });
  const alice = await Person.signUp("alice");
  const url = process.env.FUNCTIONS_URL!;
  process.env.FUNCTIONS_URL = other.url;
  try {
    await days(2000);
    assert.ok(await exists(alice));
  } finally {
    process.env.FUNCTIONS_URL = url;
    await comeBack(alice);
  }
});

test("a user who signs in while a sweep is about to erase the account keeps everything", async () => {
  const alice = await Person.signUp("alice");
  for (const passed of [305, 30, 23, 6]) await days(passed);
  assert.equal(subjects(alice).length, 4);
  await elapse(1);
  // Her sign-in holds a lock on her row, and the sweep waits for it.
  let sweep: Promise<unknown> | undefined;
  await database.begin(async (sql) => {
    await sql`update auth.users set last_sign_in_at = now() where id = ${alice.id}`;
    sweep = cleanUp();
    await untilWaiting();
  });
  await sweep;
  assert.ok(await exists(alice));
  assert.equal((await alice.client.from("profiles").select()).data!.length, 1);
});
