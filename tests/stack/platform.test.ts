import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { describe, it } from "node:test";
import type postgres from "postgres";
import { admin, makeBucket, migrator, service, signUp } from "./project.ts";

class Undone extends Error {}

/** Runs SQL as `postgres`, the role of migrations, and rolls it back. */
async function undone(work: (sql: postgres.TransactionSql) => Promise<unknown>): Promise<void> {
  await assert.rejects(
    migrator.begin(async (sql) => {
      await work(sql);
      throw new Undone();
    }),
    Undone,
  );
}

const refused = (statement: string, code = "42501") =>
  assert.rejects(
    migrator.begin((sql) => sql.unsafe(statement)),
    { code },
    statement,
  );

describe("role postgres", () => {
  it("is not a superuser, bypasses row-level security and may set the API's roles", async () => {
    const [role] =
      await migrator`select rolsuper, rolbypassrls, rolcreatedb, rolcreaterole, rolreplication from pg_roles where rolname = current_user`;
    assert.deepEqual(
      { ...role },
      {
        rolsuper: false,
        rolbypassrls: true,
        rolcreatedb: true,
        rolcreaterole: true,
        rolreplication: true,
      },
    );
    for (const name of ["anon", "authenticated", "service_role"])
      await undone((sql) => sql.unsafe(`set local role ${name}`));
    const [database] =
      await migrator`select pg_get_userbyid(datdba) as owner from pg_database where datname = current_database()`;
    assert.equal(database!.owner, "postgres");
  });

  it("creates and drops policies and triggers on the tables of Auth and Storage", async () => {
    await undone(async (sql) => {
      await sql`create policy "try" on storage.objects for select to authenticated using (true)`;
      await sql`alter policy "try" on storage.objects using (false)`;
      await sql`drop policy "try" on storage.objects`;
      await sql`create policy "try" on storage.buckets for select to authenticated using (true)`;
      await sql`create function public.try() returns trigger language plpgsql as 'begin return new; end'`;
      await sql`create trigger try after insert on auth.users for each row execute function public.try()`;
      await sql`drop trigger try on auth.users`;
      await sql`create trigger try after insert on storage.objects for each row execute function public.try()`;
      await sql`drop trigger try on storage.objects`;
    });
  });

  it("refers to users, buckets and objects, reads them and creates buckets", async () => {
    await undone(async (sql) => {
      await sql`create table public.try (
        person uuid references auth.users (id) on delete cascade,
        bucket text references storage.buckets (id) on delete cascade,
        object uuid references storage.objects (id) on delete set null
      )`;
      await sql`select from auth.users, auth.sessions, auth.identities, auth.mfa_factors, storage.objects limit 1`;
      await sql`insert into storage.buckets (id, name) values ('try', 'try')`;
      await sql`insert into storage.objects (bucket_id, name) values ('try', 'try')`;
      await sql`drop table public.try`;
    });
  });

  it("creates nothing else in the schemas of Auth and Storage, and changes nothing there", async () => {
    await refused("create table auth.mine ()");
    await refused("create table storage.mine ()");
    await refused("create function auth.mine() returns void language sql as ''");
    await refused("create function storage.mine() returns void language sql as ''");
    await refused("create index on storage.objects (created_at)");
    await refused("alter table storage.objects enable row level security");
    await refused("alter table storage.objects disable row level security");
    await refused("alter table auth.users add column mine text");
    await refused("drop table storage.objects cascade");
    await refused(
      "drop trigger protect_objects_delete on storage.objects; drop function storage.protect_delete()",
    );
    await refused(
      "create or replace function auth.uid() returns uuid language sql as 'select null::uuid'",
    );
    await refused("set role supabase_storage_admin");
    await refused("set role supabase_admin");
    await refused("drop event trigger guard_platform_changes");
    await refused("alter role postgres superuser");
  });
});

describe("the database of a project", () => {
  it("grants new tables to no role, and sets which schemas the Data API exposes", async () => {
    await undone(async (sql) => {
      await sql`create table public.try ()`;
      for (const role of ["anon", "authenticated", "service_role"]) {
        const [granted] =
          await sql`select has_table_privilege(${role}, 'public.try', 'select, insert, update, delete') as it`;
        assert.equal(granted!.it, false, role);
      }
    });
    const [shown] = await migrator`show pgrst.db_schemas`;
    assert.equal(shown!["pgrst.db_schemas"], "public,backend");
    const [{ TimeZone: zone }] = (await migrator`show timezone`) as unknown as [
      { TimeZone: string },
    ];
    assert.equal(zone, "UTC");
  });

  it("has the columns, helper functions and protection of Storage", async () => {
    const columns =
      await admin`select column_name as name from information_schema.columns where table_schema = 'storage' and table_name = 'objects'`;
    assert.deepEqual(columns.map(({ name }) => name).sort(), [
      ...[
        "bucket_id",
        "created_at",
        "id",
        "last_accessed_at",
        "metadata",
        "name",
        "owner",
        "owner_id",
      ],
      ...["path_tokens", "updated_at", "user_metadata", "version"],
    ]);
    const [path] =
      await migrator`select storage.foldername('a/b/c.tar.gz') as folder, storage.filename('a/b/c.tar.gz') as file, storage.extension('a/b/c.tar.gz') as extension`;
    assert.deepEqual({ ...path }, { folder: ["a", "b"], file: "c.tar.gz", extension: "gz" });
    const tables =
      await admin`select relname as name, relrowsecurity as secured from pg_class where oid in ('storage.objects'::regclass, 'storage.buckets'::regclass)`;
    assert.ok(tables.every(({ secured }) => secured));
  });

  it("knows the caller from the claims, in the current and in the older settings of PostgREST", async () => {
    const id = randomUUID();
    const asked = (sql: postgres.TransactionSql) =>
      sql`select auth.uid() as uid, auth.role() as role, auth.email() as email, auth.jwt() ->> 'sub' as sub`;
    await undone(async (sql) => {
      const [nobody] = await asked(sql);
      assert.deepEqual({ ...nobody }, { uid: null, role: null, email: null, sub: null });
      const claims = JSON.stringify({ sub: id, role: "authenticated", email: "a@example.com" });
      await sql`select set_config('request.jwt.claims', ${claims}, true)`;
      const [person] = await asked(sql);
      assert.deepEqual(
        { ...person },
        { uid: id, role: "authenticated", email: "a@example.com", sub: id },
      );
    });
  });

  it("records migrations in the same table as the official CLI", async () => {
    const columns =
      await admin`select column_name as name from information_schema.columns where table_schema = 'supabase_migrations' and table_name = 'schema_migrations'`;
    assert.ok(
      ["version", "name", "statements"].every((wanted) =>
        columns.some(({ name }) => name === wanted),
      ),
    );
    const [owner] =
      await admin`select tableowner from pg_tables where schemaname = 'supabase_migrations' and tablename = 'schema_migrations'`;
    assert.equal(owner!.tableowner, "postgres");
  });

  it("shows the operation of Storage to policies", async () => {
    const { name, drop } = await makeBucket();
    const alice = await signUp("alice");
    await migrator.unsafe(`create policy "only lists ${name}" on storage.objects for select to authenticated
      using (bucket_id = '${name}' and name = 'listed' and storage.operation() = 'storage.object.list')`);
    await service.storage.from(name).upload("listed", new Blob(["x"]));
    const listed = await alice.client.storage.from(name).list();
    const loaded = await alice.client.storage.from(name).download("listed");
    await migrator.unsafe(`drop policy "only lists ${name}" on storage.objects`);
    await drop();
    assert.deepEqual(
      listed.data!.map((entry) => entry.name),
      ["listed"],
    );
    assert.match(loaded.error!.message, /Object not found/);
  });
});
