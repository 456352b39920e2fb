// A service refuses our key or a user's token. The one who can fix it must learn of it.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import { Person } from "../journeys/person.ts";
import { small } from "../journeys/photos.ts";
import { cleanUp } from "../journeys/stack.ts";
import { passTime } from "../lab/time.ts";
import { error, failure, gateway } from "./answers.ts";
import { lab } from "./lab.ts";
import { listen, saying } from "./log.ts";
import { sound } from "./sound.ts";

const begin = /rpc\/begin_generation$/;

test("if the gateway refuses the publishable key, the user gets 503 and the log names the variable", async () => {
  const alice = await Person.signUp("alice");
  const [input_path, key] = [await alice.upload(await small), randomUUID()];
  const lines = listen();
  const struck = lab.supabase.struck;
  lab.supabase.misbehave({ fault: "status", ...gateway(401, "Invalid API key"), when: begin });
  const response = await alice.submit({ style: "mosaic", input_path }, key);
  assert.deepEqual([response.status, lab.supabase.struck - struck], [503, 1]);
  assert.doesNotMatch(await response.text(), /key:|SUPABASE/);
  assert.ok(saying(lines(), "ERROR", "check SUPABASE_PUBLISHABLE_KEY").length > 0, lines().join("\n"));
  assert.deepEqual(await alice.wallet(), { balance: 5, held: 0 });
  assert.equal((await alice.submit({ style: "mosaic", input_path }, key)).status, 201);
  await sound(alice, { succeeded: 1 });
});

test("if PostgREST refuses the user's token, the user gets 401 and the log has no error", async () => {
  const alice = await Person.signUp("alice");
  const lines = listen();
  for (const [code, message] of [["PGRST301", "JWSError JWSInvalidSignature"], ["PGRST303", "JWT expired"]]) {
    lab.supabase.misbehave({ fault: "status", ...error(401, code!, message!), when: begin });
    const response = await alice.submit({ style: "mosaic", input_path: `${alice.id}/${randomUUID()}.jpg` });
    assert.deepEqual([response.status, ((await response.json()) as { code: string }).code], [401, "not_signed_in"]);
  }
  assert.deepEqual(saying(lines(), "ERROR", ""), []);
});

test("if Storage refuses the secret key, the job waits and the log says which variable to check", async () => {
  const answers = [
    // Storage says this about a private bucket if the key is not valid.
    failure("404", "NoSuchBucket", "Bucket not found"),
    failure("403", "AccessDenied", "signature verification failed"),
    gateway(401, "Invalid API key"),
  ];
  for (const answer of answers) {
    const alice = await Person.signUp("alice");
    const lines = listen();
    const struck = lab.supabase.struck;
    lab.supabase.misbehave({ fault: "status", ...answer, when: /^GET \/storage\/v1\/object\/inputs/ });
    const { id, state } = await alice.generate(await small);
    assert.deepEqual([state, lab.supabase.struck - struck], ["reserved", 1], answer.body);
    assert.ok(saying(lines(), "ERROR", "Storage refuses our key: check SUPABASE_SECRET_KEY").length > 0, lines().join("\n"));
    assert.deepEqual(await alice.wallet(), { balance: 5, held: 1 });
    await passTime(61);
    await cleanUp();
    assert.equal((await alice.ended(id)).state, "succeeded");
    await sound(alice, { succeeded: 1 });
  }
});
