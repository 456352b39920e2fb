// A large gallery: artworks with real objects in Storage and the rows that their generations would leave.

import { createHash, randomUUID } from "node:crypto";
import { createClient } from "@supabase/supabase-js";
import sharp from "sharp";
import ws from "ws";
import type { Person } from "./person.ts";
import { database } from "./stack.ts";

export interface Artwork {
  id: string;
  artwork_path: string;
  artwork_sha256: string;
}

const service = createClient(process.env.SUPABASE_URL!, process.env.SUPABASE_SECRET_KEY!, {
  auth: { persistSession: false },
  realtime: { transport: ws as never },
});

/** A PNG of noise, which does not compress, so that its size is close to `kilobytes`. */
async function picture(kilobytes: number): Promise<Buffer> {
  const side = Math.ceil(Math.sqrt((kilobytes * 1024) / 3));
  const noise = { type: "gaussian" as const, mean: 128, sigma: 30 };
  return sharp({ create: { width: side, height: side, channels: 3, background: "#888", noise } }).png().toBuffer();
}

/** Stores `count` artworks that were made and paid for 30 days ago. */
export async function fillGallery(person: Person, count: number, kilobytes = 120): Promise<Artwork[]> {
  const bytes = await picture(kilobytes);
  const artwork_sha256 = createHash("sha256").update(bytes).digest("hex");
  const made: Artwork[] = Array.from({ length: count }, () => {
    const id = randomUUID();
    return { id, artwork_path: `${person.id}/${id}.png`, artwork_sha256 };
  });
  await database`insert into public.credit_entries (wallet_id, kind, amount, reason)
    select id, 'adjustment', ${count}, 'a gallery' from public.wallets where person_id = ${person.id}`;
  for (let from = 0; from < made.length; from += 20) {
    await Promise.all(made.slice(from, from + 20).map(async ({ artwork_path }) => {
      const { error } = await service.storage.from("artworks").upload(artwork_path, bytes, { contentType: "image/png" });
      if (error) throw error;
    }));
  }
  await database`
    insert into public.generations (id, person_id, idempotency_key, style, style_version, model, prompt, settings, credits, input_path, deadline_at)
    select id::uuid, ${person.id}, id, 'mosaic', 1, 'kontext-pro', 'a prompt, with "quotes"', '{"seed": 1}', 1, ${person.id} || '/' || id || '.jpg', now()
    from unnest(${made.map(({ id }) => id)}::text[]) as id`;
  await database`update public.generations set state = 'storing' where id = any (${made.map(({ id }) => id)})`;
  await database`
    update public.generations set state = 'succeeded', artwork_path = ${person.id} || '/' || id || '.png',
      artwork_content_type = 'image/png', artwork_bytes = ${bytes.length}, artwork_sha256 = ${artwork_sha256}
    where id = any (${made.map(({ id }) => id)})`;
  await database.begin(async (sql) => {
    // Long ago, so that these artworks do not count towards the limits of the user.
    await sql`set local session_replication_role = replica`;
    await sql`update public.credit_holds set opened_at = opened_at - interval '30 days' where generation_id = any (${made.map(({ id }) => id)})`;
  });
  return made;
}
