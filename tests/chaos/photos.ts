// The smallest valid photos, and two files that are not valid photos.

import sharp from "sharp";
import { mountains } from "../journeys/photos.ts";
import type { PhotoName } from "./schedule.ts";

interface Upload {
  bytes: Buffer;
  extension: string;
  contentType: string;
}

async function make(): Promise<Record<PhotoName, Upload>> {
  const tiny = await sharp(mountains).resize(64, 64).png().toBuffer();
  // This one has metadata, which must not reach Replicate.
  const jpeg = await sharp(tiny).jpeg().withExif({ IFD0: { Artist: "somebody" } }).toBuffer();
  const webp = await sharp(tiny).webp().toBuffer();
  return {
    jpeg: { bytes: jpeg, extension: "jpg", contentType: "image/jpeg" },
    png: { bytes: tiny, extension: "png", contentType: "image/png" },
    webp: { bytes: webp, extension: "webp", contentType: "image/webp" },
    text: { bytes: Buffer.from("Dear diary, no photo today."), extension: "jpg", contentType: "image/jpeg" },
    broken: { bytes: tiny.subarray(0, tiny.length / 2), extension: "png", contentType: "image/png" },
  };
}

export const photos = make();
