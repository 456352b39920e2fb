// Predictions: Replicate's official client works with the sandbox as with Replicate, unmodified.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type Replicate from "replicate";
import sharp from "sharp";
import { mountains, small } from "../journeys/photos.ts";
import { Sandbox, pro } from "./sandbox.ts";

let sandbox: Sandbox;
let replicate: Replicate;

before(async () => {
  sandbox = await Sandbox.start();
  replicate = sandbox.client();
});
after(() => sandbox.stop());

const prompt = "a watercolor painting";

async function withPhoto(more = {}): Promise<object> {
  const input_image = `data:image/jpeg;base64,${(await small).toString("base64")}`;
  return { prompt, seed: 3, input_image, ...more };
}

test("a prediction can be created, followed and read", async () => {
  const created = await replicate.predictions.create({ model: pro, input: await withPhoto() });
  assert.match(created.id, /^[0-9a-z]{26}$/);
  const { status, output, logs, error, version } = created;
  assert.deepEqual([status, output, logs, error], ["starting", null, "", null]);
  assert.equal(version, "hidden");
  assert.deepEqual(Object.keys(created.urls).sort(), ["cancel", "get", "web"]);
  assert.match(created.created_at, /\.\d{3,9}Z$/);

  const finished = await sandbox.ended(created.id);
  assert.equal(finished.status, "succeeded");
  assert.equal(typeof finished.output, "string");
  assert.match(finished.logs!, /Using seed: 3/);
  assert.ok(finished.metrics!.predict_time! > 0);
});

test("a version can be named by its model, by its id, or by both", async () => {
  const { latest_version } = await replicate.models.get("black-forest-labs", "flux-kontext-dev");
  const model = "black-forest-labs/flux-kontext-dev";
  const id = latest_version!.id;
  const input = await withPhoto();
  for (const version of [model, id, `${model}:${id}`]) {
    const created = await replicate.predictions.create({ version, input });
    assert.equal(created.model, model, version);
    assert.match((await sandbox.ended(created.id)).output as string, /\.webp$/);
  }
});

test("an output is a picture of about a megapixel, with an ETag and ranges", async () => {
  const input = await withPhoto({ output_format: "jpg" });
  const { id } = await replicate.predictions.create({ model: pro, input });
  const { output } = await sandbox.ended(id);
  const whole = await fetch(output);
  assert.equal(whole.headers.get("content-type"), "image/jpeg");
  const { width, height } = await sharp(Buffer.from(await whole.arrayBuffer())).metadata();
  assert.ok(Math.abs((width * height) / 2 ** 20 - 1) < 0.1, `${width} × ${height}`);
  const part = await fetch(output, { headers: { range: "bytes=0-9" } });
  assert.deepEqual([part.status, (await part.arrayBuffer()).byteLength], [206, 10]);
  const tag = whole.headers.get("etag")!;
  assert.equal((await fetch(output, { headers: { "if-none-match": tag } })).status, 304);
});

test("run() waits for the output, blocking and polling", async () => {
  for (const wait of [{ mode: "block" }, { mode: "poll", interval: 50 }] as const) {
    const input = { prompt, input_image: mountains };
    // The client makes file objects only from https URLs, and the sandbox has only http.
    const output = (await replicate.run(pro, { input, wait })) as unknown as string;
    const response = await fetch(output);
    assert.equal(response.headers.get("content-type"), "image/png", wait.mode);
    const picture = sharp(Buffer.from(await response.arrayBuffer()));
    assert.equal((await picture.metadata()).format, "png");
  }
});

test("run() throws the error message of a failed prediction", async () => {
  await sandbox.arm({ fault: "fail_moderation" });
  const run = replicate.run(pro, { input: { prompt } });
  await assert.rejects(run, /Prediction failed: .*flagged as sensitive.*\(E005\)/);
});

test("a running prediction can be canceled, and one that has ended stays unchanged", async () => {
  await sandbox.arm({ fault: "stuck_processing" });
  const stuck = await replicate.predictions.create({ model: pro, input: { prompt } });
  await sandbox.running(stuck.id);
  assert.equal((await replicate.predictions.cancel(stuck.id)).status, "canceled");
  assert.equal((await replicate.predictions.get(stuck.id)).status, "canceled");

  const quick = await replicate.predictions.create({ model: pro, input: { prompt } });
  await sandbox.ended(quick.id);
  assert.equal((await replicate.predictions.cancel(quick.id)).status, "succeeded");
});

test("predictions are listed newest first, in pages of a hundred", async () => {
  const created: string[] = [];
  for (let i = 0; i < 105; i++) {
    const { id } = await replicate.predictions.create({ model: pro, input: { prompt } });
    await replicate.predictions.cancel(id);
    created.unshift(id);
  }
  const pages: string[][] = [];
  for await (const page of replicate.paginate(replicate.predictions.list)) {
    pages.push(page.map(({ id }) => id));
  }
  assert.equal(pages[0].length, 100);
  assert.ok(pages.length > 1);
  assert.deepEqual(pages.flat().slice(0, 105), created);
});
