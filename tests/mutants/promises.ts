// Policies, triggers, constraints and steps of the schedule, each behind a clause of the privacy policy: without it a
// test that POLICY.md names for that clause must be red. At least one a section.

import { type Mutant, rust, sql } from "./mutant.ts";

const choices = "journeys/choices.test.ts";
const erasure = "journeys/erasure.test.ts";
const requests = "journeys/requests.test.ts";
const usage = "journeys/usage.test.ts";

const trigger = (name: string, when: string, table: string, does: string) =>
  `create trigger ${name}\n${when} on ${table}\nfor each row\nexecute function private.${does}();\n`;

export const ofPromises: Mutant[] = [
  {
    clause: "C1",
    name: "photos go into anybody's folder",
    file: sql("storage"),
    line: "  and (storage.foldername(name))[1] = (select private.person())::text\n  and name ~",
    instead: "  and name ~",
    seenBy: ["database"],
  },
  {
    clause: "C9",
    name: "use is recorded of who has objected",
    file: sql("usage"),
    line: trigger("usage_events_check", "before insert", "public.usage_events", "check_usage"),
    seenBy: [usage],
  },
  {
    clause: "C10",
    name: "a browser has any name",
    file: sql("usage"),
    line: "check (browser in ('chrome', 'edge', 'firefox', 'opera', 'safari', 'samsung', 'other'))",
    instead: "check (browser <> '')",
    seenBy: [usage],
  },
  {
    clause: "U3",
    name: "who has objected is measured",
    file: sql("usage"),
    line: "\n  and not exists (select from private.refusals as r where r.person_id = g.person_id and r.purpose = 'improvement')",
    seenBy: [usage],
  },
  {
    clause: "U5",
    name: "everybody reads everybody's history",
    file: sql("generations"),
    line: "on public.generations\nfor select\nto authenticated\nusing (person_id = (select private.person()));",
    instead: "on public.generations\nfor select\nto authenticated\nusing (true);",
    seenBy: ["database"],
  },
  {
    clause: "U6",
    name: "four are a group",
    file: sql("usage"),
    line: "group by e.feature\nhaving count(distinct e.person_id) >= 5;",
    instead: "group by e.feature;",
    seenBy: [usage],
  },
  {
    clause: "R1",
    name: "the schedule does not look for old photos",
    file: rust("cleanup/src/pass"),
    line: "audit(app, self.budget, AUDITING).await?;",
    instead: "(BTreeMap::<String, u64>::new(), true);",
    seenBy: ["journeys/retention.test.ts"],
  },
  {
    clause: "R2",
    name: "a success orders nothing deleted",
    file: sql("lifecycle"),
    line: "    perform private.order_deletion('inputs', new.input_path, new.state, new.person_id, new.id);\n",
    seenBy: ["database"],
  },
  {
    clause: "R9",
    name: "an artwork stays when its generation goes",
    file: sql("lifecycle"),
    line: "    perform private.order_deletion(\n      'artworks', old.artwork_path, case when is_leaving then 'erasure' else 'asked_by_person' end, person, old.id);\n",
    instead: "    null;\n",
    seenBy: ["journeys/artwork.test.ts"],
  },
  {
    clause: "R10",
    name: "the schedule writes to nobody",
    file: rust("cleanup/src/rights"),
    line: 'app.ask("follow_inactive", json!({})).await?;',
    instead: "Walked { done: true };",
    seenBy: ["journeys/inactive.test.ts"],
  },
  {
    clause: "R10",
    name: "nobody looks again before the end",
    file: sql("inactivity"),
    line: "if found and private.is_given_up(candidate) then",
    instead: "if found then",
    seenBy: ["journeys/inactive.test.ts"],
  },
  {
    clause: "S4",
    name: "a table without row-level security",
    file: sql("choices"),
    line: "alter table public.policy_versions enable row level security;\n",
    seenBy: ["database"],
  },
  {
    clause: "G1",
    name: "nobody sees their own deletions",
    file: sql("deletion"),
    line: "on public.deletions\nfor select\nto authenticated\nusing (person_id = (select private.person()));",
    instead: "on public.deletions\nfor select\nto authenticated\nusing (person_id is null and (select private.person()) is null);",
    seenBy: ["database"],
  },
  {
    clause: "G3",
    name: "a closed account is open to old tokens",
    file: sql("accounts"),
    line: "where p.id = auth.uid() and p.closed_at is null);",
    instead: "where p.id = auth.uid());",
    seenBy: [erasure],
  },
  {
    clause: "G3",
    name: "an erasure ends though an object is there",
    file: sql("erasure"),
    line: "(d.person_id = erasure.person_id or starts_with(d.path, erasure.person_id || '/')) and d.verified_at is null",
    instead: "false and (d.person_id = erasure.person_id)",
    seenBy: [erasure],
  },
  {
    clause: "G4",
    name: "a profile is not checked",
    file: sql("accounts"),
    line: trigger("profiles_check", "before update of username, default_style, default_settings", "public.profiles", "check_profile"),
    seenBy: ["journeys/correct.test.ts"],
  },
  {
    clause: "G5",
    name: "the schedule keeps exports for ever",
    file: rust("cleanup/src/rights"),
    line: '    app.ask::<Value>("expire_exports", json!({})).await?;\n',
    seenBy: ["journeys/export.test.ts"],
  },
  {
    clause: "G6",
    name: "a restricted person's credits are held",
    file: sql("credits"),
    line: trigger("credit_holds_unrestricted", "before insert", "public.credit_holds", "refuse_restricted"),
    seenBy: [choices],
  },
  {
    clause: "G6",
    name: "a restricted person's generation begins",
    file: sql("lifecycle"),
    line: trigger("generations_unrestricted", "before insert", "public.generations", "refuse_restricted"),
    seenBy: [choices],
  },
  {
    clause: "G7",
    name: "what is used counts who has objected",
    file: sql("usage"),
    line: "where not exists (\n  select from private.refusals as r where r.person_id = e.person_id and r.purpose in ('improvement', 'analytics')\n)\ngroup by e.feature",
    instead: "group by e.feature",
    seenBy: [usage],
  },
  {
    clause: "Q1",
    name: "a sender is believed unverified",
    file: sql("requests"),
    line: "where verified and u.email",
    instead: "where u.email",
    seenBy: [requests],
  },
  {
    clause: "Q2",
    name: "a request has a week",
    file: sql("requests"),
    line: "new.filed_at + private.keep('requests_answered')",
    instead: "new.filed_at + interval '7 days'",
    seenBy: [requests],
  },
  {
    clause: "X4",
    name: "a table is not declared",
    file: sql("personal_data"),
    line: "  ('public.usage_events', 't.person_id = $1', 'usage_events', null, '{}', 'delete', 'usage_events', null),\n",
    seenBy: ["database"],
  },
];
