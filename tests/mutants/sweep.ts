// A failing step must not stop the rest of the sweep, and a status request must not read whole tables.

import { type Mutant, rust, sql } from "./mutant.ts";

const steps = "faults/sweep-steps.test.ts";

export const ofSweeps: Mutant[] = [
  {
    name: "a photo that makes its decoder panic is retried again and again",
    file: rust("opusflair/src/dispatch/preparation"),
    line: "Err(fault) if fault.is_panic() => {",
    instead: "Err(fault) if fault.is_panic() && generation.is_nil() => {",
    seenBy: ["faults/sweep-panic.test.ts"],
  },
  {
    clause: "X2",
    name: "deletions count as attempted although Storage did not answer",
    file: rust("opusflair/src/deletion"),
    line: "if !deleted.values().any(is_answer) && !outcomes.iter().any(|one| one.is_answered) {",
    instead: "if false {",
    seenBy: [steps],
  },
  {
    name: "a sweep that does not learn what is due does nothing",
    file: rust("cleanup/src/due"),
    line: "            deletions: true,",
    instead: "            deletions: false,",
    seenBy: [steps],
  },
  {
    name: "a sweep asks for deletions although none is due",
    file: sql("due_work"),
    line: "  'deletions', exists (\n    select from public.deletions as d where d.verified_at is null and d.due_at <= now()\n  ),\n",
    instead: "  'deletions', true,\n",
    seenBy: [steps],
  },
  {
    name: "the status reads the whole ledger",
    file: sql("status"),
    line: "select jsonb_build_object('differences', s.differences, 'checked_seconds', private.age(s.checked_at))\n    from private.ledger_state as s",
    instead: "select jsonb_build_object('differences', count(*), 'checked_seconds', 0)\n    from backend.audit_credits()",
    seenBy: ["journeys/status-cost.test.ts"],
  },
];
