// A table of what one sweep still does while something hangs or fails. Each row is a fault, and each column is something
// that is due. Only the cells that the fault itself affects may be empty. `HASTE` shortens the time limits, so that a
// hanging call is given up after seconds. On a busy machine the limits are longer, because healthy calls need their time.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, test } from "node:test";
import { Person } from "../journeys/person.ts";
import { small } from "../journeys/photos.ts";
import { arm, cleanUp, database, disarm } from "../journeys/stack.ts";
import { type Lab, startLab } from "../lab/lab.ts";
import { MailServer } from "../lab/mail.ts";
import { withLostEvents } from "./generation.ts";
import { listen } from "./log.ts";
import { predictionThatIs } from "./replicate.ts";

export const mailServer = await MailServer.start();
export let lab: Lab;
let haste = 1;
/** A photo with this text makes its decoder panic. */
const poison = `poison-${randomUUID()}`;

before(async () => {
  lab = await startLab(mailServer.env);
  await allDue();
  const begun = Date.now();
  await cleanUp();
  const seconds = (Date.now() - begun) / 1000;
  await lab.stop();
  // A call may be silent for 15 seconds. A whole healthy sweep must fit into the shortened time.
  haste = Math.max(1, Math.min(10, Math.floor(15 / seconds)));
  lab = await startLab({ ...mailServer.env, HASTE: String(haste), POISON: poison });
});

after(async () => {
  console.log(`${table()}\n(limits of time: 1/${haste})`);
  await lab.stop();
  await mailServer.stop();
  await database.end();
});

/** What is due when a sweep begins. */
const columns = ["heartbeat", "deletion", "ceiling", "refund", "last answer", "artwork", "erasure", "dispatch", "email"] as const;
export type Column = (typeof columns)[number];

export interface Row {
  fault: string;
  begin(): void | Promise<void>;
  /** The columns that the fault itself affects: they cannot be done while it lasts. */
  itself?: Column[];
  /** How many calls the proxies must have struck at least. This proves that the fault happened. */
  strikes?: number;
  /** What the log must say, if the fault is not in a proxy. */
  says?: string;
}

export const hangs = (call: string, when: RegExp, ...itself: Column[]): Row => ({
  fault: `${call} hangs`,
  begin: () => lab.supabase.misbehave({ fault: "hang", when, count: Infinity }),
  itself,
  strikes: 1,
});
export const fails = (call: string, when: RegExp, ...itself: Column[]): Row => ({
  fault: `${call} fails`,
  begin: () => lab.supabase.misbehave({ fault: "status", status: 500, when, count: Infinity }),
  itself,
  strikes: 1,
});

/** A user with a reserved generation, whose function died before the dispatch. */
async function reserved(photo?: Buffer): Promise<[person: Person, generation: string]> {
  const person = await Person.signUp("reserved");
  const { data, error } = await person.client.rpc("begin_generation", {
    style: "mosaic", input_path: await person.upload(photo ?? (await small)), idempotency_key: randomUUID(), lease: randomUUID(),
  });
  assert.equal(error, null);
  const { id } = (data as { generation: { id: string } }).generation;
  await database`update private.generation_work set lease = null, leased_until = null where generation_id = ${id}`;
  return [person, id];
}

/** Makes the next dispatch one whose photo makes its decoder panic. */
export async function poisonNext(): Promise<void> {
  const [, id] = await reserved(Buffer.concat([await small, Buffer.from(poison)]));
  await database`update private.generation_work set dispatch_at = dispatch_at - interval '1 minute' where generation_id = ${id}`;
}

const isAsExpected = async (query: Promise<readonly { is: boolean }[]>) => (await query)[0]?.is ?? false;

/** Each function makes one thing due, and returns a check whether it was done. */
const due: Record<Column, () => Promise<() => Promise<boolean>>> = {
  async heartbeat() {
    // As text, because a JavaScript date would lose the microseconds.
    const [{ at }] = await database`select at::text from private.heartbeats where id = 'cleanup'`;
    return () => isAsExpected(database`select at > ${at}::text::timestamptz as is from private.heartbeats where id = 'cleanup'`);
  },
  async deletion() {
    const person = await Person.signUp("deletion");
    const path = await person.upload(await small);
    await database`insert into public.deletions (bucket, path, reason, person_id) values ('inputs', ${path}, 'limit_reached', ${person.id})`;
    return () => isAsExpected(database`select verified_at is not null as is from public.deletions where path = ${path}`);
  },
  async ceiling() {
    const path = await (await Person.signUp("ceiling")).upload(await small);
    await database`update storage.objects set created_at = now() - interval '49 hours' where name = ${path}`;
    return async () => (await database`select from storage.objects where name = ${path}`).length === 0;
  },
  async refund() {
    const [person, id] = await reserved();
    await database`update public.generations set deadline_at = now() - interval '1 second' where id = ${id}`;
    return async () => (await person.wallet()).held === 0;
  },
  async "last answer"() {
    await arm({ fault: "stuck_processing" });
    const person = await Person.signUp("silent");
    const { id, input_path } = await person.generate(await small);
    await predictionThatIs("processing", input_path);
    await database`update public.generations set deadline_at = now() - interval '1 second' where id = ${id}`;
    return async () => (await person.wallet()).held === 0;
  },
  async artwork() {
    const person = await Person.signUp("artwork");
    const { id } = await withLostEvents(person);
    await database`update private.generation_work set checked_at = now() - interval '2 minutes' where generation_id = ${id}`;
    return async () => (await person.generation(id))?.state === "succeeded";
  },
  async erasure() {
    const { id } = await Person.signUp("erased");
    await database`select private.order_erasure(${id}, 'asked')`;
    return async () => (await database`select from private.erasures where person_id = ${id} and stage <> 'done'`).length === 0;
  },
  async dispatch() {
    const [, id] = await reserved();
    return () => isAsExpected(database`select prediction_id is not null as is from public.generations where id = ${id}`);
  },
  async email() {
    const person = await Person.signUp("email");
    const [{ id }] = await database`
      insert into private.emails (person_id, kind, subject) values (${person.id}, 'request_filed', ${randomUUID()}) returning id`;
    return () => isAsExpected(database`select sent_at is not null as is from private.emails where id = ${id}`);
  },
};

/** Makes everything due, and returns the checks whether it was done. */
async function allDue(): Promise<Record<Column, () => Promise<boolean>>> {
  const looks = {} as Record<Column, () => Promise<boolean>>;
  // One after the other, because what a column arms must hit its own prediction.
  for (const column of columns) looks[column] = await due[column]();
  return looks;
}

const results: { fault: string; seconds: number; done: Column[]; itself: Column[] }[] = [];

/** Defines a test for each row. */
export function everyRow(rows: Row[]): void {
  for (const { fault, begin, itself = [], strikes = 0, says } of rows) {
    test(`${fault}: the same sweep does everything else`, async () => {
      const looks = await allDue();
      const struck = lab.supabase.struck + lab.replicate.struck;
      const lines = listen();
      await begin();
      const begun = Date.now();
      await cleanUp().catch(() => undefined);
      const seconds = (Date.now() - begun) / 1000;
      const isSaid = says === undefined || lines().some((line) => line.includes(says));
      const hit = lab.supabase.struck + lab.replicate.struck - struck;
      const done: Column[] = [];
      for (const column of columns) if (await looks[column]()) done.push(column);
      results.push({ fault, seconds, done, itself });
      lab.heal();
      mailServer.isDown = mailServer.isSilent = false;
      await disarm();
      // Nothing of this row may still be due in the next one.
      await database`update private.deletion_leases set lease = gen_random_uuid()`;
      await database`update public.deletions set due_at = now() where verified_at is null`;
      await database`update private.erasures set leased_until = null where stage <> 'done'`;
      await database`update private.emails set due_at = 'infinity' where sent_at is null`;
      await database`update public.generations set deadline_at = now() - interval '1 second' where state in ('reserved', 'dispatched', 'processing', 'storing')`;
      await database`update private.generation_work set lease = null, leased_until = null`;
      await cleanUp();
      assert.deepEqual(columns.filter((column) => !done.includes(column) && !itself.includes(column)), [], "not done, although the fault does not affect it");
      assert.ok(hit >= strikes, `only ${hit} calls hung or failed`);
      assert.ok(isSaid, `the log does not say: ${says}`);
      // The function has 150 seconds.
      assert.ok(seconds < 150 / haste, `it took ${seconds} s`);
    });
  }
}

/** Cells: done, affected by the fault (·), or not done although it could have been (NO). */
function table(): string {
  const wide = Math.max(...results.map(({ fault }) => fault.length)) + 2;
  const line = (name: string, cells: string[]) => name.padEnd(wide) + cells.map((cell) => cell.padEnd(13)).join("");
  const cell = (row: (typeof results)[number], column: Column) =>
    row.done.includes(column) ? "done" : row.itself.includes(column) ? "·" : "NO";
  return [
    line("", [...columns, "seconds"]),
    ...results.map((row) => line(row.fault, [...columns.map((column) => cell(row, column)), row.seconds.toFixed(1)])),
  ].join("\n");
}
