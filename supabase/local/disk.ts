// Where Storage keeps its bytes: a file an object, below the stack's own folder.

import { createHash } from "node:crypto";
import { copyFile, mkdir, open, rename, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";

interface Metadata {
  cacheControl: string;
  contentLength: number;
  size: number;
  mimetype: string;
  lastModified: Date;
  eTag: string;
  contentRange?: string;
}

/** Storage's interface of `@supabase/lite` (its own file system adapter is not exported). */
export class DiskAdapter {
  driver = undefined;

  constructor(private readonly folder: string) {}

  async getObject(bucket: string, key: string, _version: unknown, headers?: { range?: string }) {
    const path = this.path(bucket, key);
    const metadata = await this.headObject(bucket, key);
    const range = /^bytes=(\d+)-(\d*)$/.exec(headers?.range ?? "");
    if (!range) return { httpStatusCode: 200, metadata, body: Buffer.from(await Bun.file(path).arrayBuffer()) };

    const first = Number(range[1]);
    const last = Math.min(range[2] ? Number(range[2]) : metadata.size - 1, metadata.size - 1);
    const body = Buffer.from(await Bun.file(path).slice(first, last + 1).arrayBuffer());
    const contentRange = `bytes ${first}-${last}/${metadata.size}`;
    return {
      httpStatusCode: 206,
      metadata: { ...metadata, contentLength: body.length, contentRange },
      body,
    };
  }

  /** Written beside and renamed, so that a broken upload leaves neither half a file nor an old one. */
  async uploadObject(
    bucket: string,
    key: string,
    _version: unknown,
    body: ReadableStream<Uint8Array> | Uint8Array,
    contentType: string,
    cacheControl: string,
  ): Promise<Metadata> {
    const path = this.path(bucket, key);
    const partial = `${path}.${crypto.randomUUID()}.partial`;
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    const file = await open(partial, "w", 0o600);
    const digest = createHash("md5");
    try {
      for await (const chunk of body instanceof Uint8Array ? [body] : body) {
        digest.update(chunk);
        await file.write(chunk);
      }
      await file.close();
      await rename(partial, path);
    } catch (error) {
      await file.close().catch(() => {});
      await rm(partial, { force: true });
      throw error;
    }
    const { size, mtime } = await stat(path);
    const eTag = `"${digest.digest("hex")}"`;
    return { cacheControl, contentLength: size, size, mimetype: contentType, lastModified: mtime, eTag };
  }

  async deleteObject(bucket: string, key: string): Promise<void> {
    await rm(this.path(bucket, key), { force: true });
  }

  async deleteObjects(bucket: string, keys: string[]): Promise<void> {
    for (const key of keys) await this.deleteObject(bucket, key);
  }

  async copyObject(bucket: string, key: string, _v: unknown, toBucket: string, toKey: string) {
    const destination = this.path(toBucket, toKey);
    await mkdir(dirname(destination), { recursive: true, mode: 0o700 });
    await copyFile(this.path(bucket, key), destination);
    const { eTag, lastModified } = await this.headObject(toBucket, toKey);
    return { httpStatusCode: 200, eTag, lastModified };
  }

  async headObject(bucket: string, key: string): Promise<Metadata> {
    const path = this.path(bucket, key);
    const { size, mtime } = await stat(path);
    const eTag = `"${createHash("md5").update(`${size}:${mtime.getTime()}`).digest("hex")}"`;
    const mimetype = Bun.file(path).type;
    return { cacheControl: "no-cache", contentLength: size, size, mimetype, lastModified: mtime, eTag };
  }

  async privateAssetUrl(bucket: string, key: string): Promise<string> {
    return `file://${this.path(bucket, key)}`;
  }

  private path(bucket: string, key: string): string {
    const path = join(this.folder, bucket, key);
    if (!path.startsWith(join(this.folder, bucket) + "/")) throw new Error("a key outside its bucket");
    return path;
  }
}
