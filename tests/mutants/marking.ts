// Marks and credentials of artworks.

import { type Mutant, rust, sql } from "./mutant.ts";

const journeys = "journeys/marking.test.ts";

export const ofMarks: Mutant[] = [
  {
    clause: "X7",
    name: "an artwork is stored without a mark",
    file: rust("marking/src/lib"),
    line: "        Ok(signed.unwrap_or(if is_signed { picture } else { described }))\n",
    instead: "        Ok(signed.map_or(picture.clone(), |_| picture))\n",
    seenBy: [journeys],
  },
  {
    clause: "X7",
    name: "an artwork has no credentials",
    file: rust("marking/src/lib"),
    line: "        Ok(signed.unwrap_or(if is_signed { picture } else { described }))\n",
    instead: "        drop(signed);\n        Ok(if is_signed { picture } else { described })\n",
    seenBy: [journeys],
  },
  {
    name: "an existing manifest is replaced",
    file: rust("marking/src/lib"),
    line: "        let parent = is_signed.then_some(&picture);\n",
    instead: "        let parent = None;\n",
    seenBy: ["cargo marking"],
  },
  {
    name: "an existing manifest is broken if we do not sign",
    file: rust("marking/src/lib"),
    line: "if is_signed { picture } else { described }",
    instead: "described",
    seenBy: ["cargo marking"],
  },
  {
    name: "invalid credentials are written",
    file: rust("marking/src/credentials"),
    line: "        if !self.holds(&signed, content_type)? {\n",
    instead: "        if !self.holds(&signed, content_type)? && self.signer.authority.is_some() {\n",
    seenBy: ["cargo marking"],
  },
  {
    clause: "X7",
    name: "a signature has no timestamp",
    file: rust("marking/src/credentials"),
    line: "        self.authority.as_ref()?.stamp(message).map(Ok)\n",
    instead: "        self.authority.as_ref().filter(|_| message.is_empty())?.stamp(message).map(Ok)\n",
    seenBy: [journeys],
  },
  {
    name: "the recorded digest is that of the unmarked file",
    file: rust("opusflair/src/artwork"),
    line: "            let marked = pen.mark(picture, content_type, &made).ok()?;\n            Some((Stored::of(content_type, &marked), marked))\n",
    instead: "            let marked = pen.mark(picture.clone(), content_type, &made).ok()?;\n            Some((Stored { sha256: Stored::of(content_type, &picture).sha256, ..Stored::of(content_type, &marked) }, marked))\n",
    seenBy: [journeys],
  },
  {
    clause: "X7",
    name: "the detector still knows a deleted artwork",
    file: sql("marking"),
    line: "\n    and (\n      select d.id from public.deletions as d\n      where d.bucket = 'artworks' and d.path = g.artwork_path and d.verified_at is null\n    ) is null\n",
    instead: "\n",
    seenBy: ["database"],
  },
];
