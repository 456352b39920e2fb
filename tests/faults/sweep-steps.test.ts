// If other steps of a sweep fail or stall, due deletions are still done and reported (R1, X2).

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { type AddressInfo, type Socket, createServer } from "node:net";
import { test } from "node:test";
import { Person } from "../journeys/person.ts";
import { small } from "../journeys/photos.ts";
import { cleanUp, database } from "../journeys/stack.ts";
import { passTime } from "../lab/time.ts";
import { lab } from "./lab.ts";

/** A photo that was never submitted and is past its limit. */
async function overdue(person: Person): Promise<string> {
  const path = await person.upload(await small);
  await database`update storage.objects set created_at = now() - interval '25 hours' where name = ${path}`;
  return path;
}

const exists = async (path: string) => (await database`select from storage.objects where name = ${path}`).length === 1;

async function heartbeat(): Promise<Date> {
  const [{ at }] = await database`select at from private.heartbeats where id = 'cleanup'`;
  return at;
}

const steps: [what: string, calls: string][] = [
  ["auditing artworks", "audit_artworks"],
  ["settling", "settle_generations"],
  ["dispatching what is due", "lease_dispatches"],
  ["erasing", "lease_erasures"],
  ["making calls that are due", "lease_outbox"],
  ["asking Replicate what it keeps", "lease_removals"],
  ["expiring rows", "expire_rows"],
  ["exporting", "lease_export"],
];

/** Makes every retry of one call fail. */
function fails(call: string): void {
  lab.supabase.misbehave({ fault: "status", status: 500, when: new RegExp(`/rpc/${call}$`), count: 3 });
}

/** A sweep that does not learn what is due tries every step. */
const everyStepIsTried = () => fails("list_due_work");

for (const [what, calls] of steps) {
  test(`if ${what} fails, the sweep still deletes and reports that it is incomplete`, async () => {
    const alice = await Person.signUp("alice");
    const path = await overdue(alice);
    const before = await heartbeat();
    const struck = lab.supabase.struck;
    everyStepIsTried();
    fails(calls);
    const report = await cleanUp();
    assert.ok(lab.supabase.struck >= struck + 6);
    assert.deepEqual([await exists(path), report.complete], [false, false]);
    assert.ok((await heartbeat()) > before);
  });
}

for (const calls of ["lease_deletions", "record_heartbeat"]) {
  test(`if ${calls} fails, the sweep does not count, but it does everything else that is due`, async () => {
    const alice = await Person.signUp("alice");
    const before = await heartbeat();
    await alice.call("POST", "/privacy/exports");
    everyStepIsTried();
    fails(calls);
    await assert.rejects(cleanUp(), /503/);
    assert.deepEqual(await heartbeat(), before);
    assert.equal((await alice.client.from("exports").select("state").single()).data!.state, "ready");
  });
}

/** A photo whose deletion is ordered and due. */
async function ordered(person: Person): Promise<string> {
  const path = await person.upload(await small);
  await database`insert into public.deletions (bucket, path, reason, person_id) values ('inputs', ${path}, 'limit_reached', ${person.id})`;
  return path;
}

test("a sweep does not count if Storage does not answer, and the next sweep tries again (X2)", async () => {
  const alice = await Person.signUp("alice");
  const path = await ordered(alice);
  const before = await heartbeat();
  lab.supabase.misbehave({ fault: "refuse", when: /\/storage\/v1\//, count: Infinity });
  await assert.rejects(cleanUp(), /503/);
  assert.deepEqual(await heartbeat(), before);
  lab.heal();
  // The time between two sweeps.
  await passTime(60);
  await cleanUp();
  assert.equal(await exists(path), false);
  assert.ok((await heartbeat()) > before);
});

test("a sweep counts if Storage answers with failures, and the deletion is due again later (X2)", async () => {
  const alice = await Person.signUp("alice");
  const path = await ordered(alice);
  const before = await heartbeat();
  lab.supabase.misbehave({ fault: "status", status: 500, when: /\/storage\/v1\//, count: Infinity });
  const { remaining } = await cleanUp();
  assert.equal(remaining, 1);
  assert.ok((await heartbeat()) > before);
  lab.heal();
  await passTime(60);
  await cleanUp();
  assert.equal(await exists(path), false);
});

test("a sweep that does not learn what is due does everything, and counts", async () => {
  const alice = await Person.signUp("alice");
  const path = await overdue(alice);
  const before = await heartbeat();
  everyStepIsTried();
  const report = await cleanUp();
  assert.deepEqual([await exists(path), report.complete], [false, true]);
  assert.ok((await heartbeat()) > before);
});

test("a sweep with nothing to do makes two calls: one asks what is due, one writes the heartbeat", async () => {
  // First, everything that other tests left behind is finished.
  await passTime(49 * 3600);
  for (let sweeps = 0; sweeps < 3; sweeps += 1) await cleanUp();
  // Some tests left rows of objects that Storage never had. Those cannot be deleted.
  await database`update public.deletions set due_at = now() + interval '1 hour' where verified_at is null`;
  await database.begin(async (sql) => {
    await sql`set local storage.allow_delete_query = 'true'`;
    await sql`delete from storage.objects where bucket_id = 'inputs'`;
  });
  const [{ due }] = await database`select backend.list_due_work() as due`;
  const struck = lab.supabase.struck;
  lab.supabase.misbehave({ fault: "delay", ms: 0, count: Infinity });
  await cleanUp();
  assert.equal(lab.supabase.struck - struck, 2, JSON.stringify(due));
});

test("a mail server that accepts a connection and never answers does not delay a sweep", async () => {
  const sockets = new Set<Socket>();
  const silent = createServer((socket) => void sockets.add(socket));
  await new Promise<void>((listening) => silent.listen(0, "127.0.0.1", listening));
  try {
    const { port } = silent.address() as AddressInfo;
    const other = await lab.another({ SMTP_URL: `smtp://127.0.0.1:${port}`, MAIL_FROM: "a@example.com", APP_URL: "http://127.0.0.1/" });
    const alice = await Person.signUp("alice");
    const path = await overdue(alice);
    const [{ id }] = await database`
      insert into public.privacy_requests (person_id, channel, kind, mail_digest) values (${alice.id}, 'mail', 'other', ${randomUUID()}) returning id`;
    await database`insert into private.emails (person_id, kind, subject) values (${alice.id}, 'request_filed', ${id})`;
    const report = await cleanUp(other.url);
    assert.deepEqual([await exists(path), report.emails], [false, 0]);
    assert.ok(sockets.size > 0);
    const [{ attempts }] = await database`select attempts from private.emails where subject = ${id}`;
    assert.equal(attempts, 1);
    await database`delete from private.emails where subject = ${id}`;
  } finally {
    for (const socket of sockets) socket.destroy();
    await new Promise((closed) => silent.close(closed));
  }
});

test("an object of unknown length is deleted like any other and blocks nothing", async () => {
  const alice = await Person.signUp("alice");
  const paths = [await overdue(alice), await overdue(alice)];
  await database`update storage.objects set metadata = metadata || '{"size": "many"}' where name = ${paths[0]!}`;
  await cleanUp();
  for (const path of paths) assert.equal(await exists(path), false);
});
