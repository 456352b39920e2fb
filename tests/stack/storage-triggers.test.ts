// What triggers on `storage.objects` see, and what a refused upload leaves behind.

import assert from "node:assert/strict";
import { readFile, readdir } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { until } from "../waiting.ts";
import { type Person, admin, ask, makeBucket, migrator, publishable, secret, service, signUp } from "./project.ts";

/** The contents of all files of a bucket on disk. */
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
    // The name of an object tells the trigger what to do. `refused-early 42501` raises this code before any byte
    // is read, with what the trigger sees as its message. `refused-late` does the same when the row is written. The
    // trigger records all other rows.
    await migrator.unsafe(`
      create table public.stack_seen (
        at bigint generated always as identity,
        verb text, role text, operation text, owner text, name text, type text, length text, size text
      );
      create function public.stack_see() returns trigger language plpgsql security definer as $$
      declare
        refused text[] := regexp_match(new.name, 'refused-(early|late) (\\w+)');
        shown text := concat_ws(' ', tg_op, current_setting('role'), storage.operation(),
          new.metadata ->> 'mimetype', new.metadata ->> 'contentLength', new.metadata ->> 'size');
      begin
        if new.bucket_id <> '${bucket.name}' then
          return new;
        end if;
        if refused[1] = (case when new.metadata ? 'size' then 'late' else 'early' end) then
          raise exception using errcode = refused[2], message = shown;
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
  /** The recorded rows for a name, in order. Rows of the early test are rolled back, so they are not among them. */
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

  it("is written by service_role, for the user, with the size and the type", async () => {
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

  it("is written through a signed URL without any policy, for the user who got the URL", async () => {
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

  it("replaces an object that was uploaded to its name meanwhile", async () => {
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

  it("is also written by service_role for copies and moves", async () => {
    assert.equal((await from().upload(`${alice.id}/source`, png("1234"))).error, null);
    assert.equal((await from().copy(`${alice.id}/source`, `${alice.id}/copied`)).error, null);
    assert.equal((await from().move(`${alice.id}/source`, `${alice.id}/moved`)).error, null);
    const row = (operation: string) => `service_role ${operation} ${alice.id} image/png 4 4`;
    assert.deepEqual(await seen("copied"), [`INSERT ${row("storage.object.copy")}`]);
    assert.deepEqual(await seen("moved"), [`UPDATE ${row("storage.object.move")}`]);
  });

  it("leaves no bytes if a trigger refuses it", async () => {
    const before = await onDisk(bucket.name);
    const names = ["a", "b"].map((name) => `${alice.id}/${name}-refused-late 42501`);
    assert.equal((await post(encodeURI(names[0]!), "refused")).status, 400);
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
    const asked = await ask(`/storage/v1/object/${bucket.name}/${encodeURI(names[0]!)}`, { key: secret });
    assert.equal(asked.body.statusCode, "404");
  });

  it("is tested as the user before the first byte, with what is known then", async () => {
    const early = `${alice.id}/refused-early 42501`;
    const refused = await post(encodeURI(early), "123");
    assert.equal(refused.status, 400);
    assert.deepEqual(refused.body, {
      statusCode: "403",
      error: "Unauthorized",
      message: "INSERT authenticated storage.object.upload image/png 3",
    });
    const signing = await from().createSignedUploadUrl(early);
    assert.equal(
      signing.error!.message,
      "INSERT authenticated storage.object.sign_upload_url application/json 2",
    );
    const { data } = await from().createSignedUploadUrl(`${alice.id}/refused-late 42501`);
    const late = await from().uploadToSignedUrl(`${alice.id}/refused-late 42501`, data!.token, png("1"));
    assert.equal(
      late.error!.message,
      "INSERT service_role storage.object.upload_signed image/png 1 1",
    );
  });

  it("is refused with the status of the code that a trigger raises: 403, 409, or 500 for any other", async () => {
    for (const time of ["early", "late"]) {
      const raise = (code: string) => post(encodeURI(`${alice.id}/refused-${time} ${code}`), "123");
      const forbidden = await raise("42501");
      assert.deepEqual([forbidden.status, forbidden.body.statusCode], [400, "403"]);
      assert.match(forbidden.body.message, /^INSERT (authenticated|service_role) storage/);
      const taken = await raise("23505");
      assert.equal(taken.status, 400);
      assert.deepEqual(taken.body, {
        statusCode: "409",
        error: "Duplicate",
        message: "The resource already exists",
      });
      for (const code of ["PT403", "P0001"]) {
        const broken = await raise(code);
        assert.deepEqual(
          [broken.status, broken.body.statusCode, broken.body.message],
          [500, "500", `database error, code: ${code}`],
        );
      }
    }
  });

  it("of a resumable upload is tested at each request and written at the last, and a refusal is a 403", async () => {
    const pair = (key: string, value: string) => `${key} ${btoa(value)}`;
    const tus = (path: string, method: string, headers: Record<string, string>, body?: BodyInit) =>
      ask(path, {
        ...{ method, key: publishable, token: alice.token, body },
        headers: { "tus-resumable": "1.0.0", ...headers },
      });
    const create = (name: string) => {
      const metadata = { bucketName: bucket.name, objectName: `${alice.id}/${name}`, contentType: "image/png" };
      const pairs = Object.entries(metadata).map(([key, value]) => pair(key, value)).join(",");
      return tus("/storage/v1/upload/resumable", "POST", { "upload-length": "3", "upload-metadata": pairs });
    };
    const append = (location: string) =>
      tus(new URL(location).pathname, "PATCH", {
        ...{ "content-type": "application/offset+octet-stream", "upload-offset": "0" },
      }, "123");
    const early = await create("tus refused-early 42501");
    assert.deepEqual(
      [early.status, early.body],
      [403, "INSERT authenticated storage.tus.upload.create image/png 3"],
    );
    const begun = await create("tus refused-late 42501");
    const late = await append(begun.headers.get("location")!);
    assert.deepEqual(
      [late.status, late.body],
      [403, "INSERT service_role storage.tus.upload.part image/png 3 3"],
    );
    const fine = await create("tus");
    assert.equal((await append(fine.headers.get("location")!)).status, 204);
    assert.deepEqual(await seen("tus"), [
      `INSERT service_role storage.tus.upload.part ${alice.id} image/png 3 3`,
    ]);
  });
});
