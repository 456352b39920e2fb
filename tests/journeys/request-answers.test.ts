// How privacy requests are answered: by using a right in the app, or by the operator (Q2).

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { createClient } from "@supabase/supabase-js";
import ws from "ws";
import { startLab } from "../lab/lab.ts";
import { MailServer } from "../lab/mail.ts";
import { passTime } from "../lab/time.ts";
import { deliver, emailEvent } from "./inbox.ts";
import { Person } from "./person.ts";
import { cleanUp, database } from "./stack.ts";

const mailServer = await MailServer.start();
const lab = await startLab(mailServer.env);

after(async () => {
  await lab.stop();
  await mailServer.stop();
  await database.end();
});

const service = createClient(process.env.SUPABASE_URL!, process.env.SUPABASE_SECRET_KEY!, {
  auth: { persistSession: false },
  realtime: { transport: ws as never },
  db: { schema: "backend" },
});
const clock = async (person: Person) => (await person.client.from("privacy_request_clock").select().order("filed_at")).data!;

test("using a right in the app answers the open request for it, with evidence", async () => {
  const alice = await Person.signUp("alice");
  for (const kind of ["objection", "correction", "restriction", "export"]) await alice.client.from("privacy_requests").insert({ kind });
  await alice.client.from("privacy_choices").insert({ purpose: "analytics", allowed: false });
  await alice.client.from("privacy_choices").insert({ purpose: "generation", allowed: false });
  await alice.client.from("profiles").update({ default_style: "mosaic" }).eq("id", alice.id);
  const closed = (await clock(alice)).filter(({ closed_at }) => closed_at);
  assert.deepEqual(closed.map(({ kind }) => kind).sort(), ["correction", "objection", "restriction"]);
  assert.ok(closed.every(({ evidence, hours_left }) => Object.keys(evidence).length === 1 && hours_left === null));
});

test("for a request with a text, using a right in the app only proposes an answer, which the user must accept", async () => {
  const [alice, bob] = [await Person.signUp("alice"), await Person.signUp("bob")];
  const { data: filed } = await alice.client.from("privacy_requests")
    .insert({ kind: "correction", message: "My invoices name the wrong person." }).select("id").single();
  const { id } = filed as { id: string };
  const accept = (person: Person) => person.client.rpc("accept_proposal", { id });
  assert.equal((await accept(alice)).error!.hint, "nothing_proposed");
  await alice.client.from("profiles").update({ default_style: "mosaic" }).eq("id", alice.id);
  const [open] = await clock(alice);
  assert.deepEqual([open.closed_at, open.evidence, Object.keys(open.proposed), open.hours_left], [null, null, ["profile"], 72]);
  assert.equal((await accept(bob)).error!.hint, "request_not_found");
  const { data, error } = await accept(alice);
  assert.equal(error, null);
  assert.deepEqual([data.id, data.evidence], [id, open.proposed]);
  const [closed] = await clock(alice);
  assert.ok(closed.closed_at && closed.proposed === null);
  assert.equal((await accept(alice)).error!.hint, "request_not_found");
});

test("an action in the app does not answer a request that asks for something else", async () => {
  const alice = await Person.signUp("alice");
  for (const kind of ["objection", "correction", "restriction"]) await alice.client.from("privacy_requests").insert({ kind });
  for (const choice of [
    { purpose: "generation", allowed: true },
    { purpose: "analytics", allowed: true },
    { purpose: "notices", allowed: false },
  ]) {
    assert.equal((await alice.client.from("privacy_choices").insert(choice)).error, null);
  }
  // Saving an unchanged value does not count as a correction.
  await alice.client.from("profiles").update({ default_style: null }).eq("id", alice.id);
  assert.ok((await clock(alice)).every(({ closed_at }) => closed_at === null));
});

test("the operator answers the other requests, and sees which one will be overdue next", async () => {
  await database`update public.privacy_requests set closed_at = now(), evidence = '{}' where closed_at is null`;
  const alice = await Person.signUp("alice");
  await alice.client.from("privacy_requests").insert({ kind: "other", message: "Who reads my prompts?" });
  await passTime(71 * 3600);
  const operator = async (accept: string) =>
    fetch(`${process.env.FUNCTIONS_URL}/status`, { headers: { authorization: `Bearer ${process.env.OPERATOR_SECRET}`, accept } });
  assert.match(await (await operator("text/plain")).text(), /other, by app\s+(1|0) h left !/);
  const status = (await (await operator("application/json")).json()) as { requests: { open: number; overdue: number; next_breaches: { id: string }[] } };
  assert.deepEqual([status.requests.open, status.requests.overdue], [1, 0]);

  const [{ id }] = status.requests.next_breaches as [{ id: string }];
  const answer = "Nobody: they are in no log.";
  assert.equal((await service.rpc("close_request", { id, answer, operator: "eve" })).error, null);
  assert.equal((await clock(alice))[0]!.answer, answer);
  assert.equal((await service.rpc("close_request", { id, answer: "again", operator: "eve" })).error!.hint, "request_not_found");
});

test("the operator refuses or extends a request with a reason and within legal limits, and the actions are recorded", async () => {
  const alice = await Person.signUp("alice");
  await alice.client.from("privacy_requests").insert({ kind: "other", message: "Delete the books." });
  const [{ id, filed_at }] = (await clock(alice)) as [{ id: string; filed_at: string }];
  const from = (days: number) => new Date(Date.parse(filed_at) + days * 86_400_000).toISOString();
  const extend = async (due_at: string, more = {}) =>
    (await service.rpc("extend_request", { id, due_at, reason: "We ask our lawyer.", operator: "eve", ...more })).error;

  assert.equal((await extend(from(30), { reason: "" }))!.hint, "invalid_reason");
  assert.equal((await extend(from(30), { operator: "" }))!.hint, "invalid_operator");
  for (const due of [from(1), from(90)]) assert.equal((await extend(due))!.hint, "invalid_due_at");
  assert.equal(await extend(from(80)), null);
  const [extended] = await clock(alice);
  assert.deepEqual([extended.hours_left, extended.extension, extended.closed_at], [80 * 24, "We ask our lawyer.", null]);
  await passTime(29 * 86_400);
  assert.equal((await extend(from(55)))!.hint, "too_late");

  const refused = { id, reason: "The law wants the books kept. You can complain to the authority.", operator: "mallory" };
  assert.equal((await service.rpc("refuse_request", refused)).error, null);
  const [closed] = await clock(alice);
  assert.deepEqual([closed.evidence, closed.answer], [{ operator: "refused" }, refused.reason]);
  const actions = await database`select action, operator from private.request_actions where request_id = ${id} order by id`;
  assert.deepEqual([...actions], [{ action: "extended", operator: "eve" }, { action: "refused", operator: "mallory" }]);
  assert.ok((await alice.client.schema("backend" as never).rpc("refuse_request", refused)).error);
});

test("an email tells the user about a refusal or an extension, with the reason and where to complain (Q2)", async () => {
  const alice = await Person.signUp("alice");
  await alice.client.from("privacy_requests").insert({ kind: "other", message: "Delete the books." });
  const [{ id }] = (await clock(alice)) as [{ id: string }];
  const [{ due_at }] = await database`select filed_at + interval '80 days' as due_at from public.privacy_requests where id = ${id}`;
  const extension = { id, due_at, reason: "We ask our <lawyer>,\nwho is away {app}.", operator: "eve" };
  assert.equal((await service.rpc("extend_request", extension)).error, null);
  await cleanUp();
  const longer = mailServer.to(alice.email).at(-1)!;
  assert.equal(longer.subject, "Your privacy request needs more time");
  const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "long", year: "numeric", timeZone: "UTC" }).format(due_at);
  assert.ok(longer.text.includes(`until ${day}.`), longer.text);
  assert.ok(longer.text.replaceAll("\r", "").includes(extension.reason) && longer.html.includes("We ask our &lt;lawyer>"), longer.html);

  const reason = "The law wants the books kept.";
  assert.equal((await service.rpc("refuse_request", { id, reason, operator: "eve" })).error, null);
  await cleanUp();
  const refusal = mailServer.to(alice.email).at(-1)!;
  assert.equal(refusal.subject, "Your privacy request is refused");
  for (const email of [longer, refusal]) assert.match(email.text.replaceAll(/\s+/g, " "), /complain to the data protection authority .* or take us to court/);
  assert.ok(refusal.text.includes(reason));
  await cleanUp();
  assert.equal(mailServer.to(alice.email).length, 2);
});

test("a refusal is not announced by email if another email has reopened the request or the address is unconfirmed", async () => {
  const [alice, bob] = [await Person.signUp("alice"), await Person.signUp("bob")];
  await deliver(emailEvent(alice.email));
  await cleanUp();
  const refuse = async (person: Person) => {
    const [{ id }] = (await clock(person)) as [{ id: string }];
    assert.equal((await service.rpc("refuse_request", { id, reason: "No.", operator: "eve" })).error, null);
  };
  await refuse(alice);
  await deliver(emailEvent(alice.email));
  await bob.client.from("privacy_requests").insert({ kind: "other" });
  await database`update auth.users set email_confirmed_at = null where id = ${bob.id}`;
  await refuse(bob);
  await cleanUp();
  assert.deepEqual(mailServer.to(alice.email).map(({ subject }) => subject), ["Your privacy request has arrived"]);
  assert.deepEqual(mailServer.to(bob.email), []);
  assert.equal((await database`select from private.emails where sent_at is null and person_id in (${alice.id}, ${bob.id})`).length, 0);
});
