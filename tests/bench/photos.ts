// Measures how much it costs to prepare a large photo, compared with sharp (libvips) with one thread. Each runs in its
// own process, one after the other. The ratios are more reliable than the absolute numbers, because the machine is noisy.

import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import sharp, { type Sharp } from "sharp";
import { mountains } from "../journeys/photos.ts";
import { buildRelease, Preparer } from "../photos/prepare.ts";

/** The limits of CPU time and memory for each photo. A Lambda function with 1 GB has room for them. */
const mostSeconds = 1.5;
const mostMegabytes = 450;

/** A photograph of this size, with sensor noise. */
async function photo(width: number, height: number): Promise<Sharp> {
  const grain = await sharp({ create: { width, height, channels: 3, background: "#808080", noise: { type: "gaussian", mean: 128, sigma: 12 } } }).png({ compressionLevel: 0 }).toBuffer();
  const large = await sharp(mountains).resize(width, height, { fit: "cover" }).modulate({ saturation: 3 }).png({ compressionLevel: 0 }).toBuffer();
  return sharp(large).composite([{ input: grain, blend: "soft-light" }]);
}

const photos: [name: string, width: number, height: number, encode: (image: Sharp) => Sharp][] = [
  ["12 MP JPEG", 4000, 3000, (image) => image.jpeg({ quality: 90 })],
  ["24 MP JPEG", 6000, 4000, (image) => image.jpeg({ quality: 90 })],
  ["48 MP JPEG", 8000, 6000, (image) => image.jpeg({ quality: 90 })],
  ["40 MP progressive JPEG", 7744, 5164, (image) => image.jpeg({ quality: 90, progressive: true })],
  ["50 MP progressive JPEG", 8656, 5776, (image) => image.jpeg({ quality: 90, progressive: true })],
  ["50 MP progressive JPEG 4:4:4", 8656, 5776, (image) => image.jpeg({ quality: 80, progressive: true, chromaSubsampling: "4:4:4" })],
  ["12 MP WebP", 4000, 3000, (image) => image.webp({ quality: 85 })],
  ["4 MP PNG with alpha", 2400, 1600, (image) => image.ensureAlpha(0.5).png()],
  ["4 MP PNG of 16 bits", 2400, 1600, (image) => image.toColourspace("rgb16").png()],
];

const folder = mkdtempSync(join(tmpdir(), "photos-"));
const file = join(folder, "photo");

/** The same steps with sharp, with their time and memory. */
const bySharp = `
  import sharp from "sharp";
  sharp.concurrency(1);
  sharp.cache(false);
  const before = process.cpuUsage();
  await sharp(process.argv[1], { limitInputPixels: false }).autoOrient().flatten({ background: "#fff" })
    .resize(2048, 2048, { fit: "inside", withoutEnlargement: true, kernel: "lanczos3" })
    .toColourspace("srgb").jpeg({ quality: 90, chromaSubsampling: "4:4:4" }).toBuffer();
  const { user, system } = process.cpuUsage(before);
  console.log(JSON.stringify({ seconds: (user + system) / 1e6, megabytes: process.resourceUsage().maxRSS * 1024 / 1e6 }));`;

function measureSharp(): { seconds: number; megabytes: number } {
  const node = ["--input-type=module", "--eval", bySharp, file];
  return JSON.parse(execFileSync(process.execPath, node, { cwd: join(import.meta.dirname, ".."), encoding: "utf8" }));
}

const rows = [];
try {
  using preparer = new Preparer(buildRelease("prepare"));
  for (const [name, width, height, encode] of photos) {
    const bytes = await encode(await photo(width, height)).toBuffer();
    writeFileSync(file, bytes);
    const ours = preparer.prepare(bytes);
    if (!ours.prepared) throw new Error(`${name}: ${ours.sentence}`);
    const theirs = measureSharp();
    rows.push({
      photo: name,
      "file, MB": +(bytes.length / 1e6).toFixed(1),
      "ours, s": +ours.seconds!.toFixed(2),
      "ours, MB": Math.round(ours.megabytes!),
      "sharp, s": +theirs.seconds.toFixed(2),
      "sharp, MB with Node": Math.round(theirs.megabytes),
    });
  }
} finally {
  rmSync(folder, { recursive: true });
}
console.table(rows);
const dear = rows.filter((row) => row["ours, s"] > mostSeconds || row["ours, MB"] > mostMegabytes);
if (dear.length > 0) throw new Error(`${dear.map(({ photo }) => photo).join(", ")}: more than ${mostSeconds} s or ${mostMegabytes} MB`);
