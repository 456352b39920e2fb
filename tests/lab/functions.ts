// A functions process of the lab. It is restarted whenever it ends, as a hosting platform would do.

import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { freePort, until } from "../waiting.ts";

/** Points at which a process can end or freeze: after each step of each flow. */
export const crashPoints = [
  "submit.begun",
  "dispatch.leased",
  "dispatch.checked",
  "dispatch.recorded",
  "dispatch.created",
  "event.recorded",
  "artwork.stored",
  "artwork.concluded",
  "deletion.executed",
  "deletion.looked",
  "end.recorded",
  "cleanup.settling",
] as const;
/** The same for the flows of privacy rights. */
const crashPointsOfRights = [
  "outbox.called",
  "erasure.ordered",
  "erasure.advanced",
  "erasure.leaving",
  "erasure.left",
  "erasure.signed",
  "email.sent",
  "export.leased",
  "export.planned",
  "export.begun",
  "export.recorded",
  "export.sent",
] as const;
export type CrashPoint = (typeof crashPoints)[number] | (typeof crashPointsOfRights)[number];

const root = resolve(import.meta.dirname, "..", "..");
/** The log of all these processes. */
export const functionsLog = join(process.env.STACK_STATE!, "logs", "lab-functions.log");
const binary = join(resolve(root, process.env.OPUSFLAIR_BIN_DIR ?? "target/debug"), "local");

export class Functions {
  private process!: ChildProcess;
  private isStopping = false;
  /** How often the process has ended by a crash point or a kill. */
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

  /** Kills the process. Resolves when it is up again. */
  async kill(): Promise<void> {
    const before = this.restarts;
    this.process.kill("SIGKILL");
    await until("the functions to be killed", async () => this.restarts > before || undefined);
    await this.isUp();
  }

  /** Restarts the process, so that it ends itself when it next reaches `point`. */
  async crashAt(point: CrashPoint): Promise<void> {
    await this.again({ CRASH_AT: point });
    this.restartsWhenArmed = this.restarts;
  }

  /**
   * Waits until the process has ended at its point and is up again. A caller sees the lost connection, perhaps before this
   * class knows of it. Until this resolves, do not rely on `restarts`, or on whether the process answers.
   */
  async crashed(): Promise<void> {
    await until("the functions to end at their point", async () => this.restarts > this.restartsWhenArmed || undefined);
    await this.isUp();
  }

  /** Restarts the process, so that it freezes itself when it next reaches `point`. */
  freezeAt(point: CrashPoint): Promise<void> {
    return this.again({ FREEZE_AT: point });
  }

  /** Restarts the process without a crash point. `env` applies until the next restart. */
  restart(env: Record<string, string> = {}): Promise<void> {
    return this.again(env);
  }

  /** Restarts the process with other variables, which apply until it is configured again. */
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

  /** The state of the process as /proc reports it: R, S, T (stopped) … */
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
