// The embedded stack: everything that a hosted project has, on this machine, until you end it.

import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import { readArguments } from "./arguments.ts";
import { type Running, bringUp, root } from "./bring-up.ts";
import { watchMigrations } from "./migrations.ts";
import { type Service, dyingWithUs } from "./processes.ts";
import { enter } from "./state.ts";

const running: Running = { services: [], endings: [] };
let isEnding = false;

/**
 * Recognises errors that postgres.js throws when the database goes away, and that no code can catch. The
 * stack already knows that the database is gone, and replaces the connections (connections.ts).
 */
function isOfTheDatabase(error: Error & { code?: string }): boolean {
  const isOurs = /node_modules\/postgres\/src\/connection\./.test(error.stack ?? "");
  return isOurs || /^(CONNECTION_\w+|ECONNREFUSED|ECONNRESET|EPIPE|57P0\d)$/.test(error.code ?? "");
}

for (const event of ["uncaughtException", "unhandledRejection"]) {
  process.on(event, (error: Error) => {
    if (isOfTheDatabase(error)) return;
    process.stderr.write(`${error.stack}\n`);
    process.exit(1);
  });
}

async function main(): Promise<number> {
  const given = readArguments(process.argv.slice(2));
  const asked = untilAskedToEnd();
  const started = performance.now();
  const state = await enter(given.state, given.fresh);
  running.endings.push(async () => state.leave());
  const env = await Promise.race([
    bringUp(given, state, running, given.quiet ? () => {} : print),
    asked,
  ]);
  if (typeof env === "number") return env;

  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  print(
    given.quiet ? `the stack is up: ${env.SUPABASE_URL} (${seconds} s)` : `up after ${seconds} s`,
  );
  if (given.command.length > 0) {
    const child = run(given.command, env);
    running.endings.push(async () => child.process.kill());
    return Promise.race([child.ended, asked, ...running.services.map(died)]);
  }
  // Before the stack says that it is up, so that no change after that is missed.
  const unwatch = watchMigrations(given.project ?? root, print);
  running.endings.push(async () => unwatch());
  introduce(env);
  return Promise.race([asked, ...running.services.map(died)]);
}

function run(
  command: string[],
  env: Record<string, string>,
): { process: ChildProcess; ended: Promise<number> } {
  const [program, ...args] = dyingWithUs("TERM", command);
  const child = spawn(program!, args, { stdio: "inherit", env: { ...process.env, ...env } });
  const ended = new Promise<number>((finish) => {
    child.once("error", (error) => finish(fail(`${command[0]}: ${error.message}`)));
    child.once("exit", (code) => finish(code ?? 1));
  });
  return { process: child, ended };
}

function introduce(env: Record<string, string>): void {
  const shown = [
    "SUPABASE_URL",
    "SUPABASE_PUBLISHABLE_KEY",
    "SUPABASE_SECRET_KEY",
    "FUNCTIONS_URL",
    "DATABASE_URL",
  ];
  print(`\n${shown.map((name) => `  ${name}=${env[name]}`).join("\n")}`);
  print(`\n  logs: ${join(env.STACK_STATE!, "logs")}`);
  print("  people: alice@example.com, bob@example.com, carol@example.com; password: opusflair");
  print(`\nEverything is up. Press Ctrl-C to end it, or run: kill ${process.pid}`);
}

function untilAskedToEnd(): Promise<number> {
  return new Promise((end) => {
    for (const [signal, code] of [
      ["SIGINT", 130],
      ["SIGTERM", 143],
      ["SIGHUP", 129],
    ] as const) {
      process.on(signal, () => end(code));
    }
  });
}

async function died(service: Service): Promise<number> {
  const what = await service.ended;
  return isEnding ? 0 : fail(what);
}

/** Writes to standard output, because the console is silenced for lite. */
function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

function fail(message: string): number {
  process.stderr.write(`${message}\n`);
  return 1;
}

async function end(): Promise<void> {
  isEnding = true;
  for (const ending of running.endings.reverse())
    await ending().catch((error: Error) => fail(error.message));
}

const code = await main().catch((error: Error) => fail(error.message));
await end();
process.exit(code);
