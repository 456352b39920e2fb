// A mutant: an important line that is removed or changed. A test must notice it.

export interface Mutant {
  name: string;
  /** The clause of the privacy policy that the line enforces. A test that POLICY.md names for this clause must notice. */
  clause?: string;
  file: string;
  /** Occurs exactly once in the file. */
  line: string;
  /** Replaces the line. If absent, the line is removed. */
  instead?: string;
  /**
   * The suites to run until one fails. `database` is pgTAP, with the flags of its stack. `cargo <package>` is the unit
   * tests of that package. All others are test files.
   */
  seenBy: string[];
}

export const sql = (file: string) => `sql/${file}.sql`;
export const rust = (file: string) => `functions/${file}.rs`;

/** pgTAP, on any kind of stack. */
export const isDatabase = (suite: string) => suite === "database" || suite.startsWith("database ");

/** Unit tests in Rust. */
export const isCargo = (suite: string) => suite.startsWith("cargo ");
