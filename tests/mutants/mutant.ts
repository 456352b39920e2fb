// A line that matters, to be taken away: a test must notice.

export interface Mutant {
  name: string;
  /** The clause of the privacy policy that it is behind: then a test must notice that POLICY.md names for it. */
  clause?: string;
  file: string;
  /** Occurs once in the file. */
  line: string;
  /** What stands there instead; nothing if absent. */
  instead?: string;
  /**
   * The suites that are run until one is red: `database` is pgTAP, with the flags of its stack; `cargo <package>` is
   * that package's unit tests; the others are files of tests.
   */
  seenBy: string[];
}

export const sql = (file: string) => `sql/${file}.sql`;
export const rust = (file: string) => `functions/${file}.rs`;

/** pgTAP, on a stack of whatever kind. */
export const isDatabase = (suite: string) => suite === "database" || suite.startsWith("database ");

/** Unit tests in Rust. */
export const isCargo = (suite: string) => suite.startsWith("cargo ");
