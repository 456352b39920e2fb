// Uploads that are not whole yet, beside the objects: a folder each, with what is to come in `upload.json`
// and each piece in a file named after where it begins. A piece has that name when all of it is there.

import { createReadStream } from "node:fs";
import { mkdir, open, readFile, readdir, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Failure } from "./failure.ts";

/** Hosted's: every piece but the last. */
export const pieceBytes = 6 * 1024 * 1024;
const lastingMs = 24 * 60 * 60 * 1000;

export interface Upload {
  version: string;
  bucket: string;
  name: string;
  length: number;
  /** The header, as it was sent. */
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

  /** All of the length only when the object is there. */
  async offset({ version, length }: Upload): Promise<number> {
    const names = await readdir(this.path(version)).catch(() => [] as string[]);
    if (names.includes("whole")) return length;
    return names.filter((name) => /^\d+$/.test(name)).length * pieceBytes;
  }

  /** One request at a time: whoever comes meanwhile is to come again. */
  async alone<T>({ version }: Upload, work: () => Promise<T>): Promise<T> {
    if (this.busy.has(version)) throw new Failure(423, "ResourceLocked", "The resource is locked");
    this.busy.add(version);
    try {
      return await work();
    } finally {
      this.busy.delete(version);
    }
  }

  /** Takes the next piece, which counts once it is kept; `check` is told the size so far and may throw. */
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

  /** That it is whole is still told: the answer to the last piece may have been lost. */
  async end(upload: Upload): Promise<void> {
    await this.put(upload, "whole", "");
    for (const name of await readdir(this.path(upload.version)))
      if (/^(\d+|next)$/.test(name)) await rm(this.path(upload.version, name));
  }

  /** Objects have gone, and with them whatever is still told of how they came. */
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

  /** Removes what was begun more than a day ago: hosted gives no more. */
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
