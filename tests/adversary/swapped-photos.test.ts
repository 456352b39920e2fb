// Owners who swap a photo after its check. Replicate gets the checked photo, whatever the owner does meanwhile.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import sharp from "sharp";
import { Person } from "../journeys/person.ts";
import { mountains, withSecrets } from "../journeys/photos.ts";
import { arm, cleanUp, database, disarm, received } from "../journeys/stack.ts";
import "../faults/lab.ts";
import { predictionsOf } from "../faults/replicate.ts";
import { passTime } from "../lab/time.ts";
import { until } from "../waiting.ts";
import { ask, running, service } from "./owner.ts";
import { type Upload, nameOf, signedPut, slowPost, tusUpload } from "./uploads.ts";

/** Two photos with a location and a camera in their metadata: one to be checked, one to replace it. */
const photo = await withSecrets("jpeg", "judged");
const other = await sharp(mountains).resize(500).negate().withExif({
  IFD0: { Make: "swapped" },
  IFD3: { GPSLatitudeRef: "N", GPSLatitude: "45/1 55/1 0/1", GPSLongitudeRef: "E", GPSLongitude: "6/1 52/1 0/1" },
}).jpeg().toBuffer();

interface Seen {
  sha256: string;
  exif_fields: number;
  gps: boolean;
  xmp: boolean;
}

/** What Replicate has received for a generation. */
async function seen(id: string): Promise<Seen> {
  const prediction = await until("a prediction", async () => {
    const [row] = await database`select prediction_id from public.generations where id = ${id} and prediction_id is not null`;
    return row?.prediction_id as string | undefined;
  });
  const input = await until("Replicate to have fetched the photo", () => received(prediction));
  return { sha256: input.sha256, exif_fields: input.exif_fields, gps: input.gps, xmp: input.xmp } as Seen;
}

/** What Replicate receives if the owner does not swap the photo. */
async function honest(): Promise<Seen> {
  const alice = await Person.signUp("alice");
  const { id } = await alice.generate(photo);
  return seen(id);
}

const judged = await honest();

async function objects(person: Person): Promise<string[]> {
  const rows = await database<{ name: string }[]>`
    select name from storage.objects where bucket_id = 'inputs' and starts_with(name, ${`${person.id}/`}) order by name`;
  return rows.map(({ name }) => name);
}

/** The name of the user's only prepared photo. */
function prepared(person: Person): Promise<string> {
  return until("a prepared photo", async () => (await objects(person)).find((name) => name.startsWith(`${person.id}/prepared/`)), 3_000);
}

/** Submits a photo, which is checked while Replicate cannot take it yet. */
async function postponed(person: Person, input_path: string): Promise<string> {
  await arm({ fault: "create_500", count: 8 });
  const answer = await person.submit({ style: "watercolor", input_path });
  assert.equal(answer.status, 201, await answer.clone().text());
  return ((await answer.json()) as { id: string }).id;
}

async function dispatchNow(): Promise<void> {
  await disarm();
  await passTime(181);
  await cleanUp();
}

const swaps: Record<string, (person: Person, name: string, early: Upload | undefined) => Promise<unknown>> = {
  async "removes the photo and uploads another under its name"(person, name) {
    await person.client.storage.from("inputs").remove([name]);
    await person.client.storage.from("inputs").upload(name, other, { contentType: "image/jpeg" });
  },
  async "uploads another over it"(person, name) {
    await person.client.storage.from("inputs").upload(name, other, { contentType: "image/jpeg", upsert: true });
  },
  async "moves another to its name"(person, name) {
    const from = await person.upload(other);
    await person.client.storage.from("inputs").remove([name]);
    await person.client.storage.from("inputs").move(from, name);
  },
};
/** Each upload begins before the photo exists and finishes after the photo was checked. */
const early: Record<string, (person: Person, name: string, bytes: Buffer) => Promise<Upload>> = {
  "finishes a slow upload": slowPost,
  "finishes a resumable upload": tusUpload,
  "finishes a PUT to a signed upload URL": signedPut,
};
for (const way of Object.keys(early)) {
  swaps[`${way} of another, as it is`] = (_, __, begun) => begun!.finish();
  swaps[`${way} of another, after removing the photo`] = async (person, name, begun) => {
    await person.client.storage.from("inputs").remove([name]);
    await begun!.finish();
  };
}

test("Replicate receives a photo without metadata", () => {
  assert.deepEqual({ ...judged, sha256: "" }, { sha256: "", exif_fields: 0, gps: false, xmp: false });
});

for (const [swap, carryOut] of Object.entries(swaps)) {
  test(`Replicate receives the checked photo even if its owner ${swap}`, async () => {
    const mallory = await Person.signUp("mallory");
    const name = nameOf(mallory);
    const way = Object.keys(early).find((each) => swap.startsWith(each));
    const begun = way ? await early[way]!(mallory, name, other) : undefined;
    const { error } = await mallory.client.storage.from("inputs").upload(name, photo, { contentType: "image/jpeg" });
    assert.equal(error, null);
    const id = await postponed(mallory, name);
    await carryOut(mallory, name, begun);
    await dispatchNow();
    assert.deepEqual(await seen(id), judged);
    await mallory.ended(id);
    await mallory.forgotten();
    assert.deepEqual((await objects(mallory)).filter((each) => each === name || each.includes("/prepared/")), []);
  });
}

test("users cannot get a signed upload URL", async () => {
  const mallory = await Person.signUp("mallory");
  const { data, error } = await mallory.client.storage.from("inputs").createSignedUploadUrl(nameOf(mallory));
  assert.ok(error, `a URL was signed: ${data?.path}`);
});

test("the prepared photo is the checked photo, and its owner cannot reach it", async () => {
  const mallory = await Person.signUp("mallory");
  await arm({ fault: "stuck_processing" });
  const { id } = await mallory.generate(photo);
  const name = await prepared(mallory);
  const file = name.split("/").at(-1)!;
  assert.match(name, /^[0-9a-f-]{36}\/prepared\/[0-9a-f-]{36}-\d+\.jpg$/);
  const read = async () => {
    const response = await fetch(`${process.env.SUPABASE_URL}/storage/v1/object/inputs/${name}`, { headers: { apikey: service } });
    return createHash("sha256").update(Buffer.from(await response.arrayBuffer())).digest("hex");
  };
  assert.equal(await read(), judged.sha256);
  assert.equal((await predictionsOf(name)).length, 1, "the prediction has the prepared photo as its input");

  const inputs = mallory.client.storage.from("inputs");
  const free = nameOf(mallory);
  const put = (path: string, method: string, headers = {}) =>
    ask(mallory.token, method, path, other, { "content-type": "image/jpeg", ...headers }).then(({ status }) => status < 300);
  const done = {
    listed: (await inputs.list(`${mallory.id}/prepared`)).data!.length > 0,
    searched: (await inputs.list(mallory.id)).data!.some((found) => found.name === "prepared"),
    downloaded: (await inputs.download(name)).data !== null,
    signed: (await inputs.createSignedUrl(name, 60)).data !== null,
    signedForUpload: (await inputs.createSignedUploadUrl(name, { upsert: true })).data !== null,
    overwritten: await put(`/storage/v1/object/inputs/${name}`, "POST", { "x-upsert": "true" }),
    replaced: await put(`/storage/v1/object/inputs/${name}`, "PUT"),
    written: await put(`/storage/v1/object/inputs/${mallory.id}/prepared/${file.replace(/^./, "0")}`, "POST"),
    moved: (await inputs.move(name, free)).error === null,
    copied: (await inputs.copy(name, free)).error === null,
    removed: ((await inputs.remove([name])).data ?? []).length > 0,
  };
  assert.deepEqual(Object.entries(done).filter(([, isDone]) => isDone), []);
  await (await signedPut(mallory, name, other)).finish();
  await (await tusUpload(mallory, name, other).catch(() => undefined))?.finish();
  assert.equal(await read(), judged.sha256);
  assert.equal((await mallory.call("POST", `/generations/${id}/cancel`)).status, 200);
});

test("the original is deleted at once and the prepared photo when the generation ends, each with a receipt", async () => {
  const alice = await Person.signUp("alice");
  const { id, input_path } = (await running(alice))[0]!;
  const verified = (path: string) => until(`the deletion of ${path}`, async () =>
    (await database`select reason, receipt from public.deletions where bucket = 'inputs' and path = ${path} and verified_at is not null`)[0], 3_000);
  const original = await verified(input_path);
  assert.equal(original.reason, "prepared");
  assert.equal((await alice.generation(id))!.state, "processing");
  const name = await prepared(alice);
  assert.deepEqual(await objects(alice), [name]);
  assert.equal((await alice.call("POST", `/generations/${id}/cancel`)).status, 200);
  const last = await verified(name);
  assert.equal(last.reason, "canceled");
  assert.notEqual(last.receipt, original.receipt);
  assert.deepEqual(await objects(alice), []);
});
