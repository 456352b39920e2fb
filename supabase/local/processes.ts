// The processes of the stack. Each has its own log, and all of them end with the stack.

import { type ChildProcess, type SpawnOptions, spawn, spawnSync } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";

export interface Service {
  name: string;
  process: ChildProcess;
  /** Resolves with a message when the process has ended. */
  ended: Promise<string>;
}

export interface Start {
  name: string;
  command: string;
  args: string[];
  log: string;
  env?: Record<string, string>;
  options?: SpawnOptions;
}

/**
 * Starts a service. Its standard input stays open while the stack lives, and the service ends when it closes.
 */
export function startService({ name, command, args, log, env, options }: Start): Service {
  const output = openSync(log, "a", 0o600);
  const child = spawn(command, args, {
    stdio: ["pipe", output, output],
    env: { ...process.env, EXIT_WITH_STDIN: "1", ...env },
    // The service gets its own process group, so Ctrl-C reaches only the stack, which
    // then ends the services in order.
    detached: true,
    ...options,
  });
  closeSync(output);
  const ended = new Promise<string>((resolve) => {
    child.once("error", (error) => resolve(`${name} did not start: ${error.message}`));
    child.once("exit", (code, signal) => {
      resolve(`${name} ended by itself (${signal ?? code}). The end of its log:\n${tail(log)}`);
    });
  });
  return { name, process: child, ended };
}

export async function stopService(
  service: Service,
  signal: NodeJS.Signals = "SIGTERM",
  patienceMs = 10_000,
): Promise<void> {
  if (service.process.exitCode !== null || service.process.signalCode !== null) return;
  service.process.kill(signal);
  const timer = setTimeout(() => service.process.kill("SIGKILL"), patienceMs);
  await service.ended;
  clearTimeout(timer);
}

export function tail(log: string, lines = 15): string {
  return readFileSync(log, "utf8").trimEnd().split("\n").slice(-lines).join("\n");
}

/** Waits until `ready` returns true. Fails if the service ends first or takes too long. */
export async function untilReady(
  service: Service,
  ready: () => Promise<boolean>,
  log: string,
  patienceMs = 30_000,
): Promise<void> {
  const deadline = Date.now() + patienceMs;
  const ended = service.ended.then((what) => {
    throw new Error(what);
  });
  while (!(await Promise.race([ready().catch(() => false), ended]))) {
    if (Date.now() > deadline) {
      throw new Error(`${service.name} did not become ready. The end of its log:\n${tail(log)}`);
    }
    await Bun.sleep(50);
  }
  ended.catch(() => {});
}

const hasSetpriv = process.platform === "linux" && spawnSync("setpriv", ["--version"]).status === 0;

/** Wraps a command so that the system ends it when the stack is gone, if the system supports that. */
export function dyingWithUs(
  signal: "INT" | "TERM",
  command: string[],
  options: string[] = [],
): string[] {
  if (hasSetpriv) return ["setpriv", `--pdeathsig=${signal}`, ...options, "--", ...command];
  if (options.length > 0)
    throw new Error("setpriv (from util-linux) is not installed: install it, or do not start as root");
  return command;
}
