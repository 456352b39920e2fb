// A user uploads a photo, it becomes an artwork in a private gallery, and the photo is deleted. The demo checks each
// step from outside, and exits with 0 only if every check holds.

import { createHash, createHmac } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { compactVerify, createLocalJWKSet } from "jose";
import postgres from "postgres";
import { type Generation, Person } from "../journeys/person.ts";
import { difference, openPhoto, sideBySide } from "./picture.ts";
import { check, heading, progress, say, table } from "./timeline.ts";

const root = resolve(import.meta.dirname, "..", "..");
const style = process.env.STYLE || "watercolor";
const results = join(root, ".local", "demo");
const state = process.env.STACK_STATE!;
const photoPath = process.env.PHOTO ? resolve(root, process.env.PHOTO) : undefined;

function end(sentence: string): never {
  console.error(sentence);
  process.exit(1);
}

const photo = await openPhoto(photoPath).catch((error: Error) =>
  end(`PHOTO=${process.env.PHOTO} cannot be opened as a picture: ${error.message}`),
);

heading("A photo becomes an artwork");
const person = await Person.signUp("demo");
say(`signed up; the new account has ${(await person.wallet()).balance} credits`);
const { data: styles } = await person.client.from("styles").select("id, name").order("position");
if (!styles!.some(({ id }) => id === style)) {
  end(`STYLE=${style} is not one of: ${styles!.map(({ id }) => id).join(", ")}`);
}

const input = await person
  .upload(photo.bytes, photo.extension, photo.contentType)
  .catch((error: Error) => end(`PHOTO=${process.env.PHOTO} cannot be uploaded: ${error.message}`));
say(`uploaded ${photo.width} × ${photo.height}, ${kilobytes(photo.bytes.length)}, to inputs/…/${input.split("/")[1]}`);
const onDisk = join(state, "storage", "inputs", input);
check(existsSync(onDisk), "the photo is in the private bucket");

const response = await person.submit({ style, input_path: input });
const submitted = (await response.json()) as Generation & { detail?: string };
if (photoPath && submitted.detail) end(`PHOTO=${process.env.PHOTO} cannot be used: ${submitted.detail}`);
check(response.status === 201, `submitted as ${style}${submitted.detail ? `: ${submitted.detail}` : ""}`);
check((await person.wallet()).held === Number(submitted.credits), `${submitted.credits} credit is held, nothing is charged yet`);

const generation = await follow(submitted.id);
check(generation.state === "succeeded", `the model has finished (${generation.predict_seconds} s)`);

heading("The artwork");
const artwork = await download(generation);
const pictures = { artwork: join(results, `${style}.${generation.artwork_path!.split(".").pop()}`), both: join(results, `before-and-after-${style}.png`) };
mkdirSync(results, { recursive: true });
writeFileSync(pictures.artwork, artwork);
await sideBySide(photo.bytes, artwork, pictures.both);
const differs = await difference(photo.bytes, artwork);
check(differs > 8, `it looks different from the photo (${differs.toFixed(0)} of 255)`);
const stranger = await Person.signUp("stranger");
const tried = await stranger.client.storage.from("artworks").download(generation.artwork_path!);
check(tried.error !== null, "another user cannot open it, even with its path");
const asked = await fetch(`${process.env.FUNCTIONS_URL}/privacy/mark?sha256=${generation.artwork_sha256}`);
check(((await asked.json()) as { made_here?: boolean }).made_here === true, "anyone with the file can check by its digest that it was made here");

heading("The photo");
await person.forgotten();
const deletions = (await person.deletions()) as unknown as Record<string, string>[];
const deletion = deletions.find(({ path }) => path === input)!;
const copy = deletions.find(({ bucket, reason }) => bucket === "inputs" && reason === "succeeded");
say(`deletion ordered ${time(deletion.ordered_at)}, as soon as its copy without metadata existed`);
check(Boolean(deletion.verified_at), `absence verified ${time(deletion.verified_at)}, by fetching and listing it again`);
check(Boolean(copy?.verified_at), "the absence of the copy for the model is verified, too");
const listed = await person.client.storage.from("inputs").list(person.id);
check(listed.data?.length === 0, "the user's folder is empty");
check((await person.client.storage.from("inputs").download(input)).error !== null, "the photo cannot be downloaded any more");
check(filesBelow(join(state, "storage", "inputs")).length === 0, "the bucket has no file on disk");
const sql = postgres(process.env.DATABASE_ADMIN_URL!, { max: 1 });
const [{ count }] = await sql`select count(*)::int as count from storage.objects where bucket_id = 'inputs'`;
await sql.end();
check(count === 0, "the bucket has no row in the database");
const traces = filesBelow(join(state, "logs")).filter((log) => leaks(readFileSync(log)));
check(traces.length === 0, "no log contains its bytes, the prompt or the user's token");

heading("The proof");
const keys = await (await fetch(`${process.env.FUNCTIONS_URL}/.well-known/jwks.json`)).json();
const { payload } = await compactVerify(deletion.receipt, createLocalJWKSet(keys));
const statement = JSON.parse(new TextDecoder().decode(payload));
check(statement.jti === deletion.id, "the receipt of its deletion verifies with the published key");
check(!JSON.stringify(statement).includes(person.id), "the receipt does not contain the user's id");
const digest = createHash("sha256").update(photo.bytes).digest("hex");
const keyed = createHmac("sha256", deletion.object_key!).update(digest).digest("hex");
check(statement.object.content_hmac_sha256 === keyed, "the receipt contains a digest of exactly the uploaded bytes");
say(`${statement.object.bytes} bytes, deleted ${time(statement.deleted_at)}, verified ${time(statement.verified_at)} (${statement.rule})`);
const proof = { receipt: join(results, "receipt.jws"), keys: join(results, "jwks.json") };
writeFileSync(proof.receipt, deletion.receipt);
writeFileSync(proof.keys, JSON.stringify(keys));

heading("What was recorded");
const { data: log } = await person.client.from("processing_log").select("state, at").order("id");
table(log!.map((line) => [time(line.at), line.state]));

heading("The ledger");
const { data: entries } = await person.client.from("credit_entries").select("created_at, kind, amount, reason").order("id");
table(entries!.map((entry) => [time(entry.created_at), entry.kind, String(entry.amount), entry.reason]));
const wallet = await person.wallet();
const sum = entries!.reduce((total, { amount }) => total + amount, 0);
check(wallet.balance === sum && wallet.held === 0, `the balance is ${wallet.balance}, the sum of its entries; nothing is held`);

heading("See for yourself");
for (const path of Object.values({ ...pictures, ...proof })) console.log(`         ${path.slice(root.length + 1)}`);
console.log("\n         how to verify the receipt: docs/receipts.md");
console.log(`         another style: make demo STYLE=${next(style)}`);
console.log("         your own photo: make demo PHOTO=path/to/photo.jpg\n");

async function follow(id: string): Promise<Generation> {
  const show = progress();
  const ended = person.ended(id);
  let over = false;
  ended.finally(() => (over = true)).catch(() => {});
  while (!over) {
    show((await person.generation(id))?.state ?? "gone");
    await Promise.race([ended, new Promise((later) => setTimeout(later, 100))]);
  }
  return ended;
}

async function download({ artwork_path, artwork_sha256, artwork_bytes }: Generation): Promise<Buffer> {
  const { data, error } = await person.client.storage.from("artworks").download(artwork_path!);
  if (error) throw error;
  const bytes = Buffer.from(await data.arrayBuffer());
  const digest = createHash("sha256").update(bytes).digest("hex");
  check(digest === artwork_sha256, `downloaded at full resolution, ${kilobytes(Number(artwork_bytes))}, with the digest that was recorded`);
  return bytes;
}

function next(shown: string): string {
  const ids = styles!.map(({ id }) => id as string);
  return ids[(ids.indexOf(shown) + 1) % ids.length];
}

function leaks(content: Buffer): boolean {
  const middle = photo.bytes.length / 2;
  const canaries = [photo.bytes.subarray(middle, middle + 32), String(generation.prompt), person.token];
  return canaries.some((canary) => content.includes(canary));
}

function filesBelow(folder: string): string[] {
  if (!existsSync(folder)) return [];
  const names = readdirSync(folder, { recursive: true, encoding: "utf8" });
  return names.map((name) => join(folder, name)).filter((path) => statSync(path).isFile());
}

function time(at: string): string {
  return new Date(at).toISOString().slice(11, 23);
}

function kilobytes(bytes: number): string {
  return `${Math.round(bytes / 1024).toLocaleString("en")} KB`;
}
