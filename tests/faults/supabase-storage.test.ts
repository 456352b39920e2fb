// Storage, or a service in front of it, answers with a failure.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Person } from "../journeys/person.ts";
import { small } from "../journeys/photos.ts";
import { cleanUp, database } from "../journeys/stack.ts";
import { type Answer, failure, gateway, html } from "./answers.ts";
import { lab } from "./lab.ts";
import { sound } from "./sound.ts";

test("if a 404 does not come from Storage, it says nothing about the photo: the job waits and is done later", async () => {
  for (const answer of [gateway(404, "no Route matched with those values"), html(404, "404 Not Found")]) {
    const alice = await Person.signUp("alice");
    lab.supabase.misbehave({ fault: "status", ...answer, when: /^GET \/storage\/v1\/object\/inputs/ });
    const { state } = await alice.generate(await small);
    assert.equal(state, "reserved");
    await sound(alice, { succeeded: 1 });
  }
});

test("if a 404 does not come from Storage, it does not prove that a photo is gone", async () => {
  const alice = await Person.signUp("alice");
  const path = await alice.upload(await small);
  await database`update storage.objects set created_at = now() - interval '25 hours' where name = ${path}`;
  const look = /^GET \/storage\/v1\/object\/inputs/;
  lab.supabase.misbehave({ fault: "status", ...gateway(404, "no Route matched with those values"), when: look });
  const report = await cleanUp();
  assert.deepEqual([report.verified, report.remaining], [0, 1]);
  await sound(alice, {});
});

const stored: [what: string, answer: Answer][] = [
  ["503 inside of 400, as text", failure("503", "SlowDown", "Please reduce your request rate.")],
  ["503 inside of 400, as a number", failure(503, "DatabaseReadOnly", "The database is currently in read-only mode.")],
  ["429 inside of 400", failure("429", "SlowDown", "Too many connections issued to the database")],
  ["500 inside of 400", failure("500", "DatabaseError", "database error, code: 53300")],
  ["a timeout of its database", { ...failure("544", "DatabaseTimeout", "The connection to the database timed out"), status: 544 }],
  ["HTML of Cloudflare's", html(520, "520: Web server is returning an unknown error")],
];

for (const [what, answer] of stored) {
  test(`if Storage answers the upload of a prepared photo with ${what}, the bytes are sent again and the job continues`, async () => {
    const alice = await Person.signUp("alice");
    const struck = lab.supabase.struck;
    lab.supabase.misbehave({ fault: "status", ...answer, when: /^POST \/storage\/v1\/object\/inputs\/.*\/prepared\//, count: 2 });
    const { id, state } = await alice.generate(await small);
    assert.notEqual(state, "reserved");
    assert.equal(lab.supabase.struck - struck, 2);
    assert.equal((await alice.ended(id)).state, "succeeded");
    await sound(alice, { succeeded: 1 });
  });
}
