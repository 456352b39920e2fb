// The stack restarts a database that crashes, and everything that uses the database works again.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { withStatus } from "../../supabase/local/repairs/sql-errors.ts";
import { until } from "../waiting.ts";
import { admin, makeBucket, migrator, publishable, service, signUp, url } from "./project.ts";

function postmaster(): number {
  return JSON.parse(readFileSync(join(process.env.STACK_STATE!, "stack.json"), "utf8")).pids.PostgreSQL;
}

/** Stopping and recovery depend on the disk, so they may take long on a busy machine. */
const patienceMs = 120_000;

async function kill(signal: NodeJS.Signals): Promise<void> {
  const killed = postmaster();
  process.kill(killed, signal);
  await until("another database process", async () => postmaster() !== killed || undefined, patienceMs);
}

async function isBack(): Promise<void> {
  await until("the database to answer", async () => {
    const rows = await admin`select 1`.catch(() => []);
    return rows.length === 1 || undefined;
  }, patienceMs);
}

for (const signal of ["SIGQUIT", "SIGKILL"] as const) {
  test(`the stack restarts the database after ${signal}, and Auth, the Data API and Storage work again`, async () => {
    const alice = await signUp("alice");
    const bucket = await makeBucket();
    const name = `${alice.id}/kept.txt`;
    assert.equal((await alice.client.storage.from(bucket.name).upload(name, "kept")).error, null);

    await kill(signal);
    await isBack();
    const kept = await alice.client.storage.from(bucket.name).download(name);
    assert.equal(await kept.data?.text(), "kept");
    assert.ok((await signUp("bob")).token);
    await bucket.drop();

    // The Data API still notices schema changes.
    const table = `after_${randomUUID().slice(0, 8)}`;
    await migrator.unsafe(`create table public.${table} (id int); grant select on public.${table} to service_role`);
    await until("the Data API to know the table", async () => (await service.from(table).select()).data ?? undefined);
    await migrator.unsafe(`drop table public.${table}`);
  });
}

test("the stack restarts a read-only database, which stays read-only", async () => {
  const alice = await signUp("alice");
  await admin.unsafe("alter system set default_transaction_read_only = on");
  try {
    await kill("SIGQUIT");
    await isBack();
    const wallet = await alice.client.from("wallets").select("balance").single();
    assert.deepEqual([wallet.error, wallet.data?.balance], [null, 5]);
    const { error } = await alice.client.from("privacy_choices").insert({ purpose: "analytics", allowed: true });
    assert.equal(error?.code, "25006");
  } finally {
    await admin.unsafe("alter system reset default_transaction_read_only");
    await kill("SIGQUIT");
    await isBack();
  }
});

test("callers get an answer soon while the database restarts, and never one that says something does not exist", async () => {
  const alice = await signUp("alice");
  const headers = { apikey: publishable, authorization: `Bearer ${alice.token}` };
  let isOver = false;
  async function keepAsking(path: string): Promise<number[]> {
    const statuses: number[] = [];
    while (!isOver) {
      const answer = await fetch(`${url}/${path}`, { headers, signal: AbortSignal.timeout(60_000) });
      await answer.text();
      statuses.push(answer.status);
    }
    return statuses;
  }
  const paths = ["rest/v1/wallets", "auth/v1/user", "storage/v1/bucket"];
  const asking = [...paths, ...paths, ...paths, ...paths].map(keepAsking);
  try {
    for (let times = 0; times < 5; times += 1) await kill("SIGQUIT");
    await isBack();
  } finally {
    isOver = true;
  }
  const statuses = new Set((await Promise.all(asking)).flat());
  assert.ok(statuses.has(200));
  for (const status of statuses) assert.ok(status === 200 || status >= 500, `${status}`);
});

test("a connection that breaks during a statement is reported as an outage, as PostgREST does", () => {
  for (const code of ["CONNECTION_CLOSED", "CONNECTION_ENDED", "CONNECT_TIMEOUT", "ECONNREFUSED", "ECONNRESET", "EPIPE"]) {
    const { message, detail } = withStatus({ code, message: "write CONNECTION_CLOSED 127.0.0.1:54322" }) as Record<string, string>;
    assert.deepEqual([JSON.parse(detail!).status, JSON.parse(message!).code], [503, "PGRST001"]);
  }
});
