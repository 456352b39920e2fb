// Resumable uploads, with the official client of the TUS protocol, and with raw requests for what it never sends.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { request } from "node:http";
import { after, before, describe, it } from "node:test";
import { DetailedError, Upload, type UploadOptions } from "tus-js-client";
import { until } from "../waiting.ts";
import { type Person, admin, ask, makeBucket, publishable, service, signUp, url } from "./project.ts";

const mebibyte = 1024 * 1024;
const piece = 6 * mebibyte;
const path = "/storage/v1/upload/resumable";
const binary = "application/offset+octet-stream";

describe("a resumable upload", () => {
  let bucket: Awaited<ReturnType<typeof makeBucket>>;
  let alice: Person;
  let bob: Person;
  before(async () => {
    bucket = await makeBucket({
      public: false,
      fileSizeLimit: 20 * mebibyte,
      allowedMimeTypes: ["image/png"],
    });
    [alice, bob] = [await signUp("alice"), await signUp("bob")];
  });
  after(() => bucket.drop());

  const described = (name: string, contentType = "image/png") => ({
    bucketName: bucket.name,
    objectName: name,
    contentType,
    cacheControl: "60",
  });

  type Options = UploadOptions & { person?: Person };

  /** The official client, configured as in Supabase's guide. */
  function client(bytes: Buffer, name: string, { person = alice, headers, ...more }: Options = {}) {
    return new Upload(bytes, {
      endpoint: `${url}${path}`,
      chunkSize: piece,
      retryDelays: null,
      headers: { authorization: `Bearer ${person.token}`, apikey: publishable, ...headers },
      metadata: described(name),
      ...more,
    });
  }

  /** Uploads with the client. Returns the status and body with which it gave up, or 200. */
  function upload(bytes: Buffer, name: string, options?: Options) {
    return new Promise<{ status: number; body: string }>((settle, fail) => {
      const onSuccess = () => settle({ status: 200, body: "" });
      const onError = (error: Error) => {
        const answer = error instanceof DetailedError ? error.originalResponse : null;
        if (answer) settle({ status: answer.getStatus(), body: answer.getBody() });
        else fail(error);
      };
      client(bytes, name, { ...options, onSuccess, onError }).start();
    });
  }

  async function stored(name: string): Promise<Buffer> {
    const { data, error } = await service.storage.from(bucket.name).download(name);
    assert.equal(error, null);
    return Buffer.from(await data!.arrayBuffer());
  }

  const tus = (address: string, options: Parameters<typeof ask>[1], person = alice) =>
    ask(address, {
      key: publishable,
      token: person.token,
      ...options,
      headers: { "tus-resumable": "1.0.0", ...options!.headers },
    });
  const pairs = (metadata: Record<string, string>) =>
    Object.entries(metadata).map(([key, value]) => `${key} ${btoa(value)}`).join(",");

  /** Creates an upload with a raw request. Returns its path. */
  async function begin(length: number, name: string): Promise<string> {
    const headers = { "upload-length": String(length), "upload-metadata": pairs(described(name)) };
    const begun = await tus(path, { method: "POST", headers });
    assert.equal(begun.status, 201);
    const location = begun.headers.get("location")!;
    assert.match(location.slice(url.length), /^\/storage\/v1\/upload\/resumable\/[\w-]+$/);
    assert.ok(location.startsWith(`${url}/`));
    return location.slice(url.length);
  }
  const append = (address: string, offset: number, body: BodyInit, headers = {}) =>
    tus(address, {
      method: "PATCH",
      body,
      headers: { "content-type": binary, "upload-offset": String(offset), ...headers },
    });
  async function offset(address: string): Promise<string | null> {
    const asked = await tus(address, { method: "HEAD" });
    assert.deepEqual([asked.status, asked.headers.get("cache-control")], [200, "no-store"]);
    return asked.headers.get("upload-offset");
  }

  it("announces its protocol version and extensions", async () => {
    const { status, headers } = await ask(path, { method: "OPTIONS" });
    assert.equal(status, 204);
    assert.equal(headers.get("tus-resumable"), "1.0.0");
    assert.equal(headers.get("tus-version"), "1.0.0");
    assert.equal(headers.get("tus-extension"), "creation,creation-with-upload,termination");
    assert.ok(Number(headers.get("tus-max-size")) > 0);
    assert.equal(headers.get("access-control-allow-origin"), "*");
    const elsewhere = await ask("/storage/v1/object/a/b", { method: "OPTIONS" });
    assert.equal(elsewhere.headers.get("tus-version"), null);
  });

  for (const uploadDataDuringCreation of [false, true]) {
    const first = uploadDataDuringCreation ? "the first with its creation" : "all after its creation";
    it(`takes three pieces, ${first}, and is an object like any other`, async () => {
      const bytes = randomBytes(15 * mebibyte);
      const name = `${alice.id}/three ${uploadDataDuringCreation}.png`;
      const pieces: number[] = [];
      const onChunkComplete = (size: number) => void pieces.push(size);
      const metadata = { ...described(name), metadata: JSON.stringify({ camera: "none" }) };
      const done = await upload(bytes, name, { uploadDataDuringCreation, onChunkComplete, metadata });
      assert.deepEqual([done.status, pieces], [200, [piece, piece, 3 * mebibyte]]);
      assert.ok((await stored(name)).equals(bytes));
      const { data: info } = await service.storage.from(bucket.name).info(name);
      assert.deepEqual(
        [info!.size, info!.contentType, info!.cacheControl, info!.metadata],
        [bytes.length, "image/png", "max-age=60", { camera: "none" }],
      );
      const [row] = await admin`
        select owner_id, metadata ->> 'eTag' as etag from storage.objects
        where bucket_id = ${bucket.name} and name = ${name}`;
      assert.equal(row!.owner_id, alice.id);
      assert.match(row!.etag, /^"[0-9a-f]{32}"$/);
    });
  }

  it("may be empty or exactly one piece long", async () => {
    for (const size of [0, piece]) {
      for (const uploadDataDuringCreation of [false, true]) {
        const name = `${alice.id}/${size} ${uploadDataDuringCreation}.png`;
        const done = await upload(Buffer.alloc(size, 7), name, { uploadDataDuringCreation });
        assert.equal(done.status, 200);
        assert.ok((await stored(name)).equals(Buffer.alloc(size, 7)));
      }
    }
  });

  it("can be continued by another client after its client has stopped", async () => {
    const bytes = randomBytes(15 * mebibyte);
    const name = `${alice.id}/broken.png`;
    const uploadUrl = await new Promise<string>((brokenOff, onError) => {
      const breaking = client(bytes, name, {
        onError,
        onChunkComplete: () => void breaking.abort().then(() => brokenOff(breaking.url!), onError),
      });
      breaking.start();
    });
    assert.equal(await offset(uploadUrl.slice(url.length)), String(piece));
    const pieces: number[] = [];
    const onChunkComplete = (size: number) => void pieces.push(size);
    const done = await upload(bytes, name, { uploadUrl, onChunkComplete });
    assert.deepEqual([done.status, pieces], [200, [piece, 3 * mebibyte]]);
    assert.ok((await stored(name)).equals(bytes));
  });

  it("keeps nothing of an incomplete piece, and accepts the piece again", async () => {
    const address = await begin(3 * mebibyte, `${alice.id}/torn.png`);
    const headers = {
      ...{ apikey: publishable, authorization: `Bearer ${alice.token}`, "tus-resumable": "1.0.0" },
      ...{ "content-type": binary, "upload-offset": "0", "content-length": 3 * mebibyte },
    };
    await new Promise<void>((isTorn) => {
      const tearing = request(`${url}${address}`, { method: "PATCH", headers });
      tearing.on("error", () => {}).on("close", () => isTorn());
      tearing.write(new Uint8Array(mebibyte), () => tearing.destroy());
    });
    assert.equal(await offset(address), "0");
    const bytes = randomBytes(3 * mebibyte);
    await until("the incomplete piece to be dropped", async () => {
      const { status } = await append(address, 0, bytes);
      assert.ok([204, 423].includes(status), String(status));
      return status === 204 || undefined;
    });
    assert.ok((await stored(`${alice.id}/torn.png`)).equals(bytes));
  });

  it("accepts only pieces of 6 MiB, and a last one with the rest", async () => {
    const address = await begin(8 * mebibyte, `${alice.id}/sizes.png`);
    const sized = (size: number) => new Uint8Array(size);
    const unsaid = () => new Blob([sized(piece - 1)]).stream();
    for (const body of [sized(mebibyte), sized(piece + 1), sized(8 * mebibyte), unsaid()]) {
      const refused = await append(address, 0, body);
      assert.equal(refused.status, 400);
      assert.match(refused.body, /^The next piece must have 6291456 bytes/);
    }
    assert.equal(await offset(address), "0");
    const taken = await append(address, 0, sized(piece));
    assert.deepEqual([taken.status, taken.headers.get("upload-offset")], [204, String(piece)]);
    assert.equal((await append(address, piece, sized(mebibyte))).status, 400);
    assert.equal((await append(address, piece, sized(3 * mebibyte))).status, 400);
    const last = await append(address, piece, sized(2 * mebibyte));
    assert.deepEqual([last.status, last.headers.get("upload-offset")], [204, String(8 * mebibyte)]);
  });

  it("reports its offset, also when it is complete", async () => {
    const address = await begin(3, `${alice.id}/stands.png`);
    const asked = await tus(address, { method: "HEAD" });
    assert.equal(asked.headers.get("upload-length"), "3");
    assert.equal(asked.headers.get("tus-resumable"), "1.0.0");
    assert.equal(await offset(address), "0");
    assert.equal((await append(address, 0, "abc")).status, 204);
    assert.equal(await offset(address), "3");
    assert.equal((await append(address, 3, "")).status, 400);
    assert.equal(String(await stored(`${alice.id}/stands.png`)), "abc");
  });

  it("accepts a piece at the end of the last one, and answers 409 at any other offset", async () => {
    const address = await begin(7 * mebibyte, `${alice.id}/offset.png`);
    const refused = await append(address, piece, new Uint8Array(mebibyte));
    assert.deepEqual([refused.status, refused.body], [409, "Upload-Offset conflict"]);
    assert.equal((await append(address, 0, new Uint8Array(piece))).status, 204);
    assert.equal((await append(address, 0, new Uint8Array(piece))).status, 409);
    assert.equal((await append(address, 0, "", { "upload-offset": "much" })).status, 400);
  });

  it("accepts one piece at a time", async () => {
    const address = await begin(7 * mebibyte, `${alice.id}/twice.png`);
    const statuses = await Promise.all(
      [7, 8].map(async (byte) => (await append(address, 0, new Uint8Array(piece).fill(byte))).status),
    );
    assert.equal(statuses.filter((status) => status === 204).length, 1);
    assert.ok(statuses.some((status) => status === 409 || status === 423), String(statuses));
    assert.equal(await offset(address), String(piece));
  });

  it("requires version 1.0.0 of the protocol and the content type of pieces", async () => {
    const address = await begin(3, `${alice.id}/version.png`);
    for (const method of ["POST", "HEAD", "PATCH", "DELETE"]) {
      for (const headers of [{}, { "tus-resumable": "0.2.2" }] as Record<string, string>[]) {
        const at = method === "POST" ? path : address;
        const refused = await ask(at, { method, key: publishable, token: alice.token, headers });
        assert.equal(refused.status, 412, method);
        assert.equal(refused.headers.get("tus-version"), "1.0.0");
      }
    }
    assert.equal((await append(address, 0, "abc", { "content-type": "image/png" })).status, 415);
    assert.equal(await offset(address), "0");
  });

  it("is refused in the folder of another user, like any upload", async () => {
    const name = `${alice.id}/foreign.png`;
    const refused = await upload(Buffer.alloc(3), name, { person: bob });
    assert.equal(refused.status, 403);
    assert.equal(refused.body, "new row violates row-level security policy");
  });

  it("can be continued and deleted by users who may upload to its name, and other users can read its offset", async () => {
    const address = await begin(3, `${alice.id}/mine.png`);
    const headers = { "content-type": binary, "upload-offset": "0" };
    for (const method of ["PATCH", "DELETE"]) {
      const body = method === "PATCH" ? "abc" : undefined;
      assert.equal((await tus(address, { method, headers, body }, bob)).status, 403, method);
    }
    assert.equal((await tus(address, { method: "HEAD", headers }, bob)).status, 200);
    assert.equal(await offset(address), "0");
    const nobody = await ask(address, { method: "HEAD", headers: { "tus-resumable": "1.0.0" } });
    assert.equal(nobody.status, 400);
  });

  it("is refused above the limit of the bucket, for a type that it does not allow, and without a bucket", async () => {
    const name = `${alice.id}/refused.png`;
    const pieces: number[] = [];
    const onChunkComplete = (size: number) => void pieces.push(size);
    const large = await upload(Buffer.alloc(20 * mebibyte + 1), name, { onChunkComplete });
    assert.deepEqual(
      [large.status, large.body, pieces],
      [413, "Maximum size exceeded", []],
    );
    const typed = await upload(Buffer.alloc(3), name, { metadata: described(name, "application/pdf") });
    assert.deepEqual(
      [typed.status, typed.body],
      [415, "mime type application/pdf is not supported"],
    );
    const metadata = { ...described(name), bucketName: "nowhere" };
    const nowhere = await upload(Buffer.alloc(3), name, { metadata });
    assert.deepEqual([nowhere.status, nowhere.body], [404, "Bucket not found"]);
    const headers = { "upload-metadata": pairs(described(name)) };
    const unsized = await tus(path, { method: "POST", headers });
    assert.equal(unsized.status, 400);
  });

  it("without a type is accepted into a bucket that allows only one type", async () => {
    const name = `${alice.id}/untyped.png`;
    const { contentType: _, ...metadata } = described(name);
    const done = await upload(Buffer.from("abc"), name, { metadata });
    assert.equal(done.status, 200);
    const { data } = await service.storage.from(bucket.name).info(name);
    assert.equal(data!.contentType, "binary/octet-stream");
  });

  it("is refused if the object exists, unless the upload asks for upsert", async () => {
    const name = `${alice.id}/there.png`;
    assert.equal((await upload(Buffer.from("first"), name)).status, 200);
    const refused = await upload(Buffer.from("second"), name);
    assert.equal(refused.status, 409);
    assert.equal(refused.body, "The resource already exists");
    assert.equal(String(await stored(name)), "first");
    const replaced = await upload(Buffer.from("third"), name, { headers: { "x-upsert": "true" } });
    assert.equal(replaced.status, 200);
    assert.equal(String(await stored(name)), "third");
  });

  it("is refused at its last piece if another upload has created the object", async () => {
    const name = `${alice.id}/meanwhile.png`;
    const address = await begin(3, name);
    assert.equal((await upload(Buffer.from("first"), name)).status, 200);
    assert.equal((await append(address, 0, "abc")).status, 409);
    assert.equal(await offset(address), "0");
    assert.equal((await append(address, 0, "abc", { "x-upsert": "true" })).status, 204);
    assert.equal(String(await stored(name)), "abc");
  });

  it("cannot be deleted when it is complete, and disappears with its object", async () => {
    const name = `${alice.id}/whole.png`;
    const address = await begin(3, name);
    assert.equal((await append(address, 0, "abc")).status, 204);
    assert.equal((await tus(address, { method: "DELETE" })).status, 409);
    const headers = { "x-upsert": "true" };
    assert.equal((await tus(address, { method: "DELETE", headers })).status, 400);
    assert.equal(await offset(address), "3");
    assert.equal((await alice.client.storage.from(bucket.name).remove([name])).error, null);
    assert.equal((await tus(address, { method: "HEAD" })).status, 404);
  });

  it("is gone after it was deleted", async () => {
    const address = await begin(7 * mebibyte, `${alice.id}/ended.png`);
    assert.equal((await append(address, 0, new Uint8Array(piece))).status, 204);
    await Upload.terminate(`${url}${address}`, { headers: { authorization: `Bearer ${alice.token}` } });
    for (const method of ["HEAD", "DELETE"]) assert.equal((await tus(address, { method })).status, 404);
    assert.equal((await append(address, piece, new Uint8Array(mebibyte))).status, 404);
    const elsewhere = await tus(`${path}/${btoa("a/../../x")}`, { method: "HEAD" });
    assert.equal(elsewhere.status, 404);
  });
});
