// What is nobody's business stays where it belongs.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { readFileSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import sharp from "sharp";
import { Person } from "./person.ts";
import { withSecrets } from "./photos.ts";
import { cleanUp, database, received } from "./stack.ts";

after(() => database.end());

const state = process.env.STACK_STATE!;

function files(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .map((name) => join(folder, name))
    .filter((path) => statSync(path).isFile());
}

/** Every table that holds a text, as "schema.table.column". */
async function columnsWith(text: string): Promise<string[]> {
  const columns = await database<{ schema: string; relation: string; name: string }[]>`
    select n.nspname as schema, c.relname as relation, a.attname as name
    from pg_attribute a
    join pg_class c on c.oid = a.attrelid and c.relkind in ('r', 'p')
    join pg_namespace n on n.oid = c.relnamespace
    where a.attnum > 0 and not a.attisdropped
      and n.nspname in ('public', 'private', 'backend', 'auth', 'storage', 'supabase_migrations')`;
  const found: string[] = [];
  for (const { schema, relation, name } of columns) {
    const [{ holds }] = await database`
      select exists (select from ${database(schema)}.${database(relation)}
        where position(${text} in ${database(name)}::text) > 0) as holds`;
    if (holds) found.push(`${schema}.${relation}.${name}`);
  }
  return found;
}

for (const format of ["jpeg", "png", "webp"] as const) {
  test(`nothing of a ${format}'s metadata reaches the model, and the picture stands upright (T2)`, async () => {
    const secret = `canary-${randomUUID()}`;
    const photo = await withSecrets(format, secret);
    assert.ok(photo.includes(secret) && (await sharp(photo).metadata()).orientation === 6);

    const alice = await Person.signUp("alice");
    const input_path = await alice.upload(photo, format, `image/${format}`);
    const response = await alice.submit({ style: "pencil-sketch", input_path });
    const { id } = (await response.json()) as { id: string };
    const generation = await alice.ended(id);
    assert.equal(generation.state, "succeeded");
    // Lying on its side, 640 × 300; upright, 300 × 640.
    assert.deepEqual([generation.input_width, generation.input_height], [300, 640]);

    const seen = (await received(generation.prediction_id as string))!;
    assert.deepEqual([seen.width, seen.height, seen.orientation], [300, 640, 6]);
    assert.deepEqual([seen.gps, seen.xmp, seen.exif_fields], [false, false, 1]);
  });
}

test("no log and no table holds the photo, its file name or the prompt, but the generation itself", async () => {
  const prompt = `canary prompt ${randomUUID()}`;
  const fileName = `canary file ${randomUUID()}.jpg`;
  const secret = `canary-${randomUUID()}`;
  const photo = await withSecrets("jpeg", secret);
  const alice = await Person.signUp("alice");

  // The file's own name is no name for an object.
  const asFile = new File([new Uint8Array(photo)], fileName, { type: "image/jpeg" });
  const named = await alice.client.storage.from("inputs").upload(`${alice.id}/${fileName}`, asFile);
  assert.ok(named.error);
  const input_path = `${alice.id}/${randomUUID()}.jpg`;
  assert.equal((await alice.client.storage.from("inputs").upload(input_path, asFile)).error, null);

  const bad = await alice.submit({ style: "mosaic", input_path, prompt, settings: { [prompt]: fileName } });
  assert.equal(bad.status, 422);
  const response = await alice.submit({ style: "mosaic", input_path, prompt });
  const { id } = (await response.json()) as { id: string };
  await alice.ended(id);
  await cleanUp();
  await alice.forgotten();

  assert.deepEqual(await columnsWith(prompt), ["public.generations.prompt"]);
  assert.deepEqual(await columnsWith(fileName), []);
  assert.deepEqual(await columnsWith(secret), []);

  const pixels = photo.subarray(photo.length / 2, photo.length / 2 + 24);
  const canaries = [prompt, fileName, secret, alice.token].map((text) => Buffer.from(text));
  for (const path of [...files(join(state, "logs")), ...files(join(state, "storage"))]) {
    const content = readFileSync(path);
    for (const canary of [...canaries, pixels]) {
      assert.ok(!content.includes(canary), `${path} holds ${canary.toString("latin1")}`);
    }
  }
});
