// Each rule of private.retention_rules is carried out by a pass, and by nothing earlier than its time.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { pass } from "../lab/time.ts";
import { Person } from "./person.ts";
import { small } from "./photos.ts";
import { arm, cleanUp, database, disarm } from "./stack.ts";

interface Rule {
  id: string;
  clause: string;
  seconds: number;
  rows_of: string | null;
  since: string | null;
}

const rules: Rule[] = [...(await database<Rule[]>`
  select id, clause, extract(epoch from keep)::int as seconds, rows_of, since from private.retention_rules order by id`)];

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

/** A photo of this age, in this state. */
async function photo(person: Person, ageSeconds: number, isOpen: boolean): Promise<string> {
  const path = await person.upload(await small);
  if (isOpen) {
    await arm({ fault: "stuck_processing" });
    assert.equal((await person.submit({ style: "mosaic", input_path: path })).status, 201);
    await database`update public.generations set deadline_at = now() + interval '1 year' where input_path = ${path}`;
  }
  await database`update storage.objects set created_at = now() - make_interval(secs => ${ageSeconds}) where name = ${path}`;
  return path;
}

/** What a rule whose subject is no row by itself does to what is a minute younger, and to what is older. */
const carriedOut: Record<string, () => Promise<void>> = {
  async inputs_soft_limit() {
    const alice = await Person.signUp("alice");
    const limit = seconds("inputs_soft_limit");
    const [young, old, needed] = [await photo(alice, limit - 60, false), await photo(alice, limit + 60, false), await photo(alice, limit + 60, true)];
    await cleanUp();
    assert.deepEqual([await stored(young), await stored(old), await stored(needed)], [true, false, true]);
    await alice.call("POST", `/generations/${(await alice.client.from("generations").select("id").single()).data!.id}/cancel`);
  },
  async inputs_hard_limit() {
    const alice = await Person.signUp("alice");
    const limit = seconds("inputs_hard_limit");
    const [young, old] = [await photo(alice, limit - 60, true), await photo(alice, limit + 60, true)];
    await cleanUp();
    assert.deepEqual([await stored(young), await stored(old)], [true, false]);
    const { data } = await alice.client.from("generations").select("state, reason").eq("input_path", old).single();
    assert.deepEqual(data, { state: "failed", reason: "expired" });
    const open = (await alice.client.from("generations").select("id").eq("input_path", young).single()).data!;
    await alice.call("POST", `/generations/${open.id}/cancel`);
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
      await cleanUp();
      assert.equal((await alice.generation(id))!.artwork_missing_at === null, stays);
    }
  },
  async replicate_hour() {
    const alice = await Person.signUp("alice");
    await alice.ended((await alice.generate(await small)).id);
    const asked = async () => (await alice.client.from("replicate_removals").select("attempts").single()).data!.attempts as number;
    await pass(seconds("replicate_hour") - 60);
    await cleanUp();
    assert.equal(await asked(), 0);
    await pass(120);
    await cleanUp();
    assert.equal(await asked(), 1);
  },
};

/** Removes an object's row past whoever guards it. */
async function behind(name: string): Promise<void> {
  await database.begin(async (sql) => {
    await sql`set local session_replication_role = replica`;
    await sql`delete from storage.objects where name = ${name}`;
  });
}

/** Somebody who leaves a row in every table that has a rule. */
before(async () => {
  const [alice, bob] = [await Person.signUp("alice"), await Person.signUp("bob")];
  await alice.ended((await alice.generate(await small)).id);
  await bob.ended((await bob.generate(await small)).id);
  await alice.forgotten();
  await pass(3700);
  await cleanUp();
  await database`delete from auth.users where id = ${bob.id}`;
  await cleanUp();
});

for (const { id, clause, rows_of, since } of rules) {
  test(`${id} is carried out (${clause})`, async () => {
    if (!rows_of) {
      assert.ok(carriedOut[id], `${id} is carried out by nothing that this file knows`);
      return carriedOut[id]();
    }
    const key = rows_of === "public.replicate_removals" ? "prediction_id" : "id";
    const left = async (row: string) => (await database.unsafe(`select from ${rows_of} where ${key} = '${row}'`)).length;
    const [{ row }] = await database.unsafe(`select ${key} as row from ${rows_of} where ${since} is not null order by ${since} limit 1`);
    for (const [age, rows] of [["-1 minute", 1], ["1 minute", 0]] as const) {
      await older(rows_of, key, row, since!, id, age);
      await cleanUp();
      assert.equal(await left(row), rows, `${age} past its limit`);
    }
  });
}

/** Every time of one row, so much earlier that it is so far past its rule. A year is no number of seconds. */
async function older(table: string, key: string, row: string, since: string, rule: string, past: string): Promise<void> {
  const [schema, name] = table.split(".");
  const columns = await database`
    select column_name as name from information_schema.columns
    where table_schema = ${schema!} and table_name = ${name!} and data_type = 'timestamp with time zone'`;
  const by = `(${since} - (now() - private.keep('${rule}') - interval '${past}'))`;
  const changes = columns.map(({ name: column }) => `${column} = ${column} - ${by}`).join(", ");
  await database.begin(async (sql) => {
    await sql`set local session_replication_role = replica`;
    await sql.unsafe(`update ${table} set ${changes} where ${key} = '${row}'`);
  });
}

test("books go whole, only when their time is over, and then the rest still balances", async () => {
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
