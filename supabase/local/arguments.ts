// The command line of the stack.

import { parseArgs } from "node:util";

export interface Arguments {
  /** Where keys, data, objects and logs are. */
  state: string;
  /** Whether to begin with an empty state. */
  fresh: boolean;
  quiet: boolean;
  without: Set<string>;
  /** Whose supabase/ holds the migrations, if it is not this project's. */
  project?: string;
  /** To be run once everything is up; the stack ends with it. */
  command: string[];
}

export const usage = `usage: stack.ts --state DIR [--fresh] [--quiet] [--without functions,replicate] [--project DIR] [-- command …]`;

export function readArguments(argv: string[]): Arguments {
  const separator = argv.indexOf("--");
  const own = separator < 0 ? argv : argv.slice(0, separator);
  const { values } = parseArgs({
    args: own,
    options: {
      state: { type: "string" },
      fresh: { type: "boolean", default: false },
      quiet: { type: "boolean", default: false },
      without: { type: "string", default: "" },
      project: { type: "string" },
    },
  });
  if (!values.state) throw new Error(usage);
  return {
    state: values.state,
    fresh: values.fresh,
    quiet: values.quiet,
    without: new Set(values.without.split(",").filter(Boolean)),
    project: values.project,
    command: separator < 0 ? [] : argv.slice(separator + 1),
  };
}
