// A functions process of the lab's own, which comes back whenever it ends, as a platform would see to.

import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { freePort, until } from "../waiting.ts";

/** Where a process can be ended or frozen: after each step of each flow. */
export const crashPoints = [
  "submit.begun",
  "submit.leased",
  "submit.checked",
  "submit.recorded",
  "submit.created",
  "event.recorded",
  "artwork.stored",
  "artwork.concluded",
  "deletion.executed",
  "deletion.looked",
  "end.recorded",
  "cleanup.settling",
] as const;
/** And of the flows by which people exercise their rights. */
export const crashPointsOfRights = [
  "errand.made",
  "erasure.ordered",
  "erasure.advanced",
  "erasure.leaving",
  "erasure.left",
  "erasure.signed",
  "letter.sent",
  "export.leased",
  "export.planned",
  "export.begun",
  "export.recorded",
  "export.sent",
] as const;
export type CrashPoint = (typeof crashPoints)[number] | (typeof crashPointsOfRights)[number];

const root = resolve(import.meta.dirname, "..", "..");
/** What all of them have written. */
export const functionsLog = join(process.env.STACK_STATE!, "logs", "lab-functions.log");
const binary = join(resolve(root, process.env.OPUSFLAIR_BIN_DIR ?? "target/debug"), "local");

export class Functions {
  private process!: ChildProcess;
  private isStopping = false;
  /** How often it has ended by a crash point or a kill. */
  restarts = 0;
  private restartsWhenArmed = 0;
  private configured: Record<string, string> = {};

  private constructor(
    readonly port: number,
    private readonly env: Record<string, string>,
  ) {}

  static async start(port: number, env: Record<string, string>): Promise<Functions> {
    const functions = new Functions(port, env);
    functions.launch();
    await functions.isUp();
    return functions;
  }

  get pid(): number {
    return this.process.pid!;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** Kills it; resolves when it is up again. */
  async kill(): Promise<void> {
    const before = this.restarts;
    this.process.kill("SIGKILL");
    await until("the functions to be killed", async () => this.restarts > before || undefined);
    await this.isUp();
  }

  /** Starts it anew so that it ends itself where it next comes to `point`. */
  async crashAt(point: CrashPoint): Promise<void> {
    await this.again({ CRASH_AT: point });
    this.restartsWhenArmed = this.restarts;
  }

  /**
   * It has ended at its point, and is up again. A caller learns of the end from its connection, and may do so before
   * this process has: neither how often it has ended nor whether it answers says anything until then.
   */
  async crashed(): Promise<void> {
    await until("the functions to end at their point", async () => this.restarts > this.restartsWhenArmed || undefined);
    await this.isUp();
  }

  /** Starts it anew so that it freezes itself where it next comes to `point`. */
  freezeAt(point: CrashPoint): Promise<void> {
    return this.again({ FREEZE_AT: point });
  }

  /** Starts it anew, without a point to end at; `env` holds until it starts again. */
  restart(env: Record<string, string> = {}): Promise<void> {
    return this.again(env);
  }

  /** Starts it anew with other variables, which hold until it is configured anew. */
  configure(env: Record<string, string>): Promise<void> {
    this.configured = env;
    return this.again({});
  }

  async isFrozen(): Promise<void> {
    await until("the functions to freeze", async () => this.state() === "T" || undefined);
  }

  freeze(): void {
    this.process.kill("SIGSTOP");
  }

  thaw(): void {
    this.process.kill("SIGCONT");
  }

  async isUp(): Promise<void> {
    await until("the functions to be up", async () => {
      const answer = await fetch(`${this.url}/health`).catch(() => undefined);
      return answer?.ok || undefined;
    });
  }

  async stop(): Promise<void> {
    this.isStopping = true;
    this.thaw();
    const ended = new Promise((done) => this.process.once("exit", done));
    this.process.kill("SIGKILL");
    await ended;
  }

  private async again(env: Record<string, string>): Promise<void> {
    const ended = new Promise((done) => this.process.once("exit", done));
    this.isStopping = true;
    this.process.kill("SIGKILL");
    await ended;
    this.isStopping = false;
    this.launch(env);
    await this.isUp();
  }

  /** As /proc says: R, S, T (stopped) … */
  private state(): string {
    const stat = readFileSync(`/proc/${this.process.pid}/stat`, "utf8");
    return stat.slice(stat.lastIndexOf(")") + 2, stat.lastIndexOf(")") + 3);
  }

  private launch(env: Record<string, string> = {}): void {
    const log = openSync(functionsLog, "a", 0o600);
    this.process = spawn(binary, [], {
      stdio: ["pipe", log, log],
      env: { ...process.env, ...this.env, ...this.configured, ...env, FUNCTIONS_ADDRESS: `127.0.0.1:${this.port}`, EXIT_WITH_STDIN: "1" },
    });
    closeSync(log);
    this.process.once("exit", () => {
      if (this.isStopping) return;
      this.restarts += 1;
      this.launch();
    });
  }
}

export async function startFunctions(env: Record<string, string>, port?: number): Promise<Functions> {
  return Functions.start(port ?? (await freePort()), env);
}
