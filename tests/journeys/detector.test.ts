// Anyone can ask whether the artwork with a given digest is stored here, and learns nothing else (X7).

import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { after, afterEach, test } from "node:test";
import { predictionThatIs, send } from "../faults/replicate.ts";
import { fillGallery } from "./gallery.ts";
import { Person } from "./person.ts";
import { small } from "./photos.ts";
import { arm, database, disarm } from "./stack.ts";

afterEach(() => disarm());
after(() => database.end());

const digest = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");
/** Asks without a token, as a stranger would. */
const ask = (query: string, method = "GET") => fetch(`${process.env.FUNCTIONS_URL}/privacy/mark${query}`, { method });

async function isMadeHere(sha256: string): Promise<boolean> {
  const response = await ask(`?sha256=${sha256}`);
  const answer = (await response.json()) as { made_here: boolean };
  assert.equal(response.status, 200, JSON.stringify(answer));
  assert.deepEqual(answer, { made_here: answer.made_here === true }, "the answer is yes or no, and nothing else");
  return answer.made_here;
}

test("a stranger can recognise an artwork by the digest of the exact bytes that its owner downloads (X7)", async () => {
  const alice = await Person.signUp("alice");
  const { artwork_path } = await alice.ended((await alice.generate(await small)).id);
  const { data } = await alice.client.storage.from("artworks").download(artwork_path!);
  const bytes = Buffer.from(await data!.arrayBuffer());
  assert.equal(await isMadeHere(digest(bytes)), true);
  assert.equal(await isMadeHere(digest(bytes).toUpperCase()), true);
  assert.equal(await isMadeHere(digest(bytes.subarray(1))), false);
  bytes[bytes.length - 1]! ^= 1;
  assert.equal(await isMadeHere(digest(bytes)), false);
  assert.equal(await isMadeHere(randomBytes(32).toString("hex")), false);
});

test("the API never recognises a photo, neither as uploaded nor as prepared for the model (X7)", async () => {
  await arm({ fault: "webhook_drop" });
  const alice = await Person.signUp("alice");
  const photo = await small;
  const { id, input_path } = await alice.generate(photo);
  const prediction = await predictionThatIs("succeeded", input_path);
  const prepared = Buffer.from(await (await fetch(prediction.input.input_image)).arrayBuffer());
  assert.notEqual(digest(prepared), digest(photo));
  for (const bytes of [photo, prepared]) assert.equal(await isMadeHere(digest(bytes)), false);
  assert.equal((await send(prediction)).status, 200);
  const { artwork_sha256 } = await alice.ended(id);
  assert.equal(await isMadeHere(artwork_sha256 as string), true);
  for (const bytes of [photo, prepared]) assert.equal(await isMadeHere(digest(bytes)), false);
});

test("the API does not recognise a deleted artwork, unless an identical one is still stored (X7)", async () => {
  const [alice, bob] = [await Person.signUp("alice"), await Person.signUp("bob")];
  const [first, second] = await fillGallery(alice, 2, 2);
  assert.equal(first!.artwork_sha256, second!.artwork_sha256);
  assert.equal(await isMadeHere(first!.artwork_sha256), true);
  assert.equal((await bob.call("DELETE", `/generations/${first!.id}`)).status, 404);
  assert.equal((await alice.call("DELETE", `/generations/${first!.id}`)).status, 204);
  assert.equal(await isMadeHere(first!.artwork_sha256), true);
  assert.equal((await alice.call("DELETE", `/generations/${second!.id}`)).status, 204);
  assert.equal(await isMadeHere(first!.artwork_sha256), false);
});

test("the API stops recognising the artworks of an account as soon as its erasure is ordered (X7)", async () => {
  const alice = await Person.signUp("alice");
  const { artwork_path, artwork_sha256 } = (await fillGallery(alice, 1, 2))[0]!;
  assert.equal(await isMadeHere(artwork_sha256), true);
  assert.equal((await alice.call("POST", "/privacy/erasures", { email: alice.email })).status, 202);
  const stored = await database`select from storage.objects where name = ${artwork_path}`;
  assert.equal(stored.length, 1, "no sweep has deleted it yet");
  assert.equal(await isMadeHere(artwork_sha256), false);
});

test("caches may keep an answer for 10 seconds, and the API accepts only GET and HEAD", async () => {
  for (const method of ["GET", "HEAD"]) {
    const answer = await ask(`?sha256=${"a".repeat(64)}`, method);
    assert.equal(answer.status, 200, method);
    assert.equal(answer.headers.get("cache-control"), "public, max-age=10");
  }
  const posted = await ask(`?sha256=${"a".repeat(64)}`, "POST");
  assert.deepEqual([posted.status, ((await posted.json()) as { code: string }).code], [405, "method_not_allowed"]);
});

test("the API refuses an invalid digest, says what to do, and does not repeat it", async () => {
  const good = "a".repeat(64);
  for (const query of [
    "",
    "?sha256",
    "?sha256=",
    `?SHA256=${good}`,
    `?sha256=${good}&sha256=${good}`,
    `?sha256=${good}0`,
    `?sha256=${"zebra".repeat(13).slice(1)}`,
    `?sha256=%20${good.slice(1)}`,
    `?sha256=${good.slice(1)}%00`,
    `?sha256=${"%C3%A9".repeat(32)}`,
    `?sha256[]=${good}`,
    `?sha256=${encodeURIComponent("' or true --")}`,
    `?sha256=${"zebra".repeat(1000)}`,
  ]) {
    const response = await ask(query);
    const text = await response.text();
    const problem = JSON.parse(text) as { code: string; field: string; detail: string };
    assert.deepEqual([response.status, problem.code, problem.field], [422, "invalid_request", "sha256"], query);
    assert.match(problem.detail, /64 hexadecimal digits.*sha256sum/);
    assert.equal(response.headers.get("content-type"), "application/problem+json");
    assert.doesNotMatch(text, /zebra|aaaa|or true/);
  }
});
