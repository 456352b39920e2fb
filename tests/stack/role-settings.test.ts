// The settings of the API's roles: which apply from the start, and which after a reload.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { until } from "../waiting.ts";
import { type Person, admin, anonymous, migrator, service, signUp } from "./project.ts";

const reload = () => migrator`notify pgrst, 'reload config'`;

/** The value for the next login, or undefined if it is not set. */
async function settingOf(role: string, name: string): Promise<string | undefined> {
  const [row] = await admin`
    select substr(setting, strpos(setting, '=') + 1) as value
    from pg_db_role_setting cross join unnest(setconfig) as setting
    where setrole = ${role}::regrole and split_part(setting, '=', 1) = ${name}`;
  return row?.value;
}

/** Sets a value as a migration does, or resets it if the value is undefined. */
async function set(role: string, name: string, value: string | undefined): Promise<void> {
  await migrator.unsafe(
    value === undefined
      ? `alter role ${role} reset ${name}`
      : `alter role ${role} set ${name} = '${value}'`,
  );
}

describe("a role's settings", () => {
  let alice: Person;
  before(async () => {
    await admin.unsafe(`
      create function public.stack_wait() returns void language sql as 'select pg_sleep(3.5)';
      create function public.stack_setting(name text) returns text language sql as 'select current_setting(name)';
      grant execute on function public.stack_wait, public.stack_setting to anon, authenticated, service_role;`);
    alice = await signUp("alice");
    await until("the Data API to know the functions", async () => (await setting("lock_timeout")) ?? undefined);
  });
  after(() => admin.unsafe("drop function public.stack_wait, public.stack_setting"));
  const setting = async (name: string, one = alice.client) =>
    (await one.rpc("stack_setting", { name })).data as string | null;

  it("end a request without a session after three seconds, but not one with the secret key", async () => {
    const [nobody, key] = await Promise.all([
      anonymous.rpc("stack_wait"),
      service.rpc("stack_wait"),
    ]);
    assert.deepEqual([nobody.status, nobody.error?.code], [500, "57014"]);
    assert.equal(key.error, null);
  });

  it("come from authenticator if a role has none of its own", async () => {
    assert.equal(await setting("statement_timeout", service), "8s");
    for (const one of [alice.client, service]) assert.equal(await setting("lock_timeout", one), "8s");
  });

  it("apply after the Data API has reloaded them, and not before", async () => {
    const former = await settingOf("authenticated", "statement_timeout");
    try {
      await set("authenticated", "statement_timeout", "700ms");
      assert.equal(await setting("statement_timeout"), former);
      await reload();
      const isNew = async () => (await setting("statement_timeout")) === "700ms" || undefined;
      await until("the new limit", isNew);
      const cut = await alice.client.rpc("stack_wait");
      assert.deepEqual([cut.status, cut.error?.code], [500, "57014"]);
      assert.equal(await setting("statement_timeout", service), "8s");
    } finally {
      await set("authenticated", "statement_timeout", former);
      await reload();
    }
  });

  it("keep what users send out of the database's log if they are set for authenticator", async () => {
    const former = await settingOf("authenticator", "log_min_messages");
    const log = () => readFileSync(join(process.env.STACK_STATE!, "logs", "postgres.log"), "utf8");
    const holds = (level: string) => until(`level ${level}`, async () => (await setting("log_min_messages")) === level || undefined);
    const send = async (text: string) => {
      const { error } = await alice.client.from("profiles").select("id").eq("id", text);
      assert.equal(error!.code, "22P02");
    };
    const [shown, hidden] = [randomUUID(), randomUUID()].map((text) => `text-${text}`);
    try {
      await set("authenticator", "log_min_messages", undefined);
      await reload();
      await holds("warning");
      await send(shown!);
      await until("the log to repeat it", async () => log().includes(shown!) || undefined);
      await set("authenticator", "log_min_messages", "fatal");
      await reload();
      await holds("fatal");
      await send(hidden!);
      // The log keeps the order, so once the marker is there, the hidden text would be there too.
      const marker = randomUUID();
      await assert.rejects(migrator`select ${`mark-${marker}`}::text::uuid`);
      await until("the log to go on", async () => log().includes(marker) || undefined);
      assert.equal(log().includes(hidden!), false);
    } finally {
      await set("authenticator", "log_min_messages", former);
      await reload();
    }
  });

  it("that need a superuser can be changed by migrations as far as hosted Supabase allows", async () => {
    for (const name of ["log_min_error_statement", "log_parameter_max_length", "log_statement"]) {
      const former = await settingOf("authenticator", name);
      await set("authenticator", name, (await admin.unsafe(`show ${name}`))[0]![name]);
      await set("authenticator", name, former);
    }
    for (const statement of [
      "alter role authenticator set log_error_verbosity = 'terse'",
      "alter role supabase_storage_admin set log_min_messages = 'fatal'",
      "alter role supabase_auth_admin set log_min_messages = 'fatal'",
      "alter database postgres set log_error_verbosity = 'terse'",
      "set role authenticator",
    ])
      await assert.rejects(migrator.unsafe(statement), { code: "42501" }, statement);
  });
});
