// The Lambda emulator of cargo-lambda, with the functions as built.

import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, existsSync, openSync } from "node:fs";
import { connect } from "node:net";
import { join, resolve } from "node:path";
import { freePort, until } from "../waiting.ts";

const root = resolve(import.meta.dirname, "..", "..");
const program = join(root, ".local/tools/bin/cargo-lambda");
const binaries = resolve(root, process.env.OPUSFLAIR_BIN_DIR ?? "target/debug");

export interface Answer {
  statusCode: number;
  headers: Record<string, string>;
  body: string;
}

/** Ends the program when its standard input closes, so that even a killed test leaves no process. */
const untilStdinCloses = '"$@" < /dev/null & cat > /dev/null; kill -KILL $!; wait';

export class Emulator {
  private readonly processes: ChildProcess[] = [];

  private constructor(private readonly port: number) {}

  /** With `log`, the functions write their lines into this file. */
  static async start(functions: string[], log?: string): Promise<Emulator> {
    if (!existsSync(program)) throw new Error("cargo-lambda is not installed: run `make test`, which fetches it");
    const emulator = new Emulator(await freePort());
    const address = ["--invoke-address", "127.0.0.1", "--invoke-port", String(emulator.port)];
    emulator.spawn(program, ["lambda", "watch", "--only-lambda-apis", ...address], {});
    await emulator.listening();
    for (const name of functions) {
      emulator.spawn(join(binaries, name), [], {
        AWS_LAMBDA_FUNCTION_NAME: name,
        AWS_LAMBDA_FUNCTION_VERSION: "1",
        AWS_LAMBDA_FUNCTION_MEMORY_SIZE: "1024",
        AWS_LAMBDA_RUNTIME_API: `http://127.0.0.1:${emulator.port}/.rt/${name}`,
      }, log);
    }
    return emulator;
  }

  /** Invokes a function with an event and returns its result. */
  async invoke<T = Answer>(name: string, event: unknown): Promise<T> {
    const response = await fetch(`http://127.0.0.1:${this.port}/2015-03-31/functions/${name}/invocations`, {
      method: "POST",
      body: JSON.stringify(event),
      signal: AbortSignal.timeout(30_000),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${name}: ${response.status} ${text}`);
    return JSON.parse(text) as T;
  }

  async stop(): Promise<void> {
    for (const child of this.processes.reverse()) {
      const ended = new Promise((done) => child.once("exit", done));
      if (child.exitCode === null && child.signalCode === null) {
        child.stdin!.end();
        await ended;
      }
    }
  }

  private spawn(command: string, args: string[], env: Record<string, string>, log?: string): void {
    const output = log === undefined ? "ignore" : openSync(log, "a");
    const child = spawn("sh", ["-c", untilStdinCloses, "sh", command, ...args], {
      cwd: root,
      stdio: ["pipe", output, output],
      env: { ...process.env, ...env },
    });
    if (typeof output === "number") closeSync(output);
    this.processes.push(child);
  }

  private listening(): Promise<true> {
    return until("the emulator to listen", async () => (await accepts(this.port)) || undefined);
  }
}

function accepts(port: number): Promise<boolean> {
  return new Promise((answer) => {
    const socket = connect(port, "127.0.0.1");
    socket.once("connect", () => answer(true)).once("error", () => answer(false));
    socket.once("connect", () => socket.destroy());
  });
}
