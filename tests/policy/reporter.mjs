// A second reporter for Node's test runner. It prints nothing and records the result of each test.
// It is in JavaScript, because Node 20 loads reporters before it loads tsx.

import { relative, resolve } from "node:path";
import { tsImport } from "tsx/esm/api";

const { record } = await tsImport("./results.ts", import.meta.url);
const root = resolve(import.meta.dirname, "..", "..");

/** A test marked as todo counts as skipped, because it passes whatever it finds. */
function outcome(type, { skip, todo }) {
  if ((skip ?? false) !== false || (todo ?? false) !== false) return "skipped";
  return type === "test:pass" ? "passed" : "failed";
}

export default async function* reporter(events) {
  for await (const { type, data } of events) {
    if ((type !== "test:pass" && type !== "test:fail") || data.details.type === "suite") continue;
    const file = data.file ?? resolve(data.name);
    // Node reports a file that ends early or cannot be loaded as a test with the name of the file.
    const name = resolve(data.name) === file ? relative(root, file) : data.name;
    record(relative(root, file), name, outcome(type, data));
  }
}
