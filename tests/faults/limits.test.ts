// How much one user may start.

import assert from "node:assert/strict";
import { after, afterEach, test } from "node:test";
import { Person } from "../journeys/person.ts";
import { small } from "../journeys/photos.ts";
import { arm, database, disarm } from "../journeys/stack.ts";
import { passTime } from "../lab/time.ts";
import { quiet } from "./sound.ts";

interface Problem {
  status: number;
  code: string;
  limit: string;
  most: number;
  retry_after: number;
}

afterEach(async () => {
  await disarm();
  await restore();
});
after(() => database.end());

const usual = await database`select id, most from private.quotas where scope = 'generations'`;
async function restore(): Promise<void> {
  for (const { id, most } of usual) await database`update private.quotas set most = ${most} where scope = 'generations' and id = ${id}`;
}

async function limit(id: string, most: number): Promise<void> {
  await database`update private.quotas set most = ${most} where scope = 'generations' and id = ${id}`;
}

async function submit(person: Person): Promise<Response> {
  return person.submit({ style: "mosaic", input_path: await person.upload(await small) });
}

/** Checks the refusal, which says what the limit is and when to try again. */
async function refused(response: Response): Promise<Problem> {
  const problem = (await response.json()) as Problem;
  assert.deepEqual([response.status, problem.code], [429, "too_many_generations"]);
  assert.equal(response.headers.get("retry-after"), String(problem.retry_after));
  return problem;
}

test("a user at the limit of running generations can start the next one when one has ended", async () => {
  await limit("concurrent", 2);
  await arm({ fault: "stuck_processing", count: 2 });
  const alice = await Person.signUp("alice");
  const { id } = (await (await submit(alice)).json()) as { id: string };
  assert.equal((await submit(alice)).status, 201);
  const problem = await refused(await submit(alice));
  assert.deepEqual([problem.limit, problem.most], ["concurrent", 2]);
  assert.deepEqual(await alice.wallet(), { balance: 5, held: 2 });
  // Bob has his own limit.
  assert.equal((await submit(await Person.signUp("bob"))).status, 201);
  await alice.call("POST", `/generations/${id}/cancel`);
  assert.equal((await submit(alice)).status, 201);
});

test("simultaneous requests cannot exceed the limit of running generations", async () => {
  await limit("concurrent", 2);
  const alice = await Person.signUp("alice");
  await arm({ fault: "stuck_processing", count: 2 });
  const paths = await Promise.all(Array.from({ length: 5 }, async () => alice.upload(await small)));
  const answers = await Promise.all(paths.map((input_path) => alice.submit({ style: "mosaic", input_path })));
  assert.deepEqual(answers.map(({ status }) => status).sort(), [201, 201, 429, 429, 429]);
});

test("a user at the limit per minute learns how many seconds to wait, and can then submit", async () => {
  await limit("per_minute", 2);
  const alice = await Person.signUp("alice");
  assert.equal((await submit(alice)).status, 201);
  await passTime(20);
  assert.equal((await submit(alice)).status, 201);
  const problem = await refused(await submit(alice));
  assert.deepEqual([problem.limit, problem.most], ["per_minute", 2]);
  assert.ok(problem.retry_after > 35 && problem.retry_after <= 40, `${problem.retry_after} s`);
  await passTime(problem.retry_after);
  assert.equal((await submit(alice)).status, 201);
  assert.equal((await refused(await submit(alice))).limit, "per_minute");
});

test("the limit per day counts deleted and failed generations, too", async () => {
  await limit("per_day", 2);
  await arm({ fault: "fail_model" });
  const alice = await Person.signUp("alice");
  const { id } = (await (await submit(alice)).json()) as { id: string };
  assert.equal((await alice.ended(id)).state, "failed");
  const { id: second } = (await (await submit(alice)).json()) as { id: string };
  await alice.call("DELETE", `/generations/${second}`);
  await passTime(3600);
  const problem = await refused(await submit(alice));
  assert.equal(problem.limit, "per_day");
  assert.ok(problem.retry_after > 22 * 3600 && problem.retry_after <= 23 * 3600, `${problem.retry_after} s`);
  await quiet(alice);
});

test("a repeated idempotency key starts no new generation, so no limit refuses it", async () => {
  await limit("per_minute", 1);
  const alice = await Person.signUp("alice");
  const body = { style: "mosaic", input_path: await alice.upload(await small) };
  const key = crypto.randomUUID();
  assert.deepEqual([(await alice.submit(body, key)).status, (await alice.submit(body, key)).status], [201, 200]);
});
