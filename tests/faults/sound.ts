// What must hold for a user when everything has settled, whatever went wrong.

import assert from "node:assert/strict";
import type { Person } from "../journeys/person.ts";
import { cleanUp, database } from "../journeys/stack.ts";
import { passTime } from "../lab/time.ts";
import { until } from "../waiting.ts";
import { predictionsOf } from "./replicate.ts";

/** Longer than the deadline of a generation and the leases after it. */
const patienceMinutes = 20;

async function open(person: Person): Promise<number> {
  const [{ count }] = await database`
    select (select count(*) from public.generations
        where person_id = ${person.id} and state not in ('succeeded', 'failed', 'canceled'))::int
      + (select count(*) from public.deletions where person_id = ${person.id} and verified_at is null)::int as count`;
  return count;
}

/** Predictions run in real time, so those that are not stuck must finish before the clock is moved. */
async function untilNothingRuns(person: Person): Promise<void> {
  await until("predictions to end", async () => {
    const running = (await predictionsOf(`/${person.id}/`)).filter(({ status }) => /starting|processing/.test(status));
    return running.length === 0 || undefined;
  }, 1_000).catch(() => "stuck");
}

/** Moves the clock a minute and runs a sweep, again and again, until nothing of this user's is running. */
export async function quiet(person: Person): Promise<void> {
  for (let minutes = 0; (await open(person)) > 0; minutes += 1) {
    assert.ok(minutes < patienceMinutes, "something is still running long after its deadline");
    await untilNothingRuns(person);
    await passTime(61);
    await cleanUp();
  }
}

/** Waits until all is quiet. Then all credits add up, each success has one artwork and no other, and no photo is left. */
export async function sound(person: Person, ended: Record<string, number>): Promise<void> {
  await quiet(person);
  const generations = await database`select * from public.generations where person_id = ${person.id}`;
  const outcomes: Record<string, number> = {};
  for (const { state, reason } of generations) outcomes[reason ?? state] = (outcomes[reason ?? state] ?? 0) + 1;
  assert.deepEqual(outcomes, ended);

  const succeeded = generations.filter(({ state }) => state === "succeeded");
  assert.deepEqual(await person.wallet(), { balance: 5 - succeeded.reduce((sum, { credits }) => sum + credits, 0), held: 0 });
  assert.deepEqual([...(await database`select * from backend.audit_credits()`)], []);

  const objects = await database`
    select bucket_id, name, (metadata ->> 'size')::int as size from storage.objects
    where starts_with(name, ${`${person.id}/`}) order by name`;
  const artworks = succeeded.map((each) => ({ bucket_id: "artworks", name: each.artwork_path, size: Number(each.artwork_bytes) }));
  assert.deepEqual([...objects], artworks.sort((a, b) => (a.name < b.name ? -1 : 1)));
}
