// Prepares each kind of photo, and checks that the result looks as the original does to its user. Another decoder
// judges this: libvips with Little CMS.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import sharp from "sharp";
import { canary, kinds } from "./kinds.ts";
import { build, Preparer } from "./prepare.ts";

const preparer = new Preparer(build());
after(() => preparer[Symbol.dispose]());

/** The largest allowed difference in levels from 0 to 255, averaged over all pixels and colours. */
const mostDifference = 3;

/** The pixels as a user sees them: the whole picture, upright, in sRGB, on white. */
async function seen(photo: Buffer, width: number, height: number): Promise<Buffer> {
  const opaque = await sharp(photo, { failOn: "none" }).autoOrient().flatten({ background: "#fff" }).toColourspace("srgb").png().toBuffer();
  return sharp(opaque).resize(width, height, { fit: "contain", background: "#fff" }).removeAlpha().raw().toBuffer();
}

function difference(one: Buffer, other: Buffer): number {
  assert.equal(one.length, other.length);
  return one.reduce((sum, level, at) => sum + Math.abs(level - other[at]!), 0) / one.length;
}

for (const { name, make, becomes, looks } of kinds) {
  const verdict = typeof becomes === "string" ? `is refused as ${becomes}` : `becomes ${becomes[0]} × ${becomes[1]}, and looks as its user sees it`;
  test(`${name} ${verdict}`, async () => {
    const photo = await make();
    const { prepared, code, sentence } = preparer.prepare(photo);
    if (typeof becomes === "string") {
      assert.equal(code, becomes);
      assert.match(sentence!, /^This .+ Please .+\.$|^This is a HEIC .+JPEG.+\.$/);
      return;
    }
    assert.ok(prepared, sentence);
    const { format, width, height, chromaSubsampling, space, exif, icc, xmp, orientation } = await sharp(prepared).metadata();
    assert.deepEqual([format, width, height, chromaSubsampling, space], ["jpeg", ...becomes, "4:4:4", "srgb"]);
    assert.deepEqual([exif, icc, xmp, orientation], [undefined, undefined, undefined, undefined]);
    assert.ok(!prepared.includes(canary), "the prepared photo contains the planted text");
    const off = difference(await sharp(prepared).raw().toBuffer(), await seen(looks ? await looks() : photo, width, height));
    assert.ok(off <= mostDifference, `its colours are ${off.toFixed(2)} levels off`);
  });
}

test("the tests cover at least 40 kinds of photo, and the originals contain the planted text", async () => {
  assert.ok(kinds.length >= 40, `${kinds.length}`);
  const photos = await Promise.all(kinds.filter(({ becomes }) => typeof becomes !== "string").map(async ({ make }) => make()));
  assert.ok(photos.filter((photo) => photo.includes(canary)).length >= 40);
});
