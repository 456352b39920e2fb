// Which requests the API refuses, and with which messages.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, test } from "node:test";
import { Person } from "./person.ts";
import { impostors, small } from "./photos.ts";
import { database } from "./stack.ts";

after(() => database.end());

interface Problem {
  type: string;
  title: string;
  status: number;
  detail: string;
  code: string;
  request_id: string;
  field?: string;
}

async function refused(response: Response, status: number, code: string): Promise<Problem> {
  const text = await response.text();
  assert.equal(response.status, status, text);
  assert.equal(response.headers.get("content-type"), "application/problem+json");
  const problem = JSON.parse(text) as Problem;
  assert.deepEqual([problem.status, problem.code], [status, code], text);
  assert.equal(problem.request_id, response.headers.get("x-request-id"));
  assert.ok(problem.title && problem.detail.length > 20);
  return problem;
}

test("the API tells callers who are not signed in to sign in", async () => {
  for (const authorization of ["", "Bearer ", "Bearer nonsense", `Bearer ${process.env.SUPABASE_PUBLISHABLE_KEY}`]) {
    const alice = await Person.signUp("alice");
    const call = (method: string, path: string, body?: unknown) =>
      alice.call(method, path, body, { authorization, "idempotency-key": randomUUID() });
    await refused(await call("POST", "/generations", { style: "mosaic", input_path: "x" }), 401, "not_signed_in");
    await refused(await call("POST", `/generations/${randomUUID()}/cancel`), 401, "not_signed_in");
    await refused(await call("DELETE", `/generations/${randomUUID()}`), 401, "not_signed_in");
  }
});

test("the API refuses a token after its session has ended", async () => {
  const alice = await Person.signUp("alice");
  const input_path = await alice.upload(await small);
  await alice.client.auth.signOut();
  await refused(await alice.submit({ style: "mosaic", input_path }), 401, "not_signed_in");
});

test("the API refuses files that are not photos with a message for each kind, and charges nothing", async () => {
  for (const [name, bytes, code] of await impostors()) {
    const alice = await Person.signUp("alice");
    const input_path = await alice.upload(bytes, "png", "image/png");
    const problem = await refused(await alice.submit({ style: "mosaic", input_path }), 422, code);
    assert.equal(problem.field, "input_path", name);
    assert.deepEqual(await alice.wallet(), { balance: 5, held: 0 }, name);
    await alice.forgotten();
    assert.deepEqual((await alice.client.storage.from("inputs").list(alice.id)).data, [], name);
  }
});

test("the API says what to change in a body that it cannot read", async () => {
  const alice = await Person.signUp("alice");
  const input_path = await alice.upload(await small);
  const good = { style: "mosaic", input_path };
  for (const [body, status, code, field] of [
    [{}, 422, "invalid_request", "body"],
    [{ ...good, colour: "red" }, 422, "invalid_request", "body"],
    [{ ...good, style: 7 }, 422, "invalid_request", "body"],
    [{ ...good, settings: [] }, 422, "invalid_request", "body"],
    [{ ...good, style: "crayon" }, 422, "unknown_style", "style"],
    [{ ...good, model: "kontext-ultra" }, 422, "unknown_model", "model"],
    [{ ...good, settings: { seed: -1 } }, 422, "invalid_settings", "settings.seed"],
    [{ ...good, settings: { seed: 1.5 } }, 422, "invalid_settings", "settings.seed"],
    [{ ...good, settings: { aspect_ratio: "7:3" } }, 422, "invalid_settings", "settings.aspect_ratio"],
    [{ ...good, settings: { safety_tolerance: 6 } }, 422, "invalid_settings", "settings.safety_tolerance"],
    [{ ...good, settings: { prompt_upsampling: "yes" } }, 422, "invalid_settings", "settings.prompt_upsampling"],
    [{ ...good, settings: { steps: 4 } }, 422, "invalid_settings", "settings"],
    [{ ...good, settings: { aspect_ratio: ["1:1"] } }, 422, "invalid_settings", "settings.aspect_ratio"],
    [{ ...good, settings: { aspect_ratio: [] } }, 422, "invalid_settings", "settings.aspect_ratio"],
    [{ ...good, prompt: "nul \u0000" }, 422, "invalid_request", "body"],
    [{ ...good, prompt: "a".repeat(1001) }, 422, "invalid_prompt", "prompt"],
    [{ ...good, input_path: "" }, 404, "input_not_found", "input_path"],
  ] as const) {
    const problem = await refused(await alice.submit(body), status, code);
    assert.equal(problem.field, field, JSON.stringify(body));
  }
  assert.deepEqual(await alice.wallet(), { balance: 5, held: 0 });
});

test("the API refuses a body over the limit, with or without a declared length", async () => {
  const alice = await Person.signUp("alice");
  await refused(await alice.submit({ prompt: "a".repeat(20_000) }), 413, "body_too_large");
  const stream = new ReadableStream({
    start(controller) {
      for (let i = 0; i < 20; i++) controller.enqueue(new TextEncoder().encode("a".repeat(1000)));
      controller.close();
    },
  });
  const response = await fetch(`${process.env.FUNCTIONS_URL}/generations`, {
    method: "POST",
    headers: { authorization: `Bearer ${alice.token}`, "idempotency-key": randomUUID() },
    body: stream,
    duplex: "half",
  } as RequestInit);
  await refused(response, 413, "body_too_large");
});

test("the API requires a valid idempotency key", async () => {
  const alice = await Person.signUp("alice");
  const body = { style: "mosaic", input_path: await alice.upload(await small) };
  for (const headers of [{}, { "idempotency-key": "" }, { "idempotency-key": "a b" }, { "idempotency-key": "a".repeat(256) }]) {
    const response = await alice.call("POST", "/generations", body, headers as Record<string, string>);
    const problem = await refused(response, 422, "invalid_request");
    assert.equal(problem.field, "Idempotency-Key");
  }
});

test("the API tells users with too few credits the price and their balance", async () => {
  const alice = await Person.signUp("alice");
  await database`insert into public.credit_entries (wallet_id, kind, amount, reason)
    select id, 'adjustment', -4, 'test' from public.wallets where person_id = ${alice.id}`;
  const input_path = await alice.upload(await small);
  const response = await alice.submit({ style: "mosaic", input_path, model: "kontext-max" });
  const problem = (await refused(response, 402, "insufficient_credits")) as Problem & Record<string, number>;
  assert.deepEqual([problem.price, problem.available], [2, 1]);
  assert.equal(problem.detail, "This costs 2 credits and you have 1.");
});

test("the API accepts a photo for one generation only", async () => {
  const alice = await Person.signUp("alice");
  const generation = await alice.generate(await small);
  const { input_path } = (await alice.generation(generation.id))!;
  const again = await alice.submit({ style: "mosaic", input_path });
  assert.ok([404, 409].includes(again.status), "in use, or already deleted");
  await alice.ended(generation.id);
});

test("the API answers unknown paths and methods with a problem document", async () => {
  const alice = await Person.signUp("alice");
  await refused(await alice.call("GET", "/nowhere"), 404, "no_such_route");
  await refused(await alice.call("PUT", "/generations"), 405, "method_not_allowed");
  await refused(await alice.call("DELETE", "/generations/not-an-id"), 404, "no_such_route");
  await refused(await alice.call("POST", "/cleanup"), 401, "not_operator");
});
