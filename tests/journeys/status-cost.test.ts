// A public request reads only a few rows by an index, however large the tables are (X5, X7).

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { cleanUp, database } from "./stack.ts";

after(() => database.end());

const many = 20_000;
const undone = new Error("undone");

/** How many rows a statement reads from each table, by a scan of the whole table and by an index. */
async function reads(sql: typeof database, statement: string): Promise<Record<string, { scanned: number; found: number }>> {
  const read = async () =>
    (await sql`select schemaname || '.' || relname as name, seq_tup_read::int as scanned, coalesce(idx_tup_fetch, 0)::int as found
      from pg_stat_xact_all_tables where schemaname in ('public', 'private', 'storage')`) as unknown as { name: string; scanned: number; found: number }[];
  const before = new Map((await read()).map((row) => [row.name, row]));
  await sql.unsafe(statement);
  return Object.fromEntries(
    (await read()).map(({ name, scanned, found }) => [
      name,
      { scanned: scanned - (before.get(name)?.scanned ?? 0), found: found - (before.get(name)?.found ?? 0) },
    ]),
  );
}

for (const call of ["read_status()", "read_privacy_status()", "list_due_work()", `is_made_here(encode(sha256('${many}'), 'hex'))`]) {
  test(`backend.${call} reads fewer than 1000 rows of each table, although each has ${many} old rows`, async () => {
    await cleanUp();
    await database
      .begin(async (transaction) => {
        const sql = transaction as unknown as typeof database;
        // Insert only rows, without triggers. The transaction is rolled back.
        await sql`set local session_replication_role = replica`;
        await sql`
          insert into public.generations (person_id, idempotency_key, style, style_version, model, prompt, settings, credits,
            state, input_path, deadline_at, reserved_at, finished_at, artwork_path, artwork_content_type, artwork_bytes, artwork_sha256)
          select p.id, 'cost-' || n, 'mosaic', 1, 'kontext-pro', 'x', '{}', 1, 'succeeded', p.id || '/cost-' || n || '.jpg',
            now() - interval '30 days', now() - interval '30 days', now() - interval '30 days',
            p.id || '/cost-' || n || '.png', 'image/png', 1, encode(sha256(n::text::bytea), 'hex')
          from generate_series(1, ${many}) as n cross join (select id from public.profiles limit 1) as p`;
        await sql`
          insert into public.credit_entries (wallet_id, kind, amount, reason)
          select w.id, 'grant', 1, 'x' from generate_series(1, ${many}) cross join (select id from public.wallets limit 1) as w`;
        await sql`
          insert into public.deletions (bucket, path, reason, ordered_at, deleted_at, verified_at, receipt)
          select 'inputs', 'cost-' || n, 'orphaned', now() - interval '30 days', now() - interval '30 days', now() - interval '30 days', 'a.b.c'
          from generate_series(1, ${many}) as n`;
        await sql`
          insert into public.exports (person_id, path, state, ordered_at)
          select p.id, 'cost/' || n, 'failed', now() - interval '30 days'
          from generate_series(1, ${many}) as n cross join (select id from public.profiles limit 1) as p`;
        await sql`
          insert into storage.objects (bucket_id, name, metadata)
          select 'artworks', p.id || '/cost-' || n || '.png', '{"size": 1}'
          from generate_series(1, ${many}) as n cross join (select id from public.profiles limit 1) as p`;
        await sql`
          insert into private.outcomes (subject, outcome, at)
          select 'generation', 'succeeded', now() - interval '30 days' from generate_series(1, ${many})`;
        for (const table of ["private.outcomes", "public.generations", "public.credit_entries", "public.deletions", "public.exports", "storage.objects"])
          await sql.unsafe(`analyze ${table}`);
        const read = await reads(sql, `select backend.${call}`);
        for (const [table, { scanned, found }] of Object.entries(read))
          assert.ok(scanned < 1000 && found < 1000, `${table}: ${scanned} rows scanned, ${found} found`);
        throw undone;
      })
      .catch((error: Error) => {
        if (error !== undone) throw error;
      });
  });
}
