// The results of a test run. All test runners append to one file in the folder that RESULTS names.

import { appendFileSync, existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

export type Outcome = "passed" | "failed" | "skipped";

export interface Result {
  /** The path from the root of the repository. For a Rust test, the folder of its crate. */
  file: string;
  name: string;
  outcome: Outcome;
}

/** Does nothing if RESULTS is not set. */
export function record(file: string, name: string, outcome: Outcome): void {
  const folder = process.env.RESULTS;
  if (folder) appendFileSync(join(folder, "results.jsonl"), `${JSON.stringify({ file, name, outcome })}\n`);
}

const outcomes: Record<string, Outcome> = { ok: "passed", FAILED: "failed", ignored: "skipped" };

/** Parses the output of `cargo test`. `crates` are the folders of the workspace, which end with the package name. */
export function cargoResults(output: string, crates: string[]): Result[] {
  const results: Result[] = [];
  let crate: string | undefined;
  for (const line of output.replaceAll(/\x1b\[[\d;]*m/g, "").split("\n")) {
    const binary = /^\s+Running .*\/([\w-]+)-[0-9a-f]+(?:\.exe)?\)$/.exec(line)?.[1]?.replaceAll("_", "-");
    if (binary) crate = crates.find((folder) => folder.endsWith(`/${binary}`));
    if (/^\s+Doc-tests /.test(line)) crate = undefined;
    const [, name, end] = /^test (\S+)(?: - should panic)? \.\.\. (ok|FAILED|ignored)/.exec(line) ?? [];
    if (crate && name && end) results.push({ file: crate, name, outcome: outcomes[end]! });
  }
  return results;
}

function read(path: string): string {
  return existsSync(path) ? readFileSync(path, "utf8") : "";
}

export function readResults(folder: string, root: string): Result[] {
  const lines = read(join(folder, "results.jsonl")).split("\n").filter(Boolean);
  const [, members = ""] = /^members = \[([^\]]*)\]/m.exec(read(join(root, "Cargo.toml"))) ?? [];
  const crates = [...members.matchAll(/"([^"]+)"/g)].map(([, folder]) => folder!);
  const recorded = lines.map((line) => JSON.parse(line) as Result);
  return [...recorded, ...cargoResults(read(join(folder, "cargo.txt")), crates)];
}
