// Compares POLICY.md with the results of a run. A clause is kept only if each of its tests passed in this run.

import type { NamedTest, Row } from "./document.ts";
import type { Result } from "./results.ts";

export interface Line {
  id: string;
  section: string;
  promise: string;
  tests: number;
  /** The reasons why the clause is not kept. Empty if it is. */
  faults: string[];
}

export interface Verdict {
  lines: Line[];
  /** Faults that belong to no single clause. */
  faults: string[];
}

type Exists = (path: string) => boolean;

/** Cargo names a test by its crate and module. The document names the file, so that readers can find the test. */
function place(test: NamedTest): { file: string; module: string } {
  const [, crate, inner = ""] = /^(.+)\/src\/(.+)\.rs$/.exec(test.file) ?? [];
  if (!crate) return { file: test.file, module: "" };
  const isRoot = inner === "lib" || inner === "main";
  return { file: crate, module: isRoot ? "" : `${inner.replaceAll("/", "::")}::` };
}

/** The fault of a test that a row names, or undefined if the test exists, ran and passed. */
export function faultOf(test: NamedTest, results: Result[], exists: Exists): string | undefined {
  const { file, module } = place(test);
  if (!exists(test.file)) return "does not exist, and neither does its file";
  if (!test.name.startsWith(module)) return `does not exist in that file, whose tests begin with ${module}`;
  const ofFile = results.filter((result) => result.file === file);
  const found = ofFile.filter(({ name }) => name === test.name);
  if (found.length > 1) return "ran twice, so it is unclear which test is meant";
  if (found[0]?.outcome === "failed") return "failed";
  if (found[0]?.outcome === "skipped") return "was skipped";
  if (found[0]) return undefined;
  if (ofFile.length === 0) return "did not run";
  return ofFile.some(({ name }) => name === file) ? "did not run: its file ended early" : "does not exist";
}

function line(id: string, section: string, rows: Row[], results: Result[], exists: Exists): Line {
  const [row] = rows;
  if (!row) return { id, section, promise: "", tests: 0, faults: ["has no row"] };
  const faults = [...row.faults];
  if (rows.length > 1) faults.push(`has ${rows.length} rows`);
  if (row.section !== section) faults.push(`is in the section "${row.section}"`);
  if (row.files.length === 0) faults.push("names no mechanism");
  for (const file of row.files) if (!exists(file)) faults.push(`the mechanism ${file} does not exist`);
  if (row.tests.length === 0) faults.push("names no test");
  for (const test of row.tests) {
    const fault = faultOf(test, results, exists);
    if (fault) faults.push(`${test.file} › "${test.name}" ${fault}`);
  }
  return { id, section, promise: row.promise, tests: row.tests.length, faults };
}

function repeated(results: Result[]): string[] {
  const seen = new Set<string>();
  const twice = new Set<string>();
  for (const { file, name } of results) {
    const key = `${file} › "${name}"`;
    if (seen.has(key)) twice.add(key);
    seen.add(key);
  }
  return [...twice].map((key) => `${key} is the name of more than one test`);
}

export function judge(
  rows: Row[],
  results: Result[],
  exists: Exists,
  sections: ReadonlyMap<string, string[]>,
): Verdict {
  const known = new Set([...sections.values()].flat());
  const unknown = rows.filter(({ id }) => !known.has(id)).map(({ id }) => `${id} is not a clause`);
  const lines = [...sections].flatMap(([section, ids]) =>
    ids.map((id) => line(id, section, rows.filter((row) => row.id === id), results, exists)));
  return { lines, faults: [...unknown, ...repeated(results)] };
}
