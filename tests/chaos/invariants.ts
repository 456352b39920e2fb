// What must hold once all is quiet, whatever went wrong. Each check returns its violations, so it must return none.

import { readdirSync, statSync } from "node:fs";
import { join, relative } from "node:path";
import { database } from "../journeys/stack.ts";
import type { Told } from "./client.ts";

export interface Found extends Told {
  late: Set<string>;
  /** The URL of the photo that Replicate was given, by prediction. */
  given: Map<string, string>;
}

export interface Invariant {
  /** The heading of its column. */
  name: string;
  says: string;
  violations(found: Found): Promise<string[]>;
}

const terminal = "('succeeded', 'failed', 'canceled')";

function query(name: string, says: string, sql: string): Invariant {
  return { name, says, violations: async () => (await database.unsafe(sql)).map(({ what }) => String(what)) };
}

/** Generations past their deadline although a complete sweep began later, at `began`. A worker with a lease may finish. */
export async function late(began: string): Promise<string[]> {
  const rows = await database`
    select g.id from public.generations as g
    join private.generation_work as w on w.generation_id = g.id
    where g.state not in ('succeeded', 'failed', 'canceled')
      and g.deadline_at < ${began}::timestamptz
      and (w.leased_until is null or w.leased_until <= ${began}::timestamptz)`;
  return rows.map(({ id }) => id);
}

const freeLateCancels = "(select q.most from private.quotas as q where q.scope = 'late_cancels')";
/** How many late cancels of the wallet were free in the day before hold `h` was settled, without `h` itself. */
const freeBefore = `(
  select count(*) from public.credit_holds as f
  where f.wallet_id = h.wallet_id and f.id <> h.id and f.is_late_cancel and f.state = 'released'
    and f.settled_at > h.settled_at - interval '1 day' and f.settled_at <= h.settled_at)`;

export const invariants: Invariant[] = [
  query("ledger", "wallets, holds, entries and generations agree", `
    select a::text as what from backend.audit_credits() as a`),
  query("holds", "no hold is open if its generation has ended or was deleted", `
    select h.id as what from public.credit_holds as h
    left join public.generations as g on g.id = h.generation_id
    where h.state = 'open' and coalesce(g.state in ${terminal}, true)`),
  query("open", "no generation is left open", `
    select id as what from public.generations where state not in ${terminal}`),
  {
    name: "late",
    says: "a complete sweep ends every generation that was past its deadline",
    violations: async (found) => [...found.late],
  },
  query("twice", "a generation ends once, and its hold is captured once", `
    select generation_id as what from public.processing_log
    where state in ${terminal} group by generation_id having count(*) > 1
    union all
    select hold_id from public.credit_entries
    where hold_id is not null group by hold_id having count(*) > 1`),
  query("extra", "a generation has at most one artwork object", `
    select min(name) as what from storage.objects
    where bucket_id = 'artworks' group by substring(name from '^.{36}/.{36}') having count(*) > 1`),
  query("lost", "every succeeded generation has its artwork with the recorded size", `
    select g.id as what from public.generations as g
    left join storage.objects as o on o.bucket_id = 'artworks' and o.name = g.artwork_path
    where g.state = 'succeeded' and g.artwork_bytes is distinct from (o.metadata ->> 'size')::bigint`),
  query("stray", "every stored artwork belongs to a succeeded generation", `
    select o.name as what from storage.objects as o
    left join public.generations as g on g.artwork_path = o.name and g.state = 'succeeded'
    where o.bucket_id = 'artworks' and g.id is null`),
  query("photos", "no photo is left", `
    select name as what from storage.objects where bucket_id = 'inputs'`),
  { name: "files", says: "the disk has exactly the files that Storage knows", violations: files },
  query("orders", "every ordered deletion was verified", `
    select id as what from public.deletions where verified_at is null`),
  query("wallet", "a balance is the sum of the grants minus the captured holds, and no credits are held", `
    select w.id as what from public.wallets as w
    where w.held <> 0 or w.balance <>
      (select coalesce(sum(e.amount), 0) from public.credit_entries as e
        where e.wallet_id = w.id and e.kind = 'grant')
      - (select coalesce(sum(h.amount), 0) from public.credit_holds as h
        where h.wallet_id = w.id and h.state = 'captured')`),
  // The generation may be gone. The order to delete its artwork then shows that it had succeeded.
  query("charge", "only successes and late cancels beyond the free ones of the day are charged", `
    select h.generation_id as what from public.credit_holds as h
    left join public.credit_entries as e on e.hold_id = h.id
    left join public.generations as g on g.id = h.generation_id
    where coalesce(-e.amount, 0) <> case
      when coalesce(g.state = 'succeeded', exists (
        select from public.deletions as d
        where d.generation_id = h.generation_id and d.bucket = 'artworks' and d.reason = 'asked_by_person'
      )) then coalesce(g.credits, h.amount)
      when h.is_late_cancel and h.state = 'captured' and ${freeBefore} >= ${freeLateCancels} then h.amount
      else 0
    end`),
  { name: "unpaid", says: "no user has an artwork without paying, or more free late cancels a day than allowed", violations: unpaid },
  { name: "swapped", says: "Replicate gets only checked photos, from a folder where no client can write", violations: swapped },
  { name: "untrue", says: "during an outage, every request that cannot be done gets 503", violations: async ({ untrue }) => untrue },
  { name: "word", says: "what users were told is true", violations: broken },
];

async function files(): Promise<string[]> {
  const folder = join(process.env.STACK_STATE!, "storage");
  const onDisk = new Map(
    readdirSync(folder, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name))
      .map((path) => [relative(folder, path), statSync(path).size]),
  );
  const violations: string[] = [];
  for (const { path, size } of await database`
    select concat_ws('/', bucket_id, name, version) as path, (metadata ->> 'size')::int as size from storage.objects`) {
    if (onDisk.get(path) !== size) violations.push(`${path} is missing or incomplete`);
    onDisk.delete(path);
  }
  return [...violations, ...onDisk.keys()];
}

async function unpaid({ fetched }: Found): Promise<string[]> {
  const rows = await database.unsafe(`
    select h.generation_id as what from public.credit_holds as h
    where h.state <> 'captured' and h.generation_id = any($1::uuid[])
    union all
    select g.id from storage.objects as o
    join public.generations as g on g.artwork_path = o.name and g.state = 'succeeded'
    join public.credit_holds as h on h.generation_id = g.id
    where o.bucket_id = 'artworks' and h.state <> 'captured'
    union all
    select h.generation_id from public.credit_holds as h
    where h.is_late_cancel and h.state = 'released' and ${freeBefore} >= ${freeLateCancels}
    union all
    select g.id from public.generations as g
    join public.credit_holds as h on h.generation_id = g.id
    where g.state = 'canceled' and coalesce(g.processing_at, g.storing_at) is not null and not h.is_late_cancel`, [[...fetched]]);
  return rows.map(({ what }) => what);
}

/** The size of every honest photo. The photo of a cheat has another size (photos.ts, cheats.ts). */
const side = 64;

async function swapped({ given }: Found): Promise<string[]> {
  const answer = await fetch(`${process.env.SANDBOX_CONTROL_URL}/inputs`);
  const seen = (await answer.json()) as { prediction: string; width?: number; height?: number; exif?: boolean }[];
  const ofOthers = seen.filter(({ prediction, width, height, exif }) =>
    given.has(prediction) && (width !== side || height !== side || exif));
  const elsewhere = [...given].filter(([, address]) => !address.includes("/prepared/"));
  return [...ofOthers.map(({ prediction }) => prediction), ...elsewhere.map(([prediction]) => prediction)];
}

async function broken({ accepted, deleted, overrun }: Found): Promise<string[]> {
  const rows = await database`
    select accepted.id as what from unnest(${[...accepted]}::uuid[]) as accepted (id)
    where not exists (select from public.credit_holds as h where h.generation_id = accepted.id)
    union all
    select g.id from public.generations as g where g.id = any(${[...deleted]}::uuid[])`;
  return [...overrun, ...rows.map(({ what }) => what)];
}
