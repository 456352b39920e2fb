// Erasing an account: its data is out of reach at once, and deleted for good within one sweep (G3).

import assert from "node:assert/strict";
import { join } from "node:path";
import { after, afterEach, test } from "node:test";
import { compactVerify, importJWK } from "jose";
import { predictionThatIs, predictionsOf, send } from "../faults/replicate.ts";
import { startLab } from "../lab/lab.ts";
import { untilWaiting } from "../lab/locks.ts";
import { MailServer } from "../lab/mail.ts";
import { passTime } from "../lab/time.ts";
import { columnsWith, contentsBelow } from "./canary/search.ts";
import { fillGallery } from "./gallery.ts";
import { deliver, emailEvent } from "./inbox.ts";
import { Person } from "./person.ts";
import { small } from "./photos.ts";
import { arm, cleanUp, database, disarm } from "./stack.ts";
import { claimsOf, sign } from "./tokens.ts";

const mailServer = await MailServer.start();
const lab = await startLab(mailServer.env);

afterEach(() => disarm());
after(async () => {
  await lab.stop();
  await mailServer.stop();
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

/** The places that still contain a text: columns of the database, files of Storage and the logs of the stack. */
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

test("one sweep erases everything about a user, even while three jobs run and an export is built (G3)", async () => {
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
  // More rows than one step deletes.
  await database`insert into public.usage_events (person_id, feature, at) select ${alice.id}, 'opened', now() - interval '2 days' from generate_series(1, 6000)`;
  await alice.client.from("privacy_requests").insert({ kind: "erasure", message: `From ${alice.email}` });
  // One request from a verified sender, and one from a sender that the provider could not verify.
  for (const changes of [{}, { headers: [] }]) assert.equal((await deliver(emailEvent(alice.email, changes))).status, 200);

  // One export that is ready, and one whose worker crashed in the middle.
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
  // The response was lost, and with it the only link to the receipt. A retry returns the same erasure.
  await lab.functions.restart();
  const { id } = await ordered(alice);
  assert.deepEqual([...(await database`select id from private.erasures where person_id = ${alice.id}`)], [{ id }]);

  // A token from before the erasure reads nothing from the first second.
  for (const table of ["profiles", "wallets", "generations", "deletions", "exports", "privacy_choices", "usage_events", "privacy_requests"]) {
    const { data } = await alice.client.from(table).select();
    assert.deepEqual(data, [], table);
  }
  assert.ok((await alice.client.storage.from("artworks").download(gallery[0]!.artwork_path)).error);
  assert.ok((await alice.client.storage.from("inputs").createSignedUrl(unused, 60)).error);
  // The API tells a user who still signs in why it refuses.
  for (const refused of [await alice.submit({ style: "mosaic", input_path: unused }), await alice.call("POST", "/privacy/exports")])
    assert.deepEqual([refused.status, ((await refused.json()) as { code: string }).code], [403, "account_closed"]);

  await cleanUp();
  const done = await erasure(id);
  assert.equal(done.stage, "done");
  const names = [...jobs.map(({ input_path }) => input_path), unused, ...gallery.map(({ artwork_path }) => artwork_path)];
  assert.deepEqual(await leftOf([alice.id, alice.email, username, ...names.slice(0, 6), ...names.slice(-2)]), []);
  assert.deepEqual([...(await database`select * from backend.audit_credits()`)], []);
  for (const { input_path } of jobs) assert.ok((await predictionsOf(input_path)).every(({ status }) => status === "canceled"));

  // Late webhook events find nothing and bring nothing back.
  for (const prediction of predictions) {
    const late = await send(prediction, { status: "succeeded", output: "http://127.0.0.1:9/x.png" });
    assert.equal(late.status, 200);
  }
  await cleanUp();
  assert.deepEqual(await leftOf([alice.id]), []);

  // The last email contains the receipt. After it is sent, the address is deleted.
  const email = mailServer.to(alice.email).at(-1)!;
  assert.equal(email.subject, "Your OpusFlair account is erased");
  assert.ok(email.text.replaceAll(/\s/g, "").includes(done.receipt!.slice(0, 60)));
});

test("the response to an erasure says how many objects are left", async () => {
  await arm({ fault: "stuck_processing" });
  const alice = await Person.signUp("alice");
  const { input_path } = await alice.generate(await small);
  await predictionThatIs("processing", input_path);
  await alice.upload(await small);
  const { objects_left } = (await ordered(alice)) as unknown as { objects_left: number };
  assert.equal(objects_left, 2);
});

test("the receipt of an erasure verifies with the published key, and contains no id and no email", async () => {
  const alice = await Person.signUp("alice");
  // Two artworks and their photos.
  await fillGallery(alice, 2);
  const { id } = await ordered(alice);
  await cleanUp();
  const { receipt } = await erasure(id);
  const { keys } = (await (await fetch(`${process.env.FUNCTIONS_URL}/.well-known/jwks.json`)).json()) as { keys: [Record<string, string>] };
  const { payload } = await compactVerify(receipt!, await importJWK(keys[0], "EdDSA"));
  const statement = JSON.parse(Buffer.from(payload).toString()) as Record<string, unknown>;
  assert.deepEqual([statement.jti, statement.rule, statement.reason, statement.objects], [id, "G3", "asked", 4]);
  for (const personal of [alice.id, alice.email]) assert.ok(!JSON.stringify(statement).includes(personal));
  // The reason is the erasure, because no one asked to delete these artworks separately.
  const reasons = await database`select reason from public.deletions where bucket = 'artworks' order by ordered_at desc limit 2`;
  assert.deepEqual(reasons.map(({ reason }) => reason), ["erasure", "erasure"]);
});

test("an erasure keeps the ledger under a keyed hash, and it still balances (G3)", async () => {
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

test("an erasure requires the typed email and a recent sign-in", async () => {
  const alice = await Person.signUp("alice");
  const code = async (response: Response) => [response.status, ((await response.json()) as { code: string }).code];
  assert.deepEqual(await code(await erase(alice, "bob@example.com")), [422, "email_differs"]);
  // Renewing a session does not help: the time of the sign-in counts, which is in the token.
  const claims = claimsOf(alice.token);
  const amr = (claims.amr as { timestamp: number }[]).map((method) => ({ ...method, timestamp: method.timestamp - 16 * 60 }));
  const renewed = { authorization: `Bearer ${sign({ ...claims, amr })}` };
  const later = alice.call("POST", "/privacy/erasures", { email: alice.email }, renewed);
  assert.deepEqual(await code(await later), [403, "sign_in_again"]);
  assert.equal((await alice.wallet()).balance, 5);
  assert.equal((await erase(alice, ` ${alice.email.toUpperCase()} `)).status, 202);
});

test("an erasure can be withdrawn within its grace period, which restores everything, and not afterwards", async () => {
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
    await passTime(8 * 86_400);
    await cleanUp();
    assert.equal((await withdraw(his.id)).status, 409);
    assert.equal((await erasure(his.id)).stage, "done");
    assert.equal((await alice.client.from("generations").select()).data!.length, 1);
  } finally {
    await database`update private.retention_rules set keep = '0' where id = 'erasure_grace'`;
  }
});

test("an erasure is not done until Storage has deleted every object", async () => {
  const alice = await Person.signUp("alice");
  await fillGallery(alice, 3);
  const { id } = await ordered(alice);
  lab.supabase.misbehave({ fault: "status", status: 200, when: /^DELETE \/storage/, count: 100 });
  await cleanUp();
  assert.equal((await erasure(id)).stage, "verifying");
  assert.equal((await database`select from auth.users where id = ${alice.id}`).length, 1);
  lab.heal();
  await passTime(121);
  await cleanUp();
  assert.equal((await erasure(id)).stage, "done");
});

test("an erasure is not done until Auth has deleted the user", async () => {
  const alice = await Person.signUp("alice");
  const { id } = await ordered(alice);
  lab.supabase.misbehave({ fault: "status", status: 500, when: /^DELETE \/auth/, count: 6 });
  await cleanUp();
  assert.equal((await erasure(id)).stage, "leaving");
  lab.heal();
  await passTime(121);
  await cleanUp();
  assert.equal((await erasure(id)).stage, "done");
});

test("if the mail server is down, an erasure keeps the address only until the last email is sent", async () => {
  const alice = await Person.signUp("alice");
  mailServer.isDown = true;
  const { id } = await ordered(alice);
  await cleanUp();
  assert.equal((await erasure(id)).stage, "done");
  assert.deepEqual(await columnsWith(alice.email), ["private.emails.address"]);
  mailServer.isDown = false;
  await passTime(301);
  await cleanUp();
  assert.equal(mailServer.to(alice.email).length, 1);
  assert.deepEqual(await columnsWith(alice.email), []);
});

test("the API does not reveal an erasure to a caller who guesses ids", async () => {
  const answer = await fetch(`${process.env.FUNCTIONS_URL}/privacy/erasures/00000000-0000-4000-8000-000000000000`);
  assert.equal(answer.status, 404);
});

test("simultaneous requests for an erasure create one erasure", async () => {
  const alice = await Person.signUp("alice");
  const answers = await Promise.all([ordered(alice), ordered(alice), ordered(alice)]);
  assert.equal(new Set(answers.map(({ id }) => id)).size, 1);
  assert.equal((await database`select from private.erasures where person_id = ${alice.id}`).length, 1);
  await cleanUp();
  // Auth has deleted the user, so the token is not valid any more.
  assert.equal((await erase(alice)).status, 401);
});

test("a submission that waits while its account is closed creates no generation", async () => {
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
