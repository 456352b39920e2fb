// Applies migrations and seed with the official CLI, as role `postgres`. They reach a
// hosted project in the same way.

import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, openSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { tail } from "./processes.ts";

const recordName = "migrations.json";

function digests(project: string): Record<string, string> {
  const folder = join(project, "supabase", "migrations");
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
      `${changed} has changed since it was applied to this state: begin anew with --fresh, or remove ${state}`,
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
