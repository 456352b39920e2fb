// The list must match the code from which it removes lines.

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { test } from "node:test";
import { sections } from "../policy/clauses.ts";
import { parse } from "../policy/document.ts";
import { mutants } from "./list.ts";
import { isCargo, isDatabase } from "./mutant.ts";

const root = resolve(import.meta.dirname, "..", "..");

test("each mutant removes a line that occurs exactly once, and names tests that could notice it", () => {
  for (const { name, file, line, instead, seenBy } of mutants) {
    assert.equal(readFileSync(join(root, file), "utf8").split(line).length - 1, 1, name);
    assert.notEqual(line, instead ?? "", name);
    assert.ok(seenBy.length > 0, name);
    for (const suite of seenBy) assert.ok(isDatabase(suite) || isCargo(suite) || existsSync(join(root, "tests", suite)), suite);
  }
});

test("every statement that settles a hold is on the list", () => {
  const settling = ["credits", "lifecycle", "dispatch", "settlement", "artworks", "submission"].flatMap((file) =>
    [...readFileSync(join(root, "sql", `${file}.sql`), "utf8").matchAll(/update public\.credit_holds\s[^;]*;/g)].map(([statement]) => ({ file: `sql/${file}.sql`, statement })));
  assert.ok(settling.length >= 2);
  for (const { file, statement } of settling) {
    assert.ok(mutants.some((mutant) => mutant.file === file && statement.includes(mutant.line.trim().split("\n").at(-1)!)), statement);
  }
});

test("each section of the policy has a mutant, in a suite that POLICY.md names for its clause", () => {
  const rows = parse(readFileSync(join(root, "POLICY.md"), "utf8"));
  for (const [section, ids] of sections) assert.ok(mutants.some(({ clause }) => clause && ids.includes(clause)), section);
  for (const { clause, name, seenBy } of mutants.filter((mutant) => mutant.clause)) {
    const files = rows.filter(({ id }) => id === clause).flatMap(({ tests }) => tests.map(({ file }) => file));
    for (const suite of seenBy) {
      assert.ok(files.some((file) => (isDatabase(suite) ? file.startsWith("supabase/tests/") : file === `tests/${suite}`)), `${clause}, ${name}: ${suite}`);
    }
  }
});
