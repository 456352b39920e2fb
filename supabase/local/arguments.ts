// The command line of the stack.

import { parseArgs } from "node:util";

export interface Arguments {
  /** Where keys, data, objects and logs are. */
  state: string;
  /** Whether to begin with an empty state. */
  fresh: boolean;
  quiet: boolean;
  without: Set<string>;
  /** Whether new objects of `public` are granted to the API's roles, as in projects from before mid-2026. */
  grantsByDefault: boolean;
  /** Whose supabase/ holds the migrations, if it is not this project's. */
  project?: string;
  /** To be run once everything is up; the stack ends with it. */
  command: string[];
}

export const usage = `usage: stack.ts --state DIR [options] [-- command …]

  --fresh                        begin with an empty state
  --quiet                        say only when the stack is up
  --without functions,replicate  do not start these
  --project DIR                  whose supabase/ holds the migrations
  --default-privileges legacy    grant all on what \`postgres\` makes in \`public\` to the API's roles, as
                                 self-hosted projects and those from before mid-2026 do (a new state only)`;

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
