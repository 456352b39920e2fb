// Tests for clauses that no other test covers. Each fails if its mechanism is removed.

import assert from "node:assert/strict";
import { after, afterEach, test } from "node:test";
import { predictionThatIs } from "../faults/replicate.ts";
import { until } from "../waiting.ts";
import { fillGallery } from "./gallery.ts";
import { Person } from "./person.ts";
import { small } from "./photos.ts";
import { arm, database, disarm } from "./stack.ts";

afterEach(() => disarm());
after(() => database.end());

test("the signed URL that Replicate gets expires no later than the deadline of the job (T4)", async () => {
  await arm({ fault: "stuck_processing" });
  const alice = await Person.signUp("alice");
  const generation = await alice.generate(await small);
  const { input } = await predictionThatIs("processing", generation.input_path);
  const token = new URL(input.input_image).searchParams.get("token")!;
  const { exp } = JSON.parse(Buffer.from(token.split(".")[1]!, "base64url").toString()) as { exp: number };
  const deadline = Date.parse(generation.deadline_at as string) / 1000;
  assert.ok(exp > Date.now() / 1000 && exp <= deadline + 1, `${exp} after ${deadline}`);
  await alice.call("POST", `/generations/${generation.id}/cancel`);
});

test("users page through their history from newest to oldest by an index, without duplicates or gaps (U5)", async () => {
  const alice = await Person.signUp("alice");
  const made = await fillGallery(alice, 12, 2);
  await database.begin(async (sql) => {
    // Skip the trigger that keeps `reserved_at` unchanged.
    await sql`set local session_replication_role = replica`;
    await sql`update public.generations as g set reserved_at = g.reserved_at - (n.place % 4) * interval '1 minute'
      from unnest(${made.map(({ id }) => id)}::uuid[]) with ordinality as n (id, place) where g.id = n.id`;
  });
  const page = async (after?: { reserved_at: string; id: string }) => {
    const query = alice.client.from("generations").select("id, reserved_at").order("reserved_at", { ascending: false }).order("id", { ascending: false }).limit(5);
    const { data, error } = await (after ? query.or(`reserved_at.lt."${after.reserved_at}",and(reserved_at.eq."${after.reserved_at}",id.lt.${after.id})`) : query);
    assert.equal(error, null);
    return data!;
  };
  const read: { id: string; reserved_at: string }[] = [...(await page())];
  // A generation that is submitted meanwhile is not on a later page.
  const { id: newest } = await alice.ended((await alice.generate(await small)).id);
  for (let next = await page(read.at(-1)); next.length > 0; next = await page(read.at(-1))) read.push(...next);
  assert.deepEqual(read.map(({ id }) => id).sort(), made.map(({ id }) => id).sort());
  const order = read.map(({ reserved_at, id }) => `${reserved_at} ${id}`);
  assert.deepEqual(order, [...order].sort().reverse());
  assert.equal((await page())[0]!.id, newest);

  const plan = await database.begin(async (sql) => {
    await sql`set local enable_seqscan = off`;
    await sql`set local enable_sort = off`;
    return sql`explain select * from public.generations where person_id = ${alice.id} order by reserved_at desc, id desc limit 5`;
  });
  assert.match(JSON.stringify(plan), /generations_person_newest_idx/);
});

test("users can use a new model and a new style as soon as their rows exist (U1, U2)", async () => {
  const alice = await Person.signUp("alice");
  await database`insert into public.models (id, name, replicate_model, credits, settings_schema, default_settings, position, available)
    select 'own-model', 'Own', replicate_model, 2, settings_schema, default_settings, 90, true from public.models where id = 'kontext-pro'`;
  await database`insert into private.style_versions (style, version, prompt) values ('own-style', 1, 'a style of their own, for a moment')`;
  await database`insert into public.styles (id, version, name, description, model, position) values ('own-style', 1, 'Own', 'Own', 'own-model', 90)`;
  try {
    const generation = await alice.ended((await alice.generate(await small, { style: "own-style" })).id);
    assert.deepEqual([generation.state, generation.model, generation.style_version, generation.credits], ["succeeded", "own-model", 1, 2]);
    assert.match(generation.prompt as string, /for a moment/);
  } finally {
    await database`update public.styles set available = false where id = 'own-style'`;
    await database`update public.models set available = false where id = 'own-model'`;
  }
});

test("a signed URL of an artwork expires on time (R6)", async () => {
  const alice = await Person.signUp("alice");
  const { artwork_path } = (await fillGallery(alice, 1, 2))[0]!;
  const { data } = await alice.client.storage.from("artworks").createSignedUrl(artwork_path, 1);
  assert.equal((await fetch(data!.signedUrl)).status, 200);
  await until("the signed URL to expire", async () => ((await fetch(data!.signedUrl)).ok ? undefined : true));
});

test("the bucket of photos refuses files that are too large or of another type (C1)", async () => {
  const alice = await Person.signUp("alice");
  const bucket = alice.client.storage.from("inputs");
  const path = (extension: string) => `${alice.id}/${crypto.randomUUID()}.${extension}`;
  assert.ok((await bucket.upload(path("jpg"), Buffer.alloc(26 * 1024 * 1024), { contentType: "image/jpeg" })).error);
  assert.ok((await bucket.upload(path("jpg"), Buffer.from("text"), { contentType: "text/plain" })).error);
  assert.equal((await bucket.upload(path("jpg"), await small, { contentType: "image/jpeg" })).error, null);
});

test("reports contain only aggregates, and nothing about a single user (R8)", async () => {
  const columns = await database`
    select c.relname || '.' || a.attname as name from pg_attribute as a join pg_class as c on c.oid = a.attrelid
    where c.relnamespace = 'backend'::regnamespace and c.relkind = 'v' and a.attnum > 0 order by 1`;
  assert.deepEqual(columns.map(({ name }) => name), [
    ...["avif_share", "browser", "median_viewport_width", "people", "pixel_ratio", "webp_share"].map((name) => `device_report.${name}`),
    ...["failed_share", "generations", "median_predict_seconds", "median_seconds", "model", "p95_seconds", "people", "style"].map((name) => `processing_report.${name}`),
    ...["events", "feature", "people"].map((name) => `usage_report.${name}`),
  ]);
});
