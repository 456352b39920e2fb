// What people allow and refuse, and that the database obeys (G6, G7).

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, afterEach, test } from "node:test";
import { predictionThatIs, predictionsOf } from "../faults/replicate.ts";
import { until } from "../waiting.ts";
import { Person } from "./person.ts";
import { small } from "./photos.ts";
import { arm, cleanUp, database, disarm } from "./stack.ts";

afterEach(() => disarm());
after(() => database.end());

async function choose(person: Person, purpose: string, allowed: boolean): Promise<void> {
  const { error } = await person.client.from("privacy_choices").insert({ purpose, allowed });
  assert.equal(error, null);
}

test("the purposes are data that anyone may read, and without a choice all are allowed but analytics", async () => {
  const alice = await Person.signUp("alice");
  const { data } = await alice.client.from("purposes").select("id, allowed_by_default").order("position");
  assert.deepEqual(data!.map(({ id, allowed_by_default }) => [id, allowed_by_default]),
    [["generation", true], ["analytics", false], ["improvement", true], ["notices", true]]);
  assert.equal((await alice.ended((await alice.generate(await small)).id)).state, "succeeded");
});

test("every choice stays in the history, and nobody rewrites it", async () => {
  const alice = await Person.signUp("alice");
  for (const allowed of [false, true, false]) await choose(alice, "improvement", allowed);
  const { data } = await alice.client.from("privacy_choices").select("allowed").order("id");
  assert.deepEqual(data!.map(({ allowed }) => allowed), [false, true, false]);
  for (const attempt of [
    alice.client.from("privacy_choices").update({ allowed: true }).eq("purpose", "improvement"),
    alice.client.from("privacy_choices").delete().eq("purpose", "improvement"),
    alice.client.from("privacy_choices").insert({ purpose: "world_peace", allowed: true }),
  ]) {
    assert.ok((await attempt).error);
  }
});

test("who changes a choice without end is told to wait, and the last one counts", async () => {
  const alice = await Person.signUp("alice");
  for (let number = 0; number < 20; number += 1) await choose(alice, "improvement", number % 2 === 0);
  const { error } = await alice.client.from("privacy_choices").insert({ purpose: "improvement", allowed: true });
  assert.equal(error!.hint, "too_many_choices");
  const [{ allowed }] = await database`select private.allows(${alice.id}, 'improvement') as allowed`;
  assert.equal(allowed, false);
  await choose(alice, "analytics", false);
});

test("a restricted person is refused in words, and nothing is charged", async () => {
  const alice = await Person.signUp("alice");
  const input_path = await alice.upload(await small);
  await choose(alice, "generation", false);
  const refused = await alice.submit({ style: "mosaic", input_path });
  const problem = (await refused.json()) as { code: string; detail: string };
  assert.deepEqual([refused.status, problem.code], [403, "generation_restricted"]);
  assert.match(problem.detail, /Allow it again/);
  assert.deepEqual(await alice.wallet(), { balance: 5, held: 0 });
  assert.deepEqual(await predictionsOf(input_path), []);
  await choose(alice, "generation", true);
  assert.equal((await alice.submit({ style: "mosaic", input_path })).status, 201);
});

test("every way to spend or submit is refused for a restricted person, also as service role", async () => {
  const alice = await Person.signUp("alice");
  const input_path = await alice.upload(await small);
  await choose(alice, "generation", false);
  const begun = await alice.client.rpc("begin_generation", {
    style: "mosaic", input_path, idempotency_key: "direct", lease: randomUUID(),
  });
  assert.match(begun.error!.message, /restricted generation/);

  const [{ id: wallet }] = await database`select id from public.wallets where person_id = ${alice.id}`;
  const generation = {
    ...{ person_id: alice.id, idempotency_key: "k", style_id: "mosaic", style_version: 1, model_id: "kontext-pro", prompt: "a prompt" },
    ...{ settings: {}, credits: 1, input_path, deadline_at: new Date() },
  };
  for (const role of ["service_role", "postgres", "supabase_admin"]) {
    const as = (what: (sql: typeof database) => Promise<unknown>) =>
      database.begin(async (sql) => {
        await sql.unsafe(`grant insert on public.generations, public.credit_holds to service_role; set local role ${role}`);
        await what(sql as unknown as typeof database);
      });
    await assert.rejects(as((sql) => sql`insert into public.generations ${sql(generation as never)}`), /restricted generation/, role);
    const hold = { wallet_id: wallet, generation_id: randomUUID(), amount: 1 };
    await assert.rejects(as((sql) => sql`insert into public.credit_holds ${sql(hold)}`), /restricted generation/, role);
  }
  // Each of the two triggers refuses by itself.
  await assert.rejects(database.begin(async (sql) => {
    await sql`alter table public.credit_holds disable trigger credit_holds_unrestricted`;
    await sql`insert into public.generations ${sql(generation as never)}`;
  }), /restricted generation/);
  assert.deepEqual(await alice.wallet(), { balance: 5, held: 0 });
});

test("what runs when generation is restricted ends at once, and the model is stopped", async () => {
  await arm({ fault: "stuck_processing" });
  const alice = await Person.signUp("alice");
  const { id, input_path } = await alice.generate(await small);
  await predictionThatIs("processing", input_path);
  await choose(alice, "generation", false);
  assert.equal((await alice.generation(id))!.state, "canceled");
  assert.deepEqual(await alice.wallet(), { balance: 5, held: 0 });
  await cleanUp();
  await until("the model to be stopped", async () => (await predictionsOf(input_path)).every(({ status }) => status === "canceled") || undefined);
  await alice.forgotten();
});

test("what is owed to Replicate is not submitted for a restricted person", async () => {
  await arm({ fault: "create_429", count: 3, value: 0 });
  const alice = await Person.signUp("alice");
  const { id, state, input_path } = await alice.generate(await small);
  assert.equal(state, "reserved");
  await choose(alice, "generation", false);
  await disarm();
  await database`update private.generation_work set submit_at = now() where generation_id = ${id}`;
  await cleanUp();
  assert.equal((await alice.generation(id))!.state, "canceled");
  assert.deepEqual(await predictionsOf(input_path), []);
});

test("the version of the policy is agreed to at sign-up, and a new version asks again", async () => {
  const alice = await Person.signUp("alice", { policy_version: "2026-11" });
  const due = async (person: Person) => (await person.client.rpc("policy_to_agree_to")).data;
  assert.equal(await due(alice), null);
  const { data } = await alice.client.from("policy_consents").select("version, at");
  assert.deepEqual(data!.map(({ version }) => version), ["2026-11"]);
  // What was agreed to can be proved: anyone can compare the text that was published.
  const { data: versions } = await alice.client.from("policy_versions").select("digest");
  assert.deepEqual(versions!.map(({ digest }) => /^[0-9a-f]{64}$/.test(digest)), [true]);

  const bob = await Person.signUp("bob", { policy_version: "never published" });
  assert.equal(await due(bob), "2026-11");
  assert.equal((await bob.client.from("policy_consents").insert({ version: "2026-11" })).error, null);
  assert.equal(await due(bob), null);

  await database`insert into public.policy_versions (id, published_at, digest) values ('2099', now() - interval '1 second', repeat('0', 64))`;
  try {
    assert.equal(await due(alice), "2099");
  } finally {
    await database`delete from public.policy_versions where id = '2099'`;
  }
});

test("what is not published yet is seen by nobody, and nobody agrees to it", async () => {
  await database`insert into public.policy_versions (id, published_at, digest) values ('2098', now() + interval '1 day', repeat('0', 64))`;
  try {
    const alice = await Person.signUp("alice", { policy_version: "2098" });
    assert.deepEqual((await alice.client.from("policy_consents").select()).data, []);
    assert.equal((await alice.client.rpc("policy_to_agree_to")).data, "2026-11");
    assert.deepEqual((await alice.client.from("policy_versions").select("id")).data, [{ id: "2026-11" }]);
    assert.equal((await alice.client.from("policy_consents").insert({ version: "2098" })).error!.code, "42501");
  } finally {
    await database`delete from public.policy_versions where id = '2098'`;
  }
});

test("who has restricted generation is told so, whatever else is missing", async () => {
  const alice = await Person.signUp("alice");
  await choose(alice, "generation", false);
  const refused = await alice.submit({ style: "mosaic", input_path: `${alice.id}/${randomUUID()}.jpg` });
  assert.deepEqual([refused.status, ((await refused.json()) as { code: string }).code], [403, "generation_restricted"]);
});
