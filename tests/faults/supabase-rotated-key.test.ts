// The secret key was rotated in the dashboard, but the functions still have the old one.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Person } from "../journeys/person.ts";
import { small } from "../journeys/photos.ts";
import { cleanUp, database } from "../journeys/stack.ts";
import { passTime } from "../lab/time.ts";
import { withLostEvents } from "./generation.ts";
import { lab } from "./lab.ts";
import { listen, saying } from "./log.ts";
import { sound } from "./sound.ts";

const operator = { headers: { authorization: `Bearer ${process.env.OPERATOR_SECRET}` } };

test("after the secret key was rotated, users get 503 and not \"please sign in\", the log says why, and nothing is lost", async () => {
  const [alice, bob, carol] = [await Person.signUp("alice"), await Person.signUp("bob"), await Person.signUp("carol")];
  const made = await withLostEvents(alice);
  const overdue = await carol.upload(await small);
  await database`update storage.objects set created_at = now() - interval '25 hours' where name = ${overdue}`;

  const lines = listen();
  await lab.functions.restart({ SUPABASE_SECRET_KEY: "sb_secret_which_was_rotated_away" });
  for (const [what, ask] of [
    ["a sweep", () => fetch(`${lab.functions.url}/cleanup`, { method: "POST", ...operator })],
    ["the operator's status", () => fetch(`${lab.functions.url}/status`, operator)],
    ["the public status", () => fetch(`${lab.functions.url}/privacy/status`)],
    ["the detector", () => fetch(`${lab.functions.url}/privacy/mark?sha256=${"a".repeat(64)}`)],
  ] as [string, () => Promise<Response>][]) {
    const answer = await ask();
    const problem = (await answer.json()) as { code: string; detail: string };
    assert.deepEqual([answer.status, problem.code], [503, "unavailable"], what);
    assert.doesNotMatch(JSON.stringify(problem), /SUPABASE|key|[Ss]ign in/, what);
  }
  const refused = saying(lines(), "ERROR", "the database refuses our key: check SUPABASE_SECRET_KEY (status 401)");
  assert.ok(refused.length >= 4, lines().join("\n"));

  // Bob's token is valid, so he learns that his job waits. Its credit is held, and its photo stays.
  const waiting = await bob.generate(await small);
  assert.equal(waiting.state, "reserved");
  assert.deepEqual(await bob.wallet(), { balance: 5, held: 1 });
  assert.ok(saying(lines(), "ERROR", "Storage refuses our key: check SUPABASE_SECRET_KEY").length > 0, lines().join("\n"));
  assert.equal((await alice.generation(made.id))!.state, made.state);
  const [row] = await database`select verified_at from public.deletions where path = ${overdue}`;
  assert.equal(row?.verified_at ?? null, null);
  assert.deepEqual(lines().filter((line) => line.includes("not signed in")), []);

  await lab.functions.restart();
  await passTime(300);
  await cleanUp();
  await sound(alice, { succeeded: 1 });
  await sound(bob, { succeeded: 1 });
  await sound(carol, {});
});

test("if Auth refuses the secret key, the erasure waits, the log says why, and the right key completes it", async () => {
  const alice = await Person.signUp("alice");
  await alice.call("POST", "/privacy/erasures", { email: alice.email });
  const lines = listen();
  const body = JSON.stringify({ code: 403, error_code: "bad_jwt", msg: "invalid JWT: unable to parse or verify signature" });
  lab.supabase.misbehave({ fault: "status", status: 403, body, when: /^DELETE \/auth\/v1\/admin/, count: 1000 });
  await passTime(125);
  await cleanUp();
  const stage = async () => (await database`select stage from private.erasures order by ordered_at desc limit 1`)[0]!.stage;
  assert.equal(await stage(), "leaving");
  assert.ok(saying(lines(), "ERROR", "Auth refuses our key: check SUPABASE_SECRET_KEY (delete: status 403)").length > 0, lines().join("\n"));
  lab.heal();
  await passTime(125);
  await cleanUp();
  assert.equal(await stage(), "done");
});
