// These lines keep an export small while it is built, and readable while it is downloaded.

import { type Mutant, rust, sql } from "./mutant.ts";

const archive = "journeys/export-archive.test.ts";
const stretches = "faults/export-stretches.test.ts";

export const ofExports: Mutant[] = [
  {
    name: "a part of an export plan has no size limit",
    file: sql("exports"),
    line: "return 512 * 1024;",
    instead: "return 512 * 1024 * 1024;",
    seenBy: [stretches],
  },
  {
    name: "the next part of an export plan starts again from the beginning",
    file: sql("export_content"),
    line: "    after := case when part.section = from_section then from_after end;\n",
    instead: "    after := null;\n",
    seenBy: [stretches],
  },
  {
    name: "rows of an export plan come in random order",
    file: sql("export_content"),
    line: " order by %7$s limit $3\n",
    instead: " order by random() limit $3\n",
    seenBy: [stretches],
  },
  {
    name: "a CSV does not tell Excel that it is UTF-8",
    file: sql("export_content"),
    line: "U&'\\FEFF' || ",
    seenBy: [archive],
  },
  {
    name: "ZIP headers say that sizes follow the data",
    file: rust("opusflair/src/zip"),
    line: "const FLAGS: u16 = 1 << 11;",
    instead: "const FLAGS: u16 = 1 << 3 | 1 << 11;",
    seenBy: [archive],
  },
  {
    name: "ZIP headers contain no sizes",
    file: rust("opusflair/src/zip"),
    line: "put(&mut out, &[crc32, bytes, bytes], &[length(name), 0]);",
    instead: "put(&mut out, &[crc32 & 0, bytes & 0, 0], &[length(name), 0]);",
    seenBy: [archive],
  },
  {
    name: "the checksum of an artwork is not kept",
    file: sql("artworks"),
    line: "    set artwork_crc32 = complete_generation.crc32\n",
    instead: "    set artwork_crc32 = null\n",
    seenBy: [archive],
  },
  {
    name: "a wrong checksum is sent",
    file: rust("opusflair/src/export"),
    line: "if file.crc32 == Some(crc32) { Ok(sha256) }",
    instead: "if crc32 == crc32 { Ok(sha256) }",
    seenBy: [stretches],
  },
  {
    name: "the part of a long file that has arrived is read again",
    file: rust("opusflair/src/export"),
    line: "let known = arrived.saturating_sub(begin);",
    instead: "let known = 0 * arrived.saturating_sub(begin);",
    seenBy: [stretches],
  },
  {
    name: "the digest of a file starts again with each part",
    file: rust("opusflair/src/export/meter"),
    line: "read_state(state).ok_or_else(|| Error::fault(\"the state of a digest\"))?",
    instead: "read_state(state).map(|_| Sha256::new()).ok_or_else(|| Error::fault(\"\"))?",
    seenBy: ["cargo opusflair"],
  },
];
