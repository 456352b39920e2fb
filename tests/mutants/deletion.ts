// Without these lines, something would be kept too long, deleted too early, or not be proved.

import { type Mutant, rust, sql } from "./mutant.ts";

const audit = "journeys/audit.test.ts";
const intake = "journeys/intake.test.ts";
const receipts = "journeys/receipts.test.ts";
const removal = "journeys/removal.test.ts";
const retention = "journeys/retention.test.ts";
const storage = "faults/storage.test.ts";

export const ofDeletion: Mutant[] = [
  {
    name: "a photo past its soft limit stays",
    file: sql("audit"),
    line: "when g.id is null then o.created_at < soft",
    instead: "when g.id is null then false",
    seenBy: [retention],
  },
  {
    name: "a photo that an open generation needs is deleted at the soft limit",
    file: sql("audit"),
    line: "        else false\n      end\n",
    instead: "        else o.created_at < soft\n      end\n",
    seenBy: [retention],
  },
  {
    name: "a photo of an open generation has no hard limit",
    file: sql("audit"),
    line: "      where (g.input_path = any (past_ceiling) or w.prepared_path = any (past_ceiling))\n",
    instead: "      where false\n",
    seenBy: [retention],
  },
  {
    name: "a photo that was uploaded again stays",
    file: sql("audit"),
    line: "greatest(o.created_at, g.finished_at) < audit_cutoff",
    instead: "o.created_at < soft",
    seenBy: [audit],
  },
  {
    name: "an artwork without a generation stays",
    file: sql("audit"),
    line: "    and o.created_at < now() - private.retention('audit_grace')\n    and (select g.id",
    instead: "    and false\n    and (select g.id",
    seenBy: [audit],
  },
  {
    name: "an artwork of a generation is deleted as an orphan",
    file: sql("audit"),
    line: "    and (select g.id from public.generations as g where g.artwork_path = o.name) is null\n",
    seenBy: [audit],
  },
  {
    name: "a missing artwork is not refunded",
    file: sql("audit"),
    line: "select h.wallet_id, 'refund', h.amount, 'artwork missing', 'artwork-missing:' || m.id\n    from missed as m",
    instead: "select h.wallet_id, 'refund', h.amount, 'artwork missing', 'artwork-missing:' || m.id\n    from (select * from missed where false) as m",
    seenBy: [audit],
  },
  {
    name: "an audit starts from the beginning in each call",
    file: sql("audit"),
    line: "  set after = coalesce(last, ''), ended_at =",
    instead: "  set after = '', ended_at =",
    seenBy: [audit],
  },
  {
    clause: "X2",
    name: "photos are accepted while no sweep runs",
    file: sql("storage"),
    line: "\n  and (select private.is_intake_open())",
    seenBy: ["database"],
  },
  {
    name: "generations begin while no sweep runs",
    file: sql("submission"),
    line: "if not private.is_intake_open() then",
    instead: "if false then",
    seenBy: [intake],
  },
  {
    name: "a sweep writes no heartbeat",
    file: rust("cleanup/src/sweep"),
    line: "    app.ask::<Value>(\"record_heartbeat\", json!({ \"task\": \"cleanup\" })).await?;\n",
    seenBy: [intake],
  },
  {
    name: "an object counts as gone although the listing still has it",
    file: sql("deletion"),
    line: "        and not exists (\n          select from storage.objects as o where o.bucket_id = d.bucket and o.name = d.path\n        ) as gone",
    instead: "        as gone",
    seenBy: [storage],
  },
  {
    name: "a failed check counts as proof that an object is gone",
    file: rust("opusflair/src/deletion"),
    line: '"Storage could not say whether an object is gone"\n            );\n            None',
    instead: '"Storage could not say whether an object is gone"\n            );\n            Some(Instant::now())',
    seenBy: [storage],
  },
  {
    name: "no check proves that an object is gone",
    file: rust("opusflair/src/deletion"),
    line: "in_time(LOOK_TIME, self.storage.absent_at(&deletion.bucket, &deletion.path)).await",
    instead: "Ok::<Option<Instant>, Error>(Some(Instant::now()))",
    seenBy: [storage],
  },
  {
    name: "a verified deletion keeps the path of its object",
    file: sql("deletion"),
    line: "  new.path := null;\n",
    seenBy: ["journeys/artwork.test.ts"],
  },
  {
    name: "a receipt is signed for another object",
    file: rust("opusflair/src/receipt"),
    line: "keyed(&format!(\"{bucket}/{path}\"))",
    instead: "keyed(&format!(\"{bucket}/{}\", path.len()))",
    seenBy: [receipts],
  },
  {
    name: "the receipt of a photo lacks the digest of its content",
    clause: "X1",
    file: sql("dispatch"),
    line: "set input_sha256 = record_input.sha256 where",
    instead: "set input_sha256 = null where",
    seenBy: [receipts],
  },
  {
    clause: "T3",
    name: "Replicate is never asked whether it removed a prediction",
    file: sql("removal"),
    line: "  on conflict do nothing;\n  return null;",
    instead: "  on conflict do nothing;\n  delete from public.replicate_removals where prediction_id = new.prediction_id;\n  return null;",
    seenBy: [removal],
  },
  {
    name: "a removal at Replicate counts without evidence",
    file: rust("cleanup/src/removal"),
    line: "Ok(Answer::Found(found)) if found.is_removed() => Some(\"data_removed\"),",
    instead: "Ok(Answer::Found(_)) if true => Some(\"data_removed\"),",
    seenBy: [removal],
  },
  {
    name: "expired rows are kept forever",
    file: sql("retention"),
    line: "'delete from %1$s where ctid",
    instead: "'delete from %1$s where false and ctid",
    seenBy: [retention],
  },
  {
    name: "the books of a closed wallet are deleted too early",
    file: sql("credits"),
    line: "if old.closed_at is null or old.closed_at > now() - private.retention('closed_books') then",
    instead: "if false then",
    seenBy: [retention],
  },
];
