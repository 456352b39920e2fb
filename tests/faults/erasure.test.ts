// An erasure or an export that is killed after any of its steps still finishes (X6).

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { columnsWith } from "../journeys/canary/search.ts";
import { type Artwork, fillGallery } from "../journeys/gallery.ts";
import { Person } from "../journeys/person.ts";
import { small } from "../journeys/photos.ts";
import { arm, cleanUp, database } from "../journeys/stack.ts";
import type { CrashPoint } from "../lab/functions.ts";
import { MailServer } from "../lab/mail.ts";
import { passTime } from "../lab/time.ts";
import { predictionThatIs } from "./replicate.ts";
import { lab } from "./lab.ts";

/** Runs sweeps, with some time between them, until `isDone`. */
async function sweepUntil(what: string, isDone: () => Promise<boolean>): Promise<void> {
  for (let sweeps = 0; !(await isDone()); sweeps += 1) {
    assert.ok(sweeps < 12, `${what} after ${sweeps} sweeps`);
    await passTime(125);
    await cleanUp();
  }
}

const erasurePoints: CrashPoint[] = [
  ...(["erasure.ordered", "erasure.advanced", "erasure.leaving", "erasure.left", "erasure.signed"] as const),
  ...(["outbox.called", "deletion.executed", "deletion.looked"] as const),
];

for (const point of erasurePoints) {
  test(`an erasure whose worker is killed at ${point} still completes and leaves nothing about the person`, async () => {
    await arm({ fault: "stuck_processing" });
    const alice = await Person.signUp("alice");
    await fillGallery(alice, 3, 20);
    const { input_path } = await alice.generate(await small);
    await predictionThatIs("processing", input_path);
    await lab.functions.crashAt(point);
    await alice.call("POST", "/privacy/erasures", { email: alice.email }).catch(() => undefined);
    await cleanUp().catch(() => undefined);
    await lab.functions.crashed();
    await lab.functions.restart();
    const [open] = await database`select id, stage from private.erasures order by ordered_at desc limit 1`;
    await sweepUntil("not erased", async () => {
      const [{ stage }] = await database`select stage from private.erasures where id = ${open!.id}`;
      return stage === "done";
    });
    assert.deepEqual([...(await columnsWith(alice.id)), ...(await columnsWith(alice.email))], []);
    assert.equal((await database`select from storage.objects where name like ${`${alice.id}/%`}`).length, 0);
    assert.deepEqual([...(await database`select * from backend.audit_credits()`)], []);
  });
}

test("an email whose worker dies after sending it is sent at most once more, and its address is deleted", async () => {
  const mailServer = await MailServer.start();
  try {
    const other = await lab.another(mailServer.env);
    const alice = await Person.signUp("alice");
    // Only her email is due, so the worker dies while it sends that one.
    await database`delete from private.emails where sent_at is null`;
    await alice.call("POST", "/privacy/erasures", { email: alice.email });
    await other.crashAt("email.sent");
    await cleanUp(other.url).catch(() => undefined);
    await other.crashed();
    await other.restart();
    await passTime(601);
    await cleanUp(other.url);
    assert.equal(mailServer.to(alice.email).length, 2);
    assert.deepEqual(await columnsWith(alice.email), []);
  } finally {
    await mailServer.stop();
  }
});

const exportPoints: CrashPoint[] = ["export.leased", "export.planned", "export.begun", "export.recorded", "export.sent"];

for (const point of exportPoints) {
  test(`an export whose worker is killed at ${point} continues where it stopped and is complete`, async () => {
    const alice = await Person.signUp("alice");
    await fillGallery(alice, 12, 2000);
    await alice.call("POST", "/privacy/exports");
    await lab.functions.crashAt(point);
    for (const _ of ["once", "twice"]) {
      await cleanUp().catch(() => undefined);
      await lab.functions.crashed();
      await lab.functions.crashAt(point);
      await passTime(125);
    }
    await lab.functions.restart();
    const state = async () => (await alice.client.from("exports").select("state, path, bytes_total, bytes_done").single()).data!;
    await sweepUntil("not exported", async () => (await state()).state === "ready");
    const { path, bytes_total } = await state();
    assert.ok(bytes_total > 12 * 1024 * 1024);
    const { data } = await alice.client.storage.from("exports").download(path);
    const folder = mkdtempSync(join(tmpdir(), "export-"));
    try {
      writeFileSync(join(folder, "export.zip"), Buffer.from(await data!.arrayBuffer()));
      execFileSync("python3", ["-m", "zipfile", "-e", "export.zip", "."], { cwd: folder });
      execFileSync("sha256sum", ["--check", "--strict", "--quiet", "manifest.sha256"], { cwd: folder });
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
}

test("if two workers build one export, the second finds it taken, and the export is one file", async () => {
  const alice = await Person.signUp("alice");
  await fillGallery(alice, 6, 2000);
  await alice.call("POST", "/privacy/exports");
  const other = await lab.another();
  const reports = await Promise.all([cleanUp(other.url), cleanUp(lab.functions.url)]);
  assert.equal(reports.reduce((sum, { exported }) => sum + Number(exported), 0), 1);
  assert.equal((await database`select from storage.objects where bucket_id = 'exports' and name like ${`${alice.id}/%`}`).length, 1);
});

/**
 * An export with a piece that was sent but not recorded; in a small gallery this is the last piece. Returns the
 * gallery.
 */
async function sent(person: Person, artworks = 2, kilobytes = 20): Promise<Artwork[]> {
  const gallery = await fillGallery(person, artworks, kilobytes);
  await person.call("POST", "/privacy/exports");
  await lab.functions.crashAt("export.sent");
  await cleanUp().catch(() => undefined);
  await lab.functions.crashed();
  await lab.functions.restart();
  return gallery;
}

test("an artwork that is deleted during an export is in no export", async () => {
  const alice = await Person.signUp("alice");
  const [deleted] = await sent(alice, 8, 2000);
  assert.equal((await alice.call("DELETE", `/generations/${deleted!.id}`)).status, 204);
  await sweepUntil("not exported", async () => (await alice.client.from("exports").select("state").single()).data!.state === "ready");
  const { path } = (await alice.client.from("exports").select("path").single()).data!;
  const { data } = await alice.client.storage.from("exports").download(path);
  assert.ok(!Buffer.from(await data!.arrayBuffer()).includes(`artworks/${deleted!.id}`));
});

test("an export that Storage refuses is retried with growing pauses, then given up and reported as failed", async () => {
  const alice = await Person.signUp("alice");
  await alice.call("POST", "/privacy/exports");
  lab.supabase.misbehave({ fault: "status", status: 413, when: /^POST \/storage\/v1\/upload/, count: 1000 });
  await cleanUp();
  assert.equal((await alice.client.from("exports").select("state").single()).data!.state, "building");
  await database`update private.export_work set attempts = 40, due_at = now()`;
  await cleanUp();
  assert.equal((await alice.client.from("exports").select("state").single()).data!.state, "failed");
  // This includes the copy of her data.
  assert.equal((await database`select from private.export_files as f join public.exports as e on e.id = f.export_id where e.person_id = ${alice.id}`).length, 0);
  lab.heal();
  assert.equal((await alice.call("POST", "/privacy/exports")).status, 202);
  await sweepUntil("not exported", async () => (await alice.client.from("exports").select("state").eq("state", "ready")).data!.length === 1);
});

test("an export that Storage confirms but does not have starts again", async () => {
  const alice = await Person.signUp("alice");
  await sent(alice);
  const { path: lost } = (await alice.client.from("exports").select("path").single()).data!;
  await database.begin(async (sql) => {
    await sql`set local session_replication_role = replica`;
    await sql`delete from storage.objects where name = ${lost}`;
  });
  await sweepUntil("not exported", async () => (await alice.client.from("exports").select("state").single()).data!.state === "ready");
  const { path } = (await alice.client.from("exports").select("path").single()).data!;
  assert.notEqual(path, lost);
  assert.equal((await alice.client.storage.from("exports").download(path)).error, null);
});

test("an export that another version of the functions began starts again from the beginning", async () => {
  const alice = await Person.signUp("alice");
  await sent(alice, 12, 2000);
  // In that version, the README was one character shorter.
  await database`update public.exports set bytes_total = bytes_total - 1 where person_id = ${alice.id}`;
  await sweepUntil("not exported", async () => (await alice.client.from("exports").select("state").single()).data!.state === "ready");
  const { path, bytes_total } = (await alice.client.from("exports").select("path, bytes_total").single()).data!;
  const { data } = await alice.client.storage.from("exports").download(path);
  assert.equal(data!.size, bytes_total);
});

test("an erasure is not delayed by an upload that is complete by now and cannot be abandoned", async () => {
  const alice = await Person.signUp("alice");
  await sent(alice);
  const { id } = (await (await alice.call("POST", "/privacy/erasures", { email: alice.email })).json()) as { id: string };
  await passTime(125);
  await cleanUp();
  const [{ stage }] = await database`select stage from private.erasures where id = ${id}`;
  assert.equal(stage, "done");
  assert.equal((await database`select from private.outbox`).length, 0);
});

test("an export that cannot be planned is given up and does not delay the exports of others", async () => {
  const [alice, bob] = [await Person.signUp("alice"), await Person.signUp("bob")];
  const [artwork] = await fillGallery(alice, 1, 20);
  await database.unsafe(`
    create function private.refuse_plan() returns trigger language plpgsql as $$begin
      if new.object = '${artwork!.artwork_path}' then raise exception 'too much'; end if; return new;
    end$$;
    create trigger refuse_plan before insert on private.export_files for each row execute function private.refuse_plan()`);
  try {
    for (const person of [alice, bob]) await person.call("POST", "/privacy/exports");
    await cleanUp();
    const state = async (person: Person) => (await person.client.from("exports").select("state").single()).data!.state;
    assert.deepEqual([await state(alice), await state(bob)], ["building", "ready"]);
    await passTime(3 * 86_400);
    await cleanUp();
    assert.equal(await state(alice), "failed");
  } finally {
    await database`drop function private.refuse_plan cascade`;
  }
});
