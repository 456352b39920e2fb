// Prepares photos as `submit` does, in a separate process (functions/photo/examples/prepare.rs).

import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

const root = resolve(import.meta.dirname, "..", "..");

/** The measurements of the photo, or the reason for its refusal. */
export interface Verdict {
  format?: string;
  width?: number;
  height?: number;
  code?: string;
  sentence?: string;
  /** The CPU time and, in `megabytes`, the peak memory. Only on Linux. */
  seconds?: number;
  megabytes?: number;
}

/** Builds the example `prepare` with the features of `make build`, so that nothing is compiled twice. */
export function build(): string {
  return cargo("debug", "prepare", "--workspace", "--features", "local/crash-points");
}

/** Builds an example of the crate `photo` for a measurement. */
export function buildRelease(example: "prepare" | "fuzz", features: "heic"[] = []): string {
  return cargo("release", example, "--package", "photo", "--features", features.join(), "--release");
}

/** Returns the path of the program. */
function cargo(folder: string, example: string, ...scope: string[]): string {
  const args = ["build", "--quiet", "--locked", "--example", example, ...scope];
  execFileSync("cargo", args, { cwd: root, stdio: ["ignore", "ignore", "inherit"] });
  return join(process.env.CARGO_TARGET_DIR ?? join(root, "target"), folder, "examples", example);
}

/** Prepares photos with `program`, one after the other. */
export class Preparer implements Disposable {
  readonly #folder = mkdtempSync(join(tmpdir(), "photos-"));
  readonly #program: string;

  constructor(program: string) {
    this.#program = program;
  }

  prepare(photo: Buffer): Verdict & { prepared?: Buffer } {
    const [from, to] = [join(this.#folder, "photo"), join(this.#folder, "prepared")];
    writeFileSync(from, photo);
    const run = spawnSync(this.#program, [from, to], { encoding: "utf8" });
    if (run.status !== 0) throw new Error(`the program ended with ${run.status ?? run.signal}: ${run.stderr}`);
    const verdict = JSON.parse(run.stdout) as Verdict;
    return verdict.code ? verdict : { ...verdict, prepared: readFileSync(to) };
  }

  [Symbol.dispose](): void {
    rmSync(this.#folder, { recursive: true });
  }
}
