// Reads POLICY.md, which has a table for each section and a row for each clause.

export interface NamedTest {
  file: string;
  name: string;
}

export interface Row {
  id: string;
  section: string;
  promise: string;
  /** The files that the mechanism mentions. */
  files: string[];
  tests: NamedTest[];
  /** The problems with the row itself, such as a test that cannot be parsed. */
  faults: string[];
}

const placeholder = "…";
const header = ["id", "promise", "mechanism", "tests"];
/** Matches the paths among the code spans. Other names, such as those of tables, have no slash. */
const path = /^[\w.-]+(?:\/[\w.-]+)+$/;

function cells(line: string): string[] {
  const inner = line.trim().replace(/^\|/, "").replace(/\|$/, "");
  return inner.split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll("\\|", "|"));
}

function test(entry: string): NamedTest | string {
  const [, file, name] = /^`([^`]+)` › "(.+)"$/.exec(entry) ?? [];
  return file && name ? { file, name } : `cannot be read as a file and a test: ${entry}`;
}

function row(section: string, line: string): Row {
  const [id = "", promise = "", mechanism = "", last = "", ...more] = cells(line);
  const codes = [...mechanism.matchAll(/`([^`]+)`/g)].map(([, code]) => code!);
  const files = codes.filter((code) => path.test(code));
  const written = last.split("<br>").map((entry) => entry.trim());
  const entries = written.filter((entry) => entry && entry !== placeholder).map(test);
  const faults = entries.filter((entry) => typeof entry === "string");
  if (more.length > 0) faults.push(`has ${more.length + header.length} cells, not ${header.length}`);
  if (!promise || promise === placeholder) faults.push("promises nothing");
  return { id, section, promise, files, tests: entries.filter((entry) => typeof entry !== "string"), faults };
}

/** The rows of all tables with the header of a table of clauses. */
export function parse(text: string): Row[] {
  const rows: Row[] = [];
  let section = "";
  let isTable = false;
  for (const line of text.split("\n")) {
    section = /^## (.+)$/.exec(line)?.[1] ?? section;
    if (!line.startsWith("|")) isTable = false;
    else if (cells(line).join() === header.join()) isTable = true;
    else if (isTable && !/^[|\s:-]+$/.test(line)) rows.push(row(section, line));
  }
  return rows;
}
