// Replicate's official client, unmodified, cannot tell the sandbox from the real one.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type Replicate from "replicate";
import sharp from "sharp";
import { mountains, small } from "../journeys/photos.ts";
import { until } from "../waiting.ts";
import { Sandbox, pro } from "./sandbox.ts";

let sandbox: Sandbox;
let replicate: Replicate;

before(async () => {
  sandbox = await Sandbox.start();
  replicate = sandbox.client();
});
after(() => sandbox.stop());

const input = { prompt: "a watercolor painting", seed: 3 };

async function asData(): Promise<string> {
  return `data:image/jpeg;base64,${(await small).toString("base64")}`;
}

function ended(id: string) {
  return until(`prediction ${id} to end`, async () => {
    const found = await replicate.predictions.get(id);
    return ["starting", "processing"].includes(found.status) ? undefined : found;
  });
}

test("a prediction is created, followed and got", async () => {
  const created = await replicate.predictions.create({ model: pro, input: { ...input, input_image: await asData() } });
  assert.match(created.id, /^[0-9a-z]{26}$/);
  assert.equal(created.status, "starting");
  assert.deepEqual([created.output, created.logs, created.error, created.version], [null, "", null, "hidden"]);
  assert.deepEqual(Object.keys(created.urls).sort(), ["cancel", "get", "web"]);
  assert.match(created.created_at, /\.\d{3,9}Z$/);

  const finished = await ended(created.id);
  assert.equal(finished.status, "succeeded");
  assert.equal(typeof finished.output, "string");
  assert.match(finished.logs!, /Using seed: 3/);
  assert.ok(finished.metrics!.predict_time! > 0);
});

test("an output is a picture of about a megapixel, with an entity tag and ranges", async () => {
  const created = await replicate.predictions.create({ model: pro, input: { ...input, input_image: await asData(), output_format: "jpg" } });
  const { output } = await ended(created.id);
  const whole = await fetch(output as string);
  assert.equal(whole.headers.get("content-type"), "image/jpeg");
  const { width, height } = await sharp(Buffer.from(await whole.arrayBuffer())).metadata();
  assert.ok(Math.abs((width * height) / 2 ** 20 - 1) < 0.1, `${width} × ${height}`);
  const part = await fetch(output as string, { headers: { range: "bytes=0-9" } });
  assert.deepEqual([part.status, (await part.arrayBuffer()).byteLength], [206, 10]);
  const same = await fetch(output as string, { headers: { "if-none-match": whole.headers.get("etag")! } });
  assert.equal(same.status, 304);
});

test("run() waits for the output, blocking and polling", async () => {
  for (const wait of [{ mode: "block" }, { mode: "poll", interval: 50 }] as const) {
    // The client makes a file object of an https address alone; the sandbox has only http.
    const output = (await replicate.run(pro, { input: { ...input, input_image: mountains }, wait })) as unknown as string;
    const response = await fetch(output);
    assert.equal(response.headers.get("content-type"), "image/png", wait.mode);
    assert.equal((await sharp(Buffer.from(await response.arrayBuffer())).metadata()).format, "png");
  }
});

test("a running prediction is cancelled, in Replicate's spelling", async () => {
  await sandbox.arm({ fault: "stuck_processing" });
  const { id } = await replicate.predictions.create({ model: pro, input });
  await replicate.predictions.cancel(id);
  assert.equal((await replicate.predictions.get(id)).status, "canceled");
});

test("predictions are listed newest first, a page of a hundred at a time", async () => {
  const created: string[] = [];
  for (let i = 0; i < 105; i++) {
    created.push((await replicate.predictions.create({ model: pro, input: { prompt: "x" } })).id);
    await replicate.predictions.cancel(created[i]);
  }
  const pages: string[][] = [];
  for await (const page of replicate.paginate(replicate.predictions.list)) pages.push(page.map(({ id }) => id));
  assert.equal(pages[0].length, 100);
  assert.ok(pages.length > 1);
  assert.deepEqual(pages.flat().slice(0, 105), created.reverse());
});

test("files are uploaded, used, listed and deleted", async () => {
  const file = await replicate.files.create(new Blob([new Uint8Array(await small)], { type: "image/jpeg" }));
  assert.equal(file.size, (await small).length);
  assert.ok((await replicate.files.list()).results.some(({ id }) => id === file.id));
  const { id } = await replicate.predictions.create({ model: pro, input: { ...input, input_image: file.urls.get } });
  assert.equal((await ended(id)).status, "succeeded");
  assert.equal(await replicate.files.delete(file.id), true);
  await assert.rejects(replicate.files.get(file.id), /404/);
});

test("the account, its webhook secret and the models are there", async () => {
  assert.ok((await replicate.accounts.current()).username);
  assert.match((await replicate.webhooks.default.secret.get()).key, /^whsec_/);
  const model = await replicate.models.get("black-forest-labs", "flux-kontext-dev");
  assert.ok(model.latest_version!.openapi_schema);
  assert.equal((await replicate.models.list()).results.length, 3);
  const { id } = await replicate.predictions.create({ version: model.latest_version!.id, input: { ...input, input_image: await asData() } });
  assert.match((await ended(id)).output as string, /\.webp$/);
});

test("a wrong token, an unknown model and a wrong input are refused in Replicate's words", async () => {
  await assert.rejects(sandbox.client("r8_wrong").predictions.list(), /401.*Unauthenticated/s);
  await assert.rejects(replicate.models.get("nobody", "nothing"), /404.*could not be found/s);
  await assert.rejects(replicate.predictions.create({ model: pro, input: { prompt: "x", output_format: "tiff" } }), /422.*invalid_fields/s);
  await assert.rejects(replicate.predictions.create({ model: pro, input: {} }), /422.*Input validation failed/s);
  const unknown = await fetch(`${sandbox.url}/v1/models/${pro}/predictions`, {
    method: "POST",
    headers: { authorization: "Bearer r8_sandbox", "content-type": "application/json" },
    body: JSON.stringify({ input, idempotency_key: "x" }),
  });
  assert.equal(unknown.status, 422);
});

test("a deadline ends a prediction: aborted before it started, canceled while it ran", async () => {
  for (const [fault, status] of [["stuck_starting", "aborted"], ["stuck_processing", "canceled"]] as const) {
    await sandbox.arm({ fault });
    const response = await fetch(`${sandbox.url}/v1/models/${pro}/predictions`, {
      method: "POST",
      headers: { authorization: "Bearer r8_sandbox", "content-type": "application/json", "cancel-after": "5m" },
      body: JSON.stringify({ input }),
    });
    const { id } = (await response.json()) as { id: string };
    if (status === "canceled") {
      await until("it to run", async () => ((await replicate.predictions.get(id)).status === "processing" ? true : undefined));
    }
    await sandbox.advance(301);
    assert.equal((await ended(id)).status, status);
  }
});

test("a throttled create is tried again by the client itself", async () => {
  await sandbox.arm({ fault: "create429", value: 1 });
  assert.ok((await replicate.predictions.create({ model: pro, input })).id);
});

test("after an hour the data is gone", async () => {
  const { id } = await replicate.predictions.create({ model: pro, input: { ...input, input_image: await asData() } });
  const { output } = await ended(id);
  await sandbox.advance(3601);
  const kept = (await replicate.predictions.get(id)) as unknown as Record<string, unknown>;
  assert.deepEqual([kept.data_removed, kept.output, kept.input, kept.logs], [true, null, {}, ""]);
  assert.equal((await fetch(output as string)).status, 404);
});
