// The texts that the tests plant in every place where a user can enter something.

import type { Generation } from "../person.ts";
import { Person } from "../person.ts";
import { withSecrets, withText } from "../photos.ts";

const letters = Array.from(crypto.getRandomValues(new Uint8Array(10)), (byte) => String.fromCharCode(97 + (byte % 26)));

/** Every planted text begins with this. It has only letters, so that no rule about the shape of a value catches it. */
export const canary = `canary${letters.join("")}`;

/** A text that names the place where it was planted. */
export const planted = (where: string) => `${canary}${where}`;

/** Typical photos, with planted metadata. */
export const photos = {
  jpeg: await withSecrets("jpeg", planted("exif")),
  png: withText(await withSecrets("png", planted("exif")), planted("text")),
  webp: await withSecrets("webp", planted("exif")),
};

/** Bytes that identify each photo, even in a partial copy, by their description. */
export const pixels = new Map<string, Buffer>();
for (const [format, photo] of Object.entries(photos)) {
  pixels.set(`the first bytes of the ${format}`, photo.subarray(0, 30));
  pixels.set(`bytes of the ${format}'s picture`, photo.subarray(photo.length / 2, photo.length / 2 + 30));
}

/** Secrets that no log may contain either, by their description. */
export const secrets = new Map<string, Buffer>();
for (const name of ["SUPABASE_SECRET_KEY", "REPLICATE_API_TOKEN", "REPLICATE_WEBHOOK_SECRET", "RECEIPT_SIGNING_KEY", "PSEUDONYM_KEY", "INBOX_WEBHOOK_SECRET", "OPERATOR_SECRET"]) {
  secrets.set(name, Buffer.from(process.env[name]!));
}

/** The users of all flows. */
export const people: Person[] = [];

/** Signs up a user whose username and email are planted texts. */
export async function newUser(): Promise<Person> {
  const person = await Person.signUp(planted("email"));
  const { error } = await person.client.from("profiles").update({ username: planted(`name${people.length}`) }).eq("id", person.id);
  if (error) throw error;
  const { data } = await person.client.auth.getSession();
  secrets.set(`the access token of ${person.id}`, Buffer.from(person.token));
  secrets.set(`the refresh token of ${person.id}`, Buffer.from(data.session!.refresh_token));
  people.push(person);
  return person;
}

/** Submits a photo with a planted prompt. Returns the generation and records the path of the photo as a secret. */
export async function submitted(person: Person, format: keyof typeof photos = "jpeg"): Promise<Generation> {
  const input_path = await person.upload(photos[format], format, `image/${format}`);
  secrets.set(`the path of ${input_path}`, Buffer.from(input_path));
  const response = await person.submit({ style: "mosaic", input_path, prompt: planted("prompt") }, planted(`key${people.length}`));
  if (!response.ok) throw new Error(await response.text());
  return { ...((await response.json()) as Generation), input_path };
}
