// A thousand jobs wait while Replicate is down for an hour. Then Replicate is back.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { before, test } from "node:test";
import { Person } from "../journeys/person.ts";
import { small } from "../journeys/photos.ts";
import { arm, cleanUp, database } from "../journeys/stack.ts";
import { passTime } from "../lab/time.ts";
import { lab } from "./lab.ts";
import { endWhatWaits, predictionsOf } from "./replicate.ts";
import { sound } from "./sound.ts";

before(endWhatWaits);

/** How many jobs wait; fewer on a slow machine. */
const waiting = Number(process.env.WAITING ?? 1_000);
/** Jobs whose create call was accepted, but whose response was lost. */
const unanswered = 20;
/** The same number of jobs whose create call never arrived. Only the attempt is recorded. */
const lost = 20;

/** A job whose photo is prepared and stored, `seconds` before its deadline. */
async function dueJob(person: Person, photo: Buffer, seconds: number, isCalled: boolean): Promise<{ id: string; path: string }> {
  const id = randomUUID();
  const path = `${person.id}/prepared/${id}-1.jpg`;
  const stored = await fetch(`${process.env.SUPABASE_URL}/storage/v1/object/inputs/${path}`, {
    method: "POST",
    headers: { apikey: process.env.SUPABASE_SECRET_KEY!, "content-type": "image/jpeg" },
    body: new Uint8Array(photo),
  });
  assert.equal(stored.status, 200);
  await database`
    insert into public.generations
      (id, person_id, idempotency_key, style, style_version, model, prompt, settings, credits, input_path, deadline_at, reserved_at)
    values (${id}, ${person.id}, ${id}, 'mosaic', 1, 'kontext-pro', 'a prompt', '{"output_format": "png"}', 1,
      ${`${person.id}/${id}.jpg`}, now() + make_interval(secs => ${seconds}), now() - make_interval(secs => ${600 - seconds}))`;
  await database`
    insert into private.generation_work (generation_id, request_digest, input_stored_at, prepared_path, dispatch_at, create_called_at)
    values (${id}, sha256('r'), now(), ${path}, now() - make_interval(secs => ${600 - seconds}),
      case when ${isCalled} then now() end)`;
  return { id, path };
}

async function inParts<T>(all: T[], work: (one: T) => Promise<unknown>): Promise<void> {
  for (let from = 0; from < all.length; from += 10) await Promise.all(all.slice(from, from + 10).map(work));
}

/** Waits until a minute has passed since `began`. */
async function untilAMinuteAfter(began: number): Promise<void> {
  const left = 60 - Math.floor((Date.now() - began) / 1000);
  if (left > 0) await passTime(left);
}

test("a thousand jobs that waited for Replicate are all dispatched within their deadlines, and none twice", async () => {
  const alice = await Person.signUp("alice");
  await database`select backend.adjust_credits(${alice.id}, 2000, 'for a test', ${randomUUID()})`;
  const photo = await small;
  const refused = () => lab.replicate.misbehave({ fault: "refuse", count: Infinity });
  refused();

  // Some jobs waited through the whole hour, so their deadlines pass before it ends.
  const early = Array.from({ length: 20 }, (_, index) => 60 + index * 10);
  await inParts(early, (seconds) => dueJob(alice, photo, seconds, false));
  for (let minute = 0; minute < 6; minute += 1) {
    await passTime(60);
    await cleanUp();
  }
  // These jobs began in the last minutes of the hour. Each has some minutes left when Replicate is back.
  const jobs: { id: string; path: string; isCreated: boolean }[] = [];
  const places = Array.from({ length: waiting }, (_, index) => index);
  await inParts(places, async (index) => {
    const job = await dueJob(alice, photo, 200 + (index % 8) * 60, index < unanswered + lost);
    jobs.push({ ...job, isCreated: index < unanswered });
  });
  // With so many at once, Replicate makes no pictures in this test: the predictions run until they are canceled.
  await arm({ fault: "stuck_processing", count: 10_000 });
  for (const { path } of jobs.filter(({ isCreated }) => isCreated)) {
    const made = await fetch(`${process.env.REPLICATE_BASE_URL}/models/black-forest-labs/flux-kontext-pro/predictions`, {
      method: "POST",
      headers: { authorization: `Bearer ${process.env.REPLICATE_API_TOKEN}`, "content-type": "application/json" },
      body: JSON.stringify({ input: { prompt: "a prompt", input_image: `${process.env.SUPABASE_URL}/storage/v1/object/sign/inputs/${path}?token=x` } }),
    });
    assert.equal(made.status, 201);
  }
  // While Replicate is down, each sweep tries only a few jobs. The others lose nothing by waiting.
  const before = lab.replicate.struck;
  let began = Date.now();
  await cleanUp();
  assert.ok(lab.replicate.struck - before < 40, `${lab.replicate.struck - before} failed calls`);
  await untilAMinuteAfter(began);

  // Making so many jobs takes minutes on some machines, so their deadlines are set only now: five to nine minutes. A busy
  // machine needs several sweeps for all of them.
  await database`
    update public.generations as g set deadline_at = now() + make_interval(secs => 300 + place % 5 * 60)
    from (select id, row_number() over (order by id) as place from public.generations where person_id = ${alice.id} and state = 'reserved') as w
    where g.id = w.id`;
  lab.heal();
  const due = await database`
    select id from public.generations where person_id = ${alice.id} and state = 'reserved' and deadline_at > now() + interval '60 seconds'`;
  console.log(`    ${due.length} jobs wait when Replicate is back`);
  assert.ok(due.length >= waiting * 0.99);
  for (let sweeps = 1; ; sweeps += 1) {
    began = Date.now();
    const { dispatched } = await cleanUp();
    const [{ left }] = await database`
      select count(*)::int as left from public.generations where person_id = ${alice.id} and state = 'reserved'`;
    console.log(`    sweep ${sweeps}: ${dispatched} dispatched in ${((Date.now() - began) / 1000).toFixed(1)} s, ${left} wait`);
    if (left === 0) break;
    assert.ok(sweeps < 10);
    await untilAMinuteAfter(began);
  }

  const [found] = await database`
    select count(*) filter (where dispatched_at < deadline_at)::int as in_time,
      count(*) filter (where dispatched_at is null or dispatched_at >= deadline_at)::int as late
    from public.generations where id in ${database(due.map(({ id }) => id))}`;
  assert.deepEqual({ ...found }, { in_time: due.length, late: 0 });
  const made = new Map<string, number>();
  for (const { input } of await predictionsOf(`/${alice.id}/`)) {
    const id = /prepared\/([0-9a-f-]{36})-/.exec(input.input_image ?? "")?.[1];
    if (id) made.set(id, (made.get(id) ?? 0) + 1);
  }
  const twice = jobs.filter(({ id }) => (made.get(id) ?? 0) > 1);
  assert.deepEqual(twice, []);
  assert.equal(jobs.filter(({ id }) => made.get(id) === 1).length >= due.length, true);
  assert.deepEqual([...(await database`select * from backend.audit_credits()`)], []);
  // The jobs past their deadline have ended, and their credits were returned.
  const [{ held }] = await database`select held from public.wallets where person_id = ${alice.id}`;
  const [{ open }] = await database`
    select count(*)::int as open from public.generations where person_id = ${alice.id} and state not in ('failed', 'canceled', 'succeeded')`;
  assert.equal(held, open);
  await database`delete from auth.users where id = ${alice.id}`;
});

test("unprepared photos are leased one at a time, and prepared photos do not block them", async () => {
  const [alice, bob] = [await Person.signUp("alice"), await Person.signUp("bob")];
  // These photos were not checked, because Storage did not answer.
  lab.supabase.misbehave({ fault: "status", status: 500, when: /^GET \/storage\/v1\/object\/inputs/, count: 3 });
  const first = await alice.generate(await small);
  lab.supabase.misbehave({ fault: "status", status: 500, when: /^GET \/storage\/v1\/object\/inputs/, count: 3 });
  const second = await alice.generate(await small);
  // These photos are prepared, but their create calls were throttled.
  lab.replicate.misbehave({ fault: "status", status: 429, when: /^POST \/v1\/models\//, count: 6 });
  const others = [await bob.generate(await small), await bob.generate(await small)];
  assert.deepEqual([first, second, ...others].map(({ state }) => state), Array(4).fill("reserved"));
  await passTime(61);
  const lease = async () => {
    const id = randomUUID();
    const [{ leased }] = await database`select backend.lease_dispatches(${id}::uuid, 1, 32) as leased`;
    return (leased as { generation: string; is_prepared: boolean }[]).map(({ is_prepared }) => is_prepared);
  };
  assert.deepEqual([await lease(), await lease(), await lease(), await lease()], [[false], [false], [true, true], []]);
  for (const { id } of [first, second, ...others]) {
    await database`update private.generation_work set leased_until = now(), dispatch_at = now() where generation_id = ${id}`;
  }
  await sound(alice, { succeeded: 2 });
  await sound(bob, { succeeded: 2 });
});

test("a job that has failed many attempts is still dispatched when Replicate is back", async () => {
  const alice = await Person.signUp("alice");
  lab.replicate.misbehave({ fault: "status", status: 429, when: /^POST \/v1\/models\//, count: Infinity });
  const { id, input_path } = await alice.generate(await small);
  // Each pause between attempts, plus a second.
  for (const seconds of [16, 31, 61, 61, 61, 61]) {
    await passTime(seconds);
    await cleanUp();
  }
  const [{ dispatches }] = await database`select dispatches from private.generation_work where generation_id = ${id}`;
  assert.ok(dispatches >= 7, `${dispatches} attempts`);
  lab.heal();
  await passTime(61);
  await cleanUp();
  assert.equal((await alice.ended(id)).state, "succeeded", input_path);
});
