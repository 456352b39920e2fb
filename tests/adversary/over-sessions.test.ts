// Sessions that have ended. After a sign-out or a ban, an old token does not work, although it has not expired.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import type { Person } from "../journeys/person.ts";
import { small } from "../journeys/photos.ts";
import { database } from "../journeys/stack.ts";
import { lab } from "../faults/lab.ts";
import { claimsOf, sign } from "../journeys/tokens.ts";
import { ask, running, service, signIn, signUpAs } from "./owner.ts";
import { nameOf } from "./uploads.ts";

interface Owned {
  photo: string;
  artwork: string;
  running: string;
  finished: string;
}

/** A user who has one of each. */
async function newUser(): Promise<{ person: Person; owned: Owned }> {
  const person = await signUpAs(`alice.${randomUUID()}@example.com`);
  const { id, artwork_path } = await person.ended((await person.generate(await small)).id);
  const job = (await running(person))[0]!;
  await person.allow("analytics");
  await person.client.from("usage_events").insert({ feature: "opened" });
  return { person, owned: { photo: await person.upload(await small), artwork: artwork_path!, running: job.id, finished: id } };
}

const found = ({ status, body }: { status: number; body: unknown }) => status < 300 && (!Array.isArray(body) || body.length > 0);
const json = JSON.stringify;

/** Tries everything that a token allows. Returns what worked. Call it once, because what works has effects. */
async function reached({ id, email, token }: Person, owned: Owned): Promise<string[]> {
  const rest = (method: string, path: string, body?: object) =>
    ask(token, method, `/rest/v1/${path}`, body && json(body), { prefer: "return=representation" }).then(found);
  const storage = (method: string, path: string, body?: object) => ask(token, method, `/storage/v1/${path}`, body && json(body)).then(found);
  const begin = { style: "mosaic", input_path: owned.photo, idempotency_key: randomUUID(), lease: randomUUID() };
  const functions = (method: string, path: string, body?: object) =>
    fetch(`${process.env.FUNCTIONS_URL}${path}`, {
      method,
      headers: { authorization: `Bearer ${token}`, "content-type": "application/json", "idempotency-key": randomUUID() },
      body: body && json(body),
    }).then(async (response) => {
      const { code } = (await response.json().catch(() => ({}))) as { code?: string };
      return response.status !== 401 || code !== "not_signed_in";
    });
  const doors: Record<string, () => Promise<boolean>> = {};
  for (const table of ["profiles", "wallets", "generations", "credit_holds", "credit_entries", "deletions", "usage_events", "processing_log", "replicate_removals"])
    doors[`reads ${table}`] = () => rest("GET", table);
  Object.assign(doors, {
    "changes the profile": () => rest("PATCH", `profiles?id=eq.${id}`, { default_style: "mosaic" }),
    "marks a favourite": () => rest("PATCH", `generations?id=eq.${owned.finished}`, { favourite: true }),
    "records an event": () => rest("POST", "usage_events", { feature: "closed" }),
    "makes a choice": () => rest("POST", "privacy_choices", { purpose: "notices", allowed: false }),
    "files a request": () => rest("POST", "privacy_requests", { kind: "access" }),
    "lists photos": () => storage("POST", "object/list/inputs", { prefix: `${id}/` }),
    "downloads a photo": () => storage("GET", `object/authenticated/inputs/${owned.photo}`),
    "downloads an artwork": () => storage("GET", `object/authenticated/artworks/${owned.artwork}`),
    "signs a URL for an artwork": () => storage("POST", `object/sign/artworks/${owned.artwork}`, { expiresIn: 60 }),
    "uploads a photo": async () =>
      found(await ask(token, "POST", `/storage/v1/object/inputs/${nameOf({ id } as Person)}`, await small, { "content-type": "image/jpeg" })),
    "begins through the database": () => rest("POST", "rpc/begin_generation", begin),
    "reads a generation through the database": () => rest("POST", "rpc/read_generation", { generation_id: owned.running }),
    "reads a generation": () => functions("GET", `/generations/${owned.running}`),
    "cancels through the database": () => rest("POST", "rpc/cancel_generation", { generation_id: owned.running }),
    "deletes through the database": () => rest("POST", "rpc/delete_generation", { generation_id: owned.running }),
    "submits": () => functions("POST", "/generations", { style: "mosaic", input_path: owned.photo }),
    "cancels": () => functions("POST", `/generations/${owned.running}/cancel`),
    "deletes": () => functions("DELETE", `/generations/${owned.finished}`),
    "deletes a photo": () => storage("DELETE", "object/inputs", { prefixes: [owned.photo] }),
    "exports": () => functions("POST", "/privacy/exports"),
    "erases through the database": () => rest("POST", "rpc/erase_account", { email }),
    "erases": () => functions("POST", "/privacy/erasures", { email }),
  });
  const opened: string[] = [];
  for (const [door, open] of Object.entries(doors)) if (await open()) opened.push(door);
  return opened;
}

/** Fails unless the session still works. */
async function goesOn(person: Person): Promise<void> {
  assert.equal((await person.client.from("wallets").select()).data!.length, 1);
  assert.ok(await person.upload(await small));
  const job = (await running(person))[0]!;
  assert.equal((await person.call("POST", `/generations/${job.id}/cancel`)).status, 200);
}

async function endSession({ token }: Person, scope: "local" | "others" | "global"): Promise<void> {
  const { status } = await ask(token, "POST", `/auth/v1/logout?scope=${scope}`);
  assert.equal(status, 204);
}

async function ban({ id }: Person, ban_duration: string): Promise<void> {
  const { status } = await ask(service, "PUT", `/auth/v1/admin/users/${id}`, json({ ban_duration }), { apikey: service });
  assert.equal(status, 200);
}

test("after a global sign-out, no token of the user works", async () => {
  const { person, owned } = await newUser();
  const other = await signIn(person.email);
  await endSession(other, "global");
  assert.deepEqual(await reached(person, owned), []);
  assert.deepEqual(await reached(other, owned), []);
});

test("after a local sign-out, only the token of that session stops working", async () => {
  const { person, owned } = await newUser();
  const other = await signIn(person.email);
  await endSession(person, "local");
  assert.deepEqual(await reached(person, owned), []);
  await goesOn(other);
});

test("after a sign-out of the other sessions, only their tokens stop working", async () => {
  const { person, owned } = await newUser();
  const other = await signIn(person.email);
  await endSession(other, "others");
  assert.deepEqual(await reached(person, owned), []);
  await goesOn(other);
});

test("the token of a banned user does not work until the ban is lifted", async () => {
  const { person, owned } = await newUser();
  await ban(person, "24h");
  assert.deepEqual(await reached(person, owned), []);
  await ban(person, "none");
  await goesOn(person);
});

test("a token that names no existing session does not work", async () => {
  const { person, owned } = await newUser();
  const { session_id, ...claims } = claimsOf(person.token);
  assert.ok(session_id);
  for (const changed of [claims, { ...claims, session_id: randomUUID() }]) {
    assert.deepEqual(await reached(Object.assign(Object.create(person), { token: sign(changed) }) as Person, owned), [], json(changed));
  }
});

test("erasures and exports require the second factor if the user has one", async () => {
  const person = await signUpAs(`alice.${randomUUID()}@example.com`);
  const aal2 = Object.assign(Object.create(person), { token: sign({ ...claimsOf(person.token), aal: "aal2" }) }) as Person;
  const asks = {
    export: (by: Person) => by.call("POST", "/privacy/exports"),
    erasure: (by: Person) => by.call("POST", "/privacy/erasures", { email: person.email }),
  };
  const factor = randomUUID();
  await database`
    insert into auth.mfa_factors (id, user_id, factor_type, status, created_at, updated_at)
    values (${factor}, ${person.id}, 'totp', 'unverified', now(), now())`;
  // An unverified factor is not required.
  assert.equal((await asks.export(person)).status, 202);
  await database`update auth.mfa_factors set status = 'verified' where id = ${factor}`;
  for (const [name, asked] of Object.entries(asks)) {
    const response = await asked(person);
    assert.deepEqual([response.status, ((await response.json()) as { code: string }).code], [403, "second_factor_needed"], name);
  }
  const throughDatabase = await ask(person.token, "POST", "/rest/v1/rpc/erase_account", json({ email: person.email }));
  assert.deepEqual([throughDatabase.status, throughDatabase.body.hint], [403, "second_factor_needed"]);
  assert.notEqual((await asks.export(aal2)).status, 403);
  assert.equal((await asks.erasure(aal2)).status, 202);
});

test("submitting, canceling and deleting make no HTTP call to Auth, and an erasure makes one", async () => {
  const { person, owned } = await newUser();
  lab.supabase.misbehave({ fault: "delay", ms: 0, when: /\/auth\/v1\/user/, count: 1e9 });
  const asked = async (act: () => Promise<Response>) => {
    const before = lab.supabase.struck;
    const { status } = await act();
    assert.ok(status < 300, String(status));
    return lab.supabase.struck - before;
  };
  assert.deepEqual({
    submit: await asked(() => person.submit({ style: "mosaic", input_path: owned.photo })),
    cancel: await asked(() => person.call("POST", `/generations/${owned.running}/cancel`)),
    delete: await asked(() => person.call("DELETE", `/generations/${owned.finished}`)),
    erase: await asked(() => person.call("POST", "/privacy/erasures", { email: person.email })),
  }, { submit: 0, cancel: 0, delete: 0, erase: 1 });
});
