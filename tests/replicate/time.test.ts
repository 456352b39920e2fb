// How time affects predictions, on a separate clock.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type Replicate from "replicate";
import { small } from "../journeys/photos.ts";
import { Sandbox, pro } from "./sandbox.ts";

let sandbox: Sandbox;
let replicate: Replicate;

before(async () => {
  sandbox = await Sandbox.start();
  replicate = sandbox.client();
});
after(() => sandbox.stop());

const input = { prompt: "a poster" };

async function createWithDeadline(after: string): Promise<{ id: string; deadline: string }> {
  const response = await sandbox.create({ input }, { "cancel-after": after });
  assert.equal(response.status, 201);
  return (await response.json()) as { id: string; deadline: string };
}

test("a deadline aborts a prediction that has not started", async () => {
  await sandbox.arm({ fault: "stuck_starting" });
  const { id } = await createWithDeadline("5m");
  await sandbox.advance(290);
  assert.equal((await replicate.predictions.get(id)).status, "starting");
  await sandbox.advance(11);
  const { status, started_at } = await sandbox.ended(id);
  assert.deepEqual([status, started_at], ["aborted", undefined]);
});

test("a deadline cancels a running prediction, but not one that has ended", async () => {
  await sandbox.arm({ fault: "stuck_processing" });
  const { id } = await createWithDeadline("1h30m45s");
  await sandbox.running(id);
  await sandbox.advance(5446);
  assert.equal((await sandbox.ended(id)).status, "canceled");

  const quick = await createWithDeadline("30");
  await sandbox.ended(quick.id);
  await sandbox.advance(31);
  assert.equal((await replicate.predictions.get(quick.id)).status, "succeeded");
});

test("the response contains the deadline, and one of less than five seconds is refused", async () => {
  const { deadline } = await createWithDeadline("30s");
  assert.match(deadline, /^\d{4}-\d\d-\d\dT.*Z$/);
  for (const after of ["4", "4s", "soon", ""]) {
    const refused = await sandbox.create({ input }, { "cancel-after": after });
    assert.equal(refused.status, 422, after);
  }
});

test("data is kept for an hour after the end, and then removed", async () => {
  const input_image = `data:image/jpeg;base64,${(await small).toString("base64")}`;
  const withPhoto = { ...input, input_image };
  const { id } = await replicate.predictions.create({ model: pro, input: withPhoto });
  const { output } = await sandbox.ended(id);
  const now = async () => {
    const found: object = await replicate.predictions.get(id);
    return found as Record<string, unknown>;
  };

  await sandbox.advance(3500);
  const kept = await now();
  assert.deepEqual([kept.data_removed, kept.output], [false, output]);
  assert.equal((await fetch(output)).status, 200);

  await sandbox.advance(101);
  const left = await now();
  assert.deepEqual([left.data_removed, left.output, left.input, left.logs], [true, null, {}, ""]);
  assert.equal(left.status, "succeeded");
  assert.equal((await fetch(output)).status, 404);
});
