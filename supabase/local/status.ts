// Shows the operator's status. It asks the functions at `FUNCTIONS_URL` with `OPERATOR_SECRET`, or those of
// the stack that runs in the given state folder.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Keys } from "./keys.ts";

const [state] = process.argv.slice(2);

function read<T>(name: string): T {
  try {
    return JSON.parse(readFileSync(join(state!, name), "utf8"));
  } catch {
    throw new Error(
      "No stack is running: start one with `make run`, or set FUNCTIONS_URL and OPERATOR_SECRET.",
    );
  }
}

function address(): string {
  return process.env.FUNCTIONS_URL ?? read<{ functions: string }>("stack.json").functions;
}

function secret(): string {
  return process.env.OPERATOR_SECRET ?? read<Keys>("keys.json").operatorSecret;
}

async function show(): Promise<string> {
  const answer = await fetch(`${address()}/status`, {
    headers: { accept: "text/plain", authorization: `Bearer ${secret()}` },
    signal: AbortSignal.timeout(15_000),
  });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${address()}/status answered ${answer.status}:\n${text}`);
  return text;
}

try {
  process.stdout.write(await show());
} catch (error) {
  process.stderr.write(`${(error as Error).message}\n`);
  process.exit(1);
}
