// The command line of the stack.

import { parseArgs } from "node:util";

export interface Arguments {
  /** The folder for keys, data, objects and logs. */
  state: string;
  /** Whether to start with an empty state. */
  fresh: boolean;
  quiet: boolean;
  without: Set<string>;
  /** Whether new objects in `public` are granted to the API's roles, as in projects from before mid-2026. */
  grantsByDefault: boolean;
  /** The project whose supabase/ folder holds the migrations, if it is not this one. */
  project?: string;
  /** A command to run once everything is up. The stack ends with it. */
  command: string[];
}

export const usage = `usage: stack.ts --state DIR [options] [-- command …]

  --fresh                        start with an empty state
  --quiet                        print only one line, when the stack is up
  --without functions,replicate  do not start these services
  --project DIR                  use the migrations and seed in DIR/supabase
  --default-privileges legacy    grant the API's roles all privileges on new objects of \`postgres\` in \`public\`,
                                 as in self-hosted projects and those from before mid-2026 (only for a new state)`;

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
      "default-privileges": { type: "string" },
    },
  });
  const privileges = values["default-privileges"];
  if (!values.state || ![undefined, "legacy"].includes(privileges)) throw new Error(usage);
  return {
    state: values.state,
    fresh: values.fresh,
    quiet: values.quiet,
    without: new Set(values.without.split(",").filter(Boolean)),
    grantsByDefault: privileges === "legacy",
    project: values.project,
    command: separator < 0 ? [] : argv.slice(separator + 1),
  };
}
