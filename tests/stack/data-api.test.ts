import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import {
  type Person,
  admin,
  anonymous,
  ask,
  publishable,
  secret,
  service,
  signUp,
} from "./project.ts";

const schema = `
  create table public.stack_notes (
    id integer primary key,
    person uuid default auth.uid(),
    body text unique,
    at timestamptz default '2026-11-23 08:37:50.98+00',
    constraint stack_notes_not_empty check (body <> '')
  );
  alter table public.stack_notes enable row level security;
  create policy "own" on public.stack_notes for all to authenticated using (person = auth.uid());
  grant select, insert, update, delete on public.stack_notes to authenticated, service_role;
  create table public.stack_hidden (id integer);
  create function public.stack_refuse(status text) returns void language plpgsql as $$
  begin
    raise exception using errcode = status, message = 'the sentence', detail = '{"needed": 3}', hint = 'a_code';
  end $$;
  create function public.stack_note() returns public.stack_notes language sql as 'select * from public.stack_notes limit 1';
  create function public.stack_all() returns setof public.stack_notes language sql as 'select * from public.stack_notes';
  create function public.stack_table() returns table (id integer, at timestamptz, day date, doc jsonb) language sql as
    $$select 1, '2026-11-23 08:37:50.98+00'::timestamptz, '2026-11-23'::date, '{"at": "2026-11-23 08:37:50.98+00"}'::jsonb$$;
  create function public.stack_moment() returns timestamptz language sql as $$select '2026-11-23 08:37:50.98+00'::timestamptz$$;
  create function public.stack_json(given jsonb) returns jsonb language sql as 'select given';
  create function public.stack_claims() returns jsonb language sql as
    $$select jsonb_build_object('uid', auth.uid(), 'role', auth.role(), 'email', auth.email(), 'jwt', auth.jwt() ->> 'sub', 'user', current_user)$$;
  create function backend.stack_backend() returns text language sql as $$select 'backend'::text$$;
  revoke execute on function backend.stack_backend() from public;
  grant execute on function backend.stack_backend() to service_role;
  create view public.stack_latest with (security_invoker) as select id, at from public.stack_notes;
  grant select on public.stack_latest to authenticated;
`;
const undo = `
  drop view public.stack_latest;
  drop function backend.stack_backend, public.stack_claims, public.stack_json, public.stack_moment,
    public.stack_table, public.stack_all, public.stack_note, public.stack_refuse;
  drop table public.stack_hidden, public.stack_notes;
`;

describe("the Data API", () => {
  let alice: Person;
  before(async () => {
    await admin
      .unsafe(
        `create schema if not exists backend; grant usage on schema backend to service_role; ${schema}`,
      )
      .simple();
    await admin
      .unsafe(
        (
          await admin`select oid::regprocedure as f from pg_proc where proname like 'stack\\_%' and pronamespace = 'public'::regnamespace`
        )
          .map(({ f }) => `grant execute on function ${f} to anon, authenticated, service_role;`)
          .join(" "),
      )
      .simple();
    alice = await signUp("alice");
    const { error } = await alice.client.from("stack_notes").insert({ id: 1, body: "first" });
    assert.equal(error, null);
  });
  after(async () => {
    await admin.unsafe(undo).simple();
  });
  const rpc = (name: string, body: object = {}, token = alice.token) =>
    ask(`/rest/v1/rpc/${name}`, { method: "POST", key: publishable, token, body });

  for (const status of [402, 404, 409, 422, 429, 503]) {
    it(`answers sqlstate PT${status} with HTTP ${status}`, async () => {
      const { status: answered, body } = await rpc("stack_refuse", { status: `PT${status}` });
      assert.equal(answered, status);
      assert.deepEqual(body, {
        code: `PT${status}`,
        message: "the sentence",
        details: '{"needed": 3}',
        hint: "a_code",
      });
    });
  }

  for (const [sqlstate, status] of [
    ["P0001", 400],
    ["42501", 403],
    ["23505", 409],
    ["23503", 409],
    ["23514", 400],
    ["23502", 400],
    ["22023", 400],
    ["40001", 500],
    ["57014", 500],
    ["XX000", 500],
    ["28000", 403],
    ["P0002", 500],
  ] as const) {
    it(`answers sqlstate ${sqlstate} with HTTP ${status}`, async () => {
      const { status: answered, body } = await rpc("stack_refuse", { status: sqlstate });
      assert.deepEqual([answered, body.code, body.message], [status, sqlstate, "the sentence"]);
      assert.deepEqual([body.details, body.hint], ['{"needed": 3}', "a_code"]);
    });
  }

  it("answers 403 to users without a grant, and 401 to callers who are not signed in", async () => {
    const alices = await ask("/rest/v1/stack_hidden", { key: publishable, token: alice.token });
    assert.deepEqual(
      [alices.status, alices.body.code, alices.body.message],
      [403, "42501", "permission denied for table stack_hidden"],
    );
    const nobodys = await ask("/rest/v1/stack_notes", { key: publishable });
    assert.deepEqual([nobodys.status, nobodys.body.code], [401, "42501"]);
    const hers = await alice.client
      .from("stack_notes")
      .insert({ id: 3, body: "x", person: "00000000-0000-4000-8000-000000000000" });
    assert.deepEqual([hers.status, hers.error!.code], [403, "42501"]);
  });

  it("answers 409 for a duplicate, and 400 for a row that a check constraint refuses", async () => {
    const twice = await alice.client.from("stack_notes").insert({ id: 1, body: "again" });
    assert.deepEqual([twice.status, twice.error!.code], [409, "23505"]);
    const empty = await alice.client.from("stack_notes").insert({ id: 2, body: "" });
    assert.deepEqual([empty.status, empty.error!.code], [400, "23514"]);
    assert.match(empty.error!.message, /violates check constraint "stack_notes_not_empty"/);
  });

  it("writes timestamps of tables, views and functions in ISO 8601, and does not change other values", async () => {
    const at = "2026-11-23T08:37:50.98+00:00";
    assert.equal((await alice.client.from("stack_notes").select("at").single()).data!.at, at);
    assert.equal((await alice.client.from("stack_latest").select("at").single()).data!.at, at);
    assert.equal((await rpc("stack_note")).body.at, at);
    assert.equal((await rpc("stack_all")).body[0].at, at);
    assert.equal((await rpc("stack_moment")).body, at);
    const json = { at: "2026-11-23 08:37:50.98+00" };
    assert.deepEqual((await rpc("stack_table")).body, [
      { id: 1, at, day: "2026-11-23", doc: json },
    ]);
    assert.deepEqual((await rpc("stack_json", { given: json })).body, json);
    await alice.client.from("stack_notes").insert({ id: 4, body: json.at });
    assert.equal(
      (await alice.client.from("stack_notes").select("body").eq("id", 4).single()).data!.body,
      json.at,
    );
    await alice.client.from("stack_notes").delete().eq("id", 4);
  });

  it("passes JSON to functions unchanged", async () => {
    for (const given of [{ a: [1, "2", null] }, [1, 2], "text", 5, true, null]) {
      assert.deepEqual((await rpc("stack_json", { given })).body, given);
    }
  });

  it("shows the caller to policies and functions", async () => {
    assert.deepEqual((await rpc("stack_claims")).body, {
      uid: alice.id,
      role: "authenticated",
      email: alice.email,
      jwt: alice.id,
      user: "authenticated",
    });
    const keys = await ask("/rest/v1/rpc/stack_claims", { method: "POST", key: secret, body: {} });
    assert.deepEqual(
      [keys.body.role, keys.body.user, keys.body.uid],
      ["service_role", "service_role", null],
    );
    const nobody = await ask("/rest/v1/rpc/stack_claims", {
      method: "POST",
      key: publishable,
      body: {},
    });
    assert.deepEqual([nobody.body.role, nobody.body.user, nobody.body.uid], ["anon", "anon", null]);
  });

  it("selects the schema by Content-Profile and Accept-Profile", async () => {
    const backend = await ask("/rest/v1/rpc/stack_backend", {
      method: "POST",
      key: secret,
      body: {},
      headers: { "content-profile": "backend", "accept-profile": "backend" },
    });
    assert.deepEqual([backend.status, backend.body], [200, "backend"]);
    const person = await alice.client.schema("backend").rpc("stack_backend");
    assert.deepEqual([person.status, person.error!.code], [403, "42501"]);
    const unexposed = await service.schema("auth").from("users").select("id");
    assert.deepEqual([unexposed.status, unexposed.error!.code], [406, "PGRST106"]);
  });

  it("refuses a forged token and an expired token with 401", async () => {
    const forged = await ask("/rest/v1/stack_notes", {
      key: publishable,
      token: `${alice.token.slice(0, -4)}AAAA`,
    });
    assert.deepEqual([forged.status, forged.body.code], [401, "PGRST301"]);
    const { jwt } = JSON.parse(readFileSync(join(process.env.STACK_STATE!, "keys.json"), "utf8"));
    const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
    const unsigned = `${part({ alg: "HS256", typ: "JWT" })}.${part({ sub: alice.id, role: "authenticated", exp: 1 })}`;
    const token = `${unsigned}.${createHmac("sha256", jwt).update(unsigned).digest("base64url")}`;
    const expired = await ask("/rest/v1/stack_notes", { key: publishable, token });
    assert.deepEqual(
      [expired.status, expired.body.code, expired.body.message],
      [401, "PGRST303", "JWT expired"],
    );
    const none = `${part({ alg: "none" })}.${part({ sub: alice.id, role: "service_role" })}.`;
    assert.notEqual(
      (await ask("/rest/v1/stack_hidden", { key: publishable, token: none })).status,
      200,
    );
  });

  it("requires a key of the project, and refuses the secret key from a browser or as a bearer token", async () => {
    assert.equal((await ask("/rest/v1/stack_notes")).status, 401);
    assert.equal((await ask("/rest/v1/stack_notes", { key: "sb_secret_wrong" })).status, 401);
    assert.equal((await ask("/rest/v1/stack_notes", { token: secret })).status, 401);
    const browser = { "user-agent": "Mozilla/5.0 (X11; Linux x86_64)" };
    assert.equal(
      (await ask("/rest/v1/stack_notes", { key: secret, headers: browser })).status,
      401,
    );
    assert.deepEqual((await service.from("stack_notes").select("id")).data, [{ id: 1 }]);
    assert.notEqual((await anonymous.from("stack_notes").select("id")).error, null);
  });

  it("refuses to update or delete all rows", async () => {
    for (const answer of [
      await service.from("stack_notes").delete(),
      await service.from("stack_notes").update({ body: "all" }),
    ]) {
      assert.deepEqual([answer.status, answer.error!.code], [400, "21000"]);
      assert.match(answer.error!.message, /requires a WHERE clause/);
    }
  });

  it("returns at most 1,000 rows, also from functions", async () => {
    await admin.unsafe(
      "insert into public.stack_notes (id, body) select n, n::text from generate_series(10, 1200) as n",
    );
    assert.equal((await service.from("stack_notes").select("id")).data!.length, 1000);
    assert.equal((await service.rpc("stack_all")).data.length, 1000);
    await admin.unsafe("delete from public.stack_notes where id >= 10");
  });

  it("soon finds a new table", async () => {
    await admin
      .unsafe(
        `create table public.stack_new (id integer); grant select on public.stack_new to service_role`,
      )
      .simple();
    try {
      let found = await service.from("stack_new").select("id");
      const deadline = Date.now() + 3000;
      while (found.error && Date.now() < deadline)
        found = await service.from("stack_new").select("id");
      assert.equal(found.error, null);
    } finally {
      await admin.unsafe("drop table public.stack_new");
    }
  });
});
