// What triggers on `storage.objects` see, and what an upload that they refuse leaves behind.

import assert from "node:assert/strict";
import { readFile, readdir } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { until } from "../waiting.ts";
import { type Person, admin, ask, makeBucket, migrator, publishable, secret, service, signUp } from "./project.ts";

/** The contents of every file of a bucket. */
async function onDisk(bucket: string): Promise<string[]> {
  const folder = join(process.env.STACK_STATE!, "storage", bucket);
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => []);
  const files = entries.filter((entry) => entry.isFile());
  return Promise.all(files.map((file) => readFile(join(file.parentPath, file.name), "utf8")));
}

describe("the row of an object", () => {
  let bucket: Awaited<ReturnType<typeof makeBucket>>;
  let alice: Person;
  before(async () => {
    bucket = await makeBucket();
    alice = await signUp("alice");
    // A name says what happens to it: `refused-late` when the row is written, any other is written down.
    await migrator.unsafe(`
      create table public.stack_seen (
        at bigint generated always as identity,
        verb text, role text, operation text, owner text, name text, type text, length text, size text
      );
      create function public.stack_see() returns trigger language plpgsql security definer as $$
      begin
        if new.bucket_id <> '${bucket.name}' then
          return new;
        end if;
        if new.name like '%refused-late%' and new.metadata ? 'size' then
          raise exception 'too late' using errcode = '42501';
        end if;
        insert into public.stack_seen (verb, role, operation, owner, name, type, length, size) values (
          tg_op, current_setting('role'), storage.operation(), new.owner_id, storage.filename(new.name),
          new.metadata ->> 'mimetype', new.metadata ->> 'contentLength', new.metadata ->> 'size');
        return new;
      end $$;
      create trigger stack_see before insert or update on storage.objects
        for each row execute function public.stack_see();`);
  });
  after(async () => {
    await migrator.unsafe(`
      drop trigger stack_see on storage.objects;
      drop function public.stack_see;
      drop table public.stack_seen;`);
    await bucket.drop();
  });

  const from = () => alice.client.storage.from(bucket.name);
  const png = (text: string) => new Blob([text], { type: "image/png" });
  /** What was written under a name, in order: rows of the early test are undone, and not among them. */
  async function seen(name: string) {
    const rows = await admin`select * from public.stack_seen where name = ${name} order by at`;
    return rows.map(({ verb, role, operation, owner, type, length, size }) =>
      [verb, role, operation, owner, type, length, size].join(" "),
    );
  }
  const post = (path: string, body: BodyInit, headers: Record<string, string> = {}) =>
    ask(`/storage/v1/object/${bucket.name}/${path}`, {
      method: "POST",
      key: publishable,
      token: alice.token,
      body,
      headers: { "content-type": "image/png", ...headers },
    });

  it("is written by service_role, for the person, with the size and the type", async () => {
    assert.equal((await from().upload(`${alice.id}/plain`, png("12345"))).error, null);
    const row = `service_role storage.object.upload ${alice.id} image/png 5 5`;
    assert.deepEqual(await seen("plain"), [`INSERT ${row}`]);
    assert.equal((await from().upload(`${alice.id}/plain`, png("123"), { upsert: true })).error, null);
    const replaced = `service_role storage.object.upload ${alice.id} image/png 3 3`;
    assert.deepEqual((await seen("plain")).slice(1), [`INSERT ${replaced}`, `UPDATE ${replaced}`]);
  });

  it("has no owner if the service key wrote it, and keeps its owner if the service key replaces it", async () => {
    const path = `${alice.id}/owned`;
    assert.equal((await service.storage.from(bucket.name).upload(path, png("1"))).error, null);
    assert.match((await seen("owned"))[0]!, /^INSERT service_role storage.object.upload  image/);
    assert.equal((await from().upload(path, png("12"), { upsert: true })).error, null);
    await service.storage.from(bucket.name).upload(path, png("123"), { upsert: true });
    const [row] = await admin`
      select owner_id from storage.objects where bucket_id = ${bucket.name} and name = ${path}`;
    assert.equal(row!.owner_id, alice.id);
  });

  it("is written through a signed address without any policy, for whom the address was made", async () => {
    const path = `${alice.id}/signed`;
    const signed = await from().createSignedUploadUrl(path, { upsert: true });
    assert.equal(signed.error, null);
    const bob = await signUp("bob");
    for (const text of ["1", "12"]) {
      const put = await bob.client.storage
        .from(bucket.name)
        .uploadToSignedUrl(path, signed.data!.token, png(text));
      assert.equal(put.error, null);
      assert.equal(await (await from().download(path)).data!.text(), text);
    }
    const row = (length: number) =>
      `service_role storage.object.upload_signed ${alice.id} image/png ${length} ${length}`;
    assert.deepEqual(await seen("signed"), [
      `INSERT ${row(1)}`,
      `INSERT ${row(2)}`,
      `UPDATE ${row(2)}`,
    ]);
  });

  it("replaces what came to that name while the bytes were on their way", async () => {
    const path = `${alice.id}/slow`;
    const { readable, writable } = new TransformStream<Uint8Array>();
    const writer = writable.getWriter();
    const slow = post(path, readable);
    void writer.write(Buffer.from("slow"));
    await until("the slow upload to begin", async () => (await onDisk(bucket.name)).includes("slow") || undefined);
    assert.equal((await post(path, "quick")).status, 200);
    await writer.close();
    assert.equal((await slow).status, 200);
    assert.equal(await (await from().download(path)).data!.text(), "slow");
    assert.equal((await onDisk(bucket.name)).includes("quick"), false);
    assert.deepEqual((await seen("slow")).map((row) => row.split(" ")[0]), ["INSERT", "INSERT", "UPDATE"]);
  });

  it("is written by service_role for copies and moves too", async () => {
    assert.equal((await from().upload(`${alice.id}/source`, png("1234"))).error, null);
    assert.equal((await from().copy(`${alice.id}/source`, `${alice.id}/copied`)).error, null);
    assert.equal((await from().move(`${alice.id}/source`, `${alice.id}/moved`)).error, null);
    const row = (operation: string) => `service_role ${operation} ${alice.id} image/png 4 4`;
    assert.deepEqual(await seen("copied"), [`INSERT ${row("storage.object.copy")}`]);
    assert.deepEqual(await seen("moved"), [`UPDATE ${row("storage.object.move")}`]);
  });

  it("leaves no bytes if a trigger refuses it", async () => {
    const before = await onDisk(bucket.name);
    const names = ["a", "b"].map((name) => `${alice.id}/${name}-refused-late`);
    assert.equal((await post(names[0]!, "refused")).status, 400);
    const signed = await from().createSignedUploadUrl(names[1]!);
    const put = await from().uploadToSignedUrl(names[1]!, signed.data!.token, png("refused"));
    assert.notEqual(put.error, null);
    assert.equal((await from().upload(`${alice.id}/origin`, png("original"))).error, null);
    for (const verb of ["copy", "move"] as const)
      assert.notEqual((await from()[verb](`${alice.id}/origin`, names[0]!)).error, null);
    assert.deepEqual((await onDisk(bucket.name)).sort(), [...before, "original"].sort());
    const rows = await admin`
      select from storage.objects where bucket_id = ${bucket.name} and name = any (${names})`;
    assert.equal(rows.length, 0);
    const asked = await ask(`/storage/v1/object/${bucket.name}/${names[0]}`, { key: secret });
    assert.equal(asked.body.statusCode, "404");
  });
});
