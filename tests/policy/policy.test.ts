// A promise counts as kept only if its row is complete and each of its tests passed in the same run.

import assert from "node:assert/strict";
import { test } from "node:test";
import { sections } from "./clauses.ts";
import { parse } from "./document.ts";
import { judge } from "./judge.ts";
import { isKept, table } from "./print.ts";
import { cargoResults, type Outcome, type Result } from "./results.ts";

const head = "## Collect\n\n| id | promise | mechanism | tests |\n| --- | --- | --- | --- |\n";
const mechanism = "a private bucket (`sql/storage.sql`)";
const one = new Map([["Collect", ["C1"]]]);
const journey = "tests/journeys/a.test.ts";
const unit = "functions/opusflair/src/photo/tests.rs";
const repository = new Set(["sql/storage.sql", journey, unit, "functions/opusflair/src/lib.rs"]);

function row(tests: string, id = "C1", by = mechanism): string {
  return `| ${id} | Photos are private. | ${by} | ${tests} |\n`;
}

function named(file: string, name: string): string {
  return `\`${file}\` › "${name}"`;
}

function ran(name: string, outcome: Outcome = "passed", file = journey): Result {
  return { file, name, outcome };
}

/** All faults, of single clauses and in general. */
function faults(text: string, results: Result[], ids: ReadonlyMap<string, string[]> = one): string[] {
  const verdict = judge(parse(text), results, (path) => repository.has(path), ids);
  return [...verdict.lines.flatMap((line) => line.faults), ...verdict.faults];
}

test("the parser reads a row with several tests and an escaped bar", () => {
  const [read, ...others] = parse(head + row(`${named(journey, "one")}<br>${named(unit, 'a "b" \\| c')}`));
  assert.equal(others.length, 0);
  assert.deepEqual([read!.id, read!.section, read!.files], ["C1", "Collect", ["sql/storage.sql"]]);
  assert.deepEqual(read!.tests, [{ file: journey, name: "one" }, { file: unit, name: 'a "b" | c' }]);
  assert.deepEqual(read!.faults, []);
});

test("there are fifty clauses, without duplicates", () => {
  const ids = [...sections.values()].flat();
  assert.equal(ids.length, 50);
  assert.equal(new Set(ids).size, ids.length);
});

test("a promise whose test passed is kept", () => {
  assert.deepEqual(faults(head + row(named(journey, "one")), [ran("one")]), []);
});

test("a clause that is missing, repeated, unknown or in the wrong section is a fault", () => {
  const good = row(named(journey, "one"));
  assert.deepEqual(faults(head, [ran("one")]), ["has no row"]);
  assert.deepEqual(faults(head + good + good, [ran("one")]), ["has 2 rows"]);
  assert.deepEqual(faults(head + good + row(named(journey, "one"), "C99"), [ran("one")]), ["C99 is not a clause"]);
  const elsewhere = head.replace("Collect", "Use");
  assert.deepEqual(faults(elsewhere + good, [ran("one")]), ['is in the section "Use"']);
});

test("a row needs a promise, a mechanism that exists and a test", () => {
  const nothing = ["promises nothing", "names no mechanism", "names no test"];
  assert.deepEqual(faults(`${head}| C1 | … | … | … |\n`, []), nothing);
  const gone = head + row(named(journey, "one"), "C1", "a trigger (`sql/gone.sql`)");
  assert.deepEqual(faults(gone, [ran("one")]), ["the mechanism sql/gone.sql does not exist"]);
  assert.match(faults(head + row("by looking at it"), [])[0]!, /^cannot be read/);
});

test("a promise is not kept if its test failed, was skipped, did not run or does not exist", () => {
  const text = head + row(named(journey, "one"));
  const said = `${journey} › "one"`;
  assert.deepEqual(faults(text, [ran("one", "failed")]), [`${said} failed`]);
  assert.deepEqual(faults(text, [ran("one", "skipped")]), [`${said} was skipped`]);
  assert.deepEqual(faults(text, []), [`${said} did not run`]);
  assert.deepEqual(faults(text, [ran("two")]), [`${said} does not exist`]);
  assert.deepEqual(faults(text, [ran(journey, "failed")]), [`${said} did not run: its file ended early`]);
  const lost = "tests/journeys/lost.test.ts";
  const found = faults(head + row(named(lost, "one")), []);
  assert.deepEqual(found, [`${lost} › "one" does not exist, and neither does its file`]);
});

test("two tests with the same name are a fault in one file, but not in two files", () => {
  const text = head + row(named(journey, "one"));
  assert.equal(faults(text, [ran("one"), ran("one")]).length, 2);
  const other = [`${journey} › "two" is the name of more than one test`];
  assert.deepEqual(faults(text, [ran("one"), ran("two"), ran("two")]), other);
  assert.deepEqual(faults(text, [ran("one"), ran("one", "passed", "tests/faults/b.test.ts")]), []);
});

const output = `
     Running unittests src/lib.rs (target/debug/deps/opusflair-0f3a)
test photo::tests::measured ... ok
test photo::tests::stripped ... FAILED
test photo::tests::left_out ... ignored, for now
test photo::tests::panics - should panic ... ok
     Running unittests src/main.rs (target/debug/deps/replicate_webhook-77ab)
test tests::signed ... ok
   Doc-tests opusflair
test functions/opusflair/src/lib.rs - (line 3) ... ok
`;

test("results of cargo are assigned to their crates", () => {
  const results = cargoResults(output, ["functions/opusflair", "functions/replicate-webhook"]);
  assert.deepEqual(
    results.map(({ file, name, outcome }) => `${file} ${name} ${outcome}`),
    [
      "functions/opusflair photo::tests::measured passed",
      "functions/opusflair photo::tests::stripped failed",
      "functions/opusflair photo::tests::left_out skipped",
      "functions/opusflair photo::tests::panics passed",
      "functions/replicate-webhook tests::signed passed",
    ],
  );
});

test("a Rust test is found by its file and its module path", () => {
  const results = cargoResults(output, ["functions/opusflair"]);
  assert.deepEqual(faults(head + row(named(unit, "photo::tests::measured")), results), []);
  assert.match(faults(head + row(named(unit, "photo::tests::gone")), results)[0]!, / does not exist$/);
  const elsewhere = faults(head + row(named(unit, "audit::tests::measured")), results);
  assert.match(elsewhere[0]!, /begin with photo::tests::$/);
});

test("the table has a line for each clause, its faults below it, and a total", () => {
  const two = new Map([["Collect", ["C1", "C2"]]]);
  const text = head + row(named(journey, "one")) + row(named(journey, "two"), "C2");
  const results = [ran("one"), ran("two", "failed")];
  const verdict = judge(parse(text), results, (path) => repository.has(path), two);
  const printed = table(verdict, 100, false);
  assert.match(printed, /^ {2}C1 +pass +Photos are private\. +1 test$/m);
  assert.match(printed, /^ {2}C2 +FAIL .*\n +tests\/journeys\/a\.test\.ts › "two" failed$/m);
  assert.match(printed, /^1 of 2 promises/m);
  assert.equal(isKept(verdict), false);
});
