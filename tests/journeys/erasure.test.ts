// Leaving: everything of a person goes, at once for whoever looks, and for good within a sweep (G3).

import assert from "node:assert/strict";
import { join } from "node:path";
import { after, afterEach, test } from "node:test";
import { compactVerify, importJWK } from "jose";
import { predictionThatIs, predictionsOf, send } from "../faults/replicate.ts";
import { startLab } from "../lab/lab.ts";
import { untilWaiting } from "../lab/locks.ts";
import { MailServer } from "../lab/mail.ts";
import { pass } from "../lab/time.ts";
import { columnsWith, contentsBelow } from "./canary/search.ts";
import { fillGallery } from "./gallery.ts";
import { deliver, mail } from "./inbox.ts";
import { Person } from "./person.ts";
import { small } from "./photos.ts";
import { arm, cleanUp, database, disarm } from "./stack.ts";
import { claimsOf, sign } from "./tokens.ts";

const mails = await MailServer.start();
const lab = await startLab(mails.env);

afterEach(() => disarm());
after(async () => {
  await lab.stop();
  await mails.stop();
  await database.end();
});

interface Erasure {
  id: string;
  stage: string;
  begins_at: string;
  receipt: string | null;
}

const erase = (person: Person, email = person.email) => person.call("POST", "/privacy/erasures", { email });

async function ordered(person: Person): Promise<Erasure> {
  const response = await erase(person);
  assert.equal(response.status, 202, await response.clone().text());
  return (await response.json()) as Erasure;
}

async function erasure(id: string): Promise<Erasure> {
  return (await (await fetch(`${process.env.FUNCTIONS_URL}/privacy/erasures/${id}`)).json()) as Erasure;
}

/** Where a text is left: columns of the database, files of Storage, and every log of the stack. */
async function leftOf(texts: string[]): Promise<string[]> {
  const folders = [join(process.env.STACK_STATE!, "storage"), join(process.env.STACK_STATE!, "resumable"), join(process.env.STACK_STATE!, "logs")];
  const contents = folders.flatMap((folder) => contentsBelow(folder));
  const found: string[] = [];
  for (const text of texts) {
    found.push(...(await columnsWith(text)).map((column) => `${text} in ${column}`));
    found.push(...contents.filter(([, content]) => content.includes(text)).map(([name]) => `${text} in ${name}`));
  }
  return found;
}

test("with three jobs running and an export being built, nothing of a person is left after one sweep (G3)", async () => {
  await arm({ fault: "stuck_processing", count: 3 });
  const alice = await Person.signUp("alice");
  const username = `alice_${alice.id.slice(0, 8)}`;
  await alice.client.from("profiles").update({ username }).eq("id", alice.id);
  const gallery = await fillGallery(alice, 60, 300);
  const jobs = await Promise.all([1, 2, 3].map(async () => alice.generate(await small)));
  for (const { input_path } of jobs) await predictionThatIs("processing", input_path);
  const predictions = await Promise.all(jobs.map(async ({ input_path }) => (await predictionsOf(input_path))[0]!));
  const unused = await alice.upload(await small);
  await alice.client.from("privacy_choices").insert({ purpose: "improvement", allowed: false });
  await alice.allow("analytics");
  await alice.client.from("usage_events").insert({ feature: "opened" });
  // More than goes in one step.
  await database`insert into public.usage_events (person_id, feature, at) select ${alice.id}, 'opened', now() - interval '2 days' from generate_series(1, 6000)`;
  await alice.client.from("privacy_requests").insert({ kind: "erasure", message: `From ${alice.email}` });
  // One that came by mail, and one whose sender the provider could not verify.
  for (const changes of [{}, { headers: [] }]) assert.equal((await deliver(mail(alice.email, changes))).status, 200);

  // One that is there, and one that is under way, as a worker leaves it that ends in the middle.
  assert.equal((await alice.call("POST", "/privacy/exports")).status, 202);
  await cleanUp();
  assert.equal((await alice.client.from("exports").select("state").single()).data!.state, "ready");
  assert.equal((await alice.call("POST", "/privacy/exports")).status, 202);
  await lab.functions.crashAt("export.sent");
  await cleanUp().catch(() => undefined);
  await lab.functions.crashed();
  const [{ upload }] = await database`select upload from private.export_work as w join public.exports as e on e.id = w.export_id where e.person_id = ${alice.id}`;
  assert.ok(upload);
  await lab.functions.crashAt("erasure.ordered");
  await erase(alice).catch(() => undefined);
  await lab.functions.crashed();
  // Its answer was lost, and with it the one way to the receipt; asked again, it is the same.
  await lab.functions.restart();
  const { id } = await ordered(alice);
  assert.deepEqual([...(await database`select id from private.erasures where person_id = ${alice.id}`)], [{ id }]);

  // From the first second an old token reads nothing.
  for (const table of ["profiles", "wallets", "generations", "deletions", "exports", "privacy_choices", "usage_events", "privacy_requests"]) {
    const { data } = await alice.client.from(table).select();
    assert.deepEqual(data, [], table);
  }
  assert.ok((await alice.client.storage.from("artworks").download(gallery[0]!.artwork_path)).error);
  assert.ok((await alice.client.storage.from("inputs").createSignedUrl(unused, 60)).error);
  // Whoever signs in all the same is told why nothing goes.
  for (const refused of [await alice.submit({ style: "mosaic", input_path: unused }), await alice.call("POST", "/privacy/exports")])
    assert.deepEqual([refused.status, ((await refused.json()) as { code: string }).code], [403, "account_closed"]);

  await cleanUp();
  const done = await erasure(id);
  assert.equal(done.stage, "done");
  const names = [...jobs.map(({ input_path }) => input_path), unused, ...gallery.map(({ artwork_path }) => artwork_path)];
  assert.deepEqual(await leftOf([alice.id, alice.email, username, ...names.slice(0, 6), ...names.slice(-2)]), []);
  assert.deepEqual([...(await database`select * from backend.audit_credits()`)], []);
  for (const { input_path } of jobs) assert.ok((await predictionsOf(input_path)).every(({ status }) => status === "canceled"));

  // Late webhooks find nothing, and bring nothing back.
  for (const prediction of predictions) {
    const late = await send(prediction, { status: "succeeded", output: "http://127.0.0.1:9/x.png" });
    assert.equal(late.status, 200);
  }
  await cleanUp();
  assert.deepEqual(await leftOf([alice.id]), []);

  // The last letter, with the receipt; then the address is forgotten.
  const letter = mails.to(alice.email).at(-1)!;
  assert.equal(letter.subject, "Your OpusFlair account is erased");
  assert.ok(letter.text.replaceAll(/\s/g, "").includes(done.receipt!.slice(0, 60)));
});

test("its answer says at once how many objects are left", async () => {
  await arm({ fault: "stuck_processing" });
  const alice = await Person.signUp("alice");
  const { input_path } = await alice.generate(await small);
  await predictionThatIs("processing", input_path);
  await alice.upload(await small);
  const { objects_left } = (await ordered(alice)) as unknown as { objects_left: number };
  assert.equal(objects_left, 2);
});

test("the receipt verifies under the published key, and names nobody", async () => {
  const alice = await Person.signUp("alice");
  // Two artworks, and the photos that they came of.
  await fillGallery(alice, 2);
  const { id } = await ordered(alice);
  await cleanUp();
  const { receipt } = await erasure(id);
  const { keys } = (await (await fetch(`${process.env.FUNCTIONS_URL}/.well-known/jwks.json`)).json()) as { keys: [Record<string, string>] };
  const { payload } = await compactVerify(receipt!, await importJWK(keys[0], "EdDSA"));
  const statement = JSON.parse(Buffer.from(payload).toString()) as Record<string, unknown>;
  assert.deepEqual([statement.jti, statement.rule, statement.reason, statement.objects], [id, "G3", "asked", 4]);
  for (const personal of [alice.id, alice.email]) assert.ok(!JSON.stringify(statement).includes(personal));
  // Nobody had asked for these artworks alone.
  const reasons = await database`select reason from public.deletions where bucket = 'artworks' order by ordered_at desc limit 2`;
  assert.deepEqual(reasons.map(({ reason }) => reason), ["erasure", "erasure"]);
});

test("the books stay, under a keyed hash, and still balance (G3)", async () => {
  const alice = await Person.signUp("alice");
  await alice.ended((await alice.generate(await small)).id);
  const [{ id: wallet }] = await database`select id from public.wallets where person_id = ${alice.id}`;
  await ordered(alice);
  await cleanUp();
  const [books] = await database`select person_id, pseudonym, closed_at, balance from public.wallets where id = ${wallet}`;
  assert.ok(books!.person_id === null && /^[0-9a-f]{64}$/.test(books!.pseudonym) && books!.closed_at);
  assert.equal(books!.balance, 4);
  assert.deepEqual([...(await database`select * from backend.audit_credits()`)], []);
});

test("it asks for the email, typed, and for a recent sign-in", async () => {
  const alice = await Person.signUp("alice");
  const code = async (response: Response) => [response.status, ((await response.json()) as { code: string }).code];
  assert.deepEqual(await code(await erase(alice, "bob@example.com")), [422, "email_differs"]);
  // However often a session is renewed: when it was signed in to counts, as its token says.
  const claims = claimsOf(alice.token);
  const amr = (claims.amr as { timestamp: number }[]).map((method) => ({ ...method, timestamp: method.timestamp - 16 * 60 }));
  const renewed = { authorization: `Bearer ${sign({ ...claims, amr })}` };
  const later = alice.call("POST", "/privacy/erasures", { email: alice.email }, renewed);
  assert.deepEqual(await code(await later), [403, "sign_in_again"]);
  assert.equal((await alice.wallet()).balance, 5);
  assert.equal((await erase(alice, ` ${alice.email.toUpperCase()} `)).status, 202);
});

test("within a grace it can be taken back, and all is there again; after it, it cannot", async () => {
  await database`update private.retention_rules set keep = '7 days' where id = 'erasure_grace'`;
  try {
    const [alice, bob] = [await Person.signUp("alice"), await Person.signUp("bob")];
    await fillGallery(alice, 1);
    const [hers, his] = [await ordered(alice), await ordered(bob)];
    await cleanUp();
    assert.deepEqual((await alice.client.from("generations").select()).data, []);
    const withdraw = (id: string) => fetch(`${process.env.FUNCTIONS_URL}/privacy/erasures/${id}`, { method: "DELETE" });
    assert.equal((await withdraw(hers.id)).status, 204);
    assert.equal((await alice.client.from("generations").select()).data!.length, 1);
    await pass(8 * 86_400);
    await cleanUp();
    assert.equal((await withdraw(his.id)).status, 409);
    assert.equal((await erasure(his.id)).stage, "done");
    assert.equal((await alice.client.from("generations").select()).data!.length, 1);
  } finally {
    await database`update private.retention_rules set keep = '0' where id = 'erasure_grace'`;
  }
});

test("a Storage that deletes nothing holds it up, and it never reports done early", async () => {
  const alice = await Person.signUp("alice");
  await fillGallery(alice, 3);
  const { id } = await ordered(alice);
  lab.supabase.misbehave({ fault: "status", status: 200, when: /^DELETE \/storage/, count: 100 });
  await cleanUp();
  assert.equal((await erasure(id)).stage, "verifying");
  assert.equal((await database`select from auth.users where id = ${alice.id}`).length, 1);
  lab.heal();
  await pass(121);
  await cleanUp();
  assert.equal((await erasure(id)).stage, "done");
});

test("an Auth that does not delete holds it up, too", async () => {
  const alice = await Person.signUp("alice");
  const { id } = await ordered(alice);
  lab.supabase.misbehave({ fault: "status", status: 500, when: /^DELETE \/auth/, count: 6 });
  await cleanUp();
  assert.equal((await erasure(id)).stage, "leaving");
  lab.heal();
  await pass(121);
  await cleanUp();
  assert.equal((await erasure(id)).stage, "done");
});

test("while mail is down the address waits, and is forgotten with the letter", async () => {
  const alice = await Person.signUp("alice");
  mails.isDown = true;
  const { id } = await ordered(alice);
  await cleanUp();
  assert.equal((await erasure(id)).stage, "done");
  assert.deepEqual(await columnsWith(alice.email), ["private.letters.address"]);
  mails.isDown = false;
  await pass(301);
  await cleanUp();
  assert.equal(mails.to(alice.email).length, 1);
  assert.deepEqual(await columnsWith(alice.email), []);
});

test("nobody learns of an erasure by guessing", async () => {
  const answer = await fetch(`${process.env.FUNCTIONS_URL}/privacy/erasures/00000000-0000-4000-8000-000000000000`);
  assert.equal(answer.status, 404);
});

test("asked twice at the same moment it is one erasure", async () => {
  const alice = await Person.signUp("alice");
  const answers = await Promise.all([ordered(alice), ordered(alice), ordered(alice)]);
  assert.equal(new Set(answers.map(({ id }) => id)).size, 1);
  assert.equal((await database`select from private.erasures where person_id = ${alice.id}`).length, 1);
  await cleanUp();
  // Gone from Auth, nobody asks any more.
  assert.equal((await erase(alice)).status, 401);
});

test("a submission that waits while its account is closed begins nothing", async () => {
  const alice = await Person.signUp("alice");
  const input_path = await alice.upload(await small);
  const answers: Promise<Response>[] = [];
  await database.begin(async (sql) => {
    await sql`select from public.profiles where id = ${alice.id} for update`;
    answers.push(erase(alice));
    await untilWaiting();
    answers.push(alice.submit({ style: "mosaic", input_path }));
    await untilWaiting(2);
  });
  const [erased, submitted] = await Promise.all(answers);
  assert.deepEqual([erased!.status, submitted!.status], [202, 403]);
  assert.equal((await database`select from public.generations where person_id = ${alice.id}`).length, 0);
  await cleanUp();
});
