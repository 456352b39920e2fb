// Text that PostgreSQL cannot store is a mistake of the client: every API answers 4xx, and never 500.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, it } from "node:test";
import { type Person, ask, makeBucket, publishable, secret, service, signUp } from "./project.ts";

const bad = { NUL: "a\\u0000", "half of a surrogate pair": "\\ud800b" };

describe("text that PostgreSQL cannot store", () => {
  let bucket: Awaited<ReturnType<typeof makeBucket>>;
  let alice: Person;
  before(async () => {
    bucket = await makeBucket();
    alice = await signUp("alice");
  });
  after(() => bucket.drop());

  type Asking = Parameters<typeof ask>[1];
  const asAlice = () => ({ key: publishable, token: alice.token });

  /** The bodies in JSON. TEXT is the placeholder for the invalid text. */
  const bodies = (): [method: string, path: string, body: string, as?: Asking][] => {
    const at = `"bucketId":"${bucket.name}"`;
    const storage = "/storage/v1/object";
    const person = { key: publishable };
    const key = { key: secret };
    return [
      ["POST", `${storage}/list/${bucket.name}`, '{"prefix":"TEXT"}'],
      ["POST", `${storage}/list/${bucket.name}`, '{"prefix":"","search":"TEXT"}'],
      ["POST", `${storage}/list-v2/${bucket.name}`, '{"prefix":"TEXT"}'],
      ["POST", `${storage}/sign/${bucket.name}`, '{"expiresIn":60,"paths":["TEXT"]}'],
      ["DELETE", `${storage}/${bucket.name}`, '{"prefixes":["TEXT"]}'],
      ["POST", `${storage}/move`, `{${at},"sourceKey":"TEXT","destinationKey":"a"}`],
      ["POST", `${storage}/copy`, `{${at},"sourceKey":"a","destinationKey":"TEXT"}`],
      ["POST", `${storage}/copy`, '{"bucketId":"TEXT","sourceKey":"a","destinationKey":"b"}'],
      ["POST", "/storage/v1/bucket", '{"name":"TEXT"}', key],
      ["POST", "/auth/v1/signup", '{"email":"TEXT@example.com","password":"12345678"}', person],
      ["POST", "/auth/v1/signup", '{"email":"a@example.com","password":"1234567TEXT"}', person],
      ["POST", "/auth/v1/signup", `{"email":"${randomUUID()}@example.com","password":"12345678","data":{"TEXT":1}}`, person],
      ["POST", "/auth/v1/token?grant_type=password", '{"email":"TEXT","password":"x"}', person],
      ["POST", "/auth/v1/token?grant_type=refresh_token", '{"refresh_token":"TEXT"}', person],
      ["PUT", "/auth/v1/user", '{"data":{"name":"TEXT"}}'],
      ["PUT", `/auth/v1/admin/users/${alice.id}`, '{"user_metadata":{"name":"TEXT"}}', key],
      ["PUT", `/auth/v1/admin/users/${alice.id}`, '{"app_metadata":{"name":["TEXT"]}}', key],
      ["POST", "/auth/v1/admin/users", '{"email":"TEXT@example.com"}', key],
      ["POST", "/rest/v1/profiles", '{"id":"TEXT"}'],
      ["PATCH", `/rest/v1/profiles?id=eq.${alice.id}`, '{"id":"TEXT"}'],
      ["PATCH", `/rest/v1/profiles?id=eq.${alice.id}`, '{"TEXT":1}'],
      ["POST", "/rest/v1/rpc/cancel_generation", '{"generation_id":"TEXT"}'],
      ["POST", "/rest/v1/rpc/cancel_generation", '{"TEXT":1}'],
    ];
  };

  for (const [what, text] of Object.entries(bad)) {
    it(`is refused in a body: ${what}`, async () => {
      for (const [method, path, body, as] of bodies()) {
        const sent = { "content-type": "application/json" };
        const written = body.replaceAll("TEXT", text);
        const { status } = await ask(path, { method, body: written, headers: sent, ...(as ?? asAlice()) });
        assert.ok(status >= 400 && status < 500, `${method} ${path} ${body}: ${status}`);
      }
    });
  }

  it("is refused in a URL", async () => {
    const { name } = bucket;
    for (const text of ["a%00", "%ED%A0%80", "%FF"]) {
      for (const [method, path, more] of [
        ["GET", `/storage/v1/object/${name}/TEXT`],
        ["GET", `/storage/v1/object/info/${name}/TEXT`],
        ["GET", `/storage/v1/object/public/${name}/TEXT`],
        ["GET", "/storage/v1/object/TEXT/a"],
        ["GET", "/storage/v1/bucket/TEXT"],
        ["POST", `/storage/v1/object/${name}/${alice.id}/TEXT`, { body: "x" }],
        ["POST", `/storage/v1/object/upload/sign/${name}/${alice.id}/TEXT`],
        ["POST", `/storage/v1/object/sign/${name}/TEXT`, { body: { expiresIn: 60 } }],
        ["DELETE", `/storage/v1/object/${name}/TEXT`],
        ["GET", "/rest/v1/profiles?id=eq.TEXT"],
        ["GET", "/rest/v1/generations?error_message=eq.TEXT"],
        ["GET", "/rest/v1/generations?TEXT=eq.a"],
        ["GET", "/rest/v1/generations?select=TEXT"],
        ["GET", "/rest/v1/TEXT"],
        ["POST", "/rest/v1/rpc/TEXT"],
        ["GET", "/auth/v1/admin/users/TEXT", { key: secret, token: undefined }],
        ["GET", "/auth/v1/admin/users?page=TEXT", { key: secret, token: undefined }],
      ] as [string, string, Asking?][]) {
        const { status } = await ask(path.replace("TEXT", text), { method, ...asAlice(), ...more });
        assert.ok(status >= 400 && status < 500, `${method} ${path} ${text}: ${status}`);
      }
    }
  });

  it("is refused in the metadata of an upload", async () => {
    const metadata = (text: string) => ({ "x-metadata": btoa(`{"a":"${text}"}`), "content-type": "text/plain" });
    const path = `/storage/v1/object/${bucket.name}/${alice.id}/said`;
    const said = await ask(path, { method: "POST", body: "x", headers: metadata(bad.NUL), ...asAlice() });
    assert.deepEqual([said.status, said.body.statusCode], [400, "400"]);
    for (const [name, text] of [["objectName", "\0"], ["bucketName", "\0"], ["metadata", '{"a":"\\u0000"}']]) {
      const pairs = { bucketName: bucket.name, objectName: `${alice.id}/tus`, [name!]: text! };
      const header = Object.entries(pairs).map(([key, value]) => `${key} ${btoa(value)}`).join(",");
      const { status } = await ask("/storage/v1/upload/resumable", {
        ...{ method: "POST", ...asAlice() },
        headers: { "tus-resumable": "1.0.0", "upload-length": "1", "upload-metadata": header },
      });
      assert.ok(status >= 400 && status < 500, `${name}: ${status}`);
    }
  });

  it("is not confused with valid text that looks similar: an emoji, a backslash, a percent sign", async () => {
    const { data } = await alice.client.auth.updateUser({ data: { name: "😀 \\u0000 100%" } });
    assert.equal(data.user!.user_metadata.name, "😀 \\u0000 100%");
    const body = '{"prefix":"\\ud83d\\ude00"}';
    const listed = await ask(`/storage/v1/object/list/${bucket.name}`, { method: "POST", body, ...asAlice() });
    assert.equal(listed.status, 200);
    const filtered = await service.from("generations").select("id").like("error_message", "100%");
    assert.notEqual(filtered.error?.code, "22021");
  });
});
