import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { type Person, makeBucket, signUp } from "./project.ts";

describe("a list", () => {
  let bucket: Awaited<ReturnType<typeof makeBucket>>;
  let alice: Person;
  let bob: Person;
  before(async () => {
    bucket = await makeBucket();
    [alice, bob] = [await signUp("alice"), await signUp("bob")];
    for (const name of [
      "b.txt",
      "a.txt",
      "folder/x.txt",
      "folder/deep/y.txt",
      "Zebra.txt",
      "under_score.txt",
    ]) {
      await alice.client.storage.from(bucket.name).upload(`${alice.id}/${name}`, new Blob([name]));
    }
    await bob.client.storage.from(bucket.name).upload(`${bob.id}/b.txt`, new Blob(["bob"]));
  });
  after(() => bucket.drop());
  const list = async (folder: string, options?: Parameters<ReturnType<typeof from>["list"]>[1]) => {
    const { data, error } = await from().list(folder, options);
    assert.equal(error, null);
    return data!.map((entry) => entry.name);
  };
  const from = () => alice.client.storage.from(bucket.name);

  it("contains one level, with names relative to the folder", async () => {
    assert.deepEqual(await list(alice.id), [
      "a.txt",
      "b.txt",
      "folder",
      "under_score.txt",
      "Zebra.txt",
    ]);
    assert.deepEqual(await list(`${alice.id}/folder`), ["deep", "x.txt"]);
    assert.deepEqual(await list(`${alice.id}/fol`), []);
  });

  it("shows folders without an id, and objects with their metadata", async () => {
    const { data } = await from().list(alice.id);
    const folder = data!.find((entry) => entry.name === "folder");
    assert.deepEqual(
      [
        folder!.id,
        folder!.created_at,
        folder!.updated_at,
        folder!.last_accessed_at,
        folder!.metadata,
      ],
      [null, null, null, null, null],
    );
    const object = data!.find((entry) => entry.name === "a.txt");
    assert.match(object!.created_at!, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z$/);
    assert.deepEqual([object!.metadata!.size, object!.metadata!.contentLength], [5, 5]);
  });

  it("does not show the objects of another user", async () => {
    assert.deepEqual(await list(""), [alice.id]);
    assert.deepEqual(await list(bob.id), []);
  });

  it("can be searched, sorted and limited", async () => {
    assert.deepEqual(await list(alice.id, { search: "z" }), ["Zebra.txt"]);
    assert.deepEqual(await list(alice.id, { search: "under%" }), []);
    assert.deepEqual(
      await list(alice.id, { sortBy: { column: "name", order: "desc" }, limit: 2 }),
      ["Zebra.txt", "under_score.txt"],
    );
    assert.deepEqual(await list(alice.id, { limit: 2, offset: 1 }), ["b.txt", "folder"]);
    const byAge = { column: "created_at", order: "asc" };
    assert.deepEqual(await list(alice.id, { sortBy: byAge }), [
      "folder",
      "b.txt",
      "a.txt",
      "Zebra.txt",
      "under_score.txt",
    ]);
  });

  it("in its second version separates folders and objects, and has full names and a cursor", async () => {
    const prefix = `${alice.id}/`;
    const first = await from().listV2({ prefix, with_delimiter: true, limit: 3 });
    assert.equal(first.error, null);
    assert.deepEqual(first.data!.folders, []);
    assert.deepEqual(
      first.data!.objects.map(({ name }) => name),
      ["Zebra.txt", "a.txt", "b.txt"].map((name) => prefix + name),
    );
    assert.equal(first.data!.hasNext, true);
    const rest = await from().listV2({
      prefix,
      with_delimiter: true,
      limit: 3,
      cursor: first.data!.nextCursor,
    });
    assert.deepEqual(
      rest.data!.folders.map(({ name }) => name),
      [`${prefix}folder/`],
    );
    assert.deepEqual(
      rest.data!.objects.map(({ name }) => name),
      [`${prefix}under_score.txt`],
    );
    assert.deepEqual([rest.data!.hasNext, rest.data!.nextCursor], [false, undefined]);
    const flat = await from().listV2({
      prefix: `${prefix}folder`,
      sortBy: { column: "created_at", order: "desc" },
    });
    assert.deepEqual(
      flat.data!.objects.map(({ name }) => name),
      ["folder/deep/y.txt", "folder/x.txt"].map((name) => prefix + name),
    );
  });
});
