// When a job fails, its user reads the exact cause, the operator counts it by that cause, and the log names the generation.

import assert from "node:assert/strict";
import { test } from "node:test";
import { ended, status } from "../journeys/operator.ts";
import { Person } from "../journeys/person.ts";
import { impostors, small } from "../journeys/photos.ts";
import { arm, cleanUp, database } from "../journeys/stack.ts";
import { passTime } from "../lab/time.ts";
import { until } from "../waiting.ts";
import { lab } from "./lab.ts";
import { type Lines, listen, saying } from "./log.ts";
import { predictionThatIs } from "./replicate.ts";
import { sound } from "./sound.ts";

const download = /^GET \/storage\/v1\/object\/inputs/;

/** What the sentence of each cause must contain. */
const says: Record<string, RegExp> = {
  not_an_image: /not a picture/,
  unsupported_format: /format that we cannot use/,
  corrupt: /could not be read/,
  truncated: /incomplete/,
  dimensions_too_large: /too many pixels/,
  dimensions_too_small: /too few pixels/,
};

for (const [name, bytes, cause] of await impostors()) {
  test(`${name} that is checked later ends its job as ${cause}, for the user and in the operator's counts`, async () => {
    lab.supabase.misbehave({ fault: "status", status: 500, when: download, count: 3 });
    const before = await status();
    const alice = await Person.signUp("alice");
    const lines = listen();
    const { id, state } = await alice.generate(bytes);
    assert.equal(state, "reserved");
    await sound(alice, { [cause]: 1 });
    const { data } = await alice.client.from("generations").select("failure_reasons(sentence)").eq("id", id).single();
    assert.match((data!.failure_reasons as unknown as { sentence: string }).sentence, says[cause]!);
    assert.equal(ended(cause, await status()), ended(cause, before) + 1);
    names(id, lines, "INFO", "a dispatch ended without a prediction");
  });
}

/** Checks that lines say this, and that each of them names the generation. */
function names(id: string, lines: Lines, level: "INFO" | "WARN" | "ERROR", text: string): void {
  const found = saying(lines(), level, text);
  assert.ok(found.length > 0, `no line says "${text}"`);
  for (const line of found) assert.ok(line.includes(` generation=${id}`), line);
}

test("the log line of a refused submission names the generation", async () => {
  const alice = await Person.signUp("alice");
  const lines = listen();
  const input_path = await alice.upload(Buffer.from("no photo"));
  assert.equal((await alice.submit({ style: "mosaic", input_path })).status, 422);
  const { data } = await alice.client.from("generations").select("id").single();
  names(data!.id, lines, "INFO", "photo rejected: not_an_image");
});

test("if the database fails, the log lines of a cancel and of an event name the generation", async () => {
  await arm({ fault: "stuck_processing" });
  const alice = await Person.signUp("alice");
  const lines = listen();
  lab.supabase.misbehave({ fault: "status", status: 500, when: /rpc\/(record_prediction_event|cancel_generation)$/, count: Infinity });
  const { id } = await alice.generate(await small);
  assert.equal((await alice.call("POST", `/generations/${id}/cancel`)).status, 503);
  await until("an event to be refused", async () => saying(lines(), "ERROR", "route=/replicate-webhook")[0]);
  for (const route of ["/replicate-webhook", "/generations/{id}/cancel"]) names(id, lines, "ERROR", `route=${route}`);
  lab.heal();
  assert.equal((await alice.call("POST", `/generations/${id}/cancel`)).status, 200);
  await sound(alice, { canceled: 1 });
});

test("the log line of an event for a deleted generation names the generation", async () => {
  await arm({ fault: "webhook_delay", value: 1_000 });
  const alice = await Person.signUp("alice");
  const lines = listen();
  const { id } = await alice.generate(await small);
  assert.equal((await alice.client.rpc("delete_generation", { generation_id: id })).error, null);
  await until("an event to be ignored", async () => saying(lines(), "WARN", "was ignored")[0]);
  names(id, lines, "WARN", "was ignored");
  await cleanUp();
});

test("the log lines of failed deletions name the generation", async () => {
  // The generation's last event would delete, too.
  await arm({ fault: "stuck_processing" }, { fault: "webhook_drop" });
  const alice = await Person.signUp("alice");
  const { id, input_path } = await alice.generate(await small);
  await predictionThatIs("processing", input_path);
  const lines = listen();
  lab.supabase.misbehave({ fault: "refuse", when: /\/storage\/v1\//, count: Infinity });
  assert.equal((await alice.call("POST", `/generations/${id}/cancel`)).status, 200);
  for (const text of [
    "Storage could not say whether an object is gone",
    "a deletion is not verified",
    "deletions of a generation failed",
  ])
    names(id, lines, "WARN", text);
  lab.heal();
  await sound(alice, { canceled: 1 });
});

test("the log lines of unfinished outbox tasks for Replicate name the generation", async () => {
  await arm({ fault: "stuck_processing" });
  const alice = await Person.signUp("alice");
  const { id, input_path } = await alice.generate(await small);
  await predictionThatIs("processing", input_path);
  lab.replicate.misbehave({ fault: "refuse", count: Infinity });
  assert.equal((await alice.call("POST", `/generations/${id}/cancel`)).status, 200);
  // Tasks that other tests left behind are not part of this test.
  await database`delete from private.outbox where generation_id is distinct from ${id}`;
  await database`update public.replicate_removals set due_at = 'infinity' where removed_at is null and generation_id is distinct from ${id}`;
  const lines = listen();
  await passTime(3700);
  await cleanUp();
  for (const text of ["an outbox task failed", "Replicate did not answer whether a prediction's data is deleted"])
    names(id, lines, "WARN", text);
  lab.heal();
  await sound(alice, { canceled: 1 });
});
