// Two workers and one lease: fixtures, and the moment at which another worker gets the lease.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { isDeepStrictEqual } from "node:util";
import postgres, { type TransactionSql } from "postgres";
import { Person } from "../journeys/person.ts";
import { database } from "../journeys/stack.ts";
import { untilWaiting } from "../lab/locks.ts";

/** The connections of a worker, with the role service_role, as the functions have through the Data API. */
export const service = postgres(process.env.DATABASE_ADMIN_URL!, {
  max: 4,
  onnotice: () => {},
  connection: { role: "service_role" },
});

/** A lease that the old worker has lost, or is about to lose. */
export interface Leased {
  /** The id of the generation or the export. */
  id: string;
  person: Person;
  /** The old worker's lease. */
  lease: string;
  /** The path of the object that the old worker makes. */
  path: string;
}

/** Leases for another worker in an open transaction. Fails unless that worker gets the lease. */
export type Take = (sql: TransactionSql, leased: Leased) => Promise<void>;

/** A generation whose dispatch the old worker has leased. The lease has just expired. */
export async function dispatching(): Promise<Leased> {
  const person = await Person.signUp("alice");
  const [id, lease] = [randomUUID(), randomUUID()];
  await database`
    insert into public.generations
      (id, person_id, idempotency_key, style, style_version, model, prompt, settings, credits, input_path, deadline_at)
    values (${id}, ${person.id}, ${id}, 'mosaic', 1, 'kontext-pro', 'a prompt', '{}', 1,
      ${`${person.id}/${id}.jpg`}, now() + interval '5 minutes')`;
  await database`
    insert into private.generation_work (generation_id, request_digest, dispatch_at)
    values (${id}, sha256('r'), now() - interval '2 minutes')`;
  const [{ leased }] = await service`select backend.lease_dispatches(${lease}::uuid, 1000) as leased`;
  const own = (leased as { generation: string; prepared_path: string }[]).find(({ generation }) => generation === id);
  await runOut({ id });
  return { id, person, lease, path: own!.prepared_path };
}

/** A generation with a running prediction and without a lease. */
export async function running(): Promise<Leased> {
  const leased = await dispatching();
  await database`
    update private.generation_work set dispatch_at = null, lease = null, leased_until = null
    where generation_id = ${leased.id}`;
  await database`
    update public.generations set state = 'processing', prediction_id = ${`p-${leased.id}`} where id = ${leased.id}`;
  return leased;
}

export interface Answer {
  action?: string;
  outcome?: string;
  artwork_path?: string;
}

/** Records a success. The answer allows the caller to store the artwork, unless another worker may do so. */
export async function succeeded(sql: TransactionSql | typeof service, { id, lease }: Leased): Promise<Answer> {
  const [{ answer }] = await sql`
    select backend.record_prediction_event(
      lease => ${lease}::uuid, event_id => null, generation_id => ${id}::uuid, capability => null,
      prediction_id => ${`p-${id}`}, status => 'succeeded', output_extension => 'png') as answer`;
  return answer;
}

/** Lets a lease expire. */
export async function runOut({ id }: Pick<Leased, "id">): Promise<void> {
  await database`
    update private.generation_work
    set leased_until = now() - interval '1 second', dispatch_at = least(dispatch_at, now() - interval '1 second')
    where generation_id = ${id}`;
}

/** A generation whose artwork the old worker has stored. The lease has just expired. */
export async function storing(): Promise<Leased> {
  const leased = await running();
  const { action, artwork_path } = await succeeded(service, leased);
  assert.equal(action, "store");
  await hasObject("artworks", artwork_path!, 1000);
  await runOut(leased);
  return { ...leased, path: artwork_path! };
}

/** The same as `storing`, but past its deadline. */
export async function overdue(): Promise<Leased> {
  const leased = await storing();
  await database.begin(async (sql) => {
    await sql`set local session_replication_role = replica`;
    await sql`update public.generations set deadline_at = now() - interval '1 second' where id = ${leased.id}`;
  });
  return leased;
}

/** Inserts the row of an object in Storage. Only its size matters. */
async function hasObject(bucket: string, name: string, size: number): Promise<void> {
  await database`
    insert into storage.objects (bucket_id, name, metadata) values (${bucket}, ${name}, ${{ size } as never})
    on conflict (bucket_id, name) do nothing`;
}

/** An export that the old worker has leased. The lease has just expired. */
export async function building(): Promise<Leased> {
  const person = await Person.signUp("alice");
  const [id, lease] = [randomUUID(), randomUUID()];
  const path = `${person.id}/${id}.zip`;
  await database`insert into public.exports (id, person_id, path) values (${id}, ${person.id}, ${path})`;
  await database`
    insert into private.export_work (export_id, due_at, lease, leased_until, upload)
    values (${id}, '2000-01-01', ${lease}, now() - interval '1 second', 'an upload')`;
  return { id, person, lease, path };
}

/** The same as `building`, but completely planned and uploaded. */
export async function planned(): Promise<Leased> {
  const leased = await building();
  await database`
    insert into private.export_files (export_id, position, name, bytes, crc32)
    values (${leased.id}, 1, 'data/profile.json', 2, 0)`;
  await database`update public.exports set files_total = 1, bytes_total = 1000 where id = ${leased.id}`;
  await hasObject("exports", leased.path, 1000);
  return leased;
}

/** Everything that a worker could change, except the time of the last check and the deletion of its own object. */
async function look(sql: TransactionSql | typeof database, { id, person, path }: Leased): Promise<Record<string, unknown>> {
  const [{ found }] = await sql`
    select jsonb_build_object(
      'generation', (select to_jsonb(g) from public.generations as g where g.id = ${id}),
      'work', (select to_jsonb(w) - 'checked_at' from private.generation_work as w where w.generation_id = ${id}),
      'hold', (select to_jsonb(h) from public.credit_holds as h where h.generation_id = ${id}),
      'export', (select to_jsonb(e) from public.exports as e where e.id = ${id}),
      'export_work', (select to_jsonb(w) from private.export_work as w where w.export_id = ${id}),
      'export_files', (select jsonb_agg(to_jsonb(f) order by f.position) from private.export_files as f where f.export_id = ${id}),
      'orders', (select jsonb_agg(to_jsonb(d) order by d.path) from public.deletions as d where d.person_id = ${person.id} and d.path <> ${path}),
      'outbox', (select jsonb_agg(to_jsonb(o) order by o.target) from private.outbox as o where o.person_id = ${person.id}),
      'removals', (select jsonb_agg(to_jsonb(r)) from public.replicate_removals as r where r.person_id = ${person.id})
    ) as found`;
  return found;
}

/**
 * Another worker gets the lease while the old worker's call waits for a lock: the transaction of the other worker is
 * still open when the call begins. Returns the answer to the old worker. Fails if the old worker has changed anything.
 */
export async function handOver<T>(leased: Leased, take: Take, call: () => Promise<T>): Promise<T> {
  let before: Record<string, unknown> = {};
  const asked = await database.begin(async (sql) => {
    await take(sql, leased);
    before = await look(sql, leased);
    const answer = call().then((told) => ({ told }), (error: Error) => ({ error }));
    await untilWaiting();
    // Wrapped in an object, so that the transaction does not wait for the promise.
    return { answer };
  });
  const answer = await asked.answer;
  if ("error" in answer) throw answer.error;
  const now = await look(database, leased);
  const changed = Object.keys(now).filter((part) => !isDeepStrictEqual(now[part], before[part]));
  assert.deepEqual(changed, [], `the old worker has changed: ${changed.join(", ")}`);
  return answer.told;
}

/** For each verb that leases rows: inserts some rows that are due, and returns their ids. */
export const dueRows: Record<string, (person: Person) => Promise<string[]>> = {
  lease_deletions: async ({ id }) => rows(await database`
    insert into public.deletions (bucket, path, reason, person_id)
    select 'inputs', ${id} || '/' || n || '.jpg', 'orphaned', ${id} from generate_series(1, 3) as n returning id`),
  lease_emails: async ({ id }) => rows(await database`
    insert into private.emails (person_id, kind, subject)
    select ${id}, 'request_filed', gen_random_uuid() from generate_series(1, 3) returning id`),
  lease_outbox: async ({ id }) => rows(await database`
    insert into private.outbox (kind, target, person_id)
    select 'cancel_prediction', ${id} || '-' || n, ${id} from generate_series(1, 3) as n returning target as id`),
  lease_removals: async ({ id }) => rows(await database`
    insert into public.replicate_removals (prediction_id, person_id, due_at)
    select ${id} || '-' || n, ${id}, now() from generate_series(1, 3) as n returning prediction_id as id`),
  lease_erasures: async ({ id }) => rows(await database`
    insert into private.erasures (person_id, reason) values (${id}, 'asked') returning id`),
};

function rows(found: readonly Record<string, string>[]): string[] {
  return found.map(({ id }) => id!).sort();
}
