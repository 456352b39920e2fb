// Stores the bytes of objects at {bucket}/{name}/{version}, as the file backend of hosted Supabase does. A
// new version stays next to the old one until its row is written, so no client reads an incomplete object.

import { createHash } from "node:crypto";
import { type FileHandle, copyFile, mkdir, open, readdir, rm, rmdir } from "node:fs/promises";
import { dirname, join } from "node:path";

export interface Place {
  bucket_id: string;
  name: string;
  /** Null in a row that was not created by an upload. Such a row has no bytes. */
  version: string | null;
}

export interface Written {
  size: number;
  eTag: string;
}

export class Disk {
  constructor(private readonly folder: string) {}

  /** Writes all of `body`, or nothing. */
  async write(place: Place, body: AsyncIterable<Uint8Array>): Promise<Written> {
    const file = await this.create(this.path(place));
    const digest = createHash("md5");
    let size = 0;
    try {
      for await (const chunk of body) {
        size += chunk.byteLength;
        digest.update(chunk);
        await file.writeFile(chunk);
      }
    } catch (error) {
      await file.close();
      await this.remove(place);
      throw error;
    }
    await file.close();
    return { size, eTag: `"${digest.digest("hex")}"` };
  }

  /** Reads all bytes or a range. Returns undefined if they are gone. */
  async read(place: Place, first?: number, last?: number): Promise<ArrayBuffer | undefined> {
    const file = Bun.file(this.path(place));
    const part = first === undefined || last === undefined ? file : file.slice(first, last + 1);
    return part.arrayBuffer().catch(() => undefined);
  }

  async copy(from: Place, to: Place): Promise<void> {
    await (await this.create(this.path(to))).close();
    await copyFile(this.path(from), this.path(to));
  }

  async remove(place: Place): Promise<void> {
    await rm(this.path(place), { force: true });
    await this.prune(dirname(this.path(place)));
  }

  /** Removes files that no row refers to. Killed uploads leave them behind. */
  async sweep(known: Set<string>): Promise<void> {
    const entries = await readdir(this.folder, { recursive: true, withFileTypes: true }).catch(
      () => [],
    );
    for (const entry of entries) {
      if (!entry.isFile() || known.has(entry.name)) continue;
      await rm(join(entry.parentPath, entry.name));
      await this.prune(entry.parentPath);
    }
  }

  /** Creates a file. If another removal prunes its folder meanwhile, tries again. */
  private async create(path: string, attempts = 5): Promise<FileHandle> {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    return open(path, "wx", 0o600).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "ENOENT" || attempts === 0) throw error;
      return this.create(path, attempts - 1);
    });
  }

  /** Removes empty folders, because they are named after users and their files. */
  private async prune(folder: string): Promise<void> {
    for (let path = folder; path.startsWith(`${this.folder}/`); path = dirname(path)) {
      const isGone = await rmdir(path).then(
        () => true,
        () => false,
      );
      if (!isGone) return;
    }
  }

  private path({ bucket_id, name, version }: Place): string {
    return join(this.folder, bucket_id, name, version ?? "no-version");
  }
}
