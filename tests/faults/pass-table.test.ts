// Show: whatever service hangs or fails, a pass does everything else.

import { everyRow, fails, hangs, lab, mails } from "./table.ts";

const removal = /^DELETE \/storage\/v1\/object\//;
const download = /^GET \/storage\/v1\/object\//;
const upload = /^POST \/storage\/v1\/object\/inputs\//;
const signing = /^POST \/storage\/v1\/object\/sign\//;
const leaving = /^DELETE \/auth\/v1\/admin\/users\//;

everyRow([
  { fault: "nothing", begin: () => {} },
  hangs("Storage", /\/storage\/v1\//, "heartbeat", "deletion", "ceiling", "submission"),
  hangs("Storage: delete", removal, "deletion", "ceiling"),
  hangs("Storage: download", download, "deletion", "ceiling", "submission"),
  hangs("Storage: upload", upload, "submission"),
  hangs("Storage: sign", signing, "submission"),
  hangs("Auth: delete", leaving, "erasure"),
  fails("Storage: delete", removal, "deletion", "ceiling"),
  fails("Storage: download", download, "deletion", "ceiling", "submission"),
  fails("Storage: upload", upload, "submission"),
  fails("Storage: sign", signing, "submission"),
  fails("Auth: delete", leaving, "erasure"),
  {
    fault: "Replicate hangs",
    begin: () => lab.replicate.misbehave({ fault: "hang", count: Infinity }),
    itself: ["submission"],
  },
  {
    fault: "Replicate fails",
    begin: () => lab.replicate.misbehave({ fault: "status", status: 500, count: Infinity }),
    itself: ["submission"],
  },
  { fault: "the mail server hangs", begin: () => void (mails.isSilent = true), itself: ["letter"] },
  { fault: "the mail server fails", begin: () => void (mails.isDown = true), itself: ["letter"] },
]);
