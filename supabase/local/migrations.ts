// Migrations and seed, by the official CLI, as role `postgres`: the way they reach a hosted project.

import { spawn } from "node:child_process";
import { openSync } from "node:fs";
import { join } from "node:path";
import { tail } from "./processes.ts";

export async function applyMigrations(
  project: string,
  database: string,
  log: string,
): Promise<void> {
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
}
