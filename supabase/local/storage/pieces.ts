// Incomplete uploads, stored apart from the objects. Each has a folder with its description in `upload.json`,
// and a file for each piece, named after its offset. A piece gets this name only when it is complete.

import { createReadStream } from "node:fs";
import { mkdir, open, readFile, readdir, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Failure } from "./failure.ts";

/** The size that hosted Supabase requires for every piece except the last. */
export const pieceBytes = 6 * 1024 * 1024;
const lastingMs = 24 * 60 * 60 * 1000;

export interface Upload {
  version: string;
  bucket: string;
  name: string;
  length: number;
  /** The header as it was sent. */
  metadata: string;
}

export class Pieces {
  private readonly busy = new Set<string>();

  constructor(private readonly folder: string) {}

  async begin(upload: Upload): Promise<void> {
    await mkdir(this.path(upload.version), { recursive: true, mode: 0o700 });
    await this.put(upload, "upload.json", JSON.stringify(upload));
  }

  async find(version: string): Promise<Upload | undefined> {
    if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(version)) return undefined;
    try {
      return JSON.parse(await readFile(this.path(version, "upload.json"), "utf8"));
    } catch {
      return undefined;
    }
  }

  /** Returns the number of bytes received. It equals the length only once the object exists. */
  async offset({ version, length }: Upload): Promise<number> {
    const names = await readdir(this.path(version)).catch(() => [] as string[]);
    if (names.includes("whole")) return length;
    return names.filter((name) => /^\d+$/.test(name)).length * pieceBytes;
  }

  /** Runs one request at a time. A request that comes meanwhile is refused, and the client retries it. */
  async alone<T>({ version }: Upload, work: () => Promise<T>): Promise<T> {
    if (this.busy.has(version)) throw new Failure(423, "ResourceLocked", "The resource is locked");
    this.busy.add(version);
    try {
      return await work();
    } finally {
      this.busy.delete(version);
    }
  }

  /** Writes the next piece. It only counts once it is kept. `check` gets the size so far and may throw. */
  async write(
    { version }: Upload,
    body: AsyncIterable<Uint8Array>,
    check: (size: number) => void,
  ): Promise<number> {
    const file = await open(this.path(version, "next"), "w", 0o600);
    let size = 0;
    try {
      for await (const chunk of body) {
        size += chunk.byteLength;
        check(size);
        await file.writeFile(chunk);
      }
    } finally {
      await file.close();
    }
    return size;
  }

  async keep({ version }: Upload, offset: number): Promise<void> {
    await rename(this.path(version, "next"), this.path(version, String(offset)));
  }

  async *all({ version, length }: Upload): AsyncGenerator<Uint8Array> {
    for (let offset = 0; offset + pieceBytes < length; offset += pieceBytes)
      yield* createReadStream(this.path(version, String(offset)));
    yield* createReadStream(this.path(version, "next"));
  }

  /**
   * Keeps a record that the upload is complete, because the response to the last piece may have been lost.
   */
  async end(upload: Upload): Promise<void> {
    await this.put(upload, "whole", "");
    for (const name of await readdir(this.path(upload.version)))
      if (/^(\d+|next)$/.test(name)) await rm(this.path(upload.version, name));
  }

  /** Removes the records of complete uploads whose objects were deleted. */
  async forget(bucket: string, names: Set<string>): Promise<void> {
    for (const version of await readdir(this.folder).catch(() => [] as string[])) {
      const upload = await this.find(version);
      if (upload?.bucket !== bucket || !names.has(upload.name)) continue;
      if ((await this.offset(upload)) === upload.length) await this.remove(upload);
    }
  }

  remove({ version }: Upload): Promise<void> {
    return rm(this.path(version), { recursive: true, force: true });
  }

  /** Removes uploads that started more than a day ago. Hosted Supabase has the same limit. */
  async sweep(now = Date.now()): Promise<void> {
    for (const version of await readdir(this.folder).catch(() => [] as string[])) {
      const begun = await stat(this.path(version, "upload.json")).catch(() => undefined);
      if (!begun || begun.mtimeMs < now - lastingMs)
        await rm(this.path(version), { recursive: true, force: true });
    }
  }

  private put({ version }: Upload, name: string, text: string): Promise<void> {
    return writeFile(this.path(version, name), text, { mode: 0o600 });
  }

  private path(...parts: string[]): string {
    return join(this.folder, ...parts);
  }
}
