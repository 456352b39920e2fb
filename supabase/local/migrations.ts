// Applies migrations and seed with the official CLI, as role `postgres`. They reach a
// hosted project in the same way.

import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, openSync, readFileSync, readdirSync, watch, writeFileSync } from "node:fs";
import { join } from "node:path";
import { tail } from "./processes.ts";

const recordName = "migrations.json";

function folderOf(project: string): string {
  return join(project, "supabase", "migrations");
}

function digests(project: string): Record<string, string> {
  const folder = folderOf(project);
  const digest = (name: string) =>
    createHash("sha256").update(readFileSync(join(folder, name))).digest("hex");
  return Object.fromEntries(readdirSync(folder).map((name) => [name, digest(name)]));
}

/**
 * Refuses a state whose migrations have changed. A migration is applied only once, so
 * the state would stay outdated.
 */
function refuseChanged(state: string, now: Record<string, string>): void {
  const record = join(state, recordName);
  if (!existsSync(record)) return;
  const applied = JSON.parse(readFileSync(record, "utf8")) as Record<string, string>;
  const changed = Object.keys(applied).find((name) => now[name] !== applied[name]);
  if (changed) {
    throw new Error(
      `${changed} has changed since it was applied to this state: run \`make fresh\`, start with --fresh, or delete ${state}`,
    );
  }
}

export async function applyMigrations(
  project: string,
  database: string,
  state: string,
  log: string,
): Promise<void> {
  const now = digests(project);
  refuseChanged(state, now);
  const output = openSync(log, "a", 0o600);
  const cli = join(import.meta.dir, "node_modules", ".bin", "supabase");
  const push = spawn(
    cli,
    [
      "db",
      "push",
      "--workdir",
      project,
      `--remote=${database}?sslmode=disable`,
      "--include-seed",
      "--yes",
    ],
    {
      stdio: ["ignore", output, output],
      env: { ...process.env, DO_NOT_TRACK: "1", SUPABASE_TELEMETRY_DISABLED: "1" },
    },
  );
  const code = await new Promise<number | null>((resolve, reject) => {
    push.once("error", () =>
      reject(new Error("the Supabase CLI is not installed: run `make install`")),
    );
    push.once("exit", resolve);
  });
  if (code !== 0) throw new Error(`the migrations were not applied:\n${tail(log, 30)}`);
  writeFileSync(join(state, recordName), JSON.stringify(now, null, 2));
}

/** Says when a migration changes while the stack runs: it keeps the schema that it started with. */
export function watchMigrations(project: string, say: (line: string) => void): () => void {
  const folder = folderOf(project);
  let known = digests(project);
  const look = () => {
    if (!existsSync(folder)) return;
    const now = digests(project);
    for (const name of Object.keys(now).filter((one) => now[one] !== known[one])) {
      const advice = name in known ? "run `make fresh`, which deletes the data" : "run `make run` again";
      say(`${name} has changed, but the stack keeps the schema that it started with. To apply it, end the stack and ${advice}.`);
    }
    known = now;
  };
  // An editor writes a file in several steps, each of which is an event.
  let timer: ReturnType<typeof setTimeout>;
  const watcher = watch(folder, () => {
    clearTimeout(timer);
    timer = setTimeout(look, 200);
  });
  return () => watcher.close();
}
