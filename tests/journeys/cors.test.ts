// Web pages call the functions from another address, as browsers let them (the Fetch standard).

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { freePort } from "../waiting.ts";
import { Functions, startFunctions } from "../lab/functions.ts";
import { database } from "./stack.ts";

const app = "https://app.example";
let functions: Functions;
before(async () => {
  functions = await startFunctions({ APP_ORIGINS: `${app} http://localhost:3000`, CLEANUP_INTERVAL_SECONDS: "0" }, await freePort());
});
after(async () => {
  await functions?.stop();
  await database.end();
});

const header = (response: Response, name: string) => response.headers.get(`access-control-${name}`)?.toLowerCase().replaceAll(" ", "");

function preflight(address: string, origin: string): Promise<Response> {
  const asked = { "access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type,idempotency-key" };
  return fetch(`${address}/generations`, { method: "OPTIONS", headers: { origin, ...asked } });
}

test("a page of the app may call the functions, and may read what it needs of the response", async () => {
  const allowed = await preflight(functions.url, app);
  assert.ok(allowed.ok, `${allowed.status}`);
  assert.equal(header(allowed, "allow-origin"), app);
  assert.equal(header(allowed, "allow-headers"), "authorization,content-type,idempotency-key");
  assert.equal(header(allowed, "allow-methods"), "get,post,delete");
  assert.equal(header(allowed, "max-age"), "3600");
  // Errors, too: otherwise a page would see "failed to fetch" instead of the reason.
  const refused = await fetch(`${functions.url}/generations`, { method: "POST", headers: { origin: app, "content-type": "application/json" }, body: "{}" });
  assert.equal(refused.status, 401);
  assert.equal(header(refused, "allow-origin"), app);
  assert.equal(header(refused, "expose-headers"), "location,retry-after,x-request-id");
  assert.match(refused.headers.get("vary")!, /origin/i);
});

test("a page of another site may not read a response, except of the calls that are open to all", async () => {
  assert.equal(header(await preflight(functions.url, "https://elsewhere.example"), "allow-origin"), undefined);
  for (const path of ["/generations", "/privacy/exports", "/status"]) {
    const answer = await fetch(`${functions.url}${path}`, { headers: { origin: "https://elsewhere.example" } });
    assert.equal(header(answer, "allow-origin"), undefined, path);
  }
  for (const path of ["/privacy/status", "/privacy/badge.svg", `/privacy/mark?sha256=${"a".repeat(64)}`, "/.well-known/jwks.json"]) {
    const answer = await fetch(`${functions.url}${path}`, { headers: { origin: "https://elsewhere.example" } });
    assert.equal(header(answer, "allow-origin"), "*", path);
  }
});

test("the functions of the embedded stack may be called by every page, through its gateway, too", async () => {
  for (const address of [process.env.FUNCTIONS_URL!, `http://${process.env.FUNCTIONS_ADDRESS}`]) {
    const allowed = await preflight(address, "http://localhost:5173");
    assert.deepEqual([header(allowed, "allow-origin"), header(allowed, "allow-headers")], ["*", "authorization,content-type,idempotency-key"], address);
  }
});

test("a response of 401 says how to sign in, and one of 405 says which methods there are", async () => {
  const unknown = await fetch(`${functions.url}/generations`, { method: "POST", body: "{}" });
  assert.deepEqual([unknown.status, unknown.headers.get("www-authenticate")], [401, "Bearer"]);
  const wrong = await fetch(`${functions.url}/generations`, { method: "PUT", body: "{}" });
  assert.deepEqual([wrong.status, wrong.headers.get("allow")], [405, "POST"]);
});
