// The public status shows anyone whether the promises are kept (X5).

import assert from "node:assert/strict";
import { after, test } from "node:test";
import sharp from "sharp";
import { passTime } from "../lab/time.ts";
import { Person } from "./person.ts";
import { small } from "./photos.ts";
import { cleanUp, database } from "./stack.ts";

after(() => database.end());

interface Live {
  originals: { stored: number; oldest_seconds: number | null; limit_seconds: number };
  deletions: { overdue: number };
  requests: { open: number; shortest_seconds_left: number | null; limit_seconds: number };
  sweeper: { last_sweep_seconds: number; allowed_silence_seconds: number; intake_open: boolean };
}

const at = (path: string) => fetch(`${process.env.FUNCTIONS_URL}${path}`);
const live = async () => (await (await at("/privacy/status")).json()) as Live;

test("the public status shows the age of the oldest original, overdue deletions and the last sweep", async () => {
  const alice = await Person.signUp("alice");
  await passTime(25 * 3600);
  await cleanUp();
  assert.deepEqual((await live()).originals, { stored: 0, oldest_seconds: null, limit_seconds: 48 * 3600 });
  await alice.upload(await small);
  await passTime(300);
  await alice.upload(await small);
  const { originals, deletions, sweeper } = await live();
  assert.equal(originals.stored, 2);
  assert.ok(originals.oldest_seconds! >= 300 && originals.oldest_seconds! < 330);
  assert.equal(deletions.overdue, 0);
  assert.ok(sweeper.last_sweep_seconds < 60 && sweeper.allowed_silence_seconds === 600 && sweeper.intake_open);

  await database`insert into public.deletions (bucket, path, reason, ordered_at, due_at) values
    ('inputs', 'somewhere', 'limit_reached', now() - interval '16 minutes', now() + interval '1 hour')`;
  assert.equal((await live()).deletions.overdue, 1);
  await database`update public.deletions set due_at = now() where path = 'somewhere'`;
  await cleanUp();
  assert.equal((await live()).deletions.overdue, 0);
});

test("the public status shows the number of open requests and the shortest time left to answer one", async () => {
  await database`update public.privacy_requests set closed_at = now(), evidence = '{}' where closed_at is null`;
  assert.deepEqual((await live()).requests, { open: 0, shortest_seconds_left: null, limit_seconds: 72 * 3600 });
  const alice = await Person.signUp("alice");
  await alice.client.from("privacy_requests").insert({ kind: "other", message: "Who reads this?" });
  await passTime(3600);
  await alice.client.from("privacy_requests").insert({ kind: "access" });
  const { open, shortest_seconds_left } = (await live()).requests;
  assert.equal(open, 2);
  assert.ok(shortest_seconds_left! <= 71 * 3600 && shortest_seconds_left! > 71 * 3600 - 60);
  await database`update public.privacy_requests set closed_at = now(), evidence = '{}' where closed_at is null`;
});

test("the public status contains only numbers and booleans, and no personal data", async () => {
  const alice = await Person.signUp("alice");
  await alice.upload(await small);
  const values = Object.values(await live()).flatMap((part) => Object.values(part as object));
  assert.ok(values.length >= 7 && values.every((value) => value === null || ["number", "boolean"].includes(typeof value)));
});

test("any page may embed the badge, which is red while a promise is at risk", async () => {
  const alice = await Person.signUp("alice");
  await alice.upload(await small);
  const fetched = async () => {
    const answer = await at("/privacy/badge.svg");
    assert.deepEqual([answer.status, answer.headers.get("content-type"), answer.headers.get("access-control-allow-origin")], [200, "image/svg+xml", "*"]);
    assert.match(answer.headers.get("cache-control")!, /max-age=\d+/);
    const svg = await answer.text();
    const { data, info } = await sharp(Buffer.from(svg)).raw().toBuffer({ resolveWithObject: true });
    assert.equal(info.height, 20);
    const [red, green] = data.subarray((10 * info.width + info.width - 3) * info.channels);
    return red! > green! ? "red" : "green";
  };
  await cleanUp();
  assert.equal(await fetched(), "green");
  await passTime(660, "silent");
  assert.equal(await fetched(), "red");
  await cleanUp();
  assert.equal(await fetched(), "green");
});
