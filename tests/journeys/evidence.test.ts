// Requests, consents and choices stay as evidence after the erasure, without names and without texts (Q1, C6, G7).

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { deliver, emailEvent } from "./inbox.ts";
import { Person } from "./person.ts";
import { cleanUp, database } from "./stack.ts";

after(() => database.end());

test("an erasure keeps requests, consents and choices as evidence, under the pseudonym of the ledger and without texts", async () => {
  const alice = await Person.signUp("alice", { policy_version: "2026-11" });
  const { data: filed } = await alice.client.from("privacy_requests")
    .insert([{ kind: "objection" }, { kind: "other", message: `I am ${alice.email}.` }]).select("id");
  await alice.client.from("privacy_choices").insert({ purpose: "improvement", allowed: false });
  await alice.allow("analytics");
  await deliver(emailEvent(alice.email));
  await deliver(emailEvent(alice.email, { headers: [] }));
  const ids = filed!.map(({ id }) => id as string);
  const [{ wallet }] = await database`select id as wallet from public.wallets where person_id = ${alice.id}`;
  assert.equal((await alice.call("POST", "/privacy/erasures", { email: alice.email })).status, 202);
  await cleanUp();

  assert.equal((await database`select from auth.users where id = ${alice.id}`).length, 0);
  const [{ pseudonym }] = await database`select pseudonym from public.wallets where id = ${wallet}`;
  assert.match(pseudonym, /^[0-9a-f]{64}$/);
  const requests = await database`
    select kind, channel, message, sender, mail_digest, answer, person_id, closed_at is not null as closed,
      (select min(k) from jsonb_object_keys(evidence) as k) as evidence
    from public.privacy_requests where pseudonym = ${pseudonym} order by kind, channel`;
  const forgotten = { message: null, sender: null, mail_digest: null, answer: null, person_id: null, closed: true };
  assert.deepEqual([...requests], [
    { kind: "objection", channel: "app", ...forgotten, evidence: "choice" },
    { kind: "other", channel: "app", ...forgotten, evidence: "erasure" },
    { kind: "other", channel: "mail", ...forgotten, evidence: "erasure" },
  ]);
  assert.equal((await database`select from public.privacy_requests where id = any (${ids})`).length, 2);
  // The request from the unverified sender contains the address, so the erasure deletes it.
  assert.equal((await database`select from public.privacy_requests where sender = ${alice.email}`).length, 0);
  const consents = await database`
    select version, person_id, left_at is not null as gone from public.policy_consents where pseudonym = ${pseudonym}`;
  assert.deepEqual([...consents], [{ version: "2026-11", person_id: null, gone: true }]);
  const choices = await database`
    select purpose, allowed, at < left_at as gone, person_id from public.privacy_choices where pseudonym = ${pseudonym} order by id`;
  const gone = { gone: true, person_id: null };
  assert.deepEqual([...choices], [
    { purpose: "improvement", allowed: false, ...gone },
    { purpose: "analytics", allowed: true, ...gone },
  ]);
});

test("deleting an account directly in Auth keeps the same evidence without any pseudonym", async () => {
  const alice = await Person.signUp("alice", { policy_version: "2026-11" });
  const { data: filed } = await alice.client.from("privacy_requests").insert({ kind: "other", message: alice.email }).select("id").single();
  const { data: choice } = await alice.client.from("privacy_choices").insert({ purpose: "notices", allowed: false }).select("id").single();
  await database`delete from auth.users where id = ${alice.id}`;
  const [request] = await database`select person_id, pseudonym, message, closed_at is not null as closed from public.privacy_requests where id = ${filed!.id}`;
  assert.deepEqual(request, { person_id: null, pseudonym: null, message: null, closed: true });
  assert.equal((await database`select from public.policy_consents where person_id = ${alice.id}`).length, 0);
  const [chosen] = await database`select person_id, pseudonym, allowed, left_at is not null as gone from public.privacy_choices where id = ${choice!.id}`;
  assert.deepEqual({ ...chosen }, { person_id: null, pseudonym: null, allowed: false, gone: true });
});
