// The metadata of a photo never reaches the model. canary.test.ts shows where else it must not appear.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, test } from "node:test";
import Replicate from "replicate";
import sharp from "sharp";
import { Person } from "./person.ts";
import { withSecrets } from "./photos.ts";
import { database, received } from "./stack.ts";

after(() => database.end());

for (const format of ["jpeg", "png", "webp"] as const) {
  test(`the model gets a ${format} photo upright and without its metadata (T2)`, async () => {
    const secret = `canary-${randomUUID()}`;
    const photo = await withSecrets(format, secret);
    assert.ok(photo.includes(secret) && (await sharp(photo).metadata()).orientation === 6);

    const alice = await Person.signUp("alice");
    const input_path = await alice.upload(photo, format, `image/${format}`);
    // Without preparation, the metadata does reach the model.
    const untouched = await alice.client.storage.from("inputs").createSignedUrl(input_path, 60);
    const direct = (await received(await predict(untouched.data!.signedUrl)))!;
    assert.deepEqual([direct.gps, direct.thumbnail, direct.xmp, direct.orientation], [true, true, true, 6]);
    assert.deepEqual([direct.width, direct.height], [640, 300], "the loader of the model does not rotate");

    const response = await alice.submit({ style: "pencil-sketch", input_path });
    const { id } = (await response.json()) as { id: string };
    const generation = await alice.ended(id);
    assert.equal(generation.state, "succeeded");
    // The stored photo is 640 × 300. Upright, it is 300 × 640.
    assert.deepEqual([generation.input_width, generation.input_height], [300, 640]);

    const seen = (await received(generation.prediction_id as string))!;
    assert.deepEqual([seen.content_type, seen.format], ["image/jpeg", "image/jpeg"]);
    assert.deepEqual([seen.width, seen.height, seen.orientation], [300, 640, 1]);
    assert.deepEqual([seen.gps, seen.thumbnail, seen.xmp, seen.exif], [false, false, false, false]);
  });
}

test("a rotated photo in another colour space becomes an upright artwork with the colours that its user sees (T2)", async () => {
  // The user sees red above half-transparent blue. The file is rotated and uses the colours of Display P3.
  const half = { width: 240, height: 200, channels: 4 } as const;
  const above = await sharp({ create: { ...half, background: { r: 200, g: 20, b: 20, alpha: 1 } } }).png().toBuffer();
  const upright = sharp({ create: { width: 240, height: 400, channels: 4, background: { r: 20, g: 20, b: 200, alpha: 0.5 } } })
    .composite([{ input: above, left: 0, top: 0 }]);
  const lying = await sharp(await upright.png().toBuffer()).rotate(270).withIccProfile("p3").withMetadata({ orientation: 6, icc: "p3" }).png().toBuffer();
  assert.deepEqual([(await sharp(lying).metadata()).width, (await sharp(lying).metadata()).hasProfile], [400, true]);

  const alice = await Person.signUp("alice");
  const input_path = await alice.upload(lying, "png", "image/png");
  const { id } = (await (await alice.submit({ style: "oil-painting", input_path })).json()) as { id: string };
  const { artwork_path } = await alice.ended(id);
  const { data } = await alice.client.storage.from("artworks").download(artwork_path as string);
  const artwork = sharp(Buffer.from(await data!.arrayBuffer()));
  const { width, height } = await artwork.metadata();
  assert.ok(height! > width!, `${width} × ${height}`);
  const mean = async (top: number) => {
    const region = { left: width! >> 2, top: Math.round(height! * top), width: width! >> 1, height: height! >> 3 };
    return (await sharp(await artwork.clone().extract(region).toBuffer()).stats()).channels.map(({ mean }) => mean);
  };
  const [red, below] = [await mean(0.15), await mean(0.75)];
  assert.ok(red[0]! > red[2]! + 60, `red above: ${red}`);
  assert.ok(below[2]! > below[0]! + 40 && below[0]! > 80, `light blue below: ${below}`);
});

/** Sends a photo to Replicate without preparing it. */
async function predict(input_image: string): Promise<string> {
  const replicate = new Replicate({ auth: process.env.REPLICATE_API_TOKEN!, baseUrl: process.env.REPLICATE_BASE_URL! });
  const input = { prompt: "a drawing", input_image };
  const prediction = await replicate.predictions.create({ model: "black-forest-labs/flux-kontext-pro", input });
  return (await replicate.wait(prediction, { interval: 20 })).id;
}
