// Each rule in private.retention_rules takes effect at its time and not earlier.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { createClient } from "@supabase/supabase-js";
import ws from "ws";
import { passTime } from "../lab/time.ts";
import { Person } from "./person.ts";
import { small } from "./photos.ts";
import { arm, cleanUp, database, disarm, wakeWalks } from "./stack.ts";

interface Rule {
  id: string;
  clause: string;
  seconds: number;
  rows_of: string | null;
  since: string | null;
}

const rules: Rule[] = [...(await database<Rule[]>`
  select id, clause, extract(epoch from keep)::int as seconds, rows_of, since from private.retention_rules order by id`)];

const service = createClient(process.env.SUPABASE_URL!, process.env.SUPABASE_SECRET_KEY!, {
  auth: { persistSession: false },
  realtime: { transport: ws as never },
  db: { schema: "backend" },
});

function seconds(id: string): number {
  return rules.find((rule) => rule.id === id)!.seconds;
}

after(async () => {
  await disarm();
  await database.end();
});

async function stored(name: string): Promise<boolean> {
  return (await database`select from storage.objects where name = ${name}`).length === 1;
}

/** A photo of this age that is not submitted. */
async function waiting(person: Person, ageSeconds: number): Promise<string> {
  const path = await person.upload(await small);
  await database`update storage.objects set created_at = now() - make_interval(secs => ${ageSeconds}) where name = ${path}`;
  return path;
}

/** A photo of this age whose generation stays open. Its prepared copy counts as old as the original. */
async function needed(person: Person, ageSeconds: number): Promise<{ id: string; path: string }> {
  const input_path = await person.upload(await small);
  await arm({ fault: "stuck_processing" });
  assert.equal((await person.submit({ style: "mosaic", input_path })).status, 201);
  const [{ id }] = await database`
    update public.generations set deadline_at = now() + interval '1 year' where input_path = ${input_path} returning id`;
  const [{ path }] = await database`
    update private.generation_work set input_stored_at = now() - make_interval(secs => ${ageSeconds})
    where generation_id = ${id} returning prepared_path as path`;
  return { id, path };
}

/** For rules that do not delete rows of one table: what happens shortly before and shortly after the limit. */
const carriedOut: Record<string, () => Promise<void>> = {
  async inputs_soft_limit() {
    const alice = await Person.signUp("alice");
    const limit = seconds("inputs_soft_limit");
    const [young, old] = [await waiting(alice, limit - 60), await waiting(alice, limit + 60)];
    const { id, path } = await needed(alice, limit + 60);
    await database`update storage.objects set created_at = now() - make_interval(secs => ${limit + 60}) where bucket_id = 'inputs' and name = ${path}`;
    await cleanUp();
    assert.deepEqual([await stored(young), await stored(old), await stored(path)], [true, false, true]);
    await alice.call("POST", `/generations/${id}/cancel`);
  },
  async inputs_hard_limit() {
    const alice = await Person.signUp("alice");
    const limit = seconds("inputs_hard_limit");
    const [young, old] = [await needed(alice, limit - 60), await needed(alice, limit + 60)];
    await cleanUp();
    assert.deepEqual([await stored(young.path), await stored(old.path)], [true, false]);
    const { state, reason } = (await alice.generation(old.id))!;
    assert.deepEqual([state, reason], ["failed", "expired"]);
    await alice.call("POST", `/generations/${young.id}/cancel`);
    assert.deepEqual(await alice.wallet(), { balance: 5, held: 0 });
  },
  async sweep_silence() {
    const alice = await Person.signUp("alice");
    for (const [age, isOpen] of [[-5, true], [5, false]] as const) {
      await database`update private.heartbeats set at = now() - make_interval(secs => ${seconds("sweep_silence") + age})`;
      const uploaded = await alice.upload(await small).then(() => true, () => false);
      assert.equal(uploaded, isOpen);
    }
    await cleanUp();
  },
  async audit_grace() {
    const alice = await Person.signUp("alice");
    for (const [age, stays] of [[-60, true], [60, false]] as const) {
      const { id, artwork_path } = await alice.ended((await alice.generate(await small)).id);
      await database`update public.generations set finished_at = now() - make_interval(secs => ${seconds("audit_grace") + age}) where id = ${id}`;
      await behind(artwork_path!);
      await wakeWalks();
      await cleanUp();
      assert.equal((await alice.generation(id))!.artwork_missing_at === null, stays);
    }
  },
  async replicate_hour() {
    const alice = await Person.signUp("alice");
    await alice.ended((await alice.generate(await small)).id);
    const asked = async () => (await alice.client.from("replicate_removals").select("attempts").single()).data!.attempts as number;
    await passTime(seconds("replicate_hour") - 60);
    await cleanUp();
    assert.equal(await asked(), 0);
    await passTime(120);
    await cleanUp();
    assert.equal(await asked(), 1);
  },
  async exports() {
    const alice = await Person.signUp("alice");
    assert.equal((await alice.call("POST", "/privacy/exports")).status, 202);
    await cleanUp();
    const state = async () => (await alice.client.from("exports").select("state").single()).data!.state as string;
    for (const [age, expected] of [[-60, "ready"], [60, "expired"]] as const) {
      await database`update public.exports set expires_at = ready_at + private.retention('exports') - make_interval(secs => ${seconds("exports") + age})
        where person_id = ${alice.id}`;
      await cleanUp();
      assert.equal(await state(), expected);
    }
  },
  async erasure_grace() {
    await database`update private.retention_rules set keep = '1 hour' where id = 'erasure_grace'`;
    try {
      const alice = await Person.signUp("alice");
      const { id } = (await (await alice.call("POST", "/privacy/erasures", { email: alice.email })).json()) as { id: string };
      const stage = async () => (await database`select stage from private.erasures where id = ${id}`)[0]!.stage as string;
      for (const [age, expected] of [[3540, "ordered"], [120, "done"]] as const) {
        await passTime(age);
        await cleanUp();
        assert.equal(await stage(), expected);
      }
    } finally {
      await database`update private.retention_rules set keep = '0' where id = 'erasure_grace'`;
    }
  },
  async inactive_accounts() {
    const alice = await Person.signUp("alice");
    const emails = async () => (await database`select from private.emails where person_id = ${alice.id} and kind = 'inactive'`).length;
    for (const [past, expected] of [["-1 minute", 0], ["1 minute", 1]] as const) {
      const moment = database`now() - (private.retention('inactive_accounts') - interval '60 days') - ${past}::interval`;
      await database`update auth.users set created_at = ${moment}, last_sign_in_at = ${moment} where id = ${alice.id}`;
      await database`update auth.sessions set created_at = ${moment}, updated_at = ${moment} where user_id = ${alice.id}`;
      await database`update auth.refresh_tokens set created_at = ${moment} where user_id = ${alice.id}`;
      await database`update public.profiles set active_at = ${moment} where id = ${alice.id}`;
      await database`update private.audit_places set after = '', ended_at = null where id = 'people'`;
      await database`select backend.follow_inactive(1000000)`;
      assert.equal(await emails(), expected, past);
    }
  },
  async unconfirmed_accounts() {
    const alice = await Person.signUp("alice");
    await database`update auth.users set email_confirmed_at = null where id = ${alice.id}`;
    for (const [past, isOpen] of [["-1 minute", true], ["1 minute", false]] as const) {
      const moment = database`now() - private.retention('unconfirmed_accounts') - ${past}::interval`;
      await database`update auth.users set created_at = ${moment}, last_sign_in_at = null where id = ${alice.id}`;
      await database`update auth.sessions set created_at = ${moment}, updated_at = ${moment} where user_id = ${alice.id}`;
      await database`update auth.refresh_tokens set created_at = ${moment} where user_id = ${alice.id}`;
      await database`update public.profiles set active_at = ${moment} where id = ${alice.id}`;
      await database`update private.audit_places set after = '', ended_at = null where id = 'unconfirmed'`;
      // The first sweep orders the erasure, the next one carries it out.
      await cleanUp();
      await cleanUp();
      assert.equal((await database`select from auth.users where id = ${alice.id}`).length === 1, isOpen, past);
    }
  },
  async bounced_notices() {
    const alice = await Person.signUp("alice");
    const moment = database`now() - private.retention('inactive_accounts') + interval '59 days'`;
    await database`update auth.users set created_at = ${moment}, last_sign_in_at = ${moment} where id = ${alice.id}`;
    await database`update auth.sessions set created_at = ${moment}, updated_at = ${moment} where user_id = ${alice.id}`;
    await database`update auth.refresh_tokens set created_at = ${moment} where user_id = ${alice.id}`;
    await database`update public.profiles set active_at = ${moment} where id = ${alice.id}`;
    await database`insert into private.emails (person_id, kind, days, sent_at) values (${alice.id}, 'inactive', 60, now())`;
    for (const [age, expected] of [[-60, 1], [60, 2]] as const) {
      await database`update private.emails set bounced_at = now() - make_interval(secs => ${seconds("bounced_notices") + age})
        where person_id = ${alice.id}`;
      await database`update private.audit_places set after = '', ended_at = null where id = 'people'`;
      await database`select backend.follow_inactive(1000000)`;
      assert.equal((await database`select from private.emails where person_id = ${alice.id}`).length, expected);
    }
  },
  async requests_extendable() {
    const limit = seconds("requests_extendable");
    for (const [age, hint] of [[-60, null], [60, "too_late"]] as const) {
      const id = await filed(limit + age);
      const { error } = await extend(id, 60 * 86_400);
      assert.equal(error?.hint ?? null, hint);
    }
  },
  async requests_extended() {
    const limit = seconds("requests_extended");
    for (const [age, hint] of [[-60, null], [60, "invalid_due_at"]] as const) {
      const { error } = await extend(await filed(0), limit + age);
      assert.equal(error?.hint ?? null, hint);
    }
  },
  async requests_answered() {
    const alice = await Person.signUp("alice");
    await database`update public.privacy_requests set closed_at = now(), evidence = '{}' where closed_at is null`;
    await alice.client.from("privacy_requests").insert({ kind: "other" });
    const left = async () => {
      const status = await fetch(`${process.env.FUNCTIONS_URL}/privacy/status`);
      return ((await status.json()) as { requests: { shortest_seconds_left: number } }).requests.shortest_seconds_left;
    };
    await passTime(seconds("requests_answered") - 60);
    assert.ok((await left()) > 0);
    await passTime(120);
    assert.ok((await left()) < 0);
  },
};

/** Files a request of this age. */
async function filed(ageSeconds: number): Promise<string> {
  const alice = await Person.signUp("alice");
  const [{ id }] = await database`
    insert into public.privacy_requests (person_id, kind, filed_at)
    values (${alice.id}, 'other', now() - make_interval(secs => ${ageSeconds})) returning id`;
  return id as string;
}

/** Extends a request until `seconds` after its filing. */
async function extend(id: string, seconds: number) {
  const [{ due_at }] = await database`
    select filed_at + make_interval(secs => ${seconds}) as due_at from public.privacy_requests where id = ${id}`;
  return service.rpc("extend_request", { id, due_at, reason: "We need longer.", operator: "eve" });
}

/** The column that identifies a row, for tables without an id. */
const keys: Record<string, string> = { "public.replicate_removals": "prediction_id", "private.outbox": "target", "private.welcomed_addresses": "address_hash" };

/** Deletes the row of an object without the triggers that protect it. */
async function behind(name: string): Promise<void> {
  await database.begin(async (sql) => {
    await sql`set local session_replication_role = replica`;
    await sql`delete from storage.objects where name = ${name}`;
  });
}

/** Creates a row in every table that has a rule. */
before(async () => {
  const [alice, bob] = [await Person.signUp("alice"), await Person.signUp("bob")];
  await alice.ended((await alice.generate(await small)).id);
  await bob.ended((await bob.generate(await small)).id);
  await alice.forgotten();
  await alice.allow("analytics");
  await alice.client.from("usage_events").insert({ feature: "opened" });
  await alice.client.from("privacy_requests").insert({ kind: "export" });
  await alice.call("POST", "/privacy/exports");
  const carol = await Person.signUp("carol", { policy_version: "2026-11" });
  await carol.allow("analytics");
  await carol.call("POST", "/privacy/erasures", { email: carol.email });
  await database`insert into private.emails (person_id, kind, subject) values (${alice.id}, 'request_filed', 'x')`;
  await database`insert into private.emails (kind, subject, address, left_at) values ('erased', 'x', 'gone@example.com', now())`;
  // No server listens there, so this task stays in the outbox.
  await database`insert into private.outbox (kind, target) values ('abandon_upload', 'http://127.0.0.1:9/')`;
  await passTime(3700);
  await cleanUp();
  await database`delete from auth.users where id = ${bob.id}`;
  await cleanUp();
});

for (const { id, clause, rows_of, since } of rules) {
  test(`the rule ${id} takes effect at its time and not earlier (${clause})`, async () => {
    if (!rows_of) {
      assert.ok(carriedOut[id], `this file has no test for the rule ${id}`);
      return carriedOut[id]();
    }
    const key = keys[rows_of] ?? "id";
    const left = async (row: string) => (await database.unsafe(`select from ${rows_of} where ${key} = '${row}'`)).length;
    const [{ row }] = await database.unsafe(`select ${key} as row from ${rows_of} where ${since} is not null order by ${since} limit 1`);
    for (const [age, rows] of [["-1 minute", 1], ["1 minute", 0]] as const) {
      await older(rows_of, key, row, since!, id, age);
      await cleanUp();
      assert.equal(await left(row), rows, `${age} past its limit`);
    }
  });
}

/** Moves all times of a row back until it is `past` beyond its rule. In SQL, because the length of a year varies. */
async function older(table: string, key: string, row: string, since: string, rule: string, past: string): Promise<void> {
  const [schema, name] = table.split(".");
  const columns = await database`
    select column_name as name from information_schema.columns
    where table_schema = ${schema!} and table_name = ${name!} and data_type = 'timestamp with time zone'`;
  const by = `(${since} - (now() - private.retention('${rule}') - interval '${past}'))`;
  const changes = columns.map(({ name: column }) => `${column} = ${column} - ${by}`).join(", ");
  await database.begin(async (sql) => {
    await sql`set local session_replication_role = replica`;
    await sql.unsafe(`update ${table} set ${changes} where ${key} = '${row}'`);
  });
}

test("a sweep deletes a closed ledger completely and not too early, and the other ledgers still balance", async () => {
  const carol = await Person.signUp("carol");
  await carol.ended((await carol.generate(await small)).id);
  const [{ id }] = await database`select id from public.wallets where person_id = ${carol.id}`;
  await assert.rejects(database`delete from public.wallets where id = ${id}`, /kept/);
  await database`delete from auth.users where id = ${carol.id}`;
  await cleanUp();
  await assert.rejects(database`delete from public.wallets where id = ${id}`, /kept/);
  await assert.rejects(database`delete from public.credit_entries where wallet_id = ${id}`, /append-only/);
  await older("public.wallets", "id", id, "closed_at", "closed_books", "1 minute");
  await cleanUp();
  const [{ left }] = await database`
    select (select count(*) from public.wallets where id = ${id})::int
      + (select count(*) from public.credit_entries where wallet_id = ${id})::int
      + (select count(*) from public.credit_holds where wallet_id = ${id})::int as left`;
  assert.equal(left, 0);
  assert.deepEqual([...(await database`select * from backend.audit_credits()`)], []);
});
