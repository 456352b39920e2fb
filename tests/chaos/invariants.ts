// What must hold once it is quiet, whatever went wrong. Each answers what violates it: nothing.

import { readdirSync, statSync } from "node:fs";
import { join, relative } from "node:path";
import { database } from "../journeys/stack.ts";
import type { Told } from "./client.ts";

export interface Found extends Told {
  late: Set<string>;
}

export interface Invariant {
  /** The head of its column. */
  name: string;
  says: string;
  violations(found: Found): Promise<string[]>;
}

const terminal = "('succeeded', 'failed', 'canceled')";

function query(name: string, says: string, sql: string): Invariant {
  return { name, says, violations: async () => (await database.unsafe(sql)).map(({ what }) => String(what)) };
}

/** Open past their deadline, though a whole sweep `began` after it; who works under a lease may finish. */
export async function late(began: string): Promise<string[]> {
  const rows = await database`
    select g.id from public.generations as g
    join private.generation_work as w on w.generation_id = g.id
    where g.state not in ('succeeded', 'failed', 'canceled')
      and g.deadline_at < ${began}::timestamptz
      and (w.leased_until is null or w.leased_until <= ${began}::timestamptz)`;
  return rows.map(({ id }) => id);
}

export const invariants: Invariant[] = [
  query("ledger", "wallets, holds, entries and generations agree", `
    select a::text as what from backend.audit_credits() as a`),
  query("holds", "no hold is open once its generation has ended or is gone", `
    select h.id as what from public.credit_holds as h
    left join public.generations as g on g.id = h.generation_id
    where h.state = 'open' and coalesce(g.state in ${terminal}, true)`),
  query("open", "no generation is left open", `
    select id as what from public.generations where state not in ${terminal}`),
  {
    name: "late",
    says: "a whole sweep ends every generation that was past its deadline",
    violations: async (found) => [...found.late],
  },
  query("twice", "a generation ends once, and its hold is captured once", `
    select generation_id as what from public.processing_log
    where state in ${terminal} group by generation_id having count(*) > 1
    union all
    select hold_id from public.credit_entries
    where hold_id is not null group by hold_id having count(*) > 1`),
  query("extra", "a generation has one artwork object at most", `
    select min(name) as what from storage.objects
    where bucket_id = 'artworks' group by split_part(name, '.', 1) having count(*) > 1`),
  query("lost", "what succeeded has its artwork, of its size", `
    select g.id as what from public.generations as g
    left join storage.objects as o on o.bucket_id = 'artworks' and o.name = g.artwork_path
    where g.state = 'succeeded' and g.artwork_bytes is distinct from (o.metadata ->> 'size')::bigint`),
  query("stray", "no artwork is there that no success knows of", `
    select o.name as what from storage.objects as o
    left join public.generations as g on g.artwork_path = o.name and g.state = 'succeeded'
    where o.bucket_id = 'artworks' and g.id is null`),
  query("photos", "no photo is left", `
    select name as what from storage.objects where bucket_id = 'inputs'`),
  { name: "files", says: "on the disk is what Storage knows, and nothing else", violations: files },
  query("orders", "every deletion that was ordered was verified", `
    select id as what from public.deletions where verified_at is null`),
  query("wallet", "a balance is what was granted less what was captured, and nothing is held", `
    select w.id as what from public.wallets as w
    where w.held <> 0 or w.balance <>
      (select coalesce(sum(e.amount), 0) from public.credit_entries as e
        where e.wallet_id = w.id and e.kind = 'grant')
      - (select coalesce(sum(h.amount), 0) from public.credit_holds as h
        where h.wallet_id = w.id and h.state = 'captured')`),
  // That a generation which is gone had succeeded, the order to delete its artwork says.
  query("charge", "what succeeded is paid for, and nothing else", `
    select h.generation_id as what from public.credit_holds as h
    left join public.credit_entries as e on e.hold_id = h.id
    left join public.generations as g on g.id = h.generation_id
    where coalesce(-e.amount, 0) <> case
      when coalesce(g.state = 'succeeded', exists (
        select from public.deletions as d
        where d.generation_id = h.generation_id and d.bucket = 'artworks' and d.reason = 'asked_by_person'
      )) then coalesce(g.credits, h.amount)
      else 0
    end`),
  { name: "word", says: "what people were told is so", violations: broken },
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
    if (onDisk.get(path) !== size) violations.push(`${path} is not there, or not whole`);
    onDisk.delete(path);
  }
  return [...violations, ...onDisk.keys()];
}

async function broken({ accepted, deleted }: Found): Promise<string[]> {
  const rows = await database`
    select accepted.id as what from unnest(${[...accepted]}::uuid[]) as accepted (id)
    where not exists (select from public.credit_holds as h where h.generation_id = accepted.id)
    union all
    select g.id from public.generations as g where g.id = any(${[...deleted]}::uuid[])`;
  return rows.map(({ what }) => what);
}
