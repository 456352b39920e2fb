// The embedded stack: everything that a hosted project has, on this machine, until it is ended.

import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import postgres from "postgres";
import { type Arguments, readArguments } from "./arguments.ts";
import { environment } from "./environment.ts";
import { serveGateway } from "./gateway.ts";
import { loadKeys } from "./keys.ts";
import { createLite } from "./lite.ts";
import { applyMigrations } from "./migrations.ts";
import { choosePort } from "./ports.ts";
import { address, connection, startDatabase, stopDatabase } from "./postgres.ts";
import { type Service, startService, stopService, untilReady } from "./processes.ts";

const project = resolve(import.meta.dir, "..", "..");
const binaries = resolve(project, process.env.OPUSFLAIR_BIN_DIR ?? "target/debug");
/** What has been started, to be ended in reverse. */
const endings: (() => Promise<unknown>)[] = [];
const services: Service[] = [];
let isEnding = false;

async function main(): Promise<number> {
  const given = readArguments(process.argv.slice(2));
  const say = given.quiet ? () => {} : print;
  const state = prepareState(given);
  const asked = untilAskedToEnd();
  const env = await start(given, state, say);

  if (given.command.length > 0) {
    const [program, ...args] = given.command;
    const child = spawn(program, args, { stdio: "inherit", env: { ...process.env, ...env } });
    const ran = new Promise<number>((finish) => {
      child.once("error", (error) => finish(fail(`${program}: ${error.message}`)));
      child.once("exit", (code) => finish(code ?? 1));
    });
    const code = await Promise.race([ran, asked, ...services.map(died)]);
    child.kill();
    return code;
  }
  introduce(env);
  return Promise.race([asked, ...services.map(died)]);
}

function prepareState({ state, fresh }: Arguments): string {
  const folder = resolve(state);
  const running = join(folder, "stack.json");
  if (existsSync(running)) {
    const { pid } = JSON.parse(readFileSync(running, "utf8")) as { pid: number };
    if (isAlive(pid)) throw new Error(`a stack is already running on ${state} (process ${pid}): end it first`);
  }
  if (fresh) rmSync(folder, { recursive: true, force: true });
  mkdirSync(join(folder, "logs"), { recursive: true, mode: 0o700 });
  endings.push(async () => rmSync(running, { force: true }));
  return folder;
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

async function start(given: Arguments, state: string, say: (line: string) => void) {
  const log = (name: string) => join(state, "logs", `${name}.log`);
  const keys = loadKeys(state);
  const ports = {
    gateway: await choosePort(54321),
    database: await choosePort(54322),
    functions: await choosePort(54323),
    sandbox: await choosePort(54324),
  };
  const env = environment(state, keys, ports);
  writeFileSync(join(state, "stack.json"), JSON.stringify({ pid: process.pid, ports }), { mode: 0o600 });

  say("starting PostgreSQL …");
  const isNew = !existsSync(join(state, "postgres", "data", "PG_VERSION"));
  mkdirSync(join(state, "postgres"), { recursive: true, mode: 0o700 });
  const database = await startDatabase(join(state, "postgres"), ports.database, keys.adminPassword, log("postgres"));
  endings.push(() => stopDatabase(database));
  services.push(database.service);

  const sql = postgres({ ...connection(ports.database, "supabase_admin", keys.adminPassword), max: 2 });
  const file = (name: string) => sql.file(join(import.meta.dir, name));
  if (isNew) {
    await file("roles.sql");
    await sql.unsafe(`alter role postgres password '${keys.databasePassword}'`);
  }
  say("starting the Data API, Auth and Storage …");
  const lite = createLite(ports.database, keys, join(state, "storage"), env.SUPABASE_URL);
  await lite.ensureSystemSchema();
  await file("platform.sql");

  say("applying migrations …");
  await applyMigrations(project, address(ports.database, "postgres", keys.databasePassword), log("migrations"));
  const functions = `http://${env.FUNCTIONS_ADDRESS}`;
  const server = serveGateway({ port: ports.gateway, functions, lite, sql, keys, log: log("gateway") });
  endings.push(() => server.stop(true), () => sql.end({ timeout: 1 }));

  if (!given.without.has("replicate")) {
    say("starting the Replicate sandbox …");
    await startBinary("replicate-sandbox", `http://${env.SANDBOX_ADDRESS}/health`, env, log("replicate"));
  }
  if (!given.without.has("functions")) {
    say("starting the functions …");
    await startBinary("local", `${functions}/health`, env, log("functions"));
  }
  return env;
}

async function startBinary(name: string, health: string, env: Record<string, string>, log: string) {
  const command = join(binaries, name);
  if (!existsSync(command)) throw new Error(`${command} is not there: run \`make build\``);
  const service = startService({ name, command, args: [], log, env });
  endings.push(() => stopService(service));
  services.push(service);
  await untilReady(service, async () => (await fetch(health)).ok, log);
}

function introduce(env: Record<string, string>): void {
  const shown = ["SUPABASE_URL", "SUPABASE_PUBLISHABLE_KEY", "SUPABASE_SECRET_KEY", "FUNCTIONS_URL", "DATABASE_URL"];
  print(`\n${shown.map((name) => `  ${name}=${env[name]}`).join("\n")}`);
  print(`\n  logs: ${join(env.STACK_STATE, "logs")}`);
  print("  people: alice@example.com, bob@example.com, carol@example.com; password: opusflair");
  print("\nEverything is up. Ctrl-C ends it.");
}

function untilAskedToEnd(): Promise<number> {
  return new Promise((end) => {
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
      process.on(signal, () => end(signal === "SIGINT" ? 130 : 143));
    }
  });
}

async function died(service: Service): Promise<number> {
  const what = await service.ended;
  return isEnding ? 0 : fail(what);
}

/** The console is lite's, and silent. */
function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

function fail(message: string): number {
  process.stderr.write(`${message}\n`);
  return 1;
}

async function end(): Promise<void> {
  isEnding = true;
  for (const ending of endings.reverse()) await ending().catch((error: Error) => fail(error.message));
}

const code = await main().catch((error: Error) => fail(error.message));
await end();
process.exit(code);
