// What a photo says beside the picture is nobody's business. Where else it may not turn up: canary.test.ts.

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
  test(`nothing of a ${format}'s metadata reaches the model, and the picture stands upright (T2)`, async () => {
    const secret = `canary-${randomUUID()}`;
    const photo = await withSecrets(format, secret);
    assert.ok(photo.includes(secret) && (await sharp(photo).metadata()).orientation === 6);

    const alice = await Person.signUp("alice");
    const input_path = await alice.upload(photo, format, `image/${format}`);
    // It arrives where nobody takes it away.
    const untouched = await alice.client.storage.from("inputs").createSignedUrl(input_path, 60);
    const direct = (await received(await predict(untouched.data!.signedUrl)))!;
    assert.deepEqual([direct.gps, direct.thumbnail, direct.xmp, direct.orientation], [true, true, true, 6]);

    const response = await alice.submit({ style: "pencil-sketch", input_path });
    const { id } = (await response.json()) as { id: string };
    const generation = await alice.ended(id);
    assert.equal(generation.state, "succeeded");
    // Lying on its side, 640 × 300; upright, 300 × 640.
    assert.deepEqual([generation.input_width, generation.input_height], [300, 640]);

    const seen = (await received(generation.prediction_id as string))!;
    assert.deepEqual([seen.width, seen.height, seen.orientation], [300, 640, 6]);
    // The one field that is left says how it lies.
    assert.deepEqual([seen.gps, seen.thumbnail, seen.xmp, seen.exif_fields], [false, false, false, 1]);
  });
}

/** Has Replicate take a photo as it is. */
async function predict(input_image: string): Promise<string> {
  const replicate = new Replicate({ auth: process.env.REPLICATE_API_TOKEN!, baseUrl: process.env.REPLICATE_BASE_URL! });
  const input = { prompt: "a drawing", input_image };
  const prediction = await replicate.predictions.create({ model: "black-forest-labs/flux-kontext-pro", input });
  return (await replicate.wait(prediction, { interval: 20 })).id;
}
