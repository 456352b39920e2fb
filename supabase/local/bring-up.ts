// Starts everything that a hosted project has, step by step.

import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import postgres from "postgres";
import type { Arguments } from "./arguments.ts";
import { connect, disconnect, prepare } from "./connections.ts";
import { environment } from "./environment.ts";
import { type Gateway, serveGateway } from "./gateway.ts";
import { loadKeys } from "./keys.ts";
import { openLog } from "./log.ts";
import { applyMigrations } from "./migrations.ts";
import { preparePlatform } from "./platform.ts";
import { reservePort } from "./ports.ts";
import { Presence } from "./presence.ts";
import { address, connection, keepDatabase } from "./postgres.ts";
import { type Service, startService, stopService, untilReady } from "./processes.ts";
import type { State } from "./state.ts";
import { Disk } from "./storage/disk.ts";
import { Pieces } from "./storage/pieces.ts";
import { versions } from "./storage/storage.ts";

export const root = resolve(import.meta.dir, "..", "..");

export interface Running {
  services: Service[];
  /** Functions that end what was started. They run in reverse order. */
  endings: (() => Promise<unknown>)[];
}

export async function bringUp(
  given: Arguments,
  state: State,
  running: Running,
  say: (line: string) => void,
) {
  const project = given.project ?? root;
  const wanted = ["replicate", "functions"].filter((part) => !given.without.has(part));
  for (const part of wanted) binary(part);
  const keys = await loadKeys(state.folder);
  const reserved = {
    gateway: await reservePort(54321),
    database: await reservePort(54322),
    functions: await reservePort(54323),
    sandbox: await reservePort(54324),
  };
  const ports = {
    gateway: reserved.gateway.port,
    database: reserved.database.port,
    functions: reserved.functions.port,
    sandbox: reserved.sandbox.port,
  };
  const env = environment(state.folder, keys, ports);

  say("starting PostgreSQL …");
  let gateway: Gateway | undefined;
  // The database may end again while connections are made. Then these connections are useless.
  let attempts = 0;
  const left = () => {
    attempts += 1;
    gateway?.database.leave();
  };
  const restarted = async () => {
    if (!gateway) return;
    const attempt = (attempts += 1);
    const made = await connect(ports.database, keys, env.SUPABASE_URL!);
    if (attempt !== attempts) return disconnect(made);
    disconnect(gateway);
    const storage = { ...gateway.storage, sql: made.sql };
    await storage.disk.sweep(await versions(made.sql));
    Object.assign(gateway, { ...made, storage, database: new Presence() });
    describe();
  };
  const describe = () =>
    state.describe({
      ports,
      pids: Object.fromEntries(running.services.map(({ name, process }) => [name, process.pid])),
      url: env.SUPABASE_URL,
      functions: env.FUNCTIONS_URL,
      replicate: env.REPLICATE_BASE_URL,
    });
  const database = await keepDatabase(
    join(state.folder, "postgres"),
    reserved.database,
    keys.adminPassword,
    state.log("postgres"),
    { left, restarted },
  );
  running.endings.push(() => database.stop());
  running.services.push(database);
  const first = postgres({
    ...connection(ports.database, "supabase_admin", keys.adminPassword),
    max: 1,
  });
  await preparePlatform(first, keys.databasePassword, given.grantsByDefault);
  await first.end();

  say("starting the Data API, Auth and Storage …");
  const { sql, lite } = await connect(ports.database, keys, env.SUPABASE_URL!);
  await prepare({ sql, lite });
  const storage = {
    sql,
    keys,
    disk: new Disk(join(state.folder, "storage")),
    pieces: new Pieces(join(state.folder, "resumable")),
  };
  await storage.disk.sweep(await versions(sql));
  await storage.pieces.sweep();

  say("applying migrations …");
  await applyMigrations(
    project,
    address(ports.database, "postgres", keys.databasePassword),
    state.folder,
    state.log("migrations"),
  );
  // Users with a public password. Only this stack may have them, so no command of the CLI includes this file.
  const people = join(project, "supabase", "seed", "people.sql");
  if (existsSync(people)) await sql.file(people);
  const functions = `http://${env.FUNCTIONS_ADDRESS}`;
  await reserved.gateway.release();
  const log = openLog(state.log("gateway"));
  const present = new Presence();
  gateway = { port: ports.gateway, functions, lite, sql, keys, storage, database: present, log };
  const server = serveGateway(gateway);
  // Does not wait for the server, and does not close database connections: the end
  // of the database closes them all.
  running.endings.push(async () => void server.stop(true));

  for (const part of ["replicate", "functions"] as const) {
    const isFunctions = part === "functions";
    await reserved[isFunctions ? "functions" : "sandbox"].release();
    if (!wanted.includes(part)) continue;
    say(isFunctions ? "starting the functions …" : "starting the Replicate sandbox …");
    const listening = isFunctions ? env.FUNCTIONS_ADDRESS : env.SANDBOX_ADDRESS;
    await startBinary(part, `http://${listening}/health`, env, state, running);
  }
  describe();
  return env;
}

function binary(part: string): string {
  const folder = resolve(root, process.env.OPUSFLAIR_BIN_DIR ?? "target/debug");
  const command = join(folder, part === "functions" ? "local" : "replicate-sandbox");
  if (!existsSync(command)) throw new Error(`${command} is not there: run \`make build\``);
  return command;
}

async function startBinary(
  part: string,
  health: string,
  env: Record<string, string>,
  state: State,
  running: Running,
) {
  const log = state.log(part);
  const service = startService({ name: part, command: binary(part), args: [], log, env });
  running.endings.push(() => stopService(service));
  running.services.push(service);
  await untilReady(service, async () => (await fetch(health)).ok, log);
}
