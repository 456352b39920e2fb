// The documents are part of the code: what they point to exists, and the API's description is sound.

import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { Validator } from "@seriousme/openapi-schema-validator";
import { parse } from "yaml";

const root = resolve(import.meta.dirname, "..", "..");
const faults: string[] = [];
const read = (path: string) => readFileSync(join(root, path), "utf8");
const files = execFileSync("git", ["ls-files", "--cached", "--others", "--exclude-standard"], { cwd: root, encoding: "utf8" })
  .trim()
  .split("\n")
  .filter((path) => existsSync(join(root, path)));

/** Links and images, and code spans that look like a path of this repository. */
function checkPaths(document: string): void {
  const text = read(document);
  const links = [...text.matchAll(/\]\((?!https?:|#|mailto:)([^)#\s]+)[^)]*\)/g)].map(([, link]) => join(dirname(document), link));
  const spans = [...text.matchAll(/`((?:functions|sql|supabase|tests|docs|web|\.ci|\.cargo)\/[\w./-]*)`/g)].map(([, path]) => path);
  for (const path of [...links, ...spans]) {
    if (!existsSync(join(root, path))) faults.push(`${document} points to ${path}, which is not there`);
  }
}

/** Each target that a document tells people to make is one. */
function checkTargets(document: string): void {
  const makefile = read("Makefile");
  for (const [, target] of read(document).matchAll(/`?make ([a-z]+)\b/g)) {
    if (!new RegExp(`^${target}:`, "m").test(makefile) && /`make /.test(read(document)) && read(document).includes(`\`make ${target}`)) {
      faults.push(`${document} says \`make ${target}\`, which is no target`);
    }
  }
}

/** The variables that the functions read and those that .env.example explains are the same. */
function checkVariables(): void {
  const sources = files.filter((path) => /^functions\/(opusflair|local)\/.*\.rs$/.test(path)).map(read).join("\n");
  const used = new Set([...sources.matchAll(/(?:reader\.\w+\(|env::var\()\s*"([A-Z_]+)"/g)].map(([, name]) => name));
  const explained = new Set([...read(".env.example").matchAll(/^#? ?([A-Z_]+)=/gm)].map(([, name]) => name));
  for (const name of used) if (!explained.has(name)) faults.push(`.env.example does not explain ${name}`);
}

async function checkApi(): Promise<void> {
  const description = parse(read("functions/openapi.yaml"));
  const { valid, errors } = await new Validator().validate(description);
  if (!valid) faults.push(`functions/openapi.yaml: ${JSON.stringify(errors).slice(0, 500)}`);

  const described = Object.keys(description.paths).sort();
  const routes = files.filter((path) => /^functions\/.*\.rs$/.test(path)).map(read).join("\n");
  const served = [...routes.matchAll(/\.route\("(\/[^"]+)"/g)].map(([, path]) => path);
  // /events is how Lambda hands on a scheduled event, /health is for whoever starts the process; /broken is a test's.
  const inner = ["/events", "/health", "/broken"];
  const expected = [...new Set(served)].filter((path) => !inner.includes(path)).sort();
  if (JSON.stringify(described) !== JSON.stringify(expected)) {
    faults.push(`functions/openapi.yaml describes ${described.join(", ")}; served are ${expected.join(", ")}`);
  }
}

/** Nothing of the machine that something was written on. */
function checkThatNothingPersonalIsIn(): void {
  for (const path of files.filter((name) => /\.(md|rs|ts|sql|toml|yaml|json|sh)$|Makefile$/.test(name))) {
    const found = /\/(?:home|Users|root|work)\/[\w.-]+\//.exec(read(path));
    if (found) faults.push(`${path} names a path of a machine: ${found[0]}`);
  }
}

const documents = files.filter((path) => path.endsWith(".md"));
for (const document of documents) {
  checkPaths(document);
  checkTargets(document);
}
checkVariables();
await checkApi();
checkThatNothingPersonalIsIn();
for (const fault of faults) console.error(`  ${fault}`);
if (faults.length > 0 || documents.length === 0) process.exit(1);
console.log(`  ${documents.length} documents, .env.example and functions/openapi.yaml agree with the code`);
