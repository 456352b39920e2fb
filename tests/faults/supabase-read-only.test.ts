// The project is read-only for a while. Supabase does this when a hosted project's disk is nearly full.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import { Person } from "../journeys/person.ts";
import { small } from "../journeys/photos.ts";
import { cleanUp, database } from "../journeys/stack.ts";
import { makeReadOnly, makeWritable } from "../lab/database.ts";
import { passTime } from "../lab/time.ts";
import { until } from "../waiting.ts";
import { withLostEvents } from "./generation.ts";
import { lab } from "./lab.ts";
import { listen, saying } from "./log.ts";
import { sound } from "./sound.ts";

const operator = { headers: { authorization: `Bearer ${process.env.OPERATOR_SECRET}` } };

test("while the project is read-only, every write gets 503, nothing is lost, and all continues on its own later", async () => {
  const [alice, bob, carol] = [await Person.signUp("alice"), await Person.signUp("bob"), await Person.signUp("carol")];
  // Alice's prediction is done, but its event was lost. Bob's job waits for its dispatch. Carol's photo is past its limit.
  const made = await withLostEvents(alice);
  const [input_path, key] = [await bob.upload(await small), randomUUID()];
  const overdue = await carol.upload(await small);
  await database`update storage.objects set created_at = now() - interval '25 hours' where name = ${overdue}`;
  const submit = () => bob.submit({ style: "mosaic", input_path }, key);
  const sweep = () => fetch(`${lab.functions.url}/cleanup`, { method: "POST", ...operator });

  await makeReadOnly();
  try {
    const lines = listen();
    for (const [what, ask] of [
      ["a submission", submit],
      ["a cancel", () => alice.call("POST", `/generations/${made.id}/cancel`)],
      ["a deletion", () => alice.call("DELETE", `/generations/${made.id}`)],
      ["an export", () => alice.call("POST", "/privacy/exports")],
      ["a sweep", sweep],
    ] as [string, () => Promise<Response>][]) {
      const answer = await ask();
      const problem = (await answer.json()) as { code: string };
      assert.deepEqual([answer.status, problem.code], [503, "unavailable"], what);
      assert.ok(Number(answer.headers.get("retry-after")) > 0, what);
    }
    const told = saying(lines(), "ERROR", "the project is read-only: look at its disk: status 405, code 25006");
    assert.ok(told.length > 0, lines().join("\n"));
    // Reads still work.
    assert.equal((await fetch(`${lab.functions.url}/status`, operator)).status, 200);
    assert.deepEqual(await bob.wallet(), { balance: 5, held: 0 });
    assert.deepEqual(await alice.wallet(), { balance: 5, held: 1 });
    assert.equal((await alice.generation(made.id))!.state, made.state);
    assert.equal((await database`select from storage.objects where name = ${overdue}`).length, 1);
  } finally {
    await makeWritable();
  }
  await until("a sweep to run", async () => (await sweep()).ok || undefined);
  assert.equal((await submit()).status, 201);
  await passTime(300);
  await cleanUp();
  await sound(bob, { succeeded: 1 });
  await sound(alice, { succeeded: 1 });
  await sound(carol, {});
});
