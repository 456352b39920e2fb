// A sandbox for one test, with its own clock and faults.

import { type ChildProcess, spawn } from "node:child_process";
import { join, resolve } from "node:path";
import Replicate, { type Prediction } from "replicate";
import { freePort, until } from "../waiting.ts";

export const pro = "black-forest-labs/flux-kontext-pro";
export const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo=";
const token = "r8_sandbox";
const root = resolve(import.meta.dirname, "..", "..");
const binaries = resolve(root, process.env.OPUSFLAIR_BIN_DIR ?? "target/debug");

export class Sandbox {
  private constructor(
    readonly url: string,
    private readonly process: ChildProcess,
  ) {}

  static async start(runMs = 100): Promise<Sandbox> {
    const address = `127.0.0.1:${await freePort()}`;
    const child = spawn(join(binaries, "replicate-sandbox"), {
      stdio: ["pipe", "ignore", "inherit"],
      env: {
        ...process.env,
        EXIT_WITH_STDIN: "1",
        RUST_LOG: "warn",
        SANDBOX_ADDRESS: address,
        SANDBOX_RUN_MS: String(runMs),
        REPLICATE_API_TOKEN: token,
        REPLICATE_WEBHOOK_SECRET: secret,
      },
    });
    const sandbox = new Sandbox(`http://${address}`, child);
    const health = () => fetch(`${sandbox.url}/health`).catch(() => null);
    await until("the sandbox to listen", async () => (await health())?.ok || undefined);
    return sandbox;
  }

  /** The official client, unmodified. */
  client(auth = token): Replicate {
    return new Replicate({ auth, baseUrl: `${this.url}/v1` });
  }

  /** Creates a prediction with any body and headers, which the client does not allow. */
  create(body: unknown, headers: Record<string, string> = {}): Promise<Response> {
    const usual = { authorization: `Bearer ${token}`, "content-type": "application/json" };
    return fetch(`${this.url}/v1/models/${pro}/predictions`, {
      method: "POST",
      headers: { ...usual, ...headers },
      body: JSON.stringify(body),
    });
  }

  /** Waits until a prediction has reached any end state. */
  ended(id: string): Promise<Prediction> {
    return until(`prediction ${id} to end`, async () => {
      const found = await this.client().predictions.get(id);
      return found.completed_at ? found : undefined;
    });
  }

  /** Waits until a prediction runs. */
  running(id: string): Promise<Prediction> {
    return until(`prediction ${id} to run`, async () => {
      const found = await this.client().predictions.get(id);
      return found.status === "processing" ? found : undefined;
    });
  }

  control(method: string, path: string, body?: unknown): Promise<Response> {
    return fetch(`${this.url}/_sandbox${path}`, {
      method,
      headers: { "content-type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  }

  arm(...next: { fault: string; count?: number; value?: number }[]): Promise<Response> {
    return this.control("POST", "/faults", { next });
  }

  disarm(): Promise<Response> {
    return this.control("DELETE", "/faults");
  }

  advance(advance_seconds: number): Promise<Response> {
    return this.control("POST", "/clock", { advance_seconds });
  }

  async stop(): Promise<void> {
    const ended = new Promise((resolve) => this.process.once("exit", resolve));
    this.process.kill();
    await ended;
  }
}
