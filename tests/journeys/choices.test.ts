// Users allow and refuse purposes, and the database enforces their choices (G6, G7).

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

test("anyone may read the purposes, and without a choice all of them except analytics are allowed", async () => {
  const alice = await Person.signUp("alice");
  const { data } = await alice.client.from("purposes").select("id, allowed_by_default").order("position");
  assert.deepEqual(data!.map(({ id, allowed_by_default }) => [id, allowed_by_default]),
    [["generation", true], ["analytics", false], ["improvement", true], ["notices", true]]);
  assert.equal((await alice.ended((await alice.generate(await small)).id)).state, "succeeded");
});

test("every choice stays in the history, and users cannot change it", async () => {
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

test("a user who changes a choice too often must wait, and the last choice counts", async () => {
  const alice = await Person.signUp("alice");
  for (let number = 0; number < 20; number += 1) await choose(alice, "improvement", number % 2 === 0);
  const { error } = await alice.client.from("privacy_choices").insert({ purpose: "improvement", allowed: true });
  assert.equal(error!.hint, "too_many_choices");
  const [{ allowed }] = await database`select private.allows(${alice.id}, 'improvement') as allowed`;
  assert.equal(allowed, false);
  await choose(alice, "analytics", false);
});

test("the API tells a restricted user why it refuses, and charges nothing", async () => {
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

test("the database refuses to charge or submit for a restricted user, even for the service role", async () => {
  const alice = await Person.signUp("alice");
  const input_path = await alice.upload(await small);
  await choose(alice, "generation", false);
  const begun = await alice.client.rpc("begin_generation", {
    style: "mosaic", input_path, idempotency_key: "direct", lease: randomUUID(),
  });
  assert.match(begun.error!.message, /refused the making/);

  const [{ id: wallet }] = await database`select id from public.wallets where person_id = ${alice.id}`;
  const generation = {
    ...{ person_id: alice.id, idempotency_key: "k", style: "mosaic", style_version: 1, model: "kontext-pro", prompt: "a prompt" },
    ...{ settings: {}, credits: 1, input_path, deadline_at: new Date() },
  };
  for (const role of ["service_role", "postgres", "supabase_admin"]) {
    const as = (what: (sql: typeof database) => Promise<unknown>) =>
      database.begin(async (sql) => {
        await sql.unsafe(`grant insert on public.generations, public.credit_holds to service_role; set local role ${role}`);
        await what(sql as unknown as typeof database);
      });
    const begun = as((sql) => sql`insert into public.generations ${sql(generation as never)}`);
    await assert.rejects(begun, /refused the making/, role);
    const hold = { wallet_id: wallet, generation_id: randomUUID(), amount: 1 };
    await assert.rejects(as((sql) => sql`insert into public.credit_holds ${sql(hold)}`), /refused the making/, role);
  }
  // Each of the two triggers refuses without the other.
  await assert.rejects(database.begin(async (sql) => {
    await sql`alter table public.credit_holds disable trigger credit_holds_unrestricted`;
    await sql`insert into public.generations ${sql(generation as never)}`;
  }), /refused the making/);
  assert.deepEqual(await alice.wallet(), { balance: 5, held: 0 });
});

test("restricting generation ends running jobs at once and stops the model", async () => {
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

test("a sweep does not dispatch a waiting job of a restricted user", async () => {
  await arm({ fault: "create_429", count: 3, value: 0 });
  const alice = await Person.signUp("alice");
  const { id, state, input_path } = await alice.generate(await small);
  assert.equal(state, "reserved");
  await choose(alice, "generation", false);
  await disarm();
  await database`update private.generation_work set dispatch_at = now() where generation_id = ${id}`;
  await cleanUp();
  assert.equal((await alice.generation(id))!.state, "canceled");
  assert.deepEqual(await predictionsOf(input_path), []);
});

test("a user agrees to a version of the policy at sign-up, and is asked again for a new version", async () => {
  const alice = await Person.signUp("alice", { policy_version: "2026-11" });
  const due = async (person: Person) => (await person.client.rpc("policy_to_agree_to")).data;
  assert.equal(await due(alice), null);
  const { data } = await alice.client.from("policy_consents").select("version, at");
  assert.deepEqual(data!.map(({ version }) => version), ["2026-11"]);
  // The digest proves what users agreed to: anyone can compare it with the published text.
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

test("no user can see or accept a version of the policy before it is published", async () => {
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

test("the API tells a restricted user about the restriction first, whatever else is wrong with the request", async () => {
  const alice = await Person.signUp("alice");
  await choose(alice, "generation", false);
  const refused = await alice.submit({ style: "mosaic", input_path: `${alice.id}/${randomUUID()}.jpg` });
  assert.deepEqual([refused.status, ((await refused.json()) as { code: string }).code], [403, "generation_restricted"]);
});
