// The log as the operator sees it: the lines that the lab's functions write.

import { readFileSync } from "node:fs";
import { functionsLog } from "../lab/functions.ts";

/** The lines that were written since `listen` was called. */
export type Lines = () => string[];

export function listen(): Lines {
  const { length } = readFileSync(functionsLog, { flag: "a+" });
  return () => readFileSync(functionsLog).subarray(length).toString().trimEnd().split("\n");
}

/** The lines of this level that contain this text. */
export function saying(lines: string[], level: "INFO" | "WARN" | "ERROR", text: string): string[] {
  return lines.filter((line) => line.includes(` ${level} `) && line.includes(text));
}
