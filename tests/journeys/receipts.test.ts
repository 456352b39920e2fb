// Third-party libraries verify receipts as the documentation describes (X1).

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHmac } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { after, before, test } from "node:test";
import { Person } from "./person.ts";
import { small } from "./photos.ts";
import { database } from "./stack.ts";

interface Deletion {
  id: string;
  receipt: string;
  path: string;
  object_key: string;
  bucket: string;
  bytes: number;
  reason: string;
  ordered_at: string;
  deleted_at: string;
  verified_at: string;
}

const root = resolve(import.meta.dirname, "../..");
const folder = mkdtempSync(join(tmpdir(), "receipts-"));
const documentation = readFileSync(join(root, "docs/receipts.md"), "utf8");
const python = join(root, ".local/tools/bin/python");

before(async () => {
  for (const [name, language] of [["verify.mjs", "js"], ["verify.py", "python"]] as const) {
    const blocks = [...documentation.matchAll(new RegExp(`^\`\`\`${language}\n([^\`]+)^\`\`\``, "gm"))].map(([, code]) => code!);
    writeFileSync(join(folder, name), blocks.find((code) => code.includes(name))!);
  }
  mkdirSync(join(folder, "node_modules"));
  symlinkSync(join(root, "tests/node_modules/jose"), join(folder, "node_modules/jose"));
  const keys = await fetch(`${process.env.FUNCTIONS_URL}/.well-known/jwks.json`);
  assert.equal(keys.status, 200);
  writeFileSync(join(folder, "jwks.json"), await keys.text());
});

after(async () => {
  rmSync(folder, { recursive: true });
  await database.end();
});

const tools: Record<string, string[]> = { "jose, from npm": ["node", "verify.mjs"], "PyJWT, from PyPI": [python, "verify.py"] };

function verify(tool: string, receipt: string): Record<string, any> {
  writeFileSync(join(folder, "receipt.jws"), `${receipt}\n`);
  const [program, ...args] = tools[tool]!;
  const output = execFileSync(program!, [...args, "receipt.jws", "jwks.json"], { cwd: folder, encoding: "utf8", stdio: "pipe" });
  return JSON.parse(output);
}

/** Flips one bit in one part of a receipt. */
function flip(receipt: string, part: number): string {
  const parts = receipt.split(".");
  const bytes = Buffer.from(parts[part]!, "base64url");
  bytes[Math.floor(bytes.length / 2)]! ^= 1;
  parts[part] = bytes.toString("base64url");
  return parts.join(".");
}

async function receiptsOf(person: Person): Promise<Deletion[]> {
  const { data, error } = await person.client.from("deletions").select().order("ordered_at");
  if (error) throw error;
  return data as Deletion[];
}

/** A user whose photo was deleted after the success, and who then deleted the artwork. */
const alice = (async () => {
  const person = await Person.signUp("alice");
  const generation = await person.ended((await person.generate(await small)).id);
  await person.forgotten();
  await person.call("DELETE", `/generations/${generation.id}`);
  await person.forgotten();
  return person;
})();

for (const tool of Object.keys(tools)) {
  test(`a receipt verifies with ${tool}, and matches its row`, async () => {
    for (const row of await receiptsOf(await alice)) {
      const statement = verify(tool, row.receipt);
      const told = [statement.jti, statement.bucket, statement.reason, statement.object.bytes];
      assert.deepEqual(told, [row.id, row.bucket, row.reason, row.bytes]);
      for (const step of ["ordered_at", "deleted_at", "verified_at"] as const)
        assert.equal(Date.parse(statement[step]), Date.parse(row[step]), step);
      assert.equal(statement.iss, process.env.WEBHOOK_BASE_URL);
    }
  });

  test(`a receipt with one changed bit, wherever it is, fails to verify with ${tool}`, async () => {
    const [{ receipt }] = (await receiptsOf(await alice)) as [Deletion];
    assert.ok(verify(tool, receipt));
    for (const part of [0, 1, 2]) assert.throws(() => verify(tool, flip(receipt, part)), `part ${part}`);
  });
}

test("a photo and an artwork each have a receipt with the clause that required the deletion", async () => {
  const rows = await receiptsOf(await alice);
  const statements = rows.map(({ receipt }) => verify("jose, from npm", receipt));
  assert.deepEqual(statements.map(({ bucket, reason, rule }) => [bucket, reason, rule]), [
    ["inputs", "prepared", "R4"],
    ["inputs", "succeeded", "R2"],
    ["artworks", "asked_by_person", "R9"],
  ]);
  assert.ok(statements.every(({ object }) => object.bytes > 1000));
});

test("the object key proves which object a receipt is about; the receipt alone does not identify the user", async () => {
  const person = await alice;
  for (const { receipt, bucket, path, object_key } of await receiptsOf(person)) {
    const statement = verify("jose, from npm", receipt);
    const digest = createHmac("sha256", object_key).update(`${bucket}/${path}`).digest("hex");
    assert.equal(statement.object.hmac_sha256, digest);
    const text = JSON.stringify(statement);
    for (const personal of [person.id, path.split("/")[1]!.split(".")[0]!, object_key]) assert.ok(!text.includes(personal), personal);
  }
});

/** Computes the digest in both documented ways: with the shell commands and with the function for a web page. */
async function contentDigests(content: Buffer, objectKey: string): Promise<string[]> {
  const block = (language: string, word: string) =>
    [...documentation.matchAll(new RegExp(`^\`\`\`${language}\n([^\`]+)^\`\`\``, "gm"))].map(([, code]) => code!).find((code) => code.includes(word))!;
  writeFileSync(join(folder, "photo.jpg"), content);
  const shell = execFileSync("sh", ["-c", block("sh", "photo.jpg")], { cwd: folder, encoding: "utf8", env: { ...process.env, object_key: objectKey } });
  const contentDigest = new Function(`${block("js", "contentDigest")}; return contentDigest;`)() as (file: Blob, key: string) => Promise<string>;
  return [shell.trim().split(" ").at(-1)!, await contentDigest(new Blob([new Uint8Array(content)]), objectKey)];
}

test("a user who kept the photo can prove that the receipt is about its content, and no other (X1)", async () => {
  const [original, ...others] = await receiptsOf(await alice);
  const statement = verify("jose, from npm", original!.receipt);
  const photo = await small;
  for (const digest of await contentDigests(photo, original!.object_key)) assert.equal(digest, statement.object.content_hmac_sha256);
  const changed = Buffer.from(photo);
  changed[changed.length - 1]! ^= 1;
  for (const digest of await contentDigests(changed, original!.object_key)) assert.notEqual(digest, statement.object.content_hmac_sha256);
  // The receipts of the prepared copy and of the artwork have no digest, because no user uploaded them.
  for (const { receipt } of others) assert.equal(verify("jose, from npm", receipt).object.content_hmac_sha256, undefined);
  const [{ content_sha256 }] = await database`select content_sha256 from public.deletions where id = ${original!.id}`;
  assert.equal(content_sha256, null);
});

test("the receipt of a refused photo covers its content, too (X1)", async () => {
  const bob = await Person.signUp("bob");
  const content = Buffer.concat([await small, Buffer.from("and more")]).subarray(0, 300);
  const input_path = await bob.upload(content);
  assert.equal((await bob.submit({ style: "mosaic", input_path })).status, 422);
  await bob.forgotten();
  const row = (await receiptsOf(bob)).find(({ path }) => path === input_path);
  const [digest] = await contentDigests(content, row!.object_key);
  assert.equal(verify("jose, from npm", row!.receipt).object.content_hmac_sha256, digest);
});

test("only the owner can read a receipt, and no user can write one", async () => {
  const [bob, [row]] = [await Person.signUp("bob"), await receiptsOf(await alice)];
  assert.deepEqual(await receiptsOf(bob), []);
  for (const person of [bob, await alice]) {
    const { error } = await person.client.from("deletions").update({ receipt: "a.b.c" }).eq("id", row!.id);
    assert.equal(error?.code, "42501");
  }
});

test("a constraint requires a receipt for every verified deletion", async () => {
  const [{ count }] = await database`select count(*)::int as count from public.deletions where verified_at is not null`;
  assert.ok(count >= 2);
  await assert.rejects(database`update public.deletions set receipt = null where verified_at is not null`, /deletions_verified_has_receipt/);
});
