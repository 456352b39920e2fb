// How the functions react to Replicate's answers.

import { type Mutant, rust, sql } from "./mutant.ts";

const account = "faults/replicate-account.test.ts";
const answers = "faults/replicate-answers.test.ts";
const recovery = "faults/replicate-recovery.test.ts";

export const ofReplicate: Mutant[] = [
  {
    name: "photos are accepted although Replicate refuses the account",
    file: rust("opusflair/src/replicate/create"),
    line: "        | StatusCode::FORBIDDEN) => Creation::AccountRefused(status),\n",
    instead: "        | StatusCode::FORBIDDEN) => Creation::Misconfigured(status),\n",
    seenBy: [account],
  },
  {
    name: "an upload is accepted while the account is refused",
    file: sql("storage"),
    line: "  if not private.is_account_accepted() then\n",
    instead: "  if false then\n",
    seenBy: [account],
  },
  {
    name: "a job begins while the account is refused",
    file: sql("submission"),
    line: "  if not private.is_account_accepted() then\n",
    instead: "  if false then\n",
    seenBy: [account],
  },
  {
    name: "two new jobs try a refused account at the same time",
    file: sql("submission"),
    line: "  if exists (select from private.account_refusals) and not private.begin_probe() then\n",
    instead: "  if false then\n",
    seenBy: [account],
  },
  {
    name: "one 404 for a prediction ends its generation",
    file: sql("settlement"),
    line: "  if since <= now() - private.absence_proof() or generation.deadline_at <= now() then\n",
    instead: "  if true then\n",
    seenBy: [answers],
  },
  {
    name: "one 404 for an output ends its generation",
    file: sql("artworks"),
    line: "    if since is null or since > now() - private.absence_proof() then\n",
    instead: "    if since is null then\n",
    seenBy: [answers],
  },
  {
    name: "one 404 proves a removal",
    file: sql("removal"),
    line: "(t.evidence <> 'not_found' or exists (",
    instead: "(true or exists (",
    seenBy: [answers],
  },
  {
    name: "an unreadable response counts as an outage",
    file: rust("cleanup/src/settle"),
    line: "        Answer::Unreadable(error) => Err(error),\n",
    instead: "        Answer::Unreadable(error) => {\n            is_down.store(true, Ordering::Relaxed);\n            Err(error)\n        }\n",
    seenBy: [answers],
  },
  {
    name: "an unreadable entry of the list is ignored in the search for a prediction",
    file: rust("opusflair/src/replicate/list"),
    line: "        if self.unreadable.iter().any(|text| text.contains(photo)) {\n",
    instead: "        if false {\n",
    seenBy: [answers],
  },
  {
    name: "attempts that certainly created nothing count against a job",
    file: sql("dispatch"),
    line: "    unreported = greatest(0, w.unreported - 1)\n  where w.generation_id = postpone_dispatch.generation_id",
    instead: "    unreported = w.unreported\n  where w.generation_id = postpone_dispatch.generation_id",
    seenBy: [recovery],
  },
];
