// Kinds of photo that users have, and files that they take for photos. Each is made in a line or two.

import { crc32 } from "node:zlib";
import sharp, { type Sharp } from "sharp";

/** The text in the metadata of each picture that can have metadata. */
export const canary = "canarybesidethepicture";

/** A kind of photo and its result: the size of the prepared photo, or the code of the refusal. */
export interface Kind {
  name: string;
  make(): Promise<Buffer>;
  becomes: [width: number, height: number] | string;
  /** The expected look, if libvips does not understand how the file names its colour space. */
  looks?: () => Promise<Buffer>;
}

/** A smooth picture with many colours: red increases to the right, green to the bottom, blue to the middle. */
function picture(width = 480, height = 320, alpha = false): Sharp {
  const channels = alpha ? 4 : 3;
  const pixels = Buffer.alloc(width * height * channels);
  for (let y = 0, at = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1, at += channels) {
      pixels[at] = 30 + (200 * x) / width;
      pixels[at + 1] = 30 + (200 * y) / height;
      pixels[at + 2] = 230 - Math.abs((400 * x) / width - 200);
      if (alpha) pixels[at + 3] = (255 * (x + y)) / (width + height);
    }
  }
  return sharp(pixels, { raw: { width, height, channels } });
}

function planted(image: Sharp, orientation = 1): Sharp {
  const full = image.withExif({ IFD0: { Artist: canary } }).withXmp(`<x:xmpmeta xmlns:x="adobe:ns:meta/">${canary}</x:xmpmeta>`);
  return orientation === 1 ? full : full.withMetadata({ orientation });
}

const profiled = (image: Sharp, icc: string) => planted(image).withIccProfile(icc);
const made = (image: Sharp) => image.toBuffer();
const taken = (name: string, make: () => Promise<Buffer>, width = 480, height = 320): Kind => ({ name, make, becomes: [width, height] });
const refused = (name: string, code: string, make: () => Promise<Buffer> | Buffer): Kind => ({ name, make: async () => make(), becomes: code });

const jpeg = () => made(planted(picture()).jpeg());
const progressive = () => made(planted(picture()).jpeg({ progressive: true }));
const png = () => made(planted(picture()).png());
const webp = () => made(planted(picture()).webp());

async function without(file: Promise<Buffer>, end: number): Promise<Buffer> {
  return (await file).subarray(0, -end);
}

/** The first `part` of a file. */
async function cut(file: Promise<Buffer>, part: number): Promise<Buffer> {
  const whole = await file;
  return whole.subarray(0, Math.round(whole.length * part));
}

const closed = async (file: Promise<Buffer>) => Buffer.concat([await cut(file, 0.8), Buffer.from("ffd9", "hex")]);

/** A JPEG with a changed byte in its frame header. `at` counts from the marker. */
async function frame(at: number, value: number): Promise<Buffer> {
  const file = Buffer.from(await jpeg());
  file[file.indexOf(Buffer.from("ffc00011", "hex")) + at] = value;
  return file;
}

/** A PNG with an additional chunk after the header. Its checksum is wrong, as careless programs leave it. */
async function chunk(name: string, content: string): Promise<Buffer> {
  const [file, length] = [await png(), Buffer.alloc(4)];
  length.writeUInt32BE(content.length);
  return Buffer.concat([file.subarray(0, 33), length, Buffer.from(`${name}${content}`), Buffer.alloc(4), file.subarray(33)]);
}

/** Matrices from linear sRGB to other primaries with the same white point, as in CSS Color 4. */
const fromSrgb = {
  "Display P3": [0.822462, 0.177538, 0, 0.033194, 0.966806, 0, 0.017083, 0.072397, 0.91052],
  "BT.2020": [0.627404, 0.329283, 0.043313, 0.069097, 0.91954, 0.011362, 0.016391, 0.088013, 0.895595],
  sRGB: [1, 0, 0, 0, 1, 0, 0, 0, 1],
  "Adobe RGB": [0.715126, 0.284874, 0, 0, 1, 0, 0, 0.041162, 0.958838],
};
const linear = (level: number) => (level <= 0.04045 ? level / 12.92 : ((level + 0.055) / 1.055) ** 2.4);
const encoded = (level: number) => (level <= 0.0031308 ? level * 12.92 : 1.055 * level ** (1 / 2.4) - 0.055);

/** The same picture, encoded in the given colour space. */
async function picturedIn(space: keyof typeof fromSrgb, transfer: (level: number) => number): Promise<Sharp> {
  const { data, info } = await picture().raw().toBuffer({ resolveWithObject: true });
  for (let at = 0; at < data.length; at += 3) {
    const srgb = [0, 1, 2].map((colour) => linear(data[at + colour]! / 255));
    for (const row of [0, 1, 2]) {
      const level = srgb.reduce((sum, colour, column) => sum + colour * fromSrgb[space][3 * row + column]!, 0);
      data[at + row] = Math.round(255 * transfer(level));
    }
  }
  return sharp(data, { raw: { width: info.width, height: info.height, channels: 3 } });
}

const looking = (kind: Kind): Kind => ({ ...kind, looks: () => made(picture().png()) });

/** A PNG whose chunks declare its colour space. */
async function declared(image: Promise<Sharp>, chunks: [name: string, content: Buffer][]): Promise<Buffer> {
  const file = await made(planted(await image).png());
  const added = chunks.map(([name, content]) => {
    const named = Buffer.concat([Buffer.from(name), content]);
    return Buffer.concat([uint32(content.length), named, uint32(crc32(named))]);
  });
  return Buffer.concat([file.subarray(0, 33), ...added, file.subarray(33)]);
}

/** A JPEG that declares Adobe RGB as cameras do: without a profile. */
async function dcf(): Promise<Buffer> {
  const exif = { IFD0: { Artist: canary }, IFD2: { ColorSpace: "65535" }, IFD4: { InteroperabilityIndex: "R03" } };
  const image = await picturedIn("Adobe RGB", (level) => level ** (1 / 2.2));
  return made(image.jpeg({ quality: 95 }).withExif(exif));
}

const uint32 = (...numbers: number[]) => Buffer.from(new Uint32Array(numbers).buffer).swap32();

/** An extended WebP whose header announces alpha, a profile and Exif, but which has none of them. */
async function promising(): Promise<Buffer> {
  const plain = await made(picture().webp());
  const extended = Buffer.from("565038580a0000003c000000df01003f0100", "hex");
  const file = Buffer.concat([plain.subarray(0, 12), extended, plain.subarray(12)]);
  file.writeUInt32LE(file.length - 8, 4);
  return file;
}

export const kinds: Kind[] = [
  taken("a JPEG with a quarter of its chroma (4:2:0)", jpeg),
  taken("a JPEG with all of its chroma (4:4:4)", () => made(planted(picture()).jpeg({ chromaSubsampling: "4:4:4" }))),
  taken("a JPEG of the best quality", () => made(planted(picture()).jpeg({ quality: 100 }))),
  taken("a JPEG of a poor quality", () => made(planted(picture()).jpeg({ quality: 40 }))),
  taken("a progressive JPEG", progressive),
  taken("a progressive JPEG by mozjpeg", () => made(planted(picture()).jpeg({ mozjpeg: true }))),
  taken("a progressive JPEG with all of its chroma", () => made(planted(picture()).jpeg({ progressive: true, chromaSubsampling: "4:4:4" }))),
  taken("a JPEG of odd sides", () => made(planted(picture(481, 323)).jpeg()), 481, 323),
  taken("a progressive JPEG of odd sides", () => made(planted(picture(471, 313)).jpeg({ progressive: true })), 471, 313),
  taken("a JPEG of 16 × 16", () => made(planted(picture(16, 16)).jpeg()), 16, 16),
  taken("a grey JPEG", () => made(planted(picture().greyscale()).jpeg())),
  taken("a grey progressive JPEG", () => made(planted(picture().greyscale()).jpeg({ progressive: true }))),
  taken("a JPEG for print (CMYK)", () => made(profiled(picture().toColourspace("cmyk"), "cmyk").jpeg())),
  taken("a progressive JPEG for print (CMYK)", () => made(profiled(picture().toColourspace("cmyk"), "cmyk").jpeg({ progressive: true }))),
  taken("a JPEG in Display P3", () => made(profiled(picture(), "p3").jpeg())),
  looking(taken("a JPEG in Adobe RGB by its Exif, as cameras write it (DCF)", dcf)),
  taken("a JPEG without an end marker", () => without(jpeg(), 2)),
  taken("a progressive JPEG without an end marker", () => without(progressive(), 2)),
  taken("a JPEG with a film behind it", async () => Buffer.concat([await jpeg(), Buffer.from(`....ftypmp42${canary}`)])),
  taken("a JPEG of 12 megapixels", () => made(planted(picture(4000, 3000)).jpeg()), 2048, 1536),
  taken("a JPEG of 24 megapixels, which is decoded at half its size", () => made(planted(picture(6001, 4001)).jpeg()), 2048, 1365),
  taken("a progressive JPEG of 24 megapixels", () => made(planted(picture(6001, 4001)).jpeg({ progressive: true })), 2048, 1365),
  taken("a progressive JPEG of 12 megapixels, upright", () => made(planted(picture(3000, 4000)).jpeg({ progressive: true })), 1536, 2048),
  ...[2, 3, 4].map((way) => taken(`a JPEG of orientation ${way}`, () => made(planted(picture(), way).jpeg()))),
  ...[5, 6, 7, 8].map((way) => taken(`a JPEG of orientation ${way}`, () => made(planted(picture(), way).jpeg()), 320, 480)),
  taken("a panorama", () => made(planted(picture(2400, 400)).jpeg()), 2048, 878),
  taken("a long screenshot", () => made(planted(picture(400, 3000)).png()), 878, 2048),
  taken("a JPEG of 7:3", () => made(planted(picture(700, 300)).jpeg()), 700, 300),
  taken("a PNG", png),
  taken("a PNG of orientation 6", () => made(planted(picture(), 6).png()), 320, 480),
  taken("a PNG with alpha", () => made(planted(picture(480, 320, true)).png())),
  taken("a large PNG with alpha", () => made(planted(picture(2400, 1600, true)).png()), 2048, 1365),
  taken("a PNG with a palette", () => made(planted(picture()).png({ palette: true, dither: 0 }))),
  taken("a PNG with a palette that has alpha", () => made(planted(picture(480, 320, true)).png({ palette: true, dither: 0 }))),
  taken("a PNG of two colours", () => made(planted(picture().threshold()).png({ palette: true, colours: 2 }))),
  taken("a grey PNG", () => made(planted(picture().greyscale()).png())),
  taken("a grey PNG with alpha", () => made(planted(picture(480, 320, true).greyscale()).png())),
  taken("a PNG of 16 bits", () => made(planted(picture().toColourspace("rgb16")).png())),
  taken("a large PNG of 16 bits with alpha", () => made(planted(picture(2400, 1600, true).toColourspace("rgb16")).png()), 2048, 1365),
  taken("a grey PNG of 16 bits", () => made(planted(picture().greyscale().toColourspace("grey16")).png())),
  taken("an interlaced PNG", () => made(planted(picture()).png({ progressive: true }))),
  taken("a PNG in Display P3", () => made(profiled(picture(), "p3").png())),
  looking(taken("a PNG in Display P3 by its code points (cICP)", () => declared(picturedIn("Display P3", encoded), [["cICP", Buffer.from([12, 13, 0, 1])]]))),
  looking(taken("a PNG in BT.2020 by its code points (cICP)", () => declared(picturedIn("BT.2020", encoded), [["cICP", Buffer.from([9, 13, 0, 1])]]))),
  looking(taken("a PNG in Adobe RGB by its gamma and chromaticities (gAMA, cHRM)", () =>
    declared(picturedIn("Adobe RGB", (level) => level ** (1 / 2.2)), [["gAMA", uint32(45455)], ["cHRM", uint32(31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000)]]))),
  looking(taken("a PNG of another gamma (gAMA)", () => declared(picturedIn("sRGB", (level) => level ** (1 / 1.8)), [["gAMA", uint32(55_556)]]))),
  taken("a PNG with a text whose checksum is wrong", () => chunk("tEXt", `Comment\0${canary}`)),
  taken("a PNG without an end marker", () => without(png(), 12)),
  taken("a lossy WebP", webp),
  taken("a lossless WebP", () => made(planted(picture()).webp({ lossless: true }))),
  taken("a lossy WebP with alpha", () => made(planted(picture(480, 320, true)).webp())),
  taken("a lossless WebP with alpha", () => made(planted(picture(480, 320, true)).webp({ lossless: true }))),
  taken("a WebP in Display P3", () => made(profiled(picture(), "p3").webp())),
  taken("a WebP of orientation 8", () => made(planted(picture(), 8).webp()), 320, 480),
  taken("a WebP that promises alpha and has none", promising),

  refused("nothing", "empty_file", () => Buffer.alloc(0)),
  refused("a text", "not_an_image", () => Buffer.from("Dear diary")),
  refused("a HEIC", "unsupported_format", () => Buffer.from("\0\0\0\x18ftypheic\0\0\0\0mif1heic")),
  refused("an AVIF", "unsupported_format", () => made(picture().avif())),
  refused("a GIF", "unsupported_format", () => made(picture().gif())),
  refused("a TIFF", "unsupported_format", () => made(picture().tiff())),
  refused("an SVG", "unsupported_format", () => Buffer.from("<svg xmlns='http://www.w3.org/2000/svg'/>")),
  refused("a PDF", "unsupported_format", () => Buffer.from("%PDF-1.7")),
  refused("a lossless JPEG", "unsupported_format", () => frame(1, 0xc3)),
  refused("an arithmetic JPEG", "unsupported_format", () => frame(1, 0xc9)),
  refused("a JPEG of 12 bits", "unsupported_format", () => frame(4, 12)),
  refused("a JPEG that was cut", "truncated", () => cut(jpeg(), 0.8)),
  refused("a JPEG that was cut and closed", "truncated", () => closed(jpeg())),
  refused("a progressive JPEG that was cut and closed", "truncated", () => closed(progressive())),
  refused("a PNG that was cut", "truncated", () => cut(png(), 0.8)),
  refused("a WebP that was cut", "truncated", () => cut(made(picture().webp()), 0.8)),
  refused("an animated PNG", "animated", () => chunk("acTL", "\0\0\0\x02\0\0\0\0")),
  refused("an animated WebP", "animated", async () =>
    made(sharp(await Promise.all([picture(64, 64), picture(64, 64).negate()].map((image) => made(image.png()))), { join: { animated: true } }).webp())),
  refused("a PNG that says it has 3.6 gigapixels", "dimensions_too_large", async () => {
    const file = Buffer.from(await png());
    file.writeUInt32BE(60_000, 16);
    file.writeUInt32BE(60_000, 20);
    return file;
  }),
  refused("a picture of eight pixels a side", "dimensions_too_small", () => made(picture(8, 8).png())),
  refused("26 MiB", "too_many_bytes", async () => Buffer.concat([await jpeg(), Buffer.alloc(26 * 1024 * 1024)])),
];
