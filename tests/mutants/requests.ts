// Requests, emails, and what users have allowed.

import { type Mutant, rust, sql } from "./mutant.ts";

const emails = "journeys/emails.test.ts";
const realEmails = "journeys/real-emails.test.ts";
const answers = "journeys/request-answers.test.ts";

export const ofRequests: Mutant[] = [
  {
    name: "a button closes a request that has a message",
    clause: "Q2",
    file: sql("requests"),
    line: "  set closed_at = case when r.message is null then now() end,\n    evidence = case when r.message is null then jsonb_build_object(by, answer_requests.evidence) end,\n",
    instead: "  set closed_at = now(), evidence = jsonb_build_object(by, answer_requests.evidence),\n",
    seenBy: [answers],
  },
  {
    name: "a request can be extended at any time",
    clause: "Q2",
    file: sql("request_answers"),
    line: "  if now() > request.filed_at + private.retention('requests_extendable') then\n",
    instead: "  if false then\n",
    seenBy: [answers],
  },
  {
    name: "it is not recorded who answered a request",
    clause: "Q2",
    file: sql("request_answers"),
    line: "  insert into private.request_actions (request_id, action, operator)\n  values (noted.id, note_action.action, note_action.operator);\n",
    seenBy: [answers],
  },
  {
    name: "a bounced notice counts as a warning",
    clause: "R10",
    file: sql("emails"),
    line: "    set bounced_at = now()\n",
    instead: "    set bounced_at = null\n",
    seenBy: [emails],
  },
  {
    name: "analytics is allowed by default",
    clause: "C9",
    file: sql("choices"),
    line: "  ('analytics', 'G7', 2, false,\n",
    instead: "  ('analytics', 'G7', 2, true,\n",
    seenBy: ["journeys/usage.test.ts"],
  },
  {
    name: "unconfirmed accounts are never erased",
    clause: "R10",
    file: rust("cleanup/src/rights"),
    line: "        let Walked { done } = app.ask(\"erase_unconfirmed\", json!({})).await?;\n",
    instead: "        let done = true;\n",
    seenBy: ["journeys/without-email.test.ts"],
  },
  {
    name: "an automatic reply opens a request",
    clause: "Q1",
    file: rust("privacy-inbox/src/email"),
    line: "        || begins(\"auto-submitted\", \"auto-replied\")\n",
    seenBy: [realEmails],
  },
  {
    name: "a reply to one of our emails is not filed",
    clause: "Q1",
    file: rust("privacy-inbox/src/email"),
    line: " || answers_ours(headers);",
    instead: ";",
    seenBy: [realEmails],
  },
];
