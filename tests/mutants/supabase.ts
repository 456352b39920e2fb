// How the functions read Supabase's answers.

import { type Mutant, rust, sql } from "./mutant.ts";

const keys = "faults/supabase-keys.test.ts";
const busy = "faults/supabase-busy.test.ts";
const outages = "faults/supabase-outages.test.ts";
const storage = "faults/supabase-storage.test.ts";

export const ofSupabase: Mutant[] = [
  {
    name: "a refused secret key looks like a user who is not signed in",
    file: rust("opusflair/src/database/answer"),
    line: "(As::Service, _) => Error::key_refused(SERVICE, SECRET_KEY, cause(\"\").with_code(code)),",
    instead: "(As::Service, _) => Error::NotSignedIn,",
    seenBy: ["faults/supabase-rotated-key.test.ts"],
  },
  {
    name: "a refused publishable key looks like a user who is not signed in",
    file: rust("opusflair/src/database/answer"),
    line: "            (As::Person, \"\") => Error::key_refused(SERVICE, PUBLISHABLE_KEY, cause(\"\")),\n",
    seenBy: [keys],
  },
  {
    name: "a read-only project counts as an internal error",
    file: rust("opusflair/src/database/answer"),
    line: "(\"25006\",",
    instead: "(\"25007\",",
    seenBy: ["faults/supabase-read-only.test.ts"],
  },
  {
    name: "a call is not retried in an outage",
    file: rust("opusflair/src/database"),
    line: "let is_outage = matches!(error, Error::Unavailable { .. });",
    instead: "let is_outage = false;",
    seenBy: [outages],
  },
  {
    name: "a refusal with 429 is retried",
    file: rust("opusflair/src/database"),
    line: "let is_outage = matches!(error, Error::Unavailable { .. });",
    instead: "let is_outage = matches!(error.status().as_u16(), 429 | 503);",
    seenBy: [busy],
  },
  {
    name: "an invalid Retry-After ends the process",
    file: rust("opusflair/src/egress/retry"),
    line: "Duration::try_from_secs_f64(seconds).ok()",
    instead: "Some(Duration::from_secs_f64(seconds))",
    seenBy: [busy],
  },
  {
    name: "Retry-After is ignored",
    file: rust("opusflair/src/egress/retry"),
    line: "pause(self.made).max(asked.unwrap_or_default())",
    instead: "pause(self.made).max(asked.map_or(Duration::ZERO, |_| Duration::ZERO))",
    seenBy: [busy],
  },
  {
    name: "an object counts as missing if Storage refuses our key",
    file: rust("opusflair/src/storage/failure"),
    line: " && !self.is_no_bucket()",
    seenBy: [keys],
  },
  {
    name: "a 404 from a gateway counts as an answer from Storage",
    file: rust("opusflair/src/storage/failure"),
    line: "self.body.status() == Some(StatusCode::NOT_FOUND)",
    instead: "self.status == StatusCode::NOT_FOUND",
    seenBy: [storage],
  },
  {
    name: "an upload that failed in Storage is not repeated",
    file: rust("opusflair/src/storage"),
    line: "if again.is_none() || !is_temporary",
    instead: "if verb == \"upload\" || again.is_none() || !is_temporary",
    seenBy: [storage],
  },
  {
    name: "a statement of the service runs longer than the functions wait",
    file: sql("schemas"),
    line: "alter role service_role set statement_timeout = '8s';\n",
    seenBy: ["database"],
  },
];
