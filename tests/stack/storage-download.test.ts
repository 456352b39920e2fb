import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import {
  type Person,
  anonymous,
  ask,
  makeBucket,
  publishable,
  service,
  signUp,
  url,
} from "./project.ts";

describe("a download", () => {
  const text = "a small picture, in words";
  let bucket: Awaited<ReturnType<typeof makeBucket>>;
  let alice: Person;
  let bob: Person;
  let path: string;
  before(async () => {
    bucket = await makeBucket();
    [alice, bob] = [await signUp("alice"), await signUp("bob")];
    path = `${alice.id}/notes.bin`;
    const body = new Blob([text], { type: "image/webp" });
    const { error } = await alice.client.storage
      .from(bucket.name)
      .upload(path, body, { cacheControl: "120" });
    assert.equal(error, null);
  });
  after(() => bucket.drop());
  const get = (headers: Record<string, string> = {}, method = "GET", kind = "") =>
    ask(`/storage/v1/object/${kind}${bucket.name}/${path}`, {
      method,
      key: publishable,
      token: alice.token,
      headers,
    });

  it("returns the type, length, ETag, cache time and modification time of the upload", async () => {
    const found = await get();
    assert.equal(found.status, 200);
    assert.equal(found.body, text);
    assert.equal(found.headers.get("content-type"), "image/webp");
    assert.equal(found.headers.get("content-length"), String(text.length));
    assert.equal(found.headers.get("cache-control"), "max-age=120");
    assert.match(found.headers.get("etag")!, /^"[0-9a-f]{32}"$/);
    assert.ok(Date.parse(found.headers.get("last-modified")!) <= Date.now());
    assert.equal((await get({}, "GET", "authenticated/")).body, text);
  });

  it("returns ranges, and answers 416 for one beyond the end", async () => {
    for (const [range, part] of [
      ["bytes=2-6", text.slice(2, 7)],
      ["bytes=10-", text.slice(10)],
      ["bytes=-5", text.slice(-5)],
    ]) {
      const found = await get({ range });
      assert.deepEqual([found.status, found.body], [206, part]);
      assert.match(found.headers.get("content-range")!, /^bytes \d+-\d+\/25$/);
    }
    const beyond = await get({ range: "bytes=100-" });
    assert.deepEqual([beyond.status, beyond.body.statusCode], [400, "416"]);
  });

  it("answers 304 to a client that already has the object", async () => {
    const etag = (await get()).headers.get("etag")!;
    assert.equal((await get({ "if-none-match": etag })).status, 304);
    assert.equal((await get({ "if-none-match": '"another"' })).status, 200);
  });

  it("answers HEAD requests, and whether an object exists", async () => {
    const head = await get({}, "HEAD");
    assert.deepEqual([head.status, head.headers.get("content-length")], [200, String(text.length)]);
    assert.equal((await alice.client.storage.from(bucket.name).exists(path)).data, true);
    assert.equal((await bob.client.storage.from(bucket.name).exists(path)).data, false);
  });

  it("answers for another user's object as for a missing one: HTTP 400, and 404 in the body", async () => {
    const hidden = await ask(`/storage/v1/object/${bucket.name}/${path}`, {
      key: publishable,
      token: bob.token,
    });
    assert.equal(hidden.status, 400);
    assert.deepEqual(hidden.body, {
      statusCode: "404",
      error: "not_found",
      message: "Object not found",
    });
    const info = await bob.client.storage.from(bucket.name).info(path);
    assert.match(info.error!.message, /Object not found/);
  });

  it("hides a private bucket from callers who are not signed in", async () => {
    const hidden = await ask(`/storage/v1/object/public/${bucket.name}/${path}`);
    assert.equal(hidden.status, 400);
    assert.deepEqual(hidden.body, {
      statusCode: "404",
      error: "Bucket not found",
      message: "Bucket not found",
    });
    const stranger = await anonymous.storage.from(bucket.name).download(path);
    assert.notEqual(stranger.error, null);
  });

  it("from a public bucket needs no key", async () => {
    await service.storage.updateBucket(bucket.name, { public: true });
    const found = await ask(
      `/storage/v1/object/public/${bucket.name}/${path}?download=my%20file.webp`,
    );
    await service.storage.updateBucket(bucket.name, { public: false });
    assert.deepEqual([found.status, found.body], [200, text]);
    assert.match(
      found.headers.get("content-disposition")!,
      /^attachment; filename=my%20file.webp;/,
    );
  });

  it("works with a signed URL, relative to /storage/v1, and only for the object of the URL", async () => {
    const signed = await ask(`/storage/v1/object/sign/${bucket.name}/${path}`, {
      method: "POST",
      key: publishable,
      token: alice.token,
      body: { expiresIn: 60 },
    });
    assert.deepEqual(Object.keys(signed.body), ["signedURL"]);
    assert.ok(signed.body.signedURL.startsWith(`/object/sign/${bucket.name}/${path}?token=`));
    assert.equal((await ask(`/storage/v1${signed.body.signedURL}`)).body, text);
    const { data } = await alice.client.storage.from(bucket.name).createSignedUrl(path, 60);
    assert.equal(await (await fetch(data!.signedUrl)).text(), text);

    const token = new URL(data!.signedUrl).searchParams.get("token")!;
    const elsewhere = await ask(
      `/storage/v1/object/sign/${bucket.name}/${alice.id}/other?token=${token}`,
    );
    assert.deepEqual([elsewhere.status, elsewhere.body.error], [400, "InvalidSignature"]);
    const forged = await ask(
      `/storage/v1/object/sign/${bucket.name}/${path}?token=${token!.slice(0, -4)}AAAA`,
    );
    assert.deepEqual([forged.status, forged.body.error], [400, "InvalidJWT"]);
    const asBearer = await ask(`/storage/v1/object/${bucket.name}/${path}`, {
      key: publishable,
      token: token!,
    });
    assert.notEqual(asBearer.status, 200);
  });

  it("with a signed URL stops working when the URL expires", async () => {
    const { data } = await alice.client.storage.from(bucket.name).createSignedUrl(path, 1);
    const deadline = Date.now() + 5000;
    let last = await fetch(data!.signedUrl);
    while (last.ok && Date.now() < deadline) last = await fetch(data!.signedUrl);
    assert.equal(last.status, 400);
    assert.deepEqual((await last.json()).error, "InvalidJWT");
  });

  it("can be signed for several objects in one call, with a result for each", async () => {
    const missing = `${alice.id}/missing.bin`;
    const signed = await ask(`/storage/v1/object/sign/${bucket.name}`, {
      method: "POST",
      key: publishable,
      token: alice.token,
      body: { expiresIn: 60, paths: [missing, path] },
    });
    assert.equal(signed.status, 200);
    assert.deepEqual(signed.body[0], {
      error: "Either the object does not exist or you do not have access to it",
      path: missing,
      signedURL: null,
    });
    assert.deepEqual([signed.body[1].error, signed.body[1].path], [null, path]);
    assert.equal((await ask(`/storage/v1${signed.body[1].signedURL}`)).body, text);
    const { data } = await alice.client.storage
      .from(bucket.name)
      .createSignedUrls([missing, path], 60);
    assert.ok(data![1].signedUrl!.startsWith(`${url}/storage/v1/object/sign/`));
    const other = await bob.client.storage.from(bucket.name).createSignedUrl(path, 60);
    assert.match(other.error!.message, /Object not found/);
  });
});
