// What the operator can see.

import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, afterEach, test } from "node:test";
import postgres from "postgres";
import { startFunctions } from "../lab/functions.ts";
import { passTime } from "../lab/time.ts";
import { askForStatus, ended, status } from "./operator.ts";
import { Person } from "./person.ts";
import { small } from "./photos.ts";
import { arm, cleanUp, database, disarm, wakeWalks } from "./stack.ts";

/** Connects as the operator would. */
const migrator = postgres(process.env.DATABASE_URL!, { onnotice: () => {}, max: 1 });

afterEach(disarm);
after(() => Promise.all([database.end(), migrator.end()]));

test("only the operator can read the status", async () => {
  const alice = await Person.signUp("alice");
  for (const secret of ["", "guess", alice.token, process.env.SUPABASE_PUBLISHABLE_KEY]) {
    const answer = await askForStatus("*/*", secret);
    assert.equal(answer.status, 401);
    assert.equal(((await answer.json()) as { code: string }).code, "not_operator");
  }
});

test("the status shows running jobs, open holds, due work and recent results", async () => {
  await cleanUp();
  const before = await status();
  const alice = await Person.signUp("alice");
  await alice.upload(await small);
  await arm({ fault: "webhook_drop", count: 2 }, { fault: "stuck_processing", count: 2 });
  await alice.generate(await small);
  const canceled = await alice.generate(await small, { model: "kontext-max" });
  await passTime(130, "silent");
  const now = await status();
  const dispatched = now.generations.find(({ state }) => state === "dispatched")!;
  assert.ok(dispatched.oldest_seconds >= 130);
  assert.equal(now.holds.open, before.holds.open + 2);
  assert.equal(now.holds.credits, before.holds.credits + 3);
  assert.equal(now.inputs.stored, before.inputs.stored + 3);
  assert.ok(now.sweep.last_seconds >= 130 && now.sweep.last_seconds < 160);
  assert.equal(now.ledger.differences, 0);

  await alice.call("POST", `/generations/${canceled.id}/cancel`);
  await passTime(480);
  await cleanUp();
  const after = await status();
  assert.deepEqual([after.generations, after.dispatches.due, after.holds.open, after.deletions.due], [[], 0, 0, 0]);
  assert.equal(ended("canceled", after), ended("canceled", before) + 1);
  assert.equal(ended("expired", after), ended("expired", before) + 1);
});

test("the status counts failures for a day, even if users delete the artwork or the account", async () => {
  await cleanUp();
  const before = await status();
  const [alice, bob] = [await Person.signUp("alice"), await Person.signUp("bob")];
  await arm({ fault: "fail_model" });
  const failed = await alice.ended((await alice.generate(await small)).id);
  const missing = await alice.ended((await alice.generate(await small)).id);
  await database.begin(async (sql) => {
    await sql`set local session_replication_role = replica`;
    await sql`delete from storage.objects where name = ${missing.artwork_path}`;
  });
  assert.equal((await bob.call("POST", "/privacy/exports")).status, 202);
  await database`update private.export_work set attempts = 40`;
  await passTime(3700);
  await wakeWalks();
  await cleanUp();
  await arm({ fault: "stuck_processing" });
  const open = await alice.generate(await small);

  for (const { id } of [failed, missing, open]) assert.equal((await alice.call("DELETE", `/generations/${id}`)).status, 204);
  for (const person of [alice, bob]) await person.call("POST", "/privacy/erasures", { email: person.email });
  await cleanUp();
  assert.equal((await database`select from auth.users where id in (${alice.id}, ${bob.id})`).length, 0);
  const now = await status();
  assert.deepEqual(
    [ended("model_error", now), ended("canceled", now), now.audit.missing, now.exports.failed],
    [ended("model_error", before) + 1, ended("canceled", before) + 1, before.audit.missing + 1, before.exports.failed + 1],
  );
});

test("as text, the status is a table that highlights what needs attention", async () => {
  await cleanUp();
  const quiet = await (await askForStatus("*/*")).text();
  assert.match(quiet, /^UNDER WAY +count +oldest +past deadline$/m);
  assert.match(quiet, /^ {2}last sweep +\d+ s ago +in time$/m);
  assert.match(quiet, /^ {2}ledger differences +0 +checked \d+ (s|min) ago$/m);
  await passTime(400, "silent");
  assert.match(await (await askForStatus("*/*")).text(), /^ {2}last sweep +6 min ago +LATE !$/m);
});

test("the status shows whether artworks are signed, and how long the certificate stays valid (X7)", async () => {
  const certificate = new X509Certificate(process.env.CONTENT_CREDENTIALS_CERTIFICATE!);
  const { is_signed, certificate_seconds_left } = (await status()).marks;
  assert.equal(is_signed, true);
  const left = (Date.parse(certificate.validTo) - Date.now()) / 1000;
  assert.ok(Math.abs(certificate_seconds_left! - left) < 60, `${certificate_seconds_left} s, not ${left} s`);
  assert.match(await (await askForStatus("*/*")).text(), /^ {2}marks of artworks +signed, certificate ends in \d+ d$/m);

  const unsigned = { CONTENT_CREDENTIALS_CERTIFICATE: "", CONTENT_CREDENTIALS_KEY: "" };
  const [functions, before] = [await startFunctions({ ...unsigned, CLEANUP_INTERVAL_SECONDS: "0" }), process.env.FUNCTIONS_URL!];
  process.env.FUNCTIONS_URL = functions.url;
  try {
    assert.deepEqual((await status()).marks, { is_signed: false, certificate_seconds_left: null });
    assert.match(await (await askForStatus("*/*")).text(), /^ {2}marks of artworks +NOT SIGNED, no certificate$/m);
  } finally {
    process.env.FUNCTIONS_URL = before;
    await functions.stop();
  }
});

test("the status counts a difference in the ledger, whatever its cause", async () => {
  const alice = await Person.signUp("alice");
  const tamper = (by: number) =>
    database.begin(async (sql) => {
      await sql`set local session_replication_role = replica`;
      await sql`update public.wallets set balance = balance + ${by} where person_id = ${alice.id}`;
    });
  /** The number of differences that the next audit of the ledger finds. */
  const counted = async () => {
    await wakeWalks();
    await cleanUp();
    return (await status()).ledger.differences;
  };
  await tamper(3);
  try {
    assert.equal(await counted(), 1);
    assert.match(await (await askForStatus("*/*")).text(), /^ {2}ledger differences +1 ! +checked \d+ s ago$/m);
    const [found] = await database`select difference, expected::int, found::int from backend.audit_credits()`;
    assert.deepEqual({ ...found }, { difference: "balance", expected: 5, found: 8 });
  } finally {
    await tamper(-3);
  }
  assert.equal(await counted(), 0);
});

test("every statement in the runbook runs without an error", async () => {
  const runbook = readFileSync(join(import.meta.dirname, "..", "..", "docs", "runbook.md"), "utf8");
  const blocks = [...runbook.matchAll(/^```sql\n([^]*?)^```/gm)].map(([, block]) => block!);
  assert.ok(blocks.length >= 8, `${blocks.length} blocks`);
  const [{ email }] = await database`
    select u.email from auth.users as u where u.id = ${(await Person.signUp("alice")).id}`;
  for (const block of blocks) {
    const undone = new Error("undone");
    await migrator
      .begin(async (sql) => {
        await sql.unsafe(block.replaceAll("ada@example.com", email)).simple();
        throw undone;
      })
      .catch((error: Error) => {
        if (error !== undone) assert.fail(`${block}\n${error.message}`);
      });
  }
});

test("the statements in the runbook repair a ledger with differences", async () => {
  const runbook = readFileSync(join(import.meta.dirname, "..", "..", "docs", "runbook.md"), "utf8");
  const repair = runbook.slice(runbook.indexOf("## The ledger differs"), runbook.indexOf("## Replicate is down"));
  const statements = [...repair.matchAll(/^```sql\n([^]*?)^```/gm)].map(([, block]) => block!).slice(1);
  const alice = await Person.signUp("alice");
  await arm({ fault: "stuck_processing" }, { fault: "webhook_drop" });
  const { id } = await alice.generate(await small);
  await database.begin(async (sql) => {
    await sql`set local session_replication_role = replica`;
    await sql`update public.generations set state = 'canceled', finished_at = now() where id = ${id}`;
    await sql`update public.wallets set balance = 9, held = 3 where person_id = ${alice.id}`;
  });
  const differences = async () => (await database`select difference from backend.audit_credits() order by 1`).map((row) => row.difference);
  assert.deepEqual(await differences(), ["balance", "held", "open_hold", "settlement"]);
  for (const statement of statements) await migrator.unsafe(statement).simple();
  assert.deepEqual(await differences(), []);
  assert.deepEqual(await alice.wallet(), { balance: 5, held: 0 });
});
