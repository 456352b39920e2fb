// Texts that no column can store, and texts in place of numbers: each gets a clear 4xx, and no log contains them.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { after, test } from "node:test";
import { contentsBelow } from "../journeys/canary/search.ts";
import { Person } from "../journeys/person.ts";
import { small } from "../journeys/photos.ts";
import { database } from "../journeys/stack.ts";
import { publishable } from "./owner.ts";
import { nameOf } from "./uploads.ts";

after(() => database.end());

/** A placeholder for the invalid text until the request is sent, because JSON.stringify would repair it. */
const BAD = "BADTEXT";
const texts: Record<string, { json: string; url: string }> = {
  NUL: { json: "a\\u0000b", url: "a%00b" },
  "a lone surrogate": { json: "a\\ud800b", url: "a%ED%A0%80b" },
};

interface Call {
  method: string;
  /** A path below SUPABASE_URL, or a full URL. */
  path: string;
  body?: object;
  headers?: Record<string, string>;
}

async function send({ method, path, body, headers = {} }: Call, token: string, bad: { json: string; url: string }): Promise<{ status: number; text: string }> {
  const response = await fetch(`${path.startsWith("http") ? "" : process.env.SUPABASE_URL}${path.replaceAll(BAD, bad.url)}`, {
    method,
    headers: { apikey: publishable, authorization: `Bearer ${token}`, "content-type": "application/json", ...headers },
    body: body && JSON.stringify(body).replaceAll(BAD, bad.json),
  });
  return { status: response.status, text: await response.text() };
}

const post = (path: string, body: object, headers?: Record<string, string>): Call => ({ method: "POST", path, body, headers });
const patch = (path: string, body: object): Call => ({ method: "PATCH", path, body });
const get = (path: string): Call => ({ method: "GET", path });

function functionsCalls(path: string): Call[] {
  const base = process.env.FUNCTIONS_URL!;
  const good = { style: "mosaic", input_path: path };
  const key = () => ({ "idempotency-key": randomUUID() });
  return [
    ...[{ style: BAD }, { input_path: BAD }, { prompt: BAD }, { model: BAD }, { settings: { seed: BAD } }, { settings: { [BAD]: 1 } }, { [BAD]: 1 }]
      .map((change) => post(`${base}/generations`, { ...good, ...change }, key())),
    post(`${base}/privacy/erasures`, { email: BAD }),
    post(`${base}/privacy/requests/${randomUUID()}/confirm`, { token: BAD, kind: "export" }),
    post(`${base}/privacy/requests/${randomUUID()}/confirm`, { token: "x", kind: BAD }),
    post(`${base}/generations/${BAD}/cancel`, {}),
    get(`${base}/privacy/erasures/${BAD}`),
  ];
}

function dataCalls(id: string, path: string): Call[] {
  const begin = { style: "mosaic", input_path: path, idempotency_key: randomUUID(), lease: randomUUID() };
  return [
    ...[{ username: BAD }, { default_style: BAD }, { default_settings: { seed: BAD } }, { default_settings: { [BAD]: 1 } }]
      .map((change) => patch(`/rest/v1/profiles?id=eq.${id}`, change)),
    post("/rest/v1/privacy_choices", { purpose: BAD, allowed: false }),
    post("/rest/v1/privacy_requests", { kind: BAD }),
    post("/rest/v1/privacy_requests", { kind: "access", message: BAD }),
    post("/rest/v1/policy_consents", { version: BAD }),
    ...[{ feature: BAD }, { browser: BAD }, { image_formats: [BAD] }, { browser_version: BAD }]
      .map((change) => post("/rest/v1/usage_events", { feature: "opened", ...change })),
    post("/rest/v1/usage_events", [{ feature: "opened" }, { feature: BAD }]),
    ...[{ style: BAD }, { input_path: BAD }, { idempotency_key: BAD }, { model: BAD }, { prompt: BAD }, { settings: { seed: BAD } }, { settings: { [BAD]: 1 } }]
      .map((change) => post("/rest/v1/rpc/begin_generation", { ...begin, ...change })),
    post("/rest/v1/rpc/confirm_request", { id: randomUUID(), kind: BAD }),
    post("/rest/v1/rpc/erase_account", { email: BAD }),
    get(`/rest/v1/generations?id=eq.${BAD}`),
    get(`/rest/v1/generations?prompt=eq.${BAD}`),
    get(`/rest/v1/generations?prompt=in.(${BAD})`),
    get(`/rest/v1/profiles?username=like.*${BAD}*`),
  ];
}

function storageCalls(id: string): Call[] {
  const name = `${id}/${BAD}.jpg`;
  return [
    post("/storage/v1/object/list/inputs", { prefix: BAD }),
    post("/storage/v1/object/list/inputs", { prefix: id, search: BAD }),
    post("/storage/v1/object/list-v2/inputs", { prefix: BAD }),
    post(`/storage/v1/object/sign/inputs/${name}`, { expiresIn: 60 }),
    post("/storage/v1/object/sign/inputs", { expiresIn: 60, paths: [name] }),
    post(`/storage/v1/object/upload/sign/inputs/${name}`, {}),
    post("/storage/v1/object/move", { bucketId: "inputs", sourceKey: name, destinationKey: name }),
    post("/storage/v1/object/copy", { bucketId: "inputs", sourceKey: name, destinationKey: name }),
    post(`/storage/v1/object/inputs/${name}`, {}, { "content-type": "image/jpeg" }),
    { method: "DELETE", path: "/storage/v1/object/inputs", body: { prefixes: [name] } },
    get(`/storage/v1/object/authenticated/inputs/${name}`),
    get(`/storage/v1/object/info/inputs/${name}`),
  ];
}

const authCalls: Call[] = [
  post("/auth/v1/signup", { email: `${BAD}@example.com`, password: randomUUID() }),
  post("/auth/v1/signup", { email: `${randomUUID()}@example.com`, password: randomUUID(), data: { policy_version: BAD } }),
  post("/auth/v1/signup", { email: `${randomUUID()}@example.com`, password: randomUUID(), data: { name: BAD } }),
  post("/auth/v1/token?grant_type=password", { email: `${BAD}@example.com`, password: "x" }),
  { method: "PUT", path: "/auth/v1/user", body: { data: { name: BAD } } },
];

for (const [what, bad] of Object.entries(texts)) {
  for (const [where, calls] of Object.entries({
    "the functions": (_: Person, path: string) => functionsCalls(path),
    "the Data API": ({ id }: Person, path: string) => dataCalls(id, path),
    Storage: ({ id }: Person) => storageCalls(id),
    Auth: () => authCalls,
  })) {
    test(`${where} refuses every text that contains ${what} with a 4xx status`, async () => {
      const mallory = await Person.signUp("mallory");
      const wrong: string[] = [];
      for (const call of calls(mallory, await mallory.upload(await small))) {
        const { status, text } = await send(call, mallory.token, bad);
        if (status < 400 || status > 499 || text === "") wrong.push(`${status} ${call.method} ${call.path.replace(/^https?:..[^/]*/, "")} ${JSON.stringify(call.body)}`);
      }
      assert.deepEqual(wrong, []);
    });
  }
}

test("the database refuses an invalid idempotency key with a code that names it", async () => {
  const mallory = await Person.signUp("mallory");
  const input_path = await mallory.upload(await small);
  for (const idempotency_key of ["a b", "", " ", "k".repeat(256), "käse", "a\tb", "a\nb"]) {
    const { status, error } = await mallory.client.rpc("begin_generation", { style: "mosaic", input_path, idempotency_key, lease: randomUUID() });
    assert.deepEqual([status, error?.hint], [422, "invalid_idempotency_key"], JSON.stringify(idempotency_key));
  }
  assert.deepEqual(await mallory.wallet(), { balance: 5, held: 0 });
});

test("no log of the stack contains texts that were sent where they do not belong", async () => {
  const mallory = await Person.signUp("mallory");
  const canary = `canary${randomUUID().replaceAll(/[^a-f]/g, "")}x`;
  const places: string[] = [];
  /** A text that names the place to which it is sent. */
  const planted = (place: string, shape = (text: string) => text) => {
    places.push(place);
    return shape(`${canary}at${place}`);
  };
  const begin = { style: "mosaic", input_path: nameOf(mallory), idempotency_key: randomUUID(), lease: randomUUID() };
  const calls: Call[] = [
    ...["browser_version", "viewport_width", "pixel_ratio", "image_formats", "person_id", "feature", "browser"]
      .map((column) => post("/rest/v1/usage_events", { feature: "opened", [column]: planted(column.replace("_", ""), (text) => text.toUpperCase()) })),
    // One column is invalid, and PostgreSQL would quote the whole row.
    post("/rest/v1/usage_events", { feature: planted("failingrow"), viewport_width: 99_999 }),
    post("/rest/v1/privacy_requests", { kind: "access", message: planted("longmessage").padEnd(5000, "x") }),
    post("/rest/v1/privacy_choices", { purpose: "notices", allowed: planted("allowed") }),
    post("/rest/v1/policy_consents", { version: planted("version") }),
    patch(`/rest/v1/profiles?id=eq.${mallory.id}`, { username: planted("username", (text) => `${text} !`) }),
    patch(`/rest/v1/profiles?id=eq.${mallory.id}`, { default_style: planted("defaultstyle") }),
    patch(`/rest/v1/profiles?id=eq.${mallory.id}`, { default_settings: planted("defaultsettings") }),
    patch(`/rest/v1/profiles?id=eq.${mallory.id}`, { default_settings: { [planted("settingname")]: planted("settingvalue") } }),
    get(`/rest/v1/generations?id=eq.${planted("filteredid")}`),
    get(`/rest/v1/generations?reserved_at=gt.${planted("filteredtime")}`),
    get(`/rest/v1/generations?prompt=match.(${planted("pattern")}`),
    get(`/rest/v1/generations?settings->>x=eq.1&credits=eq.${planted("filterednumber")}`),
    get(`/rest/v1/generations?select=${planted("selected")}`),
    post("/rest/v1/rpc/begin_generation", { ...begin, idempotency_key: planted("key", (text) => `${text} with a space`) }),
    post("/rest/v1/rpc/begin_generation", { ...begin, lease: planted("lease") }),
    post("/rest/v1/rpc/begin_generation", { ...begin, settings: planted("settings") }),
    post("/rest/v1/rpc/begin_generation", { ...begin, settings: { seed: planted("seed") } }),
    post("/rest/v1/rpc/begin_generation", { ...begin, prompt: planted("prompt").padEnd(1200, "x") }),
    post("/rest/v1/rpc/cancel_generation", { generation_id: planted("canceledid") }),
    post("/rest/v1/rpc/confirm_request", { id: planted("confirmedid"), kind: planted("kind") }),
    post("/storage/v1/object/list/inputs", { prefix: planted("prefix"), sortBy: { column: planted("sortedby"), order: "asc" } }),
    post(`/storage/v1/object/inputs/${mallory.id}/${planted("objectname")}.jpg`, {}, { "content-type": "image/jpeg" }),
    post("/auth/v1/signup", { email: planted("email"), password: randomUUID() }),
  ];
  const accepted: string[] = [];
  for (const call of calls) {
    const { status } = await send(call, mallory.token, texts.NUL!);
    if (status >= 500) accepted.push(`${status} ${call.path}`);
  }
  const logs = contentsBelow(join(process.env.STACK_STATE!, "logs"));
  assert.ok(logs.length >= 4);
  const found = places.flatMap((place) =>
    logs.filter(([, content]) => content.toString().toLowerCase().includes(`${canary}at${place}`)).map(([name]) => `${place} in ${name.split("/").at(-1)}`));
  assert.deepEqual(found, []);
  assert.deepEqual(accepted, []);
});
