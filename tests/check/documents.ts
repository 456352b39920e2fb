// The documents must match the code: what they link to exists, and the API description is valid.

import { existsSync, readFileSync, readdirSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { Validator } from "@seriousme/openapi-schema-validator";
import { parse } from "yaml";

const root = resolve(import.meta.dirname, "..", "..");
const faults: string[] = [];
const read = (path: string) => readFileSync(join(root, path), "utf8");
/** Fetched, built or stored files are not part of the sources. We walk the folder, because a downloaded copy has no git. */
const foreign = new Set([".git", ".local", ".temp", "node_modules", "target", ".env"]);

function walk(folder: string): string[] {
  const entries = readdirSync(join(root, folder), { withFileTypes: true }).filter(({ name }) => !foreign.has(name));
  return entries.flatMap((entry) => (entry.isDirectory() ? walk(join(folder, entry.name)) : [join(folder, entry.name)]));
}

const files = walk("");

/** The code in a document: its inline code and its fenced blocks. */
function code(document: string): string[] {
  const blocks = [...read(document).matchAll(/^```.*\n([^]*?)^```/gm)].map(([, block]) => block!);
  const prose = read(document).replaceAll(/^```[^]*?^```/gm, "");
  return [...blocks, ...[...prose.matchAll(/`([^`\n]+)`/g)].map(([, span]) => span!)];
}

/** The anchors of headings, as GitHub and similar sites make them. */
function anchors(document: string): Set<string> {
  const headings = [...read(document).matchAll(/^#+ (.+)$/gm)].map(([, heading]) => heading!);
  return new Set(headings.map((heading) => heading.toLowerCase().replaceAll(/[^\p{L}\p{N} _-]/gu, "").replaceAll(" ", "-")));
}

/** Checks links and images in any notation, and everything in code that looks like a path of this repository. */
function checkPaths(document: string): void {
  const text = read(document);
  const links = [...text.matchAll(/\]\(([^)\s]+)[^)]*\)|^\[[^\]]+\]: (\S+)|(?:src|href)="([^"]+)"/gm)].map((found) => found.slice(1).find(Boolean)!);
  for (const link of links.filter((one) => !/^(https?|mailto):/.test(one))) {
    const [path, anchor] = link.split("#");
    const target = path ? join(dirname(document), path) : document;
    if (!existsSync(join(root, target))) faults.push(`${document} points to ${target}, which does not exist`);
    else if (anchor && !anchors(target).has(anchor)) faults.push(`${document} points to ${link}, but that heading does not exist`);
  }
  const paths = /(?<![@\w./-])(?:functions|sql|supabase|tests|docs|web|\.ci|\.cargo)\/[\w./-]*|^[A-Z]+\.md$/g;
  for (const path of code(document).flatMap((piece) => piece.match(paths) ?? [])) {
    if (!existsSync(join(root, path)) && !path.includes("node_modules/")) faults.push(`${document} points to ${path}, which does not exist`);
  }
}

/** Every `make` target that a document mentions must exist. */
function checkTargets(document: string): void {
  const makefile = read("Makefile");
  for (const [, target] of code(document).join("\n").matchAll(/^(?:\$ )?make ([a-z][\w-]*)/gm)) {
    if (!makefile.includes(`\n${target}:`)) faults.push(`${document} says \`make ${target}\`, but that target does not exist`);
  }
}

/** .env.example must explain exactly the variables that the functions read. */
function checkVariables(): void {
  const sources = files.filter((path) => /^functions\/.*\.rs$/.test(path)).map(read).join("\n");
  const used = new Set([...sources.matchAll(/(?:reader\.\w+\(|env::var\()\s*"([A-Z_]+)"/g)].map(([, name]) => name));
  const explained = new Set([...read(".env.example").matchAll(/^#? ?([A-Z_]+)=/gm)].map(([, name]) => name));
  for (const name of used) if (!explained.has(name)) faults.push(`.env.example does not explain ${name}`);
  for (const name of explained) if (!sources.includes(`"${name}"`) && name !== "RUST_LOG") faults.push(`.env.example explains ${name}, but no function reads it`);
}

async function checkApi(): Promise<void> {
  const description = parse(read("functions/openapi.yaml"));
  const { valid, errors } = await new Validator().validate(description);
  if (!valid) return void faults.push(`functions/openapi.yaml: ${JSON.stringify(errors).slice(0, 500)}`);

  checkReasons(description.components.schemas);
  const described = Object.keys(description.paths).sort();
  const routes = files.filter((path) => /^functions\/.*\.rs$/.test(path)).map(read).join("\n");
  const served = [...routes.matchAll(/\.route\("(\/[^"]+)"/g)].map(([, path]) => path);
  // Lambda sends scheduled events to /events, whatever starts the process asks /health, and /broken belongs to a test.
  const inner = ["/events", "/health", "/broken"];
  const expected = [...new Set(served)].filter((path) => !inner.includes(path)).sort();
  if (JSON.stringify(described) !== JSON.stringify(expected)) {
    faults.push(`functions/openapi.yaml describes ${described.join(", ")}; the functions serve ${expected.join(", ")}`);
  }
}

/** Every failure reason has a sentence, and the API description lists the same reasons. */
function checkReasons(schemas: { Generation: { properties: { reason: { enum: (string | null)[] } } }; Problem: { properties: { code: { enum: string[] } } } }): void {
  const [, rows] = /insert into public\.failure_reasons \(id, sentence\) values\n([^;]+);/.exec(read("sql/generations.sql"))!;
  const reasons = [...rows!.matchAll(/^ {2}\('(\w+)', /gm)].map(([, id]) => id!).sort();
  const described = schemas.Generation.properties.reason.enum.filter((id) => id !== null).sort();
  if (JSON.stringify(reasons) !== JSON.stringify(described)) faults.push(`functions/openapi.yaml lists the reasons ${described.join(", ")}; failure_reasons has ${reasons.join(", ")}`);
  const rejections = [...read("functions/photo/src/rejection.rs").matchAll(/Self::\w+(?: \{ \.\. \}|\(_\))? => "(\w+)"/g)].map(([, code]) => code!);
  if (rejections.length < 10) faults.push("functions/photo/src/rejection.rs: the check cannot find its codes");
  for (const code of rejections) {
    if (!reasons.includes(code)) faults.push(`failure_reasons has no sentence for ${code}, the code of a refused photo`);
    if (!schemas.Problem.properties.code.enum.includes(code)) faults.push(`functions/openapi.yaml does not list the code ${code}`);
  }
}

/** Everything that the recipes of CONTRIBUTING.md quote must exist: each word of code, title of a test and message of a check. */
function checkRecipes(): void {
  const [, recipes] = /^## Recipes\n([^]*?)^## /m.exec(read("CONTRIBUTING.md"))!;
  const text = recipes!.replaceAll(/\s+/g, " ");
  const quoting = ["CONTRIBUTING.md", "tests/check/documents.ts"];
  const sources = files.filter((path) => !quoting.includes(path) && /\.(md|rs|sql|toml|tsx?|mjs|yaml)$/.test(path)).map(read).join("\n");
  const checks = files.filter((path) => /^(tests\/check|supabase\/tests)\//.test(path)).map(read).join("\n");
  const words = new Set(sources.match(/\w+/g));

  const spans = [...text.matchAll(/`([^`]+)`/g)].map(([, span]) => span!);
  const names = spans.flatMap((span) => span.match(/\w+/g) ?? []).filter((name) => !words.has(name));
  const titles = [...text.replaceAll(/`[^`]+`/g, "").matchAll(/"([^"]+)"/g)].map(([, title]) => title!).filter((title) => !sources.includes(title));
  // In place of … or a capital like X, a check prints names.
  const messages = [...text.matchAll(/`make check`: `([^`]+)`/g)].map(([, message]) => message!);
  const unsaid = messages.filter((message) => !message.split(/…|\b[A-Z]\b/).every((part) => checks.includes(part)));
  if (messages.length < 5) faults.push("CONTRIBUTING.md: the check cannot find the messages that the recipes quote");
  for (const quote of new Set([...names, ...titles, ...unsaid])) faults.push(`CONTRIBUTING.md quotes "${quote}", which is nowhere`);
}

/** Other words for things that the glossary names. No part of a name may match one: here, none has another sense. */
const synonyms: [other: string, word: string][] = [
  ["letters?", "email"],
  ["errands?", "outbox task"],
  ["(?:un)?heard", "webhook event"],
  ["owed", "due"],
  ["last_pass(?:es)?", "sweep"],
  ["(?:lease|return|prepare|postpone)_submissions?", "dispatch"],
  ["submit_(?:at|again)", "dispatch"],
];

/** Names use the words of the glossary: those of files, and in code those with several parts or defined in the line. */
function checkNames(): void {
  const compound = /\b[A-Za-z\d]+_\w+|\b\w*[a-z][A-Z]\w*/.source;
  const defined = /(?<=\b(?:table|function|fn|mod|struct|enum|type|interface|class) (?:\w+\.)?)\w+/.source;
  const glossary = read("ARCHITECTURE.md");
  for (const [, word] of synonyms) {
    if (!glossary.includes(`\n| ${word} | `)) faults.push(`ARCHITECTURE.md: the glossary has no "${word}"`);
  }
  const skipped = /^(?:supabase\/migrations\/|tests\/check\/documents\.ts)/;
  for (const path of files.filter((one) => /\.(sql|rs|ts)$/.test(one) && !skipped.test(one))) {
    for (const [number, line] of [path, ...read(path).split("\n")].entries()) {
      const names = line.match(number === 0 ? /\w+/g : new RegExp(`${compound}|${defined}`, "g")) ?? [];
      const parts = names.map((name) => `_${name.replaceAll(/(?<=[a-z\d])(?=[A-Z])/g, "_").toLowerCase()}_`);
      for (const [other, word] of synonyms) {
        const found = parts.map((part) => new RegExp(`_(${other})_`).exec(part)).find(Boolean);
        const place = number === 0 ? path : `${path}:${number}`;
        if (found) faults.push(`${place} uses "${found[1]}"; the glossary's word is "${word}"`);
      }
    }
  }
}

/** No file may name a path of the machine on which it was written. */
function checkThatNothingPersonalIsIn(): void {
  for (const path of files.filter((name) => !/\.(png|jpe?g|webp|ico|woff2?)$/.test(name))) {
    const found = /\/(?:home|Users|root|work)\/[\w.-]+/.exec(read(path));
    if (found) faults.push(`${path} names a path of the author's machine: ${found[0]}`);
  }
}

const documents = files.filter((path) => path.endsWith(".md"));
for (const document of documents) {
  checkPaths(document);
  checkTargets(document);
}
checkVariables();
await checkApi();
checkRecipes();
checkNames();
checkThatNothingPersonalIsIn();
for (const fault of faults) console.error(`  ${fault}`);
if (faults.length > 0 || documents.length === 0) process.exit(1);
console.log(`  ${documents.length} documents, .env.example and functions/openapi.yaml agree with the code`);
