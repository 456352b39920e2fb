// An account without its predictions, and which requests are refused, with the official client.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type Replicate from "replicate";
import { small } from "../journeys/photos.ts";
import { Sandbox, pro, secret } from "./sandbox.ts";

let sandbox: Sandbox;
let replicate: Replicate;

before(async () => {
  sandbox = await Sandbox.start();
  replicate = sandbox.client();
});
after(() => sandbox.stop());

const input = { prompt: "a watercolor painting" };

test("files can be uploaded, read, listed, used and deleted", async () => {
  const photo = new Blob([new Uint8Array(await small)], { type: "image/jpeg" });
  const file = await replicate.files.create(photo, { album: "Alps" });
  assert.deepEqual([file.size, file.content_type], [photo.size, "image/jpeg"]);
  assert.deepEqual(file.metadata, { album: "Alps" });
  assert.deepEqual(await replicate.files.get(file.id), file);
  assert.deepEqual((await replicate.files.list()).results, [file]);

  const { id } = await replicate.predictions.create({
    model: pro,
    input: { ...input, input_image: file.urls.get },
  });
  assert.equal((await sandbox.ended(id)).status, "succeeded");
  assert.equal(await replicate.files.delete(file.id), true);
  await assert.rejects(replicate.files.get(file.id), /404.*could not be found/s);
});

test("the client can read the account, its webhook secret and the models", async () => {
  assert.ok((await replicate.accounts.current()).username);
  assert.deepEqual(await replicate.webhooks.default.secret.get(), { key: secret });

  const { results } = await replicate.models.list();
  assert.deepEqual(
    results.map(({ owner, name }) => `${owner}/${name}`).sort(),
    ["dev", "max", "pro"].map((kind) => `black-forest-labs/flux-kontext-${kind}`),
  );
  for (const { owner, name } of results) {
    const { latest_version } = await replicate.models.get(owner, name);
    assert.ok(latest_version!.openapi_schema);
    // The API returns a page, although the types of the client say otherwise.
    const versions: object = await replicate.models.versions.list(owner, name);
    assert.deepEqual(versions, { previous: null, next: null, results: [latest_version] });
    const version = await replicate.models.versions.get(owner, name, latest_version!.id);
    assert.deepEqual(version, latest_version);
  }
});

test("a wrong token is refused everywhere", async () => {
  const stranger = sandbox.client("r8_wrong");
  for (const call of [
    () => stranger.predictions.list(),
    () => stranger.predictions.get("0123456789abcdefghjkmnpqrs"),
    () => stranger.predictions.create({ model: pro, input }),
    () => stranger.predictions.cancel("0123456789abcdefghjkmnpqrs"),
    () => stranger.files.list(),
    () => stranger.accounts.current(),
    () => stranger.webhooks.default.secret.get(),
    () => stranger.models.list(),
  ]) {
    await assert.rejects(call, /401.*"title":"Unauthenticated"/s);
  }
});

test("unknown resources answer 404", async () => {
  const id = "0123456789abcdefghjkmnpqrs";
  for (const call of [
    () => replicate.predictions.get(id),
    () => replicate.predictions.cancel(id),
    () => replicate.files.delete(id),
    () => replicate.models.get("nobody", "nothing"),
    () => replicate.predictions.create({ model: "nobody/nothing", input }),
  ]) {
    await assert.rejects(call, /404.*could not be found/s);
  }
  const unknown = replicate.predictions.create({ version: "nobody/nothing", input });
  await assert.rejects(unknown, /422.*Invalid version or not permitted/s);
});

test("an invalid input is refused with the names of the invalid fields", async () => {
  for (const [body, ...faults] of [
    [{ input: {} }, ["required", "input.prompt"]],
    [{}, ["required", "input"]],
    [{ input: { ...input, output_format: "tiff" } }, ["enum", "input.output_format"]],
    [{ input: { ...input, seed: "3" } }, ["invalid_type", "input.seed"]],
    [{ input: { ...input, input_image: "photo.jpg" } }, ["format", "input.input_image"]],
    [{ input: { ...input, seed: 0.5, guidance: 99, safety_tolerance: 7 } },
      ["number_lte", "input.safety_tolerance"], ["invalid_type", "input.seed"]],
    [{ input, webhook: "nowhere" }, ["format", "webhook"]],
    [{ input, webhook_events_filter: ["end"] }, ["enum", "webhook_events_filter"]],
    [{ input, idempotency_key: "x" }, ["additional_property_not_allowed", "idempotency_key"]],
  ] as [object, ...[string, string][]][]) {
    const response = await sandbox.create(body);
    assert.equal(response.status, 422, JSON.stringify(body));
    assert.equal(response.headers.get("content-type"), "application/problem+json");
    const { title, invalid_fields } = (await response.json()) as Refusal;
    assert.equal(title, "Input validation failed");
    assert.deepEqual(invalid_fields.map(({ type, field }) => [type, field]), faults);
    assert.ok(invalid_fields.every(({ description }) => description));
  }
  const refused = replicate.predictions.create({ model: pro, input: {} });
  await assert.rejects(refused, /422.*"field":"input.prompt"/s);
});

interface Refusal {
  title: string;
  invalid_fields: { type: string; field: string; description: string }[];
}
