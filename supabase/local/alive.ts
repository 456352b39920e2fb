// Checks that a recorded process is still the same one, because the system reuses process ids.

import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";

function commandLine(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8");
  } catch {
    return process.platform === "linux"
      ? ""
      : spawnSync("ps", ["-p", String(pid), "-o", "command="]).stdout.toString();
  }
}

export function runs(pid: number, what: string): boolean {
  return pid !== process.pid && commandLine(pid).includes(what);
}
