// Account owners who cheat: they want artworks without paying, photos without checks, and quotas without limits.

import { randomUUID } from "node:crypto";
import { type ClientRequest, request } from "node:http";
import sharp from "sharp";
import { Person } from "../journeys/person.ts";
import { mountains } from "../journeys/photos.ts";
import { database } from "../journeys/stack.ts";
import { until } from "../waiting.ts";
import type { Told } from "./client.ts";

export const cheats = ["swap", "late upload", "held row", "flood", "restrict and allow", "old token"] as const;
export type Cheat = (typeof cheats)[number];

/** A photo of a size that no honest photo has, with a location. If Replicate gets either, the photo was not checked. */
const bait: Promise<Buffer> = sharp(mountains)
  .resize(96, 96)
  .withExif({ IFD3: { GPSLatitudeRef: "N", GPSLatitude: "45/1 55/1 0/1" } })
  .jpeg()
  .toBuffer();

/** How long a cheat waits for a generation, in milliseconds. */
const patience = 2_000;

async function isBegun(path: string): Promise<true> {
  return until("the generation of a photo", async () => {
    const rows = await database`select from public.generations where input_path = ${path}`.catch(() => []);
    return rows.length > 0 || undefined;
  }, patience);
}

/** Tries to fetch any artwork of this generation from the user's folder, until one is fetched or the time is over. */
export async function grab(person: Person, id: string, told: Told, isOver: () => boolean): Promise<void> {
  const artworks = person.client.storage.from("artworks");
  const names = [1, 2].flatMap((attempt) => ["png", "jpg", "webp"].map((extension) => `${person.id}/${id}-${attempt}.${extension}`));
  for (let turn = 0; !isOver(); turn += 1) {
    const listed = await artworks.list(person.id, { search: id }).catch(() => ({ data: null }));
    const found = (listed.data ?? []).map(({ name }) => `${person.id}/${name}`);
    for (const path of [...found, names[turn % names.length]!]) {
      const { data } = await artworks.download(path).catch(() => ({ data: null }));
      if (data && data.size > 0) return void told.fetched.add(id);
    }
  }
}

/** Once the generation exists, puts other bytes under the name of its photo. */
async function swap(person: Person, path: string): Promise<void> {
  await isBegun(path);
  const inputs = person.client.storage.from("inputs");
  for (let tries = 0; tries < 5; tries += 1) {
    await inputs.remove([path]);
    await inputs.upload(path, await bait, { contentType: "image/jpeg", upsert: tries % 2 === 1 });
    await inputs.update(path, await bait, { contentType: "image/jpeg" });
  }
}

/** Begins an upload to the name of the photo before the photo is there, and finishes it after the submission. */
async function finishLate(person: Person, path: string): Promise<void> {
  const bytes = await bait;
  const upload: ClientRequest = request(`${process.env.SUPABASE_URL}/storage/v1/object/inputs/${path}`, {
    method: "POST",
    headers: {
      "apikey": process.env.SUPABASE_PUBLISHABLE_KEY!,
      "authorization": `Bearer ${person.token}`,
      "content-type": "image/jpeg",
      "content-length": bytes.length,
      "x-upsert": "true",
    },
  });
  const over = new Promise((resolve) => {
    upload.once("response", (answer) => answer.resume().once("end", resolve).once("error", resolve));
    upload.once("error", resolve);
  });
  upload.write(bytes.subarray(0, 100));
  await isBegun(path).catch(() => "never");
  upload.end(bytes.subarray(100));
  await over;
}

/** A change with the slowest filter that is allowed. It holds the rows that it has reached. */
async function hold(person: Person): Promise<void> {
  await person.client.from("generations").update({ favourite: true }).or("favourite.is.false,prompt.match.((.+)+)+\\1\\1#");
}

/** Exceeds every quota. At the end, it removes the photos that Storage accepted. */
async function flood(person: Person, told: Told): Promise<void> {
  const { client } = person;
  const tiny = await bait;
  const paths = Array.from({ length: 40 }, () => `${person.id}/${randomUUID()}.jpg`);
  await person.allow("analytics");
  await Promise.all([
    ...paths.map((path) => client.storage.from("inputs").upload(path, tiny, { contentType: "image/jpeg" })),
    ...Array.from({ length: 15 }, () => client.from("privacy_requests").insert({ kind: "other" })),
    ...Array.from({ length: 3 }, () =>
      client.from("usage_events").insert(Array.from({ length: 600 }, () => ({ feature: "flood" })))),
  ]);
  const [has] = await database`
    select
      (select count(*)::int from storage.objects
        where bucket_id = 'inputs' and starts_with(name, ${`${person.id}/`}) and name !~ '/prepared/') as photos,
      (select count(*)::int from public.privacy_requests where person_id = ${person.id} and closed_at is null) as requests,
      (select count(*)::int from public.usage_events where person_id = ${person.id} and at > now() - interval '1 day') as events`;
  const most = { photos: 20, requests: 10, events: 1000 };
  for (const [what, count] of Object.entries(most)) {
    if (has![what] > count) told.overrun.push(`${person.id} has ${has![what]} ${what}`);
  }
  await client.storage.from("inputs").remove(paths);
}

async function toggle(person: Person): Promise<void> {
  for (const allowed of [false, true, false, true]) {
    await person.client.from("privacy_choices").insert({ purpose: "generation", allowed });
  }
}

/** A new user signs out and continues with the old token. */
async function useOldToken(told: Told): Promise<void> {
  const person = await Person.signUp("somebody");
  const input_path = await person.upload(await bait);
  await person.client.auth.signOut({ scope: "local" });
  const isClosed = await database`select from auth.sessions where user_id = ${person.id}`;
  // A fault prevented the sign-out.
  if (isClosed.length > 0) return;
  const submitted = await person.submit({ style: "mosaic", input_path });
  if (submitted.ok) told.overrun.push(`${person.id} has submitted after signing out`);
  const rows = await fetch(`${process.env.SUPABASE_URL}/rest/v1/wallets`, {
    headers: { apikey: process.env.SUPABASE_PUBLISHABLE_KEY!, authorization: `Bearer ${person.token}` },
  });
  if (rows.ok && ((await rows.json()) as unknown[]).length > 0) told.overrun.push(`${person.id} has read after signing out`);
}

/** Cheats next to a job whose photo is at `path`. A failed attempt affects only the cheat. */
export async function cheat(kind: Cheat, person: Person, path: string, told: Told): Promise<void> {
  const attempt = {
    "swap": () => swap(person, path),
    "late upload": () => finishLate(person, path),
    "held row": () => isBegun(path).then(() => hold(person)),
    "flood": () => flood(person, told),
    "restrict and allow": () => isBegun(path).then(() => toggle(person)),
    "old token": () => useOldToken(told),
  }[kind];
  await attempt().catch(() => "in vain");
}
