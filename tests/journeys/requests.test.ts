// Privacy requests in the app and by email: how they are filed and confirmed, and the time left to answer them (Q1, Q2).

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, test } from "node:test";
import { Webhook } from "standardwebhooks";
import { startLab } from "../lab/lab.ts";
import { MailServer } from "../lab/mail.ts";
import { passTime } from "../lab/time.ts";
import { deliver, inbox, emailEvent, subject } from "./inbox.ts";
import { Person } from "./person.ts";
import { cleanUp, database } from "./stack.ts";

const mailServer = await MailServer.start();
const lab = await startLab(mailServer.env);

after(async () => {
  await lab.stop();
  await mailServer.stop();
  await database.end();
});

const clock = async (person: Person) => (await person.client.from("privacy_request_clock").select().order("filed_at")).data!;
const count = async () => (await database`select count(*)::int as count from public.privacy_requests`)[0]!.count as number;

test("a user files a request in the app and sees the hours left (Q2)", async () => {
  const alice = await Person.signUp("alice");
  assert.equal((await alice.client.from("privacy_requests").insert({ kind: "access", message: "Everything, please." })).error, null);
  assert.deepEqual((await clock(alice)).map(({ kind, channel, hours_left }) => [kind, channel, hours_left]), [["access", "app", 72]]);
  await passTime(3600);
  assert.equal((await clock(alice))[0]!.hours_left, 71);
  assert.ok((await alice.client.from("privacy_requests").insert({ kind: "access", due_at: "2099-01-01" })).error);
  assert.ok((await alice.client.from("privacy_requests").update({ closed_at: new Date() }).eq("kind", "access")).error);
  const bob = await Person.signUp("bob");
  assert.deepEqual(await clock(bob), []);
});

test("an email that is delivered three times files one request, for the account with that address (Q1)", async () => {
  const alice = await Person.signUp("alice");
  const body = emailEvent(`Alice <${alice.email.toUpperCase()}>`.replace("ALICE", "alice"));
  const id = `msg_${randomUUID()}`;
  for (const _ of [1, 2, 3]) assert.equal((await deliver(body, { id })).status, 200);
  // The same email in another event: its Message-ID identifies it.
  assert.equal((await deliver(body)).status, 200);
  const requests = await clock(alice);
  assert.deepEqual(requests.map(({ channel, kind, hours_left, confirmed_at }) => [channel, kind, hours_left, confirmed_at]), [["mail", "other", 72, null]]);
  await passTime(3600);
  assert.equal((await clock(alice))[0]!.hours_left, 71);
});

test("the inbox also accepts the older names of the headers", async () => {
  const alice = await Person.signUp("alice");
  assert.equal((await deliver(emailEvent(alice.email), { prefix: "svix" })).status, 200);
  assert.equal((await clock(alice)).length, 1);
});

test("the inbox recognises the subject in any case, with any prefix and encoding", async () => {
  const subjects = ["RE: privacy request - ai data", "[Ticket 7] Fwd: Privacy Request – AI Data", `=?utf-8?B?${Buffer.from(subject).toString("base64")}?=`];
  // A sender can open one request a day, so each subject has its own sender.
  for (const each of subjects) {
    const person = await Person.signUp("alice");
    assert.equal((await deliver(emailEvent(person.email, { subject: each }))).status, 200);
    assert.equal((await clock(person)).length, 1, each);
  }
});

test("the inbox refuses a forged, stale or unsigned event and files nothing", async () => {
  const before = await count();
  const body = emailEvent("alice@example.com");
  const other = new Webhook(`whsec_${Buffer.alloc(32, 7).toString("base64")}`);
  for (const sending of [
    { signature: other.sign("msg_1", new Date(), body), id: "msg_1" },
    { signature: "v1,AAAA" },
    { sentAt: new Date(Date.now() - 600_000) },
    { prefix: "other" },
  ]) {
    assert.equal((await deliver(body, sending)).status, 401, JSON.stringify(sending));
  }
  const id = "msg_2";
  assert.equal((await deliver(body.replace("all of it", "all of hers"), { id, signature: inbox.sign(id, new Date(), body) })).status, 401);
  assert.equal(await count(), before);
});

test("the inbox ignores emails that are not requests, and refuses huge or unreadable events", async () => {
  const before = await count();
  const alice = await Person.signUp("alice");
  for (const body of [
    emailEvent(alice.email, { subject: "Hello" }),
    emailEvent(alice.email, { subject: null }),
    emailEvent(alice.email, { subject: "Privacy Policy - AI Data Protection" }),
    JSON.stringify({ type: "email.delivered", data: { subject } }),
  ]) {
    const answer = await deliver(body);
    assert.deepEqual([answer.status, ((await answer.json()) as { ignored: boolean }).ignored], [200, true], body);
  }
  assert.equal((await deliver("{")).status, 422);
  // The functions refuse it by its declared length, so the connection may close before the body is sent.
  const huge = await deliver(emailEvent(alice.email, { text: "x".repeat(7 * 1024 * 1024) })).then(({ status }) => status, () => "closed");
  assert.ok(huge === 413 || huge === "closed", String(huge));
  assert.equal(await count(), before);
});

test("the inbox keeps unusual characters as text or drops them, and does not read attachments", async () => {
  const alice = await Person.signUp("alice");
  const text = `emoji 🖼️, nul \u0000, right-to-left \u202e, ${"long ".repeat(2000)}`;
  assert.equal((await deliver(emailEvent(alice.email, { text }))).status, 200);
  const [{ message }] = await database`select message from public.privacy_requests where person_id = ${alice.id}`;
  assert.ok(message.startsWith("emoji 🖼️, nul , right") && [...message].length <= 4000);
  const [{ found }] = await database`select count(*)::int as found from public.privacy_requests as r where r::text ~ 'passport|bm90IHJlYWQ'`;
  assert.equal(found, 0);
});

test("the inbox does not match an unverified sender with an account", async () => {
  const alice = await Person.signUp("alice");
  const spoofed = [
    [{ name: "Authentication-Results", value: "mx.example.net; dmarc=fail header.from=example.com" }],
    [{ name: "Authentication-Results", value: "mx.attacker.test; dmarc=pass header.from=example.com" }],
    [],
  ];
  for (const headers of spoofed) assert.equal((await deliver(emailEvent(alice.email, { headers }))).status, 200);
  assert.deepEqual(await clock(alice), []);
  const rows = await database`
    select person_id, cardinality(joined_mails) as joined from public.privacy_requests where sender = ${alice.email}`;
  assert.deepEqual([...rows], [{ person_id: null, joined: spoofed.length - 1 }]);
  await cleanUp();
  assert.deepEqual(mailServer.to(alice.email), []);
});

/** The email that asks a sender to confirm, and a function that uses its link. */
async function emailed(person: Person) {
  await cleanUp();
  const email = mailServer.to(person.email).at(-1)!;
  const link = new URL(/http\S+privacy_request=\S+/.exec(email.text)![0]);
  const confirm = (body: Record<string, string>) =>
    fetch(`${process.env.FUNCTIONS_URL}/privacy/requests/${link.searchParams.get("privacy_request")}/confirm`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
    });
  return { email, confirm, token: link.searchParams.get("token")! };
}

test("an email changes nothing until its sender confirms it with the link in our email", async () => {
  const alice = await Person.signUp("alice");
  await deliver(emailEvent(alice.email, { text: "Erase my account." }));
  const { email, confirm, token } = await emailed(alice);
  assert.equal((await confirm({ token: "0".repeat(64) })).status, 422);
  assert.equal((await clock(alice))[0]!.confirmed_at, null);
  assert.equal((await confirm({ token })).status, 200);
  const [request] = await clock(alice);
  assert.ok(request.confirmed_at && request.closed_at === null);
  assert.ok(email.html.includes("privacy_request="));
  assert.deepEqual((await alice.wallet()).balance, 5);
});

test("a sender who confirms a request may say what it is about, and using this right in the app then proposes the answer", async () => {
  const alice = await Person.signUp("alice");
  await deliver(emailEvent(alice.email, { text: "I object." }));
  const { confirm, token } = await emailed(alice);
  const unknown = await confirm({ token, kind: "world_peace" });
  const { code, detail } = (await unknown.json()) as { code: string; detail: string };
  assert.deepEqual([unknown.status, code], [422, "unknown_kind"]);
  assert.match(detail, /objection/);
  assert.equal((await confirm({ token, kind: "objection" })).status, 200);
  assert.deepEqual((await clock(alice)).map(({ kind, closed_at }) => [kind, closed_at]), [["objection", null]]);
  await alice.client.from("privacy_choices").insert({ purpose: "analytics", allowed: false });
  assert.ok((await clock(alice))[0]!.proposed.choice);
  const { id } = (await clock(alice))[0] as { id: string };
  assert.equal((await alice.client.rpc("accept_proposal", { id })).error, null);
  assert.ok((await clock(alice))[0]!.evidence.choice);
  // A closed request keeps its kind.
  assert.equal((await confirm({ token, kind: "export" })).status, 200);
  assert.equal((await clock(alice))[0]!.kind, "objection");
});

test("a signed-in user can confirm their own email request without the link, and no other user's", async () => {
  const [alice, bob] = [await Person.signUp("alice"), await Person.signUp("bob")];
  await deliver(emailEvent(alice.email));
  const [{ id }] = (await clock(alice)) as [{ id: string }];
  assert.equal((await bob.client.rpc("confirm_request", { id })).error!.hint, "request_not_found");
  assert.equal((await clock(alice))[0]!.confirmed_at, null);
  const { data, error } = await alice.client.rpc("confirm_request", { id, kind: "restriction" });
  assert.equal(error, null);
  assert.deepEqual([data.id, data.kind], [id, "restriction"]);
  assert.ok((await clock(alice))[0]!.confirmed_at);
  // A request filed in the app needs no confirmation.
  const { data: filed } = await alice.client.from("privacy_requests").insert({ kind: "access" }).select("id").single();
  assert.equal((await alice.client.rpc("confirm_request", { id: filed!.id })).error!.hint, "request_not_found");
});

test("an invalid request is refused with a message", async () => {
  const alice = await Person.signUp("alice");
  const refusal = async (request: { kind: string; message?: string }) => (await alice.client.from("privacy_requests").insert(request)).error!;
  assert.match((await refusal({ kind: "world_peace" })).message, /kind must be one of access, export,/);
  assert.match((await refusal({ kind: "other", message: "x".repeat(4001) })).message, /1 to 4000 characters/);
});

test("a user can have at most 10 open requests", async () => {
  const alice = await Person.signUp("alice");
  const file = async () => (await alice.client.from("privacy_requests").insert({ kind: "other" })).error;
  for (let number = 0; number < 10; number += 1) assert.equal(await file(), null);
  assert.match((await file())!.message, /10 open requests/);
});
