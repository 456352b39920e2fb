// Faults of the sandbox, with the official client and with fetch.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { after, afterEach, before, test } from "node:test";
import type { Prediction } from "replicate";
import type Replicate from "replicate";
import { small } from "../journeys/photos.ts";
import { until } from "../waiting.ts";
import { Sandbox, pro } from "./sandbox.ts";

let sandbox: Sandbox;
let replicate: Replicate;

before(async () => {
  sandbox = await Sandbox.start();
  replicate = sandbox.client();
});
after(() => sandbox.stop());
afterEach(() => sandbox.disarm());

const input = { prompt: "a poster" };

const create = (more = {}) =>
  replicate.predictions.create({ model: pro, input: { ...input, ...more } });
const count = async () => (await replicate.predictions.list()).results.length;

const finished = async (more = {}): Promise<Prediction> => sandbox.ended((await create(more)).id);

test("a refused create says why and creates nothing", async () => {
  for (const [fault, words] of [
    ["create_402", /402.*Insufficient credit/s],
    ["create_500", /500.*Internal server error/s],
  ] as const) {
    const before = await count();
    await sandbox.arm({ fault });
    await assert.rejects(create(), words);
    assert.equal(await count(), before);
  }
});

test("the client makes a throttled create call up to six times", async () => {
  const before = await count();
  await sandbox.arm({ fault: "create_429", count: 5 });
  assert.ok((await create()).id);
  assert.equal(await count(), before + 1);
  await sandbox.arm({ fault: "create_429", count: 6, value: 7 });
  await assert.rejects(create(), /429.*"retry_after":7/s);
  assert.equal(await count(), before + 1);
});

test("a lost response makes the official client create, and pay for, another prediction", async () => {
  const before = await count();
  await sandbox.arm({ fault: "create_hang", count: 2 });
  assert.ok((await create()).id);
  assert.equal(await count(), before + 3);
});

test("a lost call creates nothing", async () => {
  const before = await count();
  await sandbox.arm({ fault: "create_drop_before" });
  assert.ok((await create()).id);
  assert.equal(await count(), before + 1);
});

test("a failed prediction has Replicate's error message", async () => {
  for (const [fault, words] of [
    ["fail_moderation", /flagged as sensitive.*\(E005\)$/],
    ["fail_platform", /please retry \(code: PA\)$/],
    ["fail_model", /E1000/],
  ] as const) {
    await sandbox.arm({ fault });
    const { status, error, output } = await finished();
    assert.deepEqual([status, output], ["failed", null]);
    assert.match(String(error), words);
  }
});

test("a prediction can succeed without an output", async () => {
  await sandbox.arm({ fault: "succeed_without_output" });
  const { status, error, output } = await finished();
  assert.deepEqual([status, error, output], ["succeeded", null, null]);
});

test("an output can be anything except a picture", async () => {
  const { output } = await finished();
  const fetchWith = async (fault: string, value?: number, init?: RequestInit) => {
    await sandbox.arm({ fault, value });
    return fetch(output, init);
  };
  assert.match(await (await fetchWith("output_wrong_type")).text(), /^<!doctype html>/);
  assert.equal((await fetchWith("output_expired")).status, 404);
  assert.equal((await fetchWith("output_500")).status, 500);
  const redirect = await fetchWith("output_redirect", undefined, { redirect: "manual" });
  assert.equal(redirect.status, 307);
  const truncated = await fetchWith("output_truncated");
  await assert.rejects(truncated.arrayBuffer());
  const stalled = await fetchWith("output_stall", undefined, { signal: AbortSignal.timeout(300) });
  await assert.rejects(stalled.arrayBuffer(), { name: "TimeoutError" });
  const endless = await fetchWith("output_too_large");
  let bytes = 0;
  for await (const chunk of endless.body!) {
    bytes += chunk.length;
    if (bytes > 64 * 2 ** 20) break;
  }
  assert.ok(bytes > 64 * 2 ** 20);
  assert.equal((await fetch(output)).status, 200);
});

test("reading a prediction can fail, and the client retries after a 500 but not after a 404", async () => {
  const { id } = await create();
  await sandbox.arm({ fault: "get_500" });
  assert.equal((await replicate.predictions.get(id)).id, id);
  await sandbox.arm({ fault: "get_404" });
  await assert.rejects(replicate.predictions.get(id), /404.*could not be found/s);
});

test("disarming removes all faults, and an unknown fault is refused", async () => {
  await sandbox.arm({ fault: "create_500", count: 5 });
  await sandbox.disarm();
  assert.ok((await create()).id);
  assert.equal((await sandbox.arm({ fault: "create_418" })).status, 422);
});

test("an input is downloaded and recorded, and the prediction fails if it is not a picture", async () => {
  const photo = await small;
  const server = createServer((request, response) => {
    if (request.url === "/signed/photo.jpg?token=t") {
      response.setHeader("content-type", "image/jpeg").end(photo);
    } else if (request.url === "/text") {
      response.end("Dear diary");
    } else {
      response.writeHead(400).end();
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;

  const { id, status } = await finished({ input_image: `${base}/signed/photo.jpg?token=t` });
  assert.equal(status, "succeeded");
  const inputs = await (await sandbox.control("GET", "/inputs")).json();
  const seen = (inputs as Record<string, unknown>[]).find(({ prediction }) => prediction === id)!;
  assert.equal(seen.sha256, createHash("sha256").update(photo).digest("hex"));
  assert.deepEqual(
    [seen.bytes, seen.content_type, seen.width, seen.orientation, seen.gps, seen.xmp],
    [photo.length, "image/jpeg", 320, 1, false, false],
  );
  for (const [path, words] of [
    ["/text", /not an image/],
    ["/expired", /failed to download/],
  ] as const) {
    const failed = await finished({ input_image: base + path });
    assert.equal(failed.status, "failed");
    assert.match(String(failed.error), words);
  }
  server.close();
});

test("more than 600 create calls a minute are throttled until the minute is over", async () => {
  await sandbox.advance(61);
  const call = () => sandbox.create({});
  for (let remaining = 599; remaining >= 0; remaining--) {
    const answer = await call();
    assert.equal(answer.status, 422);
    assert.equal(answer.headers.get("ratelimit-remaining"), String(remaining));
  }
  const throttled = await call();
  assert.equal(throttled.status, 429);
  const { retry_after } = (await throttled.json()) as { retry_after: number };
  assert.ok(retry_after > 0 && retry_after <= 60);
  await sandbox.advance(61);
  assert.equal((await call()).status, 422);
});

test("the sandbox stops when asked, even if a client waits for a prediction", async () => {
  const other = await Sandbox.start();
  await other.arm({ fault: "stuck_processing" });
  const waiting = other.create({ input }, { prefer: "wait" });
  const all = async () => (await (await other.control("GET", "/predictions")).json()) as unknown[];
  await until("the prediction", async () => (await all()).length || undefined);
  const began = Date.now();
  await Promise.all([other.stop(), assert.rejects(waiting)]);
  assert.ok(Date.now() - began < 10_000);
});
