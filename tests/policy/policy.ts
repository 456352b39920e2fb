// Prints which promises of POLICY.md are kept, from the results of an earlier run. `make policy` runs the tests first.

import { existsSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { chosen } from "./clauses.ts";
import { parse } from "./document.ts";
import { judge } from "./judge.ts";
import { isKept, table } from "./print.ts";
import { readResults } from "./results.ts";

const root = resolve(import.meta.dirname, "..", "..");
const folder = process.env.RESULTS ?? join(root, ".local/policy");

const sections = chosen(process.env.CLAUSES ?? "");
const ids = [...sections.values()].flat();
const rows = parse(readFileSync(join(root, "POLICY.md"), "utf8")).filter(({ id }) => !process.env.CLAUSES || ids.includes(id));
const verdict = judge(rows, readResults(folder, root), (path) => existsSync(join(root, path)), sections);
const width = Math.min(Math.max(process.stdout.columns ?? 110, 80), 140);
console.log(table(verdict, width, process.stdout.isTTY && !process.env.NO_COLOR));
if (!isKept(verdict)) process.exitCode = 1;
