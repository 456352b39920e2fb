// A photo that makes its decoder panic ends only its own generation. `cargo run --release --package release-panic`
// (part of `make test`) checks that a release build survives a panic, too.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, test } from "node:test";
import { Person } from "../journeys/person.ts";
import { small } from "../journeys/photos.ts";
import { cleanUp, database } from "../journeys/stack.ts";
import { startLab } from "../lab/lab.ts";

const poison = `poison-${randomUUID()}`;
const lab = await startLab({ POISON: poison });

after(async () => {
  await lab.stop();
  await database.end();
});

const poisoned = async () => Buffer.concat([await small, Buffer.from(poison)]);

/** A reserved generation whose function died before the dispatch. */
async function reserved(person: Person, photo: Buffer): Promise<string> {
  const { data, error } = await person.client.rpc("begin_generation", {
    style: "mosaic", input_path: await person.upload(photo), idempotency_key: randomUUID(), lease: randomUUID(),
  });
  assert.equal(error, null);
  const { id } = (data as { generation: { id: string } }).generation;
  await database`update private.generation_work set lease = null, leased_until = null where generation_id = ${id}`;
  return id;
}

test("a photo that makes its decoder panic ends only its own job: the sweep continues, and the credits are returned", async () => {
  const [alice, bob] = [await Person.signUp("alice"), await Person.signUp("bob")];
  const bad = await reserved(alice, await poisoned());
  const good = await reserved(bob, await small);
  const report = await cleanUp();
  assert.equal(report.dispatched, 1);
  const { state, reason } = (await alice.generation(bad))!;
  assert.deepEqual([state, reason, await alice.wallet()], ["failed", "corrupt", { balance: 5, held: 0 }]);
  assert.ok((await bob.generation(good))!.prediction_id);
  assert.equal(lab.functions.restarts, 0);
});

test("if a user submits such a photo, the response is an error, and nothing is charged", async () => {
  const alice = await Person.signUp("alice");
  const answer = await alice.submit({ style: "mosaic", input_path: await alice.upload(await poisoned()) });
  assert.deepEqual([answer.status, ((await answer.json()) as { code: string }).code], [422, "corrupt"]);
  assert.deepEqual(await alice.wallet(), { balance: 5, held: 0 });
  assert.equal(lab.functions.restarts, 0);
});
