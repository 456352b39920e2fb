// If any service hangs or fails, the same sweep still does everything else.

import { arm } from "../journeys/stack.ts";
import { everyRow, fails, hangs, lab, mailServer, poisonNext } from "./table.ts";

const removal = /^DELETE \/storage\/v1\/object\//;
const download = /^GET \/storage\/v1\/object\//;
const upload = /^POST \/storage\/v1\/object\/inputs\//;
const storing = /^POST \/storage\/v1\/object\/artworks\//;
const signing = /^POST \/storage\/v1\/object\/sign\//;
const leaving = /^DELETE \/auth\/v1\/admin\/users\//;

everyRow([
  { fault: "nothing", begin: () => {} },
  hangs("Storage", /\/storage\/v1\//, "heartbeat", "deletion", "ceiling", "artwork", "dispatch"),
  hangs("Storage: delete", removal, "deletion", "ceiling"),
  hangs("Storage: download", download, "deletion", "ceiling", "dispatch"),
  hangs("Storage: upload", upload, "dispatch"),
  hangs("Storage: store", storing, "artwork"),
  hangs("Storage: sign", signing, "dispatch"),
  hangs("Auth: delete", leaving, "erasure"),
  fails("Storage: delete", removal, "deletion", "ceiling"),
  fails("Storage: download", download, "deletion", "ceiling", "dispatch"),
  fails("Storage: upload", upload, "dispatch"),
  fails("Storage: store", storing, "artwork"),
  fails("Storage: sign", signing, "dispatch"),
  fails("Auth: delete", leaving, "erasure"),
  {
    fault: "Replicate hangs",
    begin: () => lab.replicate.misbehave({ fault: "hang", count: Infinity }),
    itself: ["artwork", "dispatch"],
  },
  {
    fault: "Replicate fails",
    begin: () => lab.replicate.misbehave({ fault: "status", status: 500, count: Infinity }),
    itself: ["artwork", "dispatch"],
  },
  {
    fault: "the output host hangs",
    begin: () => arm({ fault: "output_stall", value: 600_000, count: 1000 }),
    itself: ["artwork"],
    says: "the output host is unavailable: no answer in time",
  },
  {
    fault: "the output host fails",
    begin: () => arm({ fault: "output_500", count: 1000 }),
    itself: ["artwork"],
    says: "the output host is unavailable: status 500",
  },
  { fault: "a photo makes its decoder panic", begin: poisonNext, says: "a photo made its decoder panic" },
  { fault: "the mail server hangs", begin: () => void (mailServer.isSilent = true), itself: ["email"] },
  { fault: "the mail server fails", begin: () => void (mailServer.isDown = true), itself: ["email"] },
]);
