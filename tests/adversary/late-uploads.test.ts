// Uploads that begin while they are allowed and finish when they are not: refused, without a row and without bytes.

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { after, afterEach, test } from "node:test";
import { filesBelow } from "../journeys/canary/search.ts";
import { Person } from "../journeys/person.ts";
import { small } from "../journeys/photos.ts";
import { cleanUp, database, disarm } from "../journeys/stack.ts";
import { passTime } from "../lab/time.ts";
import { until } from "../waiting.ts";
import { type Finished, type Upload, nameOf, signedPut, slowPost, tusUpload } from "./uploads.ts";

afterEach(async () => {
  await disarm();
  // The sweep opens the intake again.
  await cleanUp();
});
after(() => database.end());

/** Inserts the row as Storage does at the end of every upload: with its own role, for the owner. */
async function insertAsStorage(person: Person, name: string, bytes: Buffer): Promise<void> {
  const metadata = { size: bytes.length, contentLength: bytes.length, mimetype: "image/jpeg", eTag: '"x"', cacheControl: "no-cache", httpStatusCode: 200 };
  await database.begin(async (sql) => {
    await sql`set local role service_role`;
    await sql`
      insert into storage.objects (bucket_id, name, owner, owner_id, version, metadata)
      values ('inputs', ${name}, ${person.id}, ${person.id}, gen_random_uuid()::text, ${sql.json(metadata)})
      on conflict (bucket_id, name) do update set version = excluded.version, metadata = excluded.metadata`;
  });
}

/** Storage's response for each SQLSTATE: a refusal, or a name that exists. */
const asAnswered: Record<string, Finished> = { "42501": { status: 400, statusCode: "403" }, "23505": { status: 400, statusCode: "409" } };

const ways: Record<string, (person: Person, name: string, bytes: Buffer) => Promise<Upload>> = {
  "a slow upload": slowPost,
  "a resumable upload": tusUpload,
  "a PUT to a signed upload URL": signedPut,
  async "an insert by Storage"(person, name, bytes) {
    return {
      finish: () =>
        insertAsStorage(person, name, bytes).then(
          () => ({ status: 200 }),
          (error: { code: string; message: string }) => asAnswered[error.code] ?? { status: 500, statusCode: `${error.code} ${error.message}` },
        ),
    };
  },
};

interface Situation {
  /** The change between the beginning and the end of the upload. */
  happens(person: Person, name: string): Promise<unknown>;
  refusedWith: string;
  /** The number of objects that stay, if not 0. */
  keeps?: number;
}

async function generated(person: Person, name: string): Promise<void> {
  const { error } = await person.client.storage.from("inputs").upload(name, await small, { contentType: "image/jpeg" });
  assert.equal(error, null);
  const answer = await person.submit({ style: "mosaic", input_path: name });
  assert.equal(answer.status, 201, await answer.clone().text());
  await person.ended(((await answer.json()) as { id: string }).id);
  await person.forgotten();
}

const situations: Record<string, Situation> = {
  "the intake closes": { happens: () => passTime(26 * 3600, "silent"), refusedWith: "403" },
  "its owner refuses generation": {
    async happens({ client }) {
      assert.equal((await client.from("privacy_choices").insert({ purpose: "generation", allowed: false })).error, null);
    },
    refusedWith: "403",
  },
  "its owner orders the erasure of the account": {
    async happens(person) {
      assert.equal((await person.call("POST", "/privacy/erasures", { email: person.email })).status, 202);
    },
    refusedWith: "403",
  },
  "a photo of that name is processed": { happens: generated, refusedWith: "409" },
  "a photo of that name arrives": {
    async happens({ client }, name) {
      assert.equal((await client.storage.from("inputs").upload(name, await small, { contentType: "image/jpeg" })).error, null);
    },
    refusedWith: "409",
    keeps: 1,
  },
  "a photo of that name is deleted": {
    async happens(person, name) {
      await database`insert into public.deletions (bucket, path, reason, person_id) values ('inputs', ${name}, 'orphaned', ${person.id})`;
      await cleanUp();
      await person.forgotten();
    },
    refusedWith: "409",
  },
};

async function left(person: Person): Promise<{ rows: number; files: number }> {
  const rows = await database`select from storage.objects where bucket_id = 'inputs' and starts_with(name, ${`${person.id}/`})`;
  const folder = join(process.env.STACK_STATE!, "storage", "inputs", person.id);
  return { rows: rows.length, files: existsSync(folder) ? filesBelow(folder).length : 0 };
}

for (const [situation, { happens, refusedWith, keeps = 0 }] of Object.entries(situations)) {
  for (const [way, begin] of Object.entries(ways)) {
    test(`${way} is refused with ${refusedWith} and leaves nothing if ${situation} before it finishes`, async () => {
      const mallory = await Person.signUp("mallory");
      const name = nameOf(mallory);
      const upload = await begin(mallory, name, await small);
      await happens(mallory, name);
      const { status, statusCode } = await upload.finish();
      assert.deepEqual(await left(mallory), { rows: keeps, files: keeps }, `the status was ${status}`);
      assert.equal(statusCode ?? String(status), refusedWith);
    });
  }
}

test("a slow upload is accepted if it stays allowed until it finishes", async () => {
  for (const begin of [slowPost, tusUpload]) {
    const alice = await Person.signUp("alice");
    const { status } = await (await begin(alice, nameOf(alice), await small)).finish();
    assert.ok(status < 300, String(status));
    assert.deepEqual(await left(alice), { rows: 1, files: 1 });
  }
});

test("a photo that is too large or of another type is refused when its upload finishes", async () => {
  const mallory = await Person.signUp("mallory");
  const insert = (metadata: object, name = nameOf(mallory)) => database.begin(async (sql) => {
    await sql`set local role service_role`;
    await sql`insert into storage.objects (bucket_id, name, owner_id, version, metadata) values ('inputs', ${name}, ${mallory.id}, '1', ${sql.json(metadata as never)})`;
  });
  for (const metadata of [
    { size: 25 * 1024 * 1024 + 1, mimetype: "image/jpeg" },
    { size: 1000, mimetype: "text/html" },
    { size: 1000, mimetype: "binary/octet-stream" },
    { size: 1000 },
  ]) {
    await assert.rejects(insert(metadata), { code: "42501" }, JSON.stringify(metadata));
  }
  const outside = `${mallory.id}/holiday.jpg`;
  await assert.rejects(insert({ size: 1000, mimetype: "image/jpeg" }, outside), { code: "42501" });
  assert.deepEqual(await left(mallory), { rows: 0, files: 0 });
});

for (const [way, begin] of Object.entries(ways)) {
  test(`an erasure takes at most a minute during ${way}, and the upload leaves nothing when it ends`, async () => {
    const mallory = await Person.signUp("mallory");
    const upload = await begin(mallory, nameOf(mallory), await small);
    assert.equal((await mallory.call("POST", "/privacy/erasures", { email: mallory.email })).status, 202);
    let minutes = 0;
    await until("the account to be erased", async () => {
      await cleanUp();
      const [user] = await database`select id from auth.users where id = ${mallory.id}`;
      if (!user) return true;
      assert.ok((minutes += 1) <= 1, "the erasure takes longer than a minute");
      await passTime(60);
      return undefined;
    });
    await upload.finish();
    assert.deepEqual(await left(mallory), { rows: 0, files: 0 });
  });
}
