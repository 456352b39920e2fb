import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import {
  type Person,
  admin,
  ask,
  makeBucket,
  publishable,
  secret,
  service,
  signUp,
  url,
} from "./project.ts";

describe("an upload", () => {
  let bucket: Awaited<ReturnType<typeof makeBucket>>;
  let alice: Person;
  let bob: Person;
  before(async () => {
    bucket = await makeBucket({
      public: false,
      fileSizeLimit: 1000,
      allowedMimeTypes: ["image/png", "text/*"],
    });
    [alice, bob] = [await signUp("alice"), await signUp("bob")];
  });
  after(() => bucket.drop());
  const png = (bytes: number) => new Blob([new Uint8Array(bytes).fill(7)], { type: "image/png" });
  const put = (path: string, options: Parameters<typeof ask>[1]) =>
    ask(`/storage/v1/object/${bucket.name}/${path}`, {
      method: "POST",
      key: publishable,
      token: alice.token,
      ...options,
    });

  it("returns Id and Key for the form of the client, whose field has no name", async () => {
    const path = `${alice.id}/form.png`;
    const { data, error } = await alice.client.storage.from(bucket.name).upload(path, png(10), {
      cacheControl: "60",
      metadata: { camera: "none" },
    });
    assert.equal(error, null);
    assert.deepEqual([data!.path, data!.fullPath], [path, `${bucket.name}/${path}`]);
    const info = await alice.client.storage.from(bucket.name).info(path);
    assert.equal(info.data!.id, data!.id);
    assert.deepEqual(
      [info.data!.size, info.data!.contentType, info.data!.cacheControl, info.data!.metadata],
      [10, "image/png", "max-age=60", { camera: "none" }],
    );
  });

  it("accepts a raw body, and a stream of unknown length", async () => {
    const raw = await alice.client.storage
      .from(bucket.name)
      .upload(`${alice.id}/raw.png`, Buffer.alloc(20), { contentType: "image/png" });
    assert.equal(raw.error, null);
    const stream = new Blob([new Uint8Array(30)]).stream();
    const streamed = await put(`${alice.id}/stream.png`, {
      body: stream,
      headers: { "content-type": "image/png" },
    });
    assert.equal(streamed.status, 200);
    assert.deepEqual(Object.keys(streamed.body).sort(), ["Id", "Key"]);
    const { data } = await service.storage.from(bucket.name).download(`${alice.id}/stream.png`);
    assert.equal(data!.size, 30);
  });

  it("records its owner, or no owner for the secret key", async () => {
    await service.storage.from(bucket.name).upload(`${alice.id}/service.png`, png(1));
    const { data } = await service.storage.from(bucket.name).info(`${alice.id}/service.png`);
    assert.equal(data!.size, 1);
    const owners = await admin`
      select name, owner_id, owner::text from storage.objects
      where bucket_id = ${bucket.name} and name in (${`${alice.id}/service.png`}, ${`${alice.id}/raw.png`}) order by name`;
    assert.deepEqual(
      owners.map((row) => [row.owner_id, row.owner]),
      [
        [alice.id, alice.id],
        [null, null],
      ],
    );
  });

  it("is refused in the folder of another user: HTTP 400, and 403 in the body", async () => {
    const refused = await put(`${alice.id}/bob.png`, { token: bob.token, body: png(1) });
    assert.equal(refused.status, 400);
    assert.deepEqual(refused.body, {
      statusCode: "403",
      error: "Unauthorized",
      message: "new row violates row-level security policy",
    });
  });

  it("is refused if the object exists, unless the upload asks for upsert", async () => {
    const path = `${alice.id}/twice.png`;
    const from = alice.client.storage.from(bucket.name);
    const first = await from.upload(path, png(5));
    const second = await put(path, { body: png(6) });
    assert.equal(second.status, 400);
    assert.deepEqual(second.body, {
      statusCode: "409",
      error: "Duplicate",
      message: "The resource already exists",
    });
    const third = await from.upload(path, png(7), { upsert: true });
    assert.equal(third.data!.id, first.data!.id);
    assert.equal((await from.download(path)).data!.size, 7);
    const fourth = await from.update(path, Buffer.alloc(8), { contentType: "image/png" });
    assert.equal(fourth.error, null);
    const fifth = await from.update(path, png(9));
    assert.equal(fifth.error, null);
    assert.equal((await from.download(path)).data!.size, 9);
  });

  it("is refused above the limit of the bucket, except for a raw body without a declared length", async () => {
    const tooLarge = {
      statusCode: "413",
      error: "Payload too large",
      message: "The object exceeded the maximum allowed size",
    };
    const form = new FormData();
    form.append("", png(1001));
    for (const body of [png(1001), form]) {
      const headers: Record<string, string> =
        body instanceof FormData ? {} : { "content-type": "image/png" };
      const refused = await put(`${alice.id}/large.png`, { body, headers });
      assert.equal(refused.status, 400);
      assert.deepEqual(refused.body, tooLarge);
    }
    const { data } = await service.storage.from(bucket.name).exists(`${alice.id}/large.png`);
    assert.equal(data, false);
    const chunked = await put(`${alice.id}/chunked.png`, {
      body: new Blob([new Uint8Array(5000)]).stream(),
      headers: { "content-type": "image/png" },
    });
    assert.equal(chunked.status, 200);
    const info = await service.storage.from(bucket.name).info(`${alice.id}/chunked.png`);
    assert.equal(info.data!.size, 5000);
  });

  it("is refused for a type that the bucket does not allow, and the bucket may allow patterns such as image/*", async () => {
    const refused = await put(`${alice.id}/a.pdf`, {
      body: "%PDF",
      headers: { "content-type": "application/pdf" },
    });
    assert.equal(refused.status, 400);
    assert.deepEqual(refused.body, {
      statusCode: "415",
      error: "invalid_mime_type",
      message: "mime type application/pdf is not supported",
    });
    const allowed = await put(`${alice.id}/a.css`, {
      body: "a{}",
      headers: { "content-type": "text/css" },
    });
    assert.equal(allowed.status, 200);
    for (const type of ["image/jpg", "image/png; charset=utf-8", "IMAGE/PNG", "image", ""]) {
      const bytes = new Blob([new Uint8Array(3)]).stream();
      const odd = await put(`${alice.id}/odd.png`, {
        body: bytes,
        headers: type ? { "content-type": type } : {},
      });
      assert.deepEqual([odd.status, odd.body.statusCode], [400, "415"], type);
    }
  });

  it("is refused if its name leaves the folder or has characters that hosted Supabase does not accept", async () => {
    for (const name of ["täst.png", "a%23b.png", "a%5Cb.png", "%2e%2e%2fb.png", "a%00.png"]) {
      const refused = await put(`${alice.id}/${name}`, { body: png(1) });
      assert.equal(refused.status, 400, name);
      assert.equal(refused.body.statusCode, "400", name);
      assert.equal(refused.body.error, "InvalidKey", name);
      assert.match(refused.body.message, /^Invalid key: /, name);
    }
    const odd = `${alice.id}/a (1) & b's=@;:+,$!*.png`;
    const { error } = await alice.client.storage.from(bucket.name).upload(odd, png(1));
    assert.equal(error, null);
  });

  it("is refused if the bucket does not exist", async () => {
    const refused = await ask("/storage/v1/object/nowhere/a.png", {
      method: "POST",
      key: secret,
      body: png(1),
    });
    assert.equal(refused.status, 400);
    assert.deepEqual(refused.body, {
      statusCode: "404",
      error: "Bucket not found",
      message: "Bucket not found",
    });
  });

  it("is refused without credentials or with a forged token", async () => {
    const nobody = await put(`${alice.id}/x.png`, {
      key: undefined,
      token: undefined,
      body: png(1),
    });
    assert.deepEqual(
      [nobody.status, nobody.body.message],
      [400, "headers must have required property 'authorization'"],
    );
    const forged = await put(`${alice.id}/x.png`, {
      token: `${alice.token.slice(0, -4)}AAAA`,
      body: png(1),
    });
    assert.deepEqual(
      [forged.status, forged.body.statusCode, forged.body.error],
      [400, "403", "Unauthorized"],
    );
  });

  it("works with a signed upload URL, once", async () => {
    const path = `${alice.id}/signed.png`;
    const signed = await ask(`/storage/v1/object/upload/sign/${bucket.name}/${path}`, {
      method: "POST",
      key: publishable,
      token: alice.token,
    });
    assert.equal(
      signed.body.url,
      `/object/upload/sign/${bucket.name}/${path}?token=${signed.body.token}`,
    );
    const from = bob.client.storage.from(bucket.name);
    const uploaded = await from.uploadToSignedUrl(path, signed.body.token, png(11));
    assert.equal(uploaded.data!.fullPath, `${bucket.name}/${path}`);
    const again = await from.uploadToSignedUrl(path, signed.body.token, png(12));
    assert.match(again.error!.message, /already exists/);
    const elsewhere = await from.uploadToSignedUrl(
      `${alice.id}/else.png`,
      signed.body.token,
      png(12),
    );
    assert.match(elsewhere.error!.message, /Invalid signature/);
    const byClient = await alice.client.storage
      .from(bucket.name)
      .createSignedUploadUrl(`${alice.id}/new.png`);
    assert.ok(byClient.data!.signedUrl.startsWith(`${url}/storage/v1/object/upload/sign/`));
    const forBob = await bob.client.storage
      .from(bucket.name)
      .createSignedUploadUrl(`${alice.id}/new.png`);
    assert.match(forBob.error!.message, /row-level security/);
  });
});
