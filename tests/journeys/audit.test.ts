// The first audit after the grace period finds and corrects changes that went around the product (X3).

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { createClient } from "@supabase/supabase-js";
import ws from "ws";
import { passTime } from "../lab/time.ts";
import { Person } from "./person.ts";
import { small } from "./photos.ts";
import { cleanUp, database, wakeWalks } from "./stack.ts";

after(() => database.end());

/** A client that misuses the secret key. */
const meddler = createClient(process.env.SUPABASE_URL!, process.env.SUPABASE_SECRET_KEY!, {
  auth: { persistSession: false, autoRefreshToken: false },
  realtime: { transport: ws as never },
});

const auditGraceSeconds = 3600;

async function put(bucket: string, path: string): Promise<void> {
  const { error } = await meddler.storage.from(bucket).upload(path, await small, { contentType: "image/jpeg", upsert: true });
  assert.equal(error, null);
}

async function exists(bucket: string, path: string): Promise<boolean> {
  const { error } = await meddler.storage.from(bucket).download(path);
  return error === null;
}

/** Changes data without triggers, as a restored backup or manual SQL would. */
async function behind(change: (sql: typeof database) => Promise<unknown>): Promise<void> {
  await database.begin(async (sql) => {
    await sql`set local session_replication_role = replica`;
    await change(sql as unknown as typeof database);
  });
}

async function status(): Promise<{ audit: { orphaned: number; missing: number }; ledger: { differences: number } }> {
  const headers = { accept: "application/json", authorization: `Bearer ${process.env.OPERATOR_SECRET}` };
  return (await (await fetch(`${process.env.FUNCTIONS_URL}/status`, { headers })).json()) as Awaited<ReturnType<typeof status>>;
}

test("the audit deletes an artwork without a row after the grace period, with a receipt", async () => {
  const alice = await Person.signUp("alice");
  const { id, artwork_path } = await alice.ended((await alice.generate(await small)).id);
  await alice.forgotten();
  const before = await status();
  await behind(async (sql) => {
    for (const table of ["private.generation_work", "public.processing_log", "private.webhook_events"])
      await sql.unsafe(`delete from ${table} where generation_id = '${id}'`);
    await sql`delete from public.generations where id = ${id}`;
  });
  await passTime(auditGraceSeconds - 60);
  await cleanUp();
  assert.equal(await exists("artworks", artwork_path!), true);
  await passTime(120);
  await wakeWalks();
  const report = await cleanUp();
  assert.equal(await exists("artworks", artwork_path!), false);
  assert.equal((report.closed as unknown as Record<string, number>).orphaned, 1);
  assert.equal((await status()).audit.orphaned, before.audit.orphaned + 1);
  const [deletion] = (await alice.deletions()).filter(({ reason }) => reason === "orphaned");
  assert.ok(deletion!.verified_at);
});

test("the audit deletes stray objects in the folders of users and anywhere else", async () => {
  const alice = await Person.signUp("alice");
  const strays = [`${alice.id}/${crypto.randomUUID()}.jpg`, "somewhere/else/stray.jpg", "stray.jpg"];
  for (const path of strays) await put("artworks", path);
  // In `inputs`, a stray object looks like an upload that is not submitted yet, so it stays until the soft limit.
  for (const path of strays.slice(1)) await put("inputs", path);
  await passTime(auditGraceSeconds + 60);
  await cleanUp();
  for (const path of strays) assert.equal(await exists("artworks", path), false, path);
  await passTime(24 * 3600);
  await cleanUp();
  for (const path of strays.slice(1)) assert.equal(await exists("inputs", path), false, path);
});

test("the audit deletes a photo again if it was put back, even if the record of its deletion is gone", async () => {
  const alice = await Person.signUp("alice");
  const [first, second] = [await alice.generate(await small), await alice.generate(await small)];
  for (const { id } of [first, second]) await alice.ended(id);
  await alice.forgotten();
  await behind((sql) => sql`delete from public.deletions where path = ${second.input_path}`);
  for (const { input_path } of [first, second]) await put("inputs", input_path);
  await passTime(auditGraceSeconds + 60);
  await cleanUp();
  for (const { input_path } of [first, second]) {
    assert.equal(await exists("inputs", input_path), false);
    const of = (await alice.deletions()).filter(({ path }) => path === input_path);
    assert.ok(of.some(({ reason, verified_at }) => reason === "orphaned" && verified_at));
  }
});

test("if an artwork disappears from Storage, the audit records it, reports it and refunds it once", async () => {
  const alice = await Person.signUp("alice");
  const { id, artwork_path } = await alice.ended((await alice.generate(await small)).id);
  const kept = await alice.ended((await alice.generate(await small)).id);
  const before = await status();
  assert.equal((await meddler.storage.from("artworks").remove([artwork_path!])).data?.length, 1);
  assert.deepEqual(await alice.wallet(), { balance: 3, held: 0 });
  await passTime(auditGraceSeconds + 60);
  for (let sweeps = 0; sweeps < 2; sweeps += 1) {
    await cleanUp();
    assert.deepEqual(await alice.wallet(), { balance: 4, held: 0 });
  }
  assert.ok((await alice.generation(id))!.artwork_missing_at);
  assert.equal((await alice.generation(kept.id))!.artwork_missing_at, null);
  const { data } = await alice.client.from("credit_entries").select("kind, amount, reason").eq("kind", "refund");
  assert.deepEqual(data, [{ kind: "refund", amount: 1, reason: "artwork missing" }]);
  const after = await status();
  assert.deepEqual([after.audit.missing, after.ledger.differences], [before.audit.missing + 1, 0]);
  assert.equal((await alice.call("DELETE", `/generations/${id}`)).status, 204);
  await alice.forgotten();
});

test("the audit keeps photos that are not submitted yet and artworks of succeeded generations", async () => {
  const alice = await Person.signUp("alice");
  const { artwork_path } = await alice.ended((await alice.generate(await small)).id);
  const waiting = await alice.upload(await small);
  await passTime(auditGraceSeconds + 60);
  await cleanUp();
  await cleanUp();
  assert.deepEqual([await exists("artworks", artwork_path!), await exists("inputs", waiting)], [true, true]);
});

test("the audit continues a long walk where its last call stopped", async () => {
  const alice = await Person.signUp("alice");
  const paths = await Promise.all(Array.from({ length: 7 }, async () => alice.upload(await small)));
  await database`update storage.objects set created_at = now() - interval '25 hours' where name = any(${paths})`;
  const closed: number[] = [];
  for (let done = false; !done; ) {
    const [{ answer }] = await database`select backend.audit_inputs(batch => 3) as answer`;
    done = answer.done;
    closed.push(answer.closed.limit_reached ?? 0);
  }
  assert.equal(closed.reduce((sum, count) => sum + count), 7);
  assert.ok(closed.length >= 3 && closed.every((count) => count <= 3), String(closed));
  await cleanUp();
  assert.deepEqual((await alice.client.storage.from("inputs").list(alice.id)).data, []);
});
