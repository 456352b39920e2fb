// A pass whose other steps fail or stall: what must be deleted is deleted all the same, and said (R1, X2).

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { type AddressInfo, type Socket, createServer } from "node:net";
import { test } from "node:test";
import { Person } from "../journeys/person.ts";
import { small } from "../journeys/photos.ts";
import { cleanUp, database } from "../journeys/stack.ts";
import { lab } from "./lab.ts";

/** A photo that nobody submitted, and whose time is over. */
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
  ["settling", "generations_to_settle"],
  ["submitting what is owed", "lease_submissions"],
  ["erasing", "lease_erasures"],
  ["making calls that are owed", "lease_errands"],
  ["asking Replicate what it keeps", "lease_removals"],
  ["looking at requests", "privacy_status"],
  ["expiring rows", "expire_rows"],
  ["exporting", "lease_export"],
];

for (const [what, calls] of steps) {
  test(`${what} fails, and the pass deletes and says so all the same`, async () => {
    const alice = await Person.signUp("alice");
    const path = await overdue(alice);
    const before = await heartbeat();
    lab.supabase.misbehave({ fault: "status", status: 500, when: new RegExp(`/rpc/${calls}$`), count: 3 });
    const report = await cleanUp();
    assert.equal(lab.supabase.struck >= 3, true);
    assert.deepEqual([await exists(path), report.complete], [false, false]);
    assert.ok((await heartbeat()) > before);
  });
}

for (const calls of ["audit_inputs", "lease_deletions", "record_heartbeat"]) {
  test(`without ${calls} no pass counts, and what else is due is done`, async () => {
    const alice = await Person.signUp("alice");
    const before = await heartbeat();
    await alice.call("POST", "/privacy/exports");
    lab.supabase.misbehave({ fault: "status", status: 500, when: new RegExp(`/rpc/${calls}$`), count: 3 });
    await assert.rejects(cleanUp(), /503/);
    assert.deepEqual(await heartbeat(), before);
    assert.equal((await alice.client.from("exports").select("state").single()).data!.state, "ready");
  });
}

test("a mail server that takes the connection and says nothing holds up no pass", async () => {
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
    await database`insert into private.letters (person_id, kind, subject) values (${alice.id}, 'request_filed', ${id})`;
    const report = await cleanUp(other.url);
    assert.deepEqual([await exists(path), report.letters], [false, 0]);
    assert.ok(sockets.size > 0);
    const [{ attempts }] = await database`select attempts from private.letters where subject = ${id}`;
    assert.equal(attempts, 1);
    await database`delete from private.letters where subject = ${id}`;
  } finally {
    for (const socket of sockets) socket.destroy();
    await new Promise((closed) => silent.close(closed));
  }
});

test("an object whose length nobody knows is deleted like any other, and holds up nothing", async () => {
  const alice = await Person.signUp("alice");
  const paths = [await overdue(alice), await overdue(alice)];
  await database`update storage.objects set metadata = metadata || '{"size": "many"}' where name = ${paths[0]!}`;
  await cleanUp();
  for (const path of paths) assert.equal(await exists(path), false);
});
