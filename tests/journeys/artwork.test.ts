// The whole path: a photo becomes an artwork, and the photo is deleted.

import assert from "node:assert/strict";
import { createHash, randomUUID } from "node:crypto";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import sharp from "sharp";
import { until } from "../waiting.ts";
import { Person } from "./person.ts";
import { mountains, small } from "./photos.ts";
import { cleanUp, database } from "./stack.ts";

after(() => database.end());

test("a photo becomes an artwork in a private gallery, and the photo is deleted", async () => {
  const alice = await Person.signUp("alice");
  const input = await alice.upload(mountains);
  const response = await alice.submit({ style: "oil-painting", input_path: input, prompt: "at dawn" });
  assert.equal(response.status, 201);
  const submitted = (await response.json()) as { id: string; state: string; credits: number };
  assert.equal(new URL(response.headers.get("location")!, response.url).href, `${process.env.FUNCTIONS_URL}/generations/${submitted.id}`);
  // A webhook event may arrive before the response to the submission.
  assert.ok(["dispatched", "processing"].includes(submitted.state), submitted.state);
  assert.deepEqual(await alice.wallet(), { balance: 5, held: 1 });

  const generation = await alice.ended(submitted.id);
  assert.equal(generation.state, "succeeded");
  assert.deepEqual(await alice.wallet(), { balance: 4, held: 0 });
  const read = (await (await alice.call("GET", `/generations/${submitted.id}`)).json()) as Record<string, unknown>;
  assert.deepEqual([read.state, read.artwork_path], ["succeeded", generation.artwork_path]);
  assert.match(generation.prompt as string, /oil painting.* at dawn$/);

  // C2: the server measures the bytes.
  const { input_format, input_width, input_height, input_bytes } = generation;
  assert.deepEqual([input_format, input_width, input_height, input_bytes], ["jpeg", 1024, 484, mountains.length]);

  // U4: the user downloads exactly the bytes that were recorded, at full resolution.
  const { data: artwork } = await alice.client.storage.from("artworks").download(generation.artwork_path!);
  const bytes = Buffer.from(await artwork!.arrayBuffer());
  assert.equal(createHash("sha256").update(bytes).digest("hex"), generation.artwork_sha256);
  const { width, height, format } = await sharp(bytes).metadata();
  assert.equal(format, "png");
  assert.ok(width * height > 900_000, `${width} × ${height}`);

  // R2: the photo is gone from the listing, from its URL and from the disk.
  await alice.forgotten();
  // The original is deleted as soon as its prepared copy exists, and that copy when the generation succeeds.
  const prepared = `${alice.id}/prepared/${submitted.id}-1.jpg`;
  assert.deepEqual(
    (await alice.deletions()).map(({ bucket, path, reason }) => [bucket, path, reason]).sort(),
    [["inputs", input, "prepared"], ["inputs", prepared, "succeeded"]].sort(),
  );
  assert.deepEqual((await alice.client.storage.from("inputs").list(alice.id)).data, []);
  assert.ok((await alice.client.storage.from("inputs").download(input)).error);
  for (const photo of [input, prepared]) assert.equal(existsSync(join(process.env.STACK_STATE!, "storage", "inputs", photo)), false);
});

test("the processing log shows the user each step with its time", async () => {
  const alice = await Person.signUp("alice");
  const generation = await alice.ended((await alice.generate(await small)).id);
  const { data } = await alice.client.from("processing_log").select("state, at").order("id");
  const states = data!.map(({ state }) => state);
  // If a webhook event arrives before the response to the submission, the dispatched step has no line of its own.
  const way = ["reserved", "dispatched", "processing", "storing", "succeeded"];
  assert.deepEqual(states, way.filter((state) => state !== "dispatched" || states.includes(state)));
  const steps = ["reserved_at", "dispatched_at", "processing_at", "storing_at", "finished_at"];
  const times = steps.map((step) => Date.parse(generation[step] as string));
  assert.deepEqual(times, [...times].sort((a, b) => a - b));
  assert.ok(generation.model_version && Number(generation.predict_seconds) > 0);
});

test("every model makes an artwork in the requested format", async () => {
  for (const [model, output_format, price] of [
    ["kontext-pro", "jpg", 1],
    ["kontext-max", "png", 2],
    ["kontext-dev", "webp", 1],
  ] as const) {
    const alice = await Person.signUp("alice");
    const generation = await alice.generate(await small, { model, settings: { output_format, seed: 7 } });
    const { state, artwork_path } = await alice.ended(generation.id);
    assert.equal(state, "succeeded", model);
    assert.ok(artwork_path!.endsWith(`.${output_format}`), artwork_path!);
    assert.equal((await alice.wallet()).balance, 5 - price);
  }
});

test("a retry with the same idempotency key and body returns the same generation, and another body is refused", async () => {
  const alice = await Person.signUp("alice");
  const key = randomUUID();
  const body = { style: "mosaic", input_path: await alice.upload(await small) };
  const [first, second] = await Promise.all([alice.submit(body, key), alice.submit(body, key)]);
  assert.deepEqual([first.status, second.status].sort(), [200, 201]);
  const ids = [((await first.json()) as { id: string }).id, ((await second.json()) as { id: string }).id];
  assert.equal(ids[0], ids[1]);
  await alice.ended(ids[0]);

  const again = await alice.submit(body, key);
  assert.equal(again.status, 200);
  assert.equal(((await again.json()) as { state: string }).state, "succeeded");
  assert.equal((await alice.wallet()).balance, 4);

  const other = await alice.submit({ ...body, style: "pop-art" }, key);
  assert.equal(other.status, 409);
  assert.equal(((await other.json()) as { code: string }).code, "idempotency_key_reused");
});

test("canceling a generation returns its credits, stops the model and deletes its photo", async () => {
  const alice = await Person.signUp("alice");
  const { id } = await alice.generate(mountains);
  const response = await alice.call("POST", `/generations/${id}/cancel`);
  assert.equal(response.status, 200);
  assert.equal(((await response.json()) as { state: string }).state, "canceled");
  assert.deepEqual(await alice.wallet(), { balance: 5, held: 0 });
  await alice.forgotten();
  const { prediction_id } = (await alice.generation(id))!;
  const asked = await fetch(`${process.env.REPLICATE_BASE_URL}/predictions/${prediction_id}`, {
    headers: { authorization: `Bearer ${process.env.REPLICATE_API_TOKEN}` },
  });
  assert.equal(((await asked.json()) as { status: string }).status, "canceled");
});

test("deleting a generation removes it and its artwork at once, and keeps its ledger entries", async () => {
  const alice = await Person.signUp("alice");
  const { id, artwork_path } = await alice.ended((await alice.generate(await small)).id);
  assert.equal((await alice.call("DELETE", `/generations/${id}`)).status, 204);
  assert.equal(await alice.generation(id), undefined);
  assert.ok((await alice.client.storage.from("artworks").download(artwork_path!)).error);
  assert.equal(existsSync(join(process.env.STACK_STATE!, "storage", "artworks", artwork_path!)), false);
  await alice.forgotten();
  const { data } = await alice.client.from("credit_entries").select("kind, amount").order("id");
  assert.deepEqual(data, [{ kind: "grant", amount: 5 }, { kind: "capture", amount: -1 }]);
  assert.equal((await alice.call("DELETE", `/generations/${id}`)).status, 404);
});

test("a sweep deletes a photo that was not submitted within 24 hours (R1)", async () => {
  const alice = await Person.signUp("alice");
  const [old, young] = [await alice.upload(await small), await alice.upload(await small)];
  await database`update storage.objects set created_at = now() - interval '25 hours' where name = ${old}`;
  await cleanUp();
  const { data } = await alice.client.storage.from("inputs").list(alice.id);
  assert.deepEqual(data!.map(({ name }) => `${alice.id}/${name}`), [young]);
  const [deletion] = await alice.deletions();
  assert.deepEqual([deletion.path, deletion.reason], [old, "limit_reached"]);
  assert.ok(deletion.verified_at);
});

test("canceling a generation while its photo is checked leaves no photo (R2)", async () => {
  const large = await sharp({ create: { width: 5000, height: 5000, channels: 3, background: "teal" } })
    .withExif({ IFD0: { Artist: "somebody" } })
    .jpeg()
    .toBuffer();
  for (const [method, end] of [["POST", "/cancel"], ["DELETE", ""]] as const) {
    const alice = await Person.signUp("alice");
    const input_path = await alice.upload(large);
    const submission = alice.submit({ style: "mosaic", input_path });
    const id = await until("the reservation", async () => (await alice.client.from("generations").select("id")).data?.[0]?.id as string | undefined);
    const ended = await alice.call(method, `/generations/${id}${end}`);
    assert.ok(ended.ok, `${method}${end}: ${ended.status} ${await ended.text()}`);
    assert.ok([201, 409].includes((await submission).status));
    // If the photo is put back between its deletion and the verification, the deletion is due again a little later.
    await database`update public.deletions set due_at = now() where person_id = ${alice.id} and verified_at is null`;
    await cleanUp();
    await alice.forgotten();
    assert.deepEqual((await alice.client.storage.from("inputs").list(alice.id)).data, []);
    assert.deepEqual(await alice.wallet(), { balance: 5, held: 0 });
  }
});

test("deleting an account leaves no object and no hold, even while a generation runs", async () => {
  const alice = await Person.signUp("alice");
  const { id } = await alice.ended((await alice.generate(await small)).id);
  const { data } = await alice.client.from("deletions").select("id");
  const known = data as { id: string }[];
  await alice.generate(mountains);
  await database`delete from auth.users where id = ${alice.id}`;
  await cleanUp();
  const objects = await database`select name from storage.objects where name like ${`${alice.id}/%`}`;
  assert.deepEqual([...objects], []);
  const [{ open }] = await database`select count(*)::int as open from public.credit_holds h
    left join public.wallets w on w.id = h.wallet_id where h.state = 'open' and w.person_id is null`;
  assert.equal(open, 0);
  const deletions = await database`select * from public.deletions where id = any(${known.map(({ id }) => id)})`;
  assert.ok(deletions.length === 2 && deletions.every(({ verified_at, receipt }) => verified_at && receipt));
  // The rows that remain do not say whose objects they were about (X1).
  for (const { path, object_key, generation_id, person_id } of deletions)
    assert.deepEqual([path, object_key, generation_id, person_id], [null, null, null, null]);
  const traces = await database`select id from public.deletions as d where d::text like ${`%${alice.id}%`} or d::text like ${`%${id}%`}`;
  assert.deepEqual([...traces], []);
});
