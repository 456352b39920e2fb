// Runs every pair of locking verbs in parallel on the same few users. They may wait for each other, but never deadlock.
// ROUNDS=1000 is the full run of about two hours. The default takes a minute or two. PART=1/3 runs every third pair, so
// that several stacks can share the work.

import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import postgres from "postgres";
import { database } from "../journeys/stack.ts";
import { type Verb, type World, target, verbs } from "./verbs.ts";

const rounds = Number(process.env.ROUNDS || 10);
const [part, parts] = (process.env.PART || "1/1").split("/").map(Number) as [number, number];
/** The number of parallel rounds. */
const width = Math.min(rounds, 20);

const connection = { deadlock_timeout: "50ms" } as Record<string, string>;
const callers = postgres(process.env.DATABASE_ADMIN_URL!, { max: 2 * width, onnotice: () => {}, connection });
/** The only connection that has the functions of locks-people.sql and locks.sql. */
const fixtures = postgres(process.env.DATABASE_ADMIN_URL!, { max: 1, onnotice: () => {}, idle_timeout: 0, max_lifetime: null });

after(async () => {
  // The next suite must not find the work of these users.
  await fixtures`select pg_temp.remove_person(id) from people`;
  await Promise.all([callers.end(), fixtures.end(), database.end()]);
});

interface Tally {
  rounds: number;
  deadlocks: Record<string, number>;
  /** The verbs that succeeded at least once. */
  done: Set<string>;
  unexpected: Record<string, number>;
}

const tally: Tally = { rounds: 0, deadlocks: {}, done: new Set(), unexpected: {} };

function count(counts: Record<string, number>, what: string): void {
  counts[what] = (counts[what] ?? 0) + 1;
}

/** Whether a code is an expected answer: a refusal by a verb, a constraint or a policy. */
function isAnswer(code: string): boolean {
  return /^(PT\d{3}|23\d{3}|42501)$/.test(code);
}

async function call(verb: Verb, pair: string, statement: string): Promise<void> {
  try {
    await callers.unsafe(statement).simple();
    tally.done.add(verb.name);
  } catch (error) {
    const { code = "", message } = error as { code?: string; message: string };
    if (code === "40P01") count(tally.deadlocks, pair);
    else if (!isAnswer(code)) count(tally.unexpected, `${verb.name}: ${code} ${message}`);
  }
}

async function meet(a: Verb, b: Verb, needs: { photos: number; exports: boolean }): Promise<void> {
  for (let done = 0; done < rounds; done += width) {
    const [{ world }] = (await fixtures`
      select pg_temp.top_up(${needs.photos}, ${needs.exports}) as world`) as unknown as [{ world: World }];
    const turns = Array.from({ length: Math.min(width, rounds - done) }, (_, turn) => turn);
    await Promise.all(turns.flatMap((turn) => {
      const kind = (turn % 2 ? a.kind ?? b.kind : b.kind ?? a.kind) ?? "running";
      const both = target(world, turn, kind);
      return [a, b].map((verb) => call(verb, `${a.name} + ${b.name}`, verb.says(both)));
    }));
    tally.rounds += turns.length;
  }
}

/** Lifts the limits, which would refuse nearly everything and are tested elsewhere. */
async function withoutLimits(run: () => Promise<void>): Promise<void> {
  const before = await database`select scope, id, most from private.quotas where scope <> 'welcome_credits'`;
  await database`update private.quotas set most = 1000000000 where scope not in ('welcome_credits', 'late_cancels')`;
  try {
    await run();
  } finally {
    for (const { scope, id, most } of before) {
      await database`update private.quotas set most = ${most} where scope = ${scope} and id = ${id}`;
    }
  }
}

function logged(): string[] {
  const folder = join(process.env.STACK_STATE!, "logs");
  const logs = readdirSync(folder).filter((name) => name.startsWith("postgres"));
  return logs.flatMap((name) => readFileSync(join(folder, name), "utf8").match(/.*deadlock detected.*/g) ?? []);
}

test(`${rounds} parallel rounds of every pair of locking verbs cause no deadlock, and the ledger balances`, async () => {
  for (const script of ["locks-people.sql", "locks.sql"]) {
    await fixtures.unsafe(readFileSync(join(import.meta.dirname, script), "utf8")).simple();
  }
  const pairs = verbs.flatMap((a, index) => verbs.slice(index).map((b) => [a, b] as const))
    .filter((_, index) => index % parts === part - 1);
  await withoutLimits(async () => {
    for (const [index, [a, b]] of pairs.entries()) {
      const names = [a.name, b.name];
      await meet(a, b, {
        photos: names.includes("begin_generation") ? width : 0,
        exports: !names.includes("request_export"),
      });
      if ((index + 1) % 50 === 0 || index + 1 === pairs.length) {
        console.log(`${index + 1} of ${pairs.length} pairs, ${tally.rounds} rounds, ${Object.keys(tally.deadlocks).length} pairs with a deadlock`);
      }
    }
  });
  const idle = verbs.map(({ name }) => name).filter((name) => !tally.done.has(name));
  assert.deepEqual({ ...tally.deadlocks, ...tally.unexpected, idle }, { idle: [] });
  assert.deepEqual(logged(), []);
  assert.deepEqual([...(await database`select * from backend.audit_credits()`)], []);
  const open = await database`
    select h.id from public.credit_holds as h
    left join public.generations as g on g.id = h.generation_id
    where h.state = 'open' and coalesce(g.state in ('succeeded', 'failed', 'canceled'), true)`;
  assert.deepEqual([...open], []);
});
