// The memory of the functions of the stack, as Linux reports it.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const { pids } = JSON.parse(readFileSync(join(process.env.STACK_STATE!, "stack.json"), "utf8")) as { pids: Record<string, number> };

/** The process of the functions. */
export const functionsPid = pids.functions!;

/** The peak memory of the functions since the last call, in MB. */
export function peakMegabytes(): number {
  const status = readFileSync(`/proc/${pids.functions}/status`, "utf8");
  const peak = Number(/VmHWM:\s+(\d+) kB/.exec(status)![1]) / 1024;
  writeFileSync(`/proc/${pids.functions}/clear_refs`, "5");
  return peak;
}
