// Prepares damaged photos of each kind for MINUTES (functions/photo/examples/fuzz), and of the largest photos that fit
// into a megabyte. None may cause a panic or take more than a second or 500 MB.

import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import sharp from "sharp";
import { kinds } from "./kinds.ts";
import { buildRelease } from "./prepare.ts";

const flat = sharp({ create: { width: 7070, height: 7070, channels: 3, background: "#7a4" } });
const large = {
  "JPEG of 50 MP": flat.clone().jpeg(),
  "progressive JPEG of 50 MP": flat.clone().jpeg({ progressive: true }),
  "progressive JPEG 4:4:4 of 50 MP": flat.clone().jpeg({ progressive: true, chromaSubsampling: "4:4:4" }),
  "PNG of 50 MP": flat.clone().png(),
  "interlaced PNG of 50 MP": flat.clone().png({ progressive: true }),
  "PNG of 50 MP with alpha": flat.clone().ensureAlpha(0.5).png(),
  "lossy WebP of 50 MP": flat.clone().webp(),
  "lossless WebP of 50 MP": flat.clone().webp({ lossless: true }),
};

const folder = join(mkdtempSync(join(tmpdir(), "fuzz-")), "photos");
mkdirSync(folder);
for (const { name, make } of kinds) writeFileSync(join(folder, name), await make());
for (const [name, image] of Object.entries(large)) writeFileSync(join(folder, name), await image.toBuffer());
const { status, signal } = spawnSync(buildRelease("fuzz", ["heic"]), [folder, process.env.MINUTES ?? "60"], { stdio: "inherit" });
if (status !== 0) throw new Error(`The program ended with ${status ?? signal}. The photos are next to ${folder}`);
