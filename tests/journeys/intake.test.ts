// The intake closes if photos could not be deleted in time (X2).

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { passTime } from "../lab/time.ts";
import { Person } from "./person.ts";
import { small } from "./photos.ts";
import { cleanUp, database } from "./stack.ts";

after(() => database.end());

interface Live {
  sweeper: { intake_open: boolean; last_sweep_seconds: number };
}

async function live(): Promise<Live> {
  return (await (await fetch(`${process.env.FUNCTIONS_URL}/privacy/status`)).json()) as Live;
}

test("intake closes when no sweep has run for the allowed time, and opens again after the next sweep", async () => {
  const alice = await Person.signUp("alice");
  const [{ seconds }] = await database`select extract(epoch from keep)::int as seconds from private.retention_rules where id = 'sweep_silence'`;
  await cleanUp();
  const input_path = await alice.upload(await small);

  await passTime(seconds - 20, "silent");
  await alice.upload(await small);
  assert.equal((await live()).sweeper.intake_open, true);

  await passTime(40, "silent");
  await assert.rejects(alice.upload(await small), /We accept no photos at the moment/);
  const refused = await alice.submit({ style: "mosaic", input_path });
  const problem = (await refused.json()) as { code: string; detail: string };
  assert.deepEqual([refused.status, problem.code], [503, "intake_closed"]);
  assert.match(problem.detail, /You were not charged/);
  assert.equal(refused.headers.get("retry-after"), "60");
  assert.deepEqual(await alice.wallet(), { balance: 5, held: 0 });
  assert.deepEqual((await alice.client.from("generations").select("id")).data, []);
  assert.equal((await live()).sweeper.intake_open, false);

  await cleanUp();
  assert.equal((await live()).sweeper.intake_open, true);
  await alice.upload(await small);
  assert.equal((await alice.submit({ style: "mosaic", input_path })).status, 201);
});

test("while intake is closed, users can still delete, and running jobs finish", async () => {
  const alice = await Person.signUp("alice");
  const first = await alice.ended((await alice.generate(await small)).id);
  const second = await alice.generate(await small);
  const photo = await alice.upload(await small);
  await database`update private.heartbeats set at = now() - interval '1 hour'`;
  assert.equal((await live()).sweeper.intake_open, false);
  assert.equal((await alice.ended(second.id)).state, "succeeded");
  assert.equal((await alice.call("DELETE", `/generations/${first.id}`)).status, 204);
  assert.equal((await alice.client.storage.from("inputs").remove([photo])).data?.length, 1);
  await cleanUp();
});
