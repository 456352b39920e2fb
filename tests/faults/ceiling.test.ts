// No original lives longer than its limit, in whatever state it was left and however Storage behaves (R1, R2).

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { Person } from "../journeys/person.ts";
import { small } from "../journeys/photos.ts";
import { arm, cleanUp, database } from "../journeys/stack.ts";
import { passTime } from "../lab/time.ts";
import { lab } from "./lab.ts";

/** How many photos are left in each state, a thousand in all. */
const left = {
  "never submitted": 400,
  reserved: 150,
  dispatched: 100,
  stuck: 50,
  failed: 50,
  succeeded: 100,
  canceled: 50,
  erased: 100,
} as const;

/** Makes `count` of something, `atOnce` at a time. */
async function each<T>(count: number, make: (index: number) => Promise<T>, atOnce = 8): Promise<T[]> {
  const made: T[] = [];
  const indices = Array.from({ length: count }, (_, index) => index).values();
  await Promise.all(Array.from({ length: atOnce }, async () => {
    for (const index of indices) made.push(await make(index));
  }));
  return made;
}

/** A user who may start any number of generations. */
async function tireless(name: string): Promise<Person> {
  const person = await Person.signUp(name);
  await database`select backend.adjust_credits(${person.id}, 1000, 'for a test', ${randomUUID()})`;
  return person;
}

async function generated(person: Person): Promise<{ id: string; input_path: string }> {
  const answer = await person.submit({ style: "mosaic", input_path: await person.upload(await small) });
  assert.equal(answer.status, 201, await answer.clone().text());
  return (await answer.json()) as { id: string; input_path: string };
}

const leave: Record<keyof typeof left, (count: number) => Promise<unknown>> = {
  async "never submitted"(count) {
    const person = await tireless("never");
    await each(count, async () => person.upload(await small));
  },
  // The function died right after the reservation, before it dispatched the job.
  async reserved(count) {
    const person = await tireless("reserved");
    await each(count, async () => {
      const arguments_ = { style: "mosaic", input_path: await person.upload(await small), idempotency_key: randomUUID(), lease: randomUUID() };
      const { error } = await person.client.rpc("begin_generation", arguments_);
      assert.equal(error, null);
    });
  },
  async dispatched(count) {
    const person = await tireless("dispatched");
    await arm({ fault: "stuck_processing", count });
    await each(count, () => generated(person));
  },
  // These are open and, by a fault on our side, have a deadline that is far away.
  async stuck(count) {
    const person = await tireless("stuck");
    await arm({ fault: "stuck_processing", count });
    await each(count, () => generated(person));
    await database`update public.generations set deadline_at = now() + interval '1 year' where person_id = ${person.id}`;
  },
  async failed(count) {
    const person = await tireless("failed");
    await arm({ fault: "fail_model", count });
    await each(count, () => generated(person));
  },
  async succeeded(count) {
    const person = await tireless("succeeded");
    await each(count, () => generated(person));
  },
  async canceled(count) {
    const person = await tireless("canceled");
    await arm({ fault: "stuck_processing", count });
    await each(count, async () => person.call("POST", `/generations/${(await generated(person)).id}/cancel`));
  },
  async erased(count) {
    await each(10, async (index) => {
      const person = await tireless(`erased${index}`);
      await each(count / 10, async () => person.upload(await small), 1);
      await database`delete from auth.users where id = ${person.id}`;
    });
  },
};

async function originals(olderThan: string): Promise<number> {
  const [{ count }] = await database`
    select count(*)::int as count from storage.objects where bucket_id = 'inputs' and created_at < now() - ${olderThan}::interval`;
  return count;
}

test("none of a thousand photos in all states exists after 48 hours, although Storage fails a third of the time", async () => {
  const usual = await database`select * from private.quotas`;
  await database`update private.quotas set most = 10000 where scope in ('generations', 'late_cancels', 'uploads') and id <> 'bytes'`;
  const [{ begun }] = await database`select now() as begun`;
  const before = await database`select id from public.deletions`;

  // A third of the deletions fail, each in another way. So does a third of the checks that an object is gone.
  for (const fault of [
    { fault: "status", status: 500 },
    { fault: "halve" },
    { fault: "status", status: 429 },
    { fault: "status", status: 200 },
  ] as const)
    lab.supabase.misbehave({ ...fault, when: /^DELETE \/storage\/v1\/object\//, every: 12, count: 1e9 });
  for (const [state, count] of Object.entries(left)) await leave[state as keyof typeof left](count);
  lab.supabase.misbehave({ fault: "status", status: 500, when: /^GET \/storage\/v1\/object\/inputs/, every: 3, count: 1e9 });
  // Replicate must not end the stuck generations.
  lab.replicate.misbehave({ fault: "refuse", count: 1e9 });

  for (let hour = 1; hour <= 48; hour += 1) {
    await passTime(3600);
    await cleanUp();
    assert.equal(await originals("48 hours"), 0, `in hour ${hour}`);
    if (hour === 25) {
      // Any of these calls may have failed. It is retried soon.
      const tooMany = async () => (await originals("0")) > left.stuck + 20;
      for (let tries = 0; tries < 4 && (await tooMany()); tries += 1) {
        await passTime(600);
        await cleanUp();
      }
      assert.ok(!(await tooMany()), "photos that no generation needs are gone after the soft limit, except for the few that are retried");
    }
  }

  assert.equal(await originals("0"), 0);
  const folder = join(process.env.STACK_STATE!, "storage", "inputs");
  assert.deepEqual(existsSync(folder) ? readdirSync(folder, { recursive: true }) : [], []);
  const [{ open }] = await database`
    select count(*)::int as open from public.generations where state not in ('succeeded', 'failed', 'canceled')`;
  assert.equal(open, 0);
  assert.ok(lab.supabase.struck > 300, `Storage failed ${lab.supabase.struck} times`);

  // Each object has at least one receipt.
  const [{ proved, unproved }] = await database`
    select count(*) filter (where receipt is not null and bytes is not null)::int as proved,
      count(*) filter (where receipt is null)::int as unproved
    from public.deletions where bucket = 'inputs' and not id = any(${before.map(({ id }) => id)})`;
  assert.equal(unproved, 0);
  assert.ok(proved >= 1000, `${proved} receipts since ${begun}`);
  assert.deepEqual([...(await database`select * from backend.audit_credits()`)], []);
  for (const { scope, id, most } of usual) await database`update private.quotas set most = ${most} where scope = ${scope} and id = ${id}`;
});
