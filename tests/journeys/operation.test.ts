// What whoever operates this sees.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, afterEach, test } from "node:test";
import postgres from "postgres";
import { pass } from "../lab/time.ts";
import { Person } from "./person.ts";
import { small } from "./photos.ts";
import { arm, cleanUp, database, disarm, wakeWalks } from "./stack.ts";

interface Status {
  generations: { state: string; count: number; oldest_seconds: number; past_deadline: number }[];
  submissions: { due: number };
  holds: { open: number; credits: number };
  deletions: { ordered: number; due: number };
  inputs: { stored: number };
  sweep: { last_seconds: number };
  ledger: { differences: number };
  ended: { outcome: string; last_hour: number; last_day: number }[];
}

function ask(accept: string, secret = process.env.OPERATOR_SECRET): Promise<Response> {
  return fetch(`${process.env.FUNCTIONS_URL}/status`, { headers: { accept, authorization: `Bearer ${secret}` } });
}

async function status(): Promise<Status> {
  const answer = await ask("application/json");
  assert.equal(answer.status, 200);
  return (await answer.json()) as Status;
}

/** As whoever operates it connects. */
const migrator = postgres(process.env.DATABASE_URL!, { onnotice: () => {}, max: 1 });

afterEach(disarm);
after(() => Promise.all([database.end(), migrator.end()]));

test("the status is for the operator alone", async () => {
  const alice = await Person.signUp("alice");
  for (const secret of ["", "guess", alice.token, process.env.SUPABASE_PUBLISHABLE_KEY]) {
    const answer = await ask("*/*", secret);
    assert.equal(answer.status, 401);
    assert.equal(((await answer.json()) as { code: string }).code, "not_operator");
  }
});

test("the status says what is under way, what is held, what is due and how things ended", async () => {
  await cleanUp();
  const before = await status();
  const alice = await Person.signUp("alice");
  await alice.upload(await small);
  await arm({ fault: "webhook_drop", count: 2 }, { fault: "stuck_processing", count: 2 });
  await alice.generate(await small);
  const canceled = await alice.generate(await small, { model: "kontext-max" });
  await pass(130, "silent");
  const now = await status();
  const submitted = now.generations.find(({ state }) => state === "submitted")!;
  assert.ok(submitted.oldest_seconds >= 130);
  assert.equal(now.holds.open, before.holds.open + 2);
  assert.equal(now.holds.credits, before.holds.credits + 3);
  assert.equal(now.inputs.stored, before.inputs.stored + 3);
  assert.ok(now.sweep.last_seconds >= 130 && now.sweep.last_seconds < 160);
  assert.equal(now.ledger.differences, 0);

  await alice.call("POST", `/generations/${canceled.id}/cancel`);
  await pass(480);
  await cleanUp();
  const after = await status();
  assert.deepEqual([after.generations, after.submissions.due, after.holds.open, after.deletions.due], [[], 0, 0, 0]);
  const ended = (outcome: string, of: Status) => of.ended.find((each) => each.outcome === outcome)?.last_hour ?? 0;
  assert.equal(ended("canceled", after), ended("canceled", before) + 1);
  assert.equal(ended("expired", after), ended("expired", before) + 1);
});

test("for people the status is a table, and what needs somebody stands out", async () => {
  await cleanUp();
  const quiet = await (await ask("*/*")).text();
  assert.match(quiet, /^UNDER WAY +count +oldest +past deadline$/m);
  assert.match(quiet, /^ {2}last sweep +\d+ s +in time$/m);
  assert.match(quiet, /^ {2}ledger differences +0 +\d+ (s|min)$/m);
  await pass(400, "silent");
  assert.match(await (await ask("*/*")).text(), /^ {2}last sweep +6 min +LATE$/m);
});

test("a difference in the ledger is counted, by whatever it came about", async () => {
  const alice = await Person.signUp("alice");
  const tamper = (by: number) =>
    database.begin(async (sql) => {
      await sql`set local session_replication_role = replica`;
      await sql`update public.wallets set balance = balance + ${by} where person_id = ${alice.id}`;
    });
  /** What the next walk over the ledger finds. */
  const counted = async () => {
    await wakeWalks();
    await cleanUp();
    return (await status()).ledger.differences;
  };
  await tamper(3);
  try {
    assert.equal(await counted(), 1);
    assert.match(await (await ask("*/*")).text(), /^ {2}ledger differences +1 ! +\d+ s$/m);
    const [found] = await database`select difference, expected::int, found::int from backend.audit_credits()`;
    assert.deepEqual({ ...found }, { difference: "balance", expected: 5, found: 8 });
  } finally {
    await tamper(-3);
  }
  assert.equal(await counted(), 0);
});

test("every statement of the runbook does something", async () => {
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

test("what the runbook says brings the books back in line", async () => {
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
