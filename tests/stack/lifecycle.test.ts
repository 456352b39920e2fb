import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { createPrivateKey, X509Certificate } from "node:crypto";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { after, describe, it } from "node:test";
import postgres from "postgres";

const root = resolve(import.meta.dirname, "..", "..");
const local = join(root, "supabase", "local");
const folder = mkdtempSync(join(tmpdir(), "stack-"));
const project = join(folder, "project");
const state = join(folder, "state");

/** A project of one table and one row. */
function makeProject(migration = "create table public.notes (body text);"): void {
  rmSync(project, { recursive: true, force: true });
  mkdirSync(join(project, "supabase", "migrations"), { recursive: true });
  cpSync(join(root, "supabase", "config.toml"), join(project, "supabase", "config.toml"));
  mkdirSync(join(project, "supabase", "seed"));
  writeFileSync(
    join(project, "supabase", "seed", "catalogue.sql"),
    "insert into public.notes values ('seeded');",
  );
  writeFileSync(join(project, "supabase", "seed", "people.sql"), "select;");
  writeFileSync(join(project, "supabase", "migrations", "20260101000000_notes.sql"), migration);
}

interface Stack {
  process: ChildProcess;
  said: () => string;
  ended: Promise<number | null>;
}

function start(args: string[], env: Record<string, string> = {}): Stack {
  const own = ["--state", state, "--project", project];
  const child = spawn(
    join(local, "node_modules", ".bin", "bun"),
    [join(local, "stack.ts"), ...own, ...args],
    {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, ...env },
    },
  );
  let text = "";
  for (const stream of [child.stdout!, child.stderr!])
    stream.on("data", (chunk) => (text += chunk));
  const ended = new Promise<number | null>((done) => child.once("close", (code) => done(code)));
  return { process: child, said: () => text, ended };
}

async function until(what: string, holds: () => boolean): Promise<void> {
  const deadline = Date.now() + 30_000;
  while (!holds()) {
    assert.ok(Date.now() < deadline, `timed out waiting for: ${what}`);
    await new Promise((done) => setTimeout(done, 20));
  }
}

async function up(
  stack: Stack,
): Promise<{ pid: number; pids: Record<string, number>; ports: { database: number } }> {
  await until(
    `the stack to be up: ${stack.said()}`,
    () => stack.said().includes("Everything is up") || stack.process.exitCode !== null,
  );
  assert.equal(stack.process.exitCode, null, stack.said());
  return JSON.parse(readFileSync(join(state, "stack.json"), "utf8"));
}

/** Whether a process runs. A zombie does not count. */
function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch {
    return false;
  }
  const status = `/proc/${pid}/status`;
  return !existsSync(status) || !/^State:\s+Z/m.test(readFileSync(status, "utf8"));
}

after(() => rmSync(folder, { recursive: true, force: true }));

describe("the stack", { timeout: 240_000 }, () => {
  it("runs a command with its environment, returns its exit code and leaves no process", async () => {
    makeProject();
    const script = `
      const { DATABASE_URL, SUPABASE_URL, STACK_STATE } = process.env;
      const health = await fetch(SUPABASE_URL + "/auth/v1/health", { headers: { apikey: process.env.SUPABASE_PUBLISHABLE_KEY } });
      console.log(JSON.stringify({ DATABASE_URL, STACK_STATE, health: health.status }));
      process.exit(7);`;
    const stack = start(["--quiet", "--", "node", "--input-type=module", "-e", script]);
    assert.equal(await stack.ended, 7, stack.said());
    const lines = stack.said().trim().split("\n");
    assert.match(lines[0]!, /^the stack is up: http:\/\/127\.0\.0\.1:\d+ \(\d+\.\d s\)$/);
    const told = JSON.parse(lines[1]!);
    assert.deepEqual([told.STACK_STATE, told.health], [state, 200]);
    await assert.rejects(postgres(told.DATABASE_URL, { max: 1, connect_timeout: 2 })`select 1`, {
      code: "ECONNREFUSED",
    });
    assert.equal(existsSync(join(state, "stack.json")), false);
    assert.equal(statSync(join(state, "keys.json")).mode & 0o777, 0o600);
  });

  it("applies migrations and seed once, keeps the stored data, and starts again with --fresh", async () => {
    makeProject();
    const script = `
      const postgres = (await import("${join(root, "tests/node_modules/postgres/src/index.js")}")).default;
      const sql = postgres(process.env.DATABASE_URL, { max: 1 });
      const [{ notes }] = await sql\`select count(*)::int as notes from notes\`;
      const [{ applied }] = await sql\`select count(*)::int as applied from supabase_migrations.schema_migrations\`;
      await sql\`insert into notes values ('kept')\`;
      await sql.end();
      console.log(JSON.stringify({ notes, applied }));`;
    const count = async (...args: string[]) => {
      const stack = start([
        ...args,
        "--quiet",
        "--without",
        "functions,replicate",
        "--",
        "node",
        "--input-type=module",
        "-e",
        script,
      ]);
      assert.equal(await stack.ended, 0, stack.said());
      return JSON.parse(stack.said().trim().split("\n").at(-1)!);
    };
    assert.deepEqual(await count("--fresh"), { notes: 1, applied: 1 });
    assert.deepEqual(await count(), { notes: 2, applied: 1 });

    makeProject("create table public.notes (body text, more text);");
    const changed = start(["--quiet", "--", "true"]);
    assert.equal(await changed.ended, 1);
    assert.match(changed.said(), /20260101000000_notes\.sql has changed since .* run `make fresh`/);
    assert.deepEqual(await count("--fresh"), { notes: 1, applied: 1 });
  });

  it("says in one line when a migration changes or is added while the stack runs", async () => {
    makeProject();
    const migrations = join(project, "supabase", "migrations");
    const stack = start(["--fresh", "--without", "functions,replicate"]);
    await up(stack);
    assert.match(stack.said(), new RegExp(`Press Ctrl-C to end it, or run: kill ${stack.process.pid}\n`));
    writeFileSync(join(migrations, "20260101000000_notes.sql"), "create table public.notes (body text, more text);");
    const changed = /20260101000000_notes\.sql has changed, .* run `make fresh`/;
    await until("a line about the change", () => changed.test(stack.said()));
    writeFileSync(join(migrations, "20260102000000_more.sql"), "create table public.more ();");
    const added = /20260102000000_more\.sql has changed, .* run `make run` again/;
    await until("a line about the new file", () => added.test(stack.said()));
    process.kill(stack.process.pid!, "SIGTERM");
    assert.equal(await stack.ended, 143, stack.said());
  });

  it("makes a certificate for Content Credentials once, also for a state folder from before there was one", async () => {
    makeProject();
    const told = async (...args: string[]) => {
      const script = "console.log(JSON.stringify([process.env.CONTENT_CREDENTIALS_CERTIFICATE, process.env.CONTENT_CREDENTIALS_KEY]))";
      const stack = start([...args, "--quiet", "--without", "functions,replicate", "--", "node", "-e", script]);
      assert.equal(await stack.ended, 0, stack.said());
      return JSON.parse(stack.said().trim().split("\n").at(-1)!) as [string, string];
    };
    const [chain, key] = await told("--fresh");
    const [leaf, ca] = chain.match(/-----BEGIN[^]+?END CERTIFICATE-----/g)!.map((pem) => new X509Certificate(pem));
    assert.ok(ca!.ca && !leaf!.ca && leaf!.checkIssued(ca!) && leaf!.verify(ca!.publicKey));
    assert.ok(leaf!.checkPrivateKey(createPrivateKey(key)));
    const emailProtection = "1.3.6.1.5.5.7.3.4";
    assert.deepEqual(leaf!.keyUsage, [emailProtection]);
    assert.ok(Date.parse(leaf!.validTo) > Date.now() + 10 * 365 * 86_400_000, leaf!.validTo);
    assert.deepEqual(await told(), [chain, key]);

    const path = join(state, "keys.json");
    const { credentialsCertificate, credentialsKey, ...older } = JSON.parse(readFileSync(path, "utf8"));
    assert.deepEqual([credentialsCertificate, credentialsKey], [chain, key]);
    writeFileSync(path, JSON.stringify(older));
    const [made] = await told();
    assert.ok(made && made !== chain);
    assert.deepEqual(JSON.parse(readFileSync(path, "utf8")).receiptKey, older.receiptKey);
  });

  it("grants new objects in public to the API's roles only with --default-privileges legacy", async () => {
    makeProject(`create table public.notes (body text, n serial);
      create function public.note() returns void language sql as '';
      revoke execute on function public.note from public;`);
    const script = `
      const postgres = (await import("${join(root, "tests/node_modules/postgres/src/index.js")}")).default;
      const sql = postgres(process.env.DATABASE_URL, { max: 1 });
      const rows = await sql\`
        select has_table_privilege(role, 'public.notes', 'select') and has_table_privilege(role, 'public.notes', 'delete')
          as notes, has_sequence_privilege(role, 'public.notes_n_seq', 'usage') as sequence,
          has_function_privilege(role, 'public.note()', 'execute') as function
        from unnest(array['anon', 'authenticated', 'service_role']) as role\`;
      await sql.end();
      console.log(JSON.stringify(rows.flatMap(Object.values)));`;
    const granted = async (...args: string[]) => {
      const more = ["--fresh", "--quiet", "--without", "functions,replicate"];
      const stack = start([...more, ...args, "--", "node", "--input-type=module", "-e", script]);
      assert.equal(await stack.ended, 0, stack.said());
      return JSON.parse(stack.said().trim().split("\n").at(-1)!);
    };
    assert.deepEqual(await granted(), Array(9).fill(false));
    assert.deepEqual(await granted("--default-privileges", "legacy"), Array(9).fill(true));
    const unknown = start(["--default-privileges", "modern", "--", "true"]);
    assert.equal(await unknown.ended, 1);
    assert.match(unknown.said(), /^usage: stack\.ts/);
  });

  it("ends after one interrupt, and refuses a second stack on the same state folder until then", async () => {
    makeProject();
    const stack = start(["--fresh"]);
    const { pids } = await up(stack);
    const second = start([]);
    assert.equal(await second.ended, 1);
    assert.match(second.said(), /a stack is already running on .*: end it first/);
    stack.process.kill("SIGINT");
    assert.equal(await stack.ended, 130, stack.said());
    for (const [name, pid] of Object.entries(pids)) assert.equal(isAlive(pid), false, name);
  });

  it("leaves no process when it is killed, and starts again on the same state folder", async () => {
    makeProject();
    const stack = start([]);
    const { pids } = await up(stack);
    assert.deepEqual(Object.keys(pids).sort(), ["PostgreSQL", "functions", "replicate"]);
    stack.process.kill("SIGKILL");
    await until("its processes to end", () => Object.values(pids).every((pid) => !isAlive(pid)));
    const again = start([]);
    await up(again);
    again.process.kill("SIGTERM");
    assert.equal(await again.ended, 143, again.said());
  });

  it("does not mistake another process with the recorded id for a running stack", async () => {
    makeProject();
    writeFileSync(join(state, "stack.json"), JSON.stringify({ pid: process.pid }));
    writeFileSync(
      join(state, "postgres", "data", "postmaster.pid"),
      `${process.pid}\n/elsewhere\n`,
    );
    const stack = start(["--quiet", "--", "true"]);
    assert.equal(await stack.ended, 0, stack.said());
  });

  it("prints the end of the database log and exits if the database cannot be restarted", async () => {
    makeProject();
    const stack = start([]);
    const { pids } = await up(stack);
    rmSync(join(state, "postgres", "data", "postgresql.conf"));
    process.kill(pids.PostgreSQL!, "SIGQUIT");
    assert.equal(await stack.ended, 1);
    assert.match(stack.said(), /PostgreSQL ended by itself.*The end of its log:/);
    assert.match(stack.said(), /postgresql\.conf/);
    for (const [name, pid] of Object.entries(pids)) assert.equal(isAlive(pid), false, name);
    rmSync(state, { recursive: true });
  });

  it("shows the error in a migration", async () => {
    makeProject("create table public.notes (body nonsense);");
    const stack = start(["--fresh", "--quiet", "--", "true"]);
    assert.equal(await stack.ended, 1);
    assert.match(
      stack.said(),
      /the migrations were not applied:[^]*type "nonsense" does not exist/,
    );
  });

  it("says how to build a missing program", async () => {
    makeProject();
    const stack = start(["--", "true"], { OPUSFLAIR_BIN_DIR: join(folder, "nowhere") });
    assert.equal(await stack.ended, 1);
    assert.match(stack.said(), /replicate-sandbox is not there: run `make build`/);
    const usage = spawn(join(local, "node_modules", ".bin", "bun"), [join(local, "stack.ts")], {
      stdio: "pipe",
    });
    let said = "";
    usage.stderr.on("data", (chunk) => (said += chunk));
    assert.equal(await new Promise((done) => usage.once("close", done)), 1);
    assert.match(said, /^usage: stack\.ts --state DIR/);
  });
});
