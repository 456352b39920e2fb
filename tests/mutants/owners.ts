// Guards against account owners who cheat, and against a lease that changes hands.

import { type Mutant, rust, sql } from "./mutant.ts";

const floods = "adversary/floods.test.ts";
const held = "adversary/held-deletions.test.ts";
const sessions = "adversary/over-sessions.test.ts";
const swaps = "adversary/swapped-photos.test.ts";
const unpaid = "adversary/unpaid-artworks.test.ts";
const welcome = "adversary/welcome-credits.test.ts";
const workers = "adversary/two-workers.test.ts";

const privilege = (file: string, relation: string): Mutant => ({
  name: `${relation} keeps the default privileges of a project`,
  file: sql(file),
  line: `revoke all on ${relation} from public, anon, authenticated, service_role;\n`,
  seenBy: ["database --default-privileges legacy"],
});

export const ofOwners: Mutant[] = [
  {
    name: "an artwork can be read before it is charged",
    file: sql("storage"),
    line: "  and exists (\n    select from public.generations as g\n    where g.artwork_path = objects.name and g.state = 'succeeded' and g.person_id = (select private.person())\n  )\n",
    seenBy: ["database"],
  },
  {
    name: "a user can cancel after the model has delivered",
    file: sql("submission"),
    line: "if generation.state in ('storing', 'succeeded') then",
    instead: "if generation.state = 'succeeded' then",
    seenBy: ["database"],
  },
  {
    name: "every late cancel is free",
    file: sql("credits"),
    line: "is_free := private.free_late_cancels(wallet) > 0;",
    instead: "is_free := true;",
    seenBy: ["database"],
  },
  {
    name: "a generation that its user ends keeps its hold",
    file: sql("credits"),
    line: "  where h.generation_id = settle_ended_by_person.generation_id and h.state = 'open';",
    instead: "  where false;",
    seenBy: ["database"],
  },
  {
    name: "simultaneous late cancels are all free",
    file: sql("generations"),
    line: "  perform from public.wallets as w\n  where w.person_id in (select g.person_id from public.generations as g where g.id = any (locked))\n  order by w.id\n  for update;\n",
    seenBy: ["adversary/late-cancels.test.ts"],
  },
  {
    name: "a user's statement has no time limit",
    file: sql("schemas"),
    line: "alter role authenticated set statement_timeout = '3s';\n",
    seenBy: [unpaid],
  },
  {
    name: "an address gets welcome credits twice",
    file: sql("welcome"),
    line: "  if found then\n    insert into public.credit_entries",
    instead: "  if true then\n    insert into public.credit_entries",
    seenBy: [welcome],
  },
  {
    name: "an unconfirmed address gets welcome credits",
    file: sql("welcome"),
    line: "account.email_confirmed_at is null or ",
    seenBy: [welcome],
  },
  {
    name: "an anonymous account gets welcome credits",
    file: sql("welcome"),
    line: " or account.is_anonymous",
    seenBy: ["database"],
  },
  {
    name: "the model reads the file that the client uploaded",
    file: rust("opusflair/src/dispatch"),
    line: ".sign(INPUTS, &dispatch.prepared_path, dispatch.seconds_left()?)",
    instead: ".sign(INPUTS, &dispatch.input_path, dispatch.seconds_left()?)",
    seenBy: [swaps],
  },
  {
    name: "a client can write where the model reads",
    file: sql("submission"),
    line: "return path ~ '^[0-9a-f-]{36}/[0-9a-f]{8}",
    instead: "return path ~ '^[0-9a-f-]{36}/(prepared/)?[0-9a-f]{8}",
    seenBy: ["database"],
  },
  {
    name: "a slow upload replaces a photo",
    file: sql("storage"),
    line: "  if exists (select from storage.objects as o where o.bucket_id = 'inputs' and o.name = new.name)\n    or exists",
    instead: "  if exists",
    seenBy: ["database"],
  },
  {
    name: "an upload can use the name of a generation's photo",
    file: sql("storage"),
    line: "    or exists (select from public.generations as g where g.input_path = new.name)\n",
    seenBy: ["database"],
  },
  {
    name: "a signed upload URL is made",
    file: sql("storage"),
    line: "  and storage.operation() in (\n    'storage.object.upload', 'storage.tus.upload.create', 'storage.tus.upload.part'\n  )\n",
    seenBy: ["database"],
  },
  {
    name: "an upload completes while intake is closed",
    file: sql("storage"),
    line: "  if not private.is_intake_open() then\n",
    instead: "  if false then\n",
    seenBy: ["database"],
  },
  {
    name: "an upload completes although the user has restricted generation",
    file: sql("storage"),
    line: "  if not private.allows(person::uuid, 'generation') then\n",
    instead: "  if false then\n",
    seenBy: ["database"],
  },
  {
    name: "an upload completes for an account that is being erased",
    file: sql("storage"),
    line: "where p.id = person::uuid and p.closed_at is null) then",
    instead: "where p.id = person::uuid) then",
    seenBy: ["database"],
  },
  {
    name: "an upload has no size limit",
    file: sql("storage"),
    line: "coalesce(bytes::bigint <= b.file_size_limit + slack, true)",
    instead: "true",
    seenBy: ["database"],
  },
  {
    name: "simultaneous uploads are not counted together",
    file: sql("storage"),
    line: "  perform private.lock_person(person::uuid);\n",
    seenBy: [floods],
  },
  {
    name: "any number of photos can wait",
    file: sql("storage"),
    line: "  if waiting.photos > (private.quota('uploads', 'photos')).most\n    or waiting.bytes",
    instead: "  if waiting.bytes",
    seenBy: ["database"],
  },
  {
    name: "simultaneous choices are not counted together",
    file: sql("choices"),
    line: "  perform private.lock_person(new.person_id);\n  select min(latest.at)",
    instead: "  select min(latest.at)",
    seenBy: [floods],
  },
  {
    name: "simultaneous usage events are not counted together",
    file: sql("usage"),
    line: "    perform private.lock_person(person);\n",
    seenBy: [floods],
  },
  {
    name: "requests can be filed without limit",
    file: sql("requests"),
    line: "having count(*) = day_quota.most;",
    instead: "having false;",
    seenBy: [floods],
  },
  {
    name: "each email of a sender opens a new request",
    file: sql("request_emails"),
    line: "  if cardinality(earlier) >= quota.most then",
    instead: "  if false then",
    seenBy: [floods],
  },
  {
    name: "the hard limit waits for a lease",
    file: sql("audit"),
    line: "        where n.bucket = 'inputs' and n.path = any (past_ceiling) and n.verified_at is null and n.due_at > now()\n",
    instead: "        where n.bucket = 'inputs' and n.path = any (past_ceiling) and n.verified_at is null and n.due_at > now()\n          and not exists (select from private.deletion_leases as l where l.deletion_id = n.id)\n",
    seenBy: [held],
  },
  {
    name: "a closed session is accepted",
    file: sql("accounts"),
    line: "    and s.id::text = auth.jwt() ->> 'session_id'\n",
    seenBy: [sessions],
  },
  {
    name: "a banned user is accepted",
    file: sql("accounts"),
    line: "    and coalesce(u.banned_until <= now(), true)\n",
    seenBy: ["database"],
  },
  {
    name: "the second factor is not required",
    file: sql("accounts"),
    line: "  if auth.jwt() ->> 'aal' is distinct from 'aal2' and exists (",
    instead: "  if false and exists (",
    seenBy: [sessions],
  },
  {
    name: "a body is hashed for each listed signature",
    file: rust("opusflair/src/signature"),
    line: "CtOutput::new((*tag).into()) == expected)",
    instead: "CtOutput::new((*tag).into()) == sign(key, signed, body))",
    seenBy: ["cargo opusflair"],
  },
  {
    name: "a lease is checked before the row is locked",
    file: sql("generations"),
    line: "  perform from private.generation_work as w where w.generation_id = lock_leased.generation_id for update;\n",
    seenBy: [workers],
  },
  {
    name: "attempts to store an artwork share a path",
    file: sql("artworks"),
    line: "artwork := format('%s/%s-%s', generation.person_id, generation.id, attempt)",
    instead: "artwork := format('%s/%s-%s', generation.person_id, generation.id, 1)",
    seenBy: [workers],
  },
  {
    name: "a retry leases more deletions",
    file: sql("deletion"),
    line: "      and is_new\n",
    seenBy: ["database"],
  },
  {
    name: "a prediction that appears late keeps running",
    file: sql("settlement"),
    line: "    perform private.disown_prediction(\n      record_prediction_event.prediction_id, generation.person_id, generation.id);\n",
    seenBy: [workers],
  },
  {
    name: "a prediction whose response was lost is not searched for",
    file: sql("lifecycle"),
    line: "    perform private.order_outbox_task('find_prediction', work.prepared_path, person, generation.id, work.create_called_at);\n",
    instead: "    null;\n",
    seenBy: [workers],
  },
  {
    name: "the request of a generation can be changed",
    file: sql("generations"),
    line: "create trigger generations_freeze\nafter update on public.generations\nfor each row\nexecute function private.freeze_generation();\n",
    seenBy: ["database"],
  },
  privilege("generations", "public.generations"),
  privilege("requests", "public.privacy_requests"),
  privilege("usage", "public.usage_events"),
  privilege("credits", "public.wallets"),
  privilege("credits", "public.credit_entries"),
];
