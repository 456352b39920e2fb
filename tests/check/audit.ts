// Checks the dependencies: licences, sources, and known vulnerabilities (S4).

import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { record } from "../policy/results.ts";

const root = resolve(import.meta.dirname, "..", "..");
const check = "tests/check/audit.ts";
/** Where `make` has built cargo-deny. */
const deny = process.env.CARGO_DENY ?? "";
/** With ADVISORIES=required, it is a failure if the advisory database cannot be reached. */
const required = process.env.ADVISORIES === "required";
let failed = false;
let areAdvisoriesKnown = true;

function fail(text: string): void {
  failed = true;
  console.error(text);
}

function notChecked(what: string): void {
  areAdvisoriesKnown = false;
  const text = `  NOT CHECKED: advisories for ${what}; the advisory database cannot be reached from here`;
  if (required) fail(text);
  else console.log(`${text} (ADVISORIES=required makes this a failure)`);
}

/**
 * `postgrest` brings reqwest 0.11 with an old TLS library. We use only its request builder, and its client never opens
 * a connection (functions/opusflair/src/database.rs). So no advisory against that library applies.
 */
const neverConnects = ["--exclude", "reqwest@0.11.27"];

function cargoDeny(flags: string[], ...checks: string[]) {
  const manifest = ["--manifest-path", join(root, "Cargo.toml")];
  const config = ["--config", join(root, ".cargo/deny.toml"), "--log-level", "error"];
  const args = [...manifest, ...config, ...flags, "check", ...checks];
  const { status, stderr, stdout } = spawnSync(deny, args, { encoding: "utf8", cwd: root });
  return { ok: status === 0, said: `${stdout}${stderr}` };
}

function checkCrates(): void {
  const policy = cargoDeny([], "licenses", "bans", "sources");
  if (policy.ok) console.log("  crates: licences, bans and sources are in order");
  else fail(policy.said);

  const advisories = cargoDeny(neverConnects, "advisories");
  if (advisories.ok) console.log("  crates: no advisory applies to a crate in use");
  // Without its advisory database, cargo-deny does not check for yanked releases either.
  else if (/failed to fetch advisory database/.test(advisories.said)) notChecked("crates, nor whether one was yanked");
  else fail(advisories.said);
}

/** LGPL: the image library of sharp. It is a separate shared object, and only tests use it. */
const allowed = new Set([
  ...["0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BlueOak-1.0.0"],
  ...["ISC", "LGPL-3.0-or-later", "MIT", "MIT-0", "Unlicense"],
]);

/** Licences that a package states only in its readme. */
const inReadme: Record<string, string> = { "node_modules/combine-errors": "MIT" };

function checkPackages(folder: string): void {
  const lock = JSON.parse(readFileSync(join(root, folder, "package-lock.json"), "utf8"));
  const packages = Object.entries(lock.packages as Record<string, { license?: string; resolved?: string; deprecated?: string; version?: string }>).filter(([path]) => path);
  for (const [path, { license, resolved, deprecated }] of packages) {
    const choices = (license ?? inReadme[path] ?? "unknown").replace(/[()]/g, "").split(" OR ");
    const acceptable = choices.some((choice) => choice.split(" AND ").every((one) => allowed.has(one)));
    if (!acceptable) fail(`  ${folder}/${path}: licence ${license ?? "unknown"}`);
    if (resolved) fail(`  ${folder}/${path}: the lock file records a download address`);
    if (deprecated) fail(`  ${folder}/${path}: deprecated: ${deprecated}`);
  }
  console.log(`  ${folder}: licences of ${packages.length} npm packages are in order`);

  const audit = spawnSync("npm", ["audit", "--json", "--audit-level=high"], { encoding: "utf8", cwd: join(root, folder) });
  const report = JSON.parse(audit.stdout || "{}") as { metadata?: unknown; error?: unknown };
  if (!report.metadata) notChecked(`npm packages of ${folder}`);
  else if (audit.status !== 0) fail(`  ${folder}: npm audit:\n${audit.stdout}`);
  else console.log(`  ${folder}: no advisory of high severity applies to an npm package`);
}

/** Crash points are a feature that only tests switch on. Deployed functions are built without it. */
function checkThatNothingCrashesOnCommand(): void {
  const functions = ["submit", "replicate-webhook", "cleanup"].flatMap((name) => ["--package", name]);
  const features = (...more: string[]) =>
    spawnSync("cargo", ["tree", "--locked", "--format", "{p} {f}", ...more], { encoding: "utf8", cwd: root }).stdout;
  const inTests = features("--package", "local", "--features", "local/crash-points");
  if (!inTests.includes("crash-points")) fail("  this check cannot find the crash points");
  if (features(...functions).includes("crash-points")) fail("  a deployed function has crash points");
  else console.log("  crates: deployed functions have no crash points");
}

if (!existsSync(deny)) {
  console.error("CARGO_DENY names no program. Run `make check`, which builds cargo-deny.");
  process.exit(1);
}
checkCrates();
checkThatNothingCrashesOnCommand();
checkPackages("supabase/local");
checkPackages("tests");
const outcome = failed ? "failed" : "passed";
record(check, "licences and sources of the dependencies are in order", outcome);
record(check, "no advisory stands against a dependency", areAdvisoriesKnown ? outcome : "skipped");
process.exit(failed ? 1 : 0);
