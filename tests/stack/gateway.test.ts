import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { ask, makeBucket, publishable, secret, service, signUp } from "./project.ts";

const log = () => readFileSync(join(process.env.STACK_STATE!, "logs", "gateway.log"), "utf8");

describe("the gateway", () => {
  it("answers the preflight requests of browsers on each path", async () => {
    for (const path of [
      "/rest/v1/styles",
      "/auth/v1/user",
      "/storage/v1/object/inputs/a",
    ]) {
      const asked = await ask(path, {
        method: "OPTIONS",
        headers: {
          origin: "https://example.com",
          "access-control-request-headers": "authorization, apikey",
        },
      });
      assert.equal(asked.status, 204, path);
      assert.equal(asked.headers.get("access-control-allow-origin"), "*", path);
      assert.equal(
        asked.headers.get("access-control-allow-headers"),
        "authorization, apikey",
        path,
      );
      const answered = await ask(path, { key: publishable });
      assert.equal(answered.headers.get("access-control-allow-origin"), "*", path);
      assert.match(
        answered.headers.get("access-control-expose-headers")!,
        /content-range.*retry-after/,
        path,
      );
    }
  });

  it("answers 404 for an unknown path", async () => {
    for (const path of ["/", "/_system/config", "/_system/info", "/nothing"]) {
      assert.equal((await ask(path, { key: secret })).status, 404, path);
    }
    assert.equal((await ask("/storage/v1/nothing", { key: secret })).status, 404);
  });

  it("logs no query, no object name, no key and no token", async () => {
    const { name, drop } = await makeBucket();
    const alice = await signUp("alice");
    const path = `${alice.id}/me-at-the-beach.png`;
    await alice.client.storage.from(name).upload(path, new Blob(["x"]));
    const { data } = await alice.client.storage.from(name).createSignedUrl(path, 60);
    await fetch(data!.signedUrl);
    await alice.client.from("profiles").select().eq("id", alice.id);
    await service.storage.from(name).remove([path]);
    await drop();
    const written = log();
    const token = new URL(data!.signedUrl).searchParams.get("token")!;
    for (const hidden of [
      alice.id,
      alice.email,
      "beach",
      token,
      alice.token,
      publishable,
      secret,
      "?",
    ]) {
      assert.equal(written.includes(hidden), false, hidden);
    }
    assert.match(written, /GET \/storage\/v1\/object 200 \d+ms/);
  });
});
