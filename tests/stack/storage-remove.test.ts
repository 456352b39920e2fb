import assert from "node:assert/strict";
import { readFile, readdir } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import {
  type Person,
  admin,
  ask,
  makeBucket,
  migrator,
  publishable,
  secret,
  service,
  signUp,
} from "./project.ts";

/** The contents of all files of a bucket on disk. */
async function onDisk(bucket: string): Promise<string[]> {
  const folder = join(process.env.STACK_STATE!, "storage", bucket);
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => []);
  const files = entries.filter((entry) => entry.isFile());
  return Promise.all(files.map((file) => readFile(join(file.parentPath, file.name), "utf8")));
}

describe("removal", () => {
  let bucket: Awaited<ReturnType<typeof makeBucket>>;
  let alice: Person;
  let bob: Person;
  before(async () => {
    bucket = await makeBucket();
    [alice, bob] = [await signUp("alice"), await signUp("bob")];
  });
  after(() => bucket.drop());
  const upload = async (person: Person, name: string, content: string, upsert = false) => {
    const path = `${person.id}/${name}`;
    const { error } = await person.client.storage
      .from(bucket.name)
      .upload(path, new Blob([content]), { upsert });
    assert.equal(error, null);
    return path;
  };

  it("also removes rows that no upload has made, and which have no bytes", async () => {
    const path = await upload(alice, "uploaded.txt", "content");
    const rows = [`${alice.id}/a-size-alone`, `${alice.id}/nothing`];
    await admin`insert into storage.objects (bucket_id, name, metadata) values (${bucket.name}, ${rows[0]!}, '{"size": 7}'), (${bucket.name}, ${rows[1]!}, null)`;
    for (const row of rows) {
      const { error } = await service.storage.from(bucket.name).download(row);
      assert.equal((error as { statusCode?: string } | null)?.statusCode ?? (error as { status?: number } | null)?.status, "404", row);
    }
    const { data, error } = await service.storage.from(bucket.name).remove([path, ...rows]);
    assert.equal(error, null);
    assert.deepEqual(data!.map(({ name }) => name).sort(), [path, ...rows].sort());
    assert.deepEqual(await onDisk(bucket.name), []);
  });

  it("returns the rows it deleted, without missing objects and those of other users", async () => {
    const [one, two] = [await upload(alice, "one", "1"), await upload(alice, "two", "2")];
    const bobs = await upload(bob, "mine", "bob's");
    const { data, error } = await alice.client.storage
      .from(bucket.name)
      .remove([one, two, bobs, "missing"]);
    assert.equal(error, null);
    assert.deepEqual(data!.map((row) => row.name).sort(), [one, two].sort());
    assert.ok(data!.every((row) => row.bucket_id === bucket.name && row.id && row.metadata));
    assert.deepEqual(await onDisk(bucket.name), ["bob's"]);
    assert.equal((await bob.client.storage.from(bucket.name).download(bobs)).error, null);
    await service.storage.from(bucket.name).remove([bobs]);
  });

  it("accepts exact names, not folders", async () => {
    const path = await upload(alice, "folder/x", "x");
    const { data } = await service.storage
      .from(bucket.name)
      .remove([`${alice.id}/folder`, `${alice.id}/folder/`]);
    assert.deepEqual(data, []);
    await service.storage.from(bucket.name).remove([path]);
  });

  it("of one object by its URL confirms it, and answers 404 if there is none", async () => {
    const path = await upload(alice, "single", "s");
    const remove = (token: string) =>
      ask(`/storage/v1/object/${bucket.name}/${path}`, {
        method: "DELETE",
        key: publishable,
        token,
      });
    assert.equal((await remove(bob.token)).body.statusCode, "403");
    assert.deepEqual((await remove(alice.token)).body, { message: "Successfully deleted" });
    assert.equal((await remove(alice.token)).body.statusCode, "404");
  });

  it("refuses more than 1,000 names, and an empty list", async () => {
    for (const prefixes of [[], Array(1001).fill("x")]) {
      const refused = await ask(`/storage/v1/object/${bucket.name}`, {
        method: "DELETE",
        key: secret,
        body: { prefixes },
      });
      assert.deepEqual([refused.status, refused.body.statusCode], [400, "400"]);
    }
  });

  it("leaves no bytes on disk, and neither does an overwritten or refused upload", async () => {
    const path = await upload(alice, "changing", "the old bytes");
    await upload(alice, "changing", "the new bytes", true);
    await alice.client.storage.from(bucket.name).upload(path, new Blob(["refused bytes"]));
    assert.deepEqual(await onDisk(bucket.name), ["the new bytes"]);
    await alice.client.storage.from(bucket.name).move(path, `${alice.id}/moved`);
    await alice.client.storage.from(bucket.name).copy(`${alice.id}/moved`, `${alice.id}/copied`);
    assert.equal((await onDisk(bucket.name)).length, 2);
    await alice.client.storage
      .from(bucket.name)
      .remove([`${alice.id}/moved`, `${alice.id}/copied`]);
    assert.deepEqual(await onDisk(bucket.name), []);
  });

  it("by SQL is refused for every role, as on hosted Supabase", async () => {
    const path = await upload(alice, "kept", "kept");
    for (const statement of [
      "delete from storage.objects",
      `set local role service_role; delete from storage.buckets`,
    ]) {
      for (const sql of [migrator, admin]) {
        await assert.rejects(
          sql.begin((tx) => tx.unsafe(statement).simple()),
          {
            code: "42501",
            message:
              "Direct deletion from storage tables is not allowed. Use the Storage API instead.",
          },
        );
      }
    }
    assert.equal((await service.storage.from(bucket.name).remove([path])).data!.length, 1);
  });
});

describe("moving and copying", () => {
  let bucket: Awaited<ReturnType<typeof makeBucket>>;
  let alice: Person;
  before(async () => {
    bucket = await makeBucket();
    alice = await signUp("alice");
  });
  after(() => bucket.drop());

  it("keep the bytes and their type, and refuse a name that exists or is in another user's folder", async () => {
    const from = alice.client.storage.from(bucket.name);
    await from.upload(`${alice.id}/a`, new Blob(["a"], { type: "text/plain" }));
    await from.upload(`${alice.id}/b`, new Blob(["b"], { type: "text/plain" }));
    assert.equal(
      (await from.copy(`${alice.id}/a`, `${alice.id}/c`)).data!.path,
      `${bucket.name}/${alice.id}/c`,
    );
    assert.match(
      (await from.copy(`${alice.id}/a`, `${alice.id}/b`)).error!.message,
      /already exists/,
    );
    assert.match(
      (await from.move(`${alice.id}/a`, `${alice.id}/b`)).error!.message,
      /already exists/,
    );
    assert.match(
      (await from.copy(`${alice.id}/a`, "elsewhere/a")).error!.message,
      /row-level security/,
    );
    assert.match(
      (await from.move(`${alice.id}/a`, "elsewhere/a")).error!.message,
      /row-level security/,
    );
    assert.match(
      (await from.move(`${alice.id}/nothing`, `${alice.id}/d`)).error!.message,
      /not found/,
    );
    assert.equal(
      (await from.move(`${alice.id}/a`, `${alice.id}/d`)).data!.message,
      "Successfully moved",
    );
    const moved = await from.download(`${alice.id}/d`);
    assert.deepEqual([await moved.data!.text(), moved.data!.type], ["a", "text/plain"]);
    assert.match((await from.download(`${alice.id}/a`)).error!.message, /Object not found/);
  });
});

describe("a bucket", () => {
  it("can be created, read, changed and deleted only with the secret key", async () => {
    const { name, drop } = await makeBucket({
      public: false,
      fileSizeLimit: "2MB",
      allowedMimeTypes: ["image/*"],
    });
    const found = await service.storage.getBucket(name);
    assert.deepEqual(
      [
        found.data!.id,
        found.data!.public,
        found.data!.file_size_limit,
        found.data!.allowed_mime_types,
      ],
      [name, false, 2_000_000, ["image/*"]],
    );
    assert.ok((await service.storage.listBuckets()).data!.some((bucket) => bucket.id === name));
    const again = await service.storage.createBucket(name);
    assert.match(again.error!.message, /already exists/);
    await service.storage.from(name).upload("a.png", new Blob(["a"], { type: "image/png" }));
    assert.match((await service.storage.deleteBucket(name)).error!.message, /not empty/);
    const alice = await signUp("alice");
    assert.match(
      (await alice.client.storage.createBucket("alices")).error!.message,
      /row-level security/,
    );
    assert.match((await alice.client.storage.getBucket(name)).error!.message, /Bucket not found/);
    assert.deepEqual((await alice.client.storage.listBuckets()).data, []);
    await drop();
    assert.match((await service.storage.getBucket(name)).error!.message, /Bucket not found/);
  });
});
