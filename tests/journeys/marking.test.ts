// Each artwork says that a model made it: in XMP that programs read, and in a manifest that anyone can verify (X7).

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { after, test } from "node:test";
import { crc32 } from "node:zlib";
import sharp from "sharp";
import { type Credentials, makeCredentials } from "../../supabase/local/certificate.ts";
import { startFunctions } from "../lab/functions.ts";
import { freePort, until } from "../waiting.ts";
import { agreesWithItsManifest, hasItsChecksums, linkOf, readAsItComes } from "./archive.ts";
import { actionsIn, active, failures, python, readCredentials, withCredentials } from "./credentials.ts";
import { type Generation, Person } from "./person.ts";
import { small, withXmp } from "./photos.ts";
import { cleanUp, database, deliver, delivered } from "./stack.ts";

const sourceType = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia";
const root = resolve(import.meta.dirname, "../..");
const ours = process.env.CONTENT_CREDENTIALS_CERTIFICATE!;
/** The credentials of a provider that signs the outputs of its models. */
const provider = await makeCredentials();

const formats = [
  { model: "kontext-pro", output_format: "jpg", format: "jpeg", type: "image/jpeg" },
  { model: "kontext-max", output_format: "png", format: "png", type: "image/png" },
  { model: "kontext-dev", output_format: "webp", format: "webp", type: "image/webp" },
] as const;

after(() => database.end());

async function download(person: Person, { artwork_path }: Generation): Promise<Buffer> {
  const { data, error } = await person.client.storage.from("artworks").download(artwork_path!);
  if (error) throw error;
  return Buffer.from(await data.arrayBuffer());
}

/** Makes an artwork. Returns it with the output of the model. */
async function makeArtwork(settings: Record<string, unknown> = {}) {
  const person = await Person.signUp("alice");
  const generation = await person.ended((await person.generate(await small, settings)).id);
  assert.equal(generation.state, "succeeded", generation.reason ?? "");
  const { completed_at, picture: output } = await delivered(generation.prediction_id);
  return { person, generation, completed_at, output, artwork: await download(person, generation) };
}

/** Makes an artwork from a given output of the model. */
async function makeOf(output: Buffer, { model, output_format, type }: (typeof formats)[number]) {
  await deliver(output, type);
  const made = await makeArtwork({ model, settings: { output_format } });
  assert.ok(made.output.equals(output), "the sandbox delivered another output");
  return made;
}

async function paint(format: (typeof formats)[number]["format"], xmp?: string): Promise<Buffer> {
  const noise = { type: "gaussian" as const, mean: 128, sigma: 30 };
  const painted = sharp({ create: { width: 320, height: 240, channels: 3, background: "teal", noise } });
  if (xmp && format === "png") return withXmp(await painted.png().toBuffer(), xmp);
  return (xmp ? painted.withXmp(xmp) : painted).toFormat(format).toBuffer();
}

/** Corrects the checksums of a PNG after its chunks were changed. */
function withChecksums(png: Buffer): Buffer {
  const mended = Buffer.from(png);
  for (let at = 8; at < mended.length; ) {
    const end = at + 8 + mended.readUInt32BE(at);
    mended.writeUInt32BE(crc32(mended.subarray(at + 4, end)), end);
    at = end + 4;
  }
  return mended;
}

const pixels = (picture: Buffer) => sharp(picture).raw().toBuffer();
const xmpOf = async (picture: Buffer) => (await sharp(picture).metadata()).xmpAsString ?? "";
/** The values of a property in XMP, written as `name="value"` or `<name>value</name>`. */
const saidIn = (xmp: string, name: string) =>
  [...xmp.matchAll(new RegExp(`${name}(?:="|>)([^"<]*)["<]`, "g"))].map(([, value]) => value);

async function saysSo(artwork: Buffer): Promise<void> {
  assert.deepEqual(saidIn(await xmpOf(artwork), "Iptc4xmpExt:DigitalSourceType"), [sourceType]);
}

for (const { model, output_format, format, type } of formats) {
  test(`a ${format} artwork says that a model made it, and a third-party reader trusts its signature (X7)`, async () => {
    const made = await makeArtwork({ model, settings: { output_format }, prompt: "a heliotrope lighthouse" });
    const { person, generation, completed_at, artwork, output } = made;
    assert.equal((await sharp(artwork).metadata()).format, format);

    const report = readCredentials(artwork, type, ours)!;
    assert.ok(report, "the artwork has no manifest");
    assert.deepEqual([report.validation_state, failures(report)], ["Trusted", []]);
    const stranger = readCredentials(artwork, type)!;
    assert.deepEqual([stranger.validation_state, failures(stranger)], ["Valid", ["signingCredential.untrusted"]]);

    // The mark names the model and the time, and nothing else.
    const manifest = active(report);
    assert.deepEqual(Object.keys(report.manifests), [manifest.label]);
    const [{ replicate_model: name }] = await database`select replicate_model from public.models where id = ${model}`;
    const [action, ...more] = actionsIn(manifest);
    const { when, ...said } = action!;
    assert.deepEqual(said, { action: "c2pa.created", softwareAgent: { name }, digitalSourceType: sourceType });
    assert.deepEqual([more, manifest.ingredients ?? [], manifest.thumbnail], [[], [], undefined]);
    assert.equal(Date.parse(when), Date.parse(completed_at));
    await saysSo(artwork);

    // The file contains neither the identity of its owner nor the prompt.
    const text = artwork.toString("latin1").toLowerCase();
    const words = (generation.prompt as string).toLowerCase().split(/\W+/);
    const phrases = words.slice(2).map((word, at) => `${words[at]} ${words[at + 1]} ${word}`);
    assert.ok(phrases.includes("a heliotrope lighthouse"), generation.prompt as string);
    const email = person.email.split("@")[0]!;
    const photo = [generation.input_path.split("/")[1]!, generation.input_sha256].filter(Boolean) as string[];
    for (const secret of ["heliotrope", person.id, email, generation.id, generation.prediction_id as string, ...photo, ...phrases])
      assert.ok(!text.includes(secret.toLowerCase()), `the file contains ${secret}`);

    // The pixels are exactly those of the model, and the credentials are valid for this picture only.
    assert.ok((await pixels(artwork)).equals(await pixels(output)), "the pixels have changed");
    const part = output.subarray(output.length >> 1, (output.length >> 1) + 64);
    const at = artwork.indexOf(part);
    assert.ok(at > 0, "the picture was encoded again");
    const changed = Buffer.from(artwork);
    changed[at]! ^= 1;
    const found = readCredentials(changed, type, ours)!;
    assert.deepEqual([found.validation_state, failures(found)], ["Invalid", ["assertion.dataHash.mismatch"]]);
  });
}

test("the recorded digest and the export of an artwork are those of the marked file (X7, G5)", async () => {
  const { person, generation, artwork } = await makeArtwork();
  const sha256 = createHash("sha256").update(artwork).digest("hex");
  assert.ok(readCredentials(artwork, "image/png", ours));
  assert.deepEqual([generation.artwork_bytes, generation.artwork_sha256], [artwork.length, sha256]);

  assert.equal((await person.call("POST", "/privacy/exports")).status, 202);
  await until("the export to be ready", async () => {
    await cleanUp();
    const { data } = await person.client.from("exports").select("state").single();
    return data!.state === "ready" || undefined;
  }, 60_000);
  const link = await linkOf(person);
  const entries = await readAsItComes(link);
  agreesWithItsManifest(entries);
  await hasItsChecksums(link);
  assert.deepEqual(entries.filter(({ name }) => name.startsWith("artworks/")).map((entry) => entry.sha256), [sha256]);
});

for (const kind of formats) {
  test(`a manifest that a model provider put into a ${kind.format} is the parent of ours (X7)`, async () => {
    const signed = withCredentials(await paint(kind.format), kind.type, provider);
    const theirs = readCredentials(signed, kind.type, provider.credentialsCertificate)!;
    const { artwork } = await makeOf(signed, kind);

    const report = readCredentials(artwork, kind.type, ours, provider.credentialsCertificate)!;
    const manifest = active(report);
    assert.deepEqual([report.validation_state, failures(report)], ["Trusted", []]);
    assert.deepEqual(Object.keys(report.manifests).sort(), [theirs.active_manifest, manifest.label].sort());
    assert.deepEqual(report.manifests[theirs.active_manifest]!.claim_generator_info[0]!.name, "The provider");
    assert.deepEqual(manifest.ingredients!.map(({ relationship, active_manifest }) => [relationship, active_manifest]), [["parentOf", theirs.active_manifest]]);
    const deltas = report.validation_results.ingredientDeltas ?? [];
    assert.deepEqual(deltas.flatMap(({ validationDeltas }) => validationDeltas.failure), []);
    assert.deepEqual(actionsIn(manifest).map(({ action, digitalSourceType }) => [action, digitalSourceType]), [["c2pa.opened", undefined], ["c2pa.edited", sourceType]]);
    await saysSo(artwork);
    assert.ok((await pixels(artwork)).equals(await pixels(signed)));
  });
}

test("an output with a broken manifest is stored with our mark", async () => {
  for (const kind of formats) {
    const whole = withCredentials(await paint(kind.format), kind.type, provider);
    const forged = Buffer.from(whole);
    forged.write("The provider's mirth", forged.indexOf("The provider's model"));
    const garbled = Buffer.from(whole);
    garbled.fill(0xff, garbled.indexOf("jumd"), garbled.indexOf("jumd") + 24);
    for (const [name, broken] of Object.entries({ forged, garbled })) {
      const output = kind.format === "png" ? withChecksums(broken) : broken;
      const { artwork } = await makeOf(output, kind);
      await saysSo(artwork);
      // The remains of a manifest in a JPEG would make ours invalid, so we add none.
      const expected = kind.format === "jpeg" && name === "garbled" ? null : "Trusted";
      const report = readCredentials(artwork, kind.type, ours);
      assert.equal(report && report.validation_state, expected, `${kind.format}, ${name}`);
      assert.ok((await pixels(artwork)).equals(await pixels(whole)), `${kind.format}, ${name}`);
    }
  }
});

test("marking an output keeps the XMP that it already has", async () => {
  const title = 'xmlns:dc="http://purl.org/dc/elements/1.1/" dc:format="kept"';
  const xmp = `<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" ${title}/></rdf:RDF></x:xmpmeta>`;
  for (const kind of formats) {
    const { artwork } = await makeOf(await paint(kind.format, xmp), kind);
    assert.deepEqual(saidIn(await xmpOf(artwork), "dc:format"), ["kept"], kind.format);
    await saysSo(artwork);
    const report = readCredentials(artwork, kind.type, ours)!;
    assert.equal(report.validation_state, "Trusted", kind.format);
  }
});

/** Runs `run` with separate functions that have another certificate than the stack, or none. */
function withCertificate({ credentialsCertificate, credentialsKey }: Credentials, run: () => Promise<void>): Promise<void> {
  return withFunctions({ CONTENT_CREDENTIALS_CERTIFICATE: credentialsCertificate, CONTENT_CREDENTIALS_KEY: credentialsKey }, run);
}

async function withFunctions(env: Record<string, string>, run: () => Promise<void>): Promise<void> {
  const [port, before] = [await freePort(), process.env.FUNCTIONS_URL!];
  const functions = await startFunctions({ ...env, WEBHOOK_BASE_URL: `http://127.0.0.1:${port}`, CLEANUP_INTERVAL_SECONDS: "0" }, port);
  process.env.FUNCTIONS_URL = functions.url;
  try {
    await run();
  } finally {
    process.env.FUNCTIONS_URL = before;
    await functions.stop();
  }
}

test("without a certificate, only XMP marks an artwork, and an existing manifest stays unchanged", async () => {
  await withCertificate({ credentialsCertificate: "", credentialsKey: "" }, async () => {
    for (const kind of formats) {
      const plain = await makeOf(await paint(kind.format), kind);
      await saysSo(plain.artwork);
      assert.equal(readCredentials(plain.artwork, kind.type, ours), null, kind.format);
      assert.ok((await pixels(plain.artwork)).equals(await pixels(plain.output)), kind.format);

      const signed = await makeOf(withCredentials(await paint(kind.format), kind.type, provider), kind);
      const report = readCredentials(signed.artwork, kind.type, provider.credentialsCertificate)!;
      assert.deepEqual([report.validation_state, failures(report)], ["Trusted", []], kind.format);
    }
  });
});

test("a certificate made as documented signs artworks, and the documented script verifies them", async () => {
  const folder = mkdtempSync(join(tmpdir(), "certificate-"));
  try {
    const documentation = readFileSync(join(root, "docs/credentials-certificate.md"), "utf8");
    const block = (language: string, part: string) =>
      [...documentation.matchAll(new RegExp(`^\`\`\`${language}\\n([^\`]+)^\`\`\``, "gm"))].map(([, code]) => code!).find((code) => code.includes(part))!;
    execFileSync("sh", ["-ec", block("sh", "openssl req")], { cwd: folder, stdio: "pipe" });
    const [credentialsCertificate, credentialsKey] = ["certificate.pem", "leaf.key"].map((name) => readFileSync(join(folder, name), "utf8"));

    await withCertificate({ credentialsCertificate: credentialsCertificate!, credentialsKey: credentialsKey! }, async () =>
      writeFileSync(join(folder, "artwork.png"), (await makeArtwork()).artwork));
    writeFileSync(join(folder, "look.py"), block("python", "look.py"));
    const look = (...args: string[]) => execFileSync(python, ["look.py", "artwork.png", ...args], { cwd: folder, encoding: "utf8" }).trim();
    assert.deepEqual([look("ca.pem"), look()], ["Trusted []", "Valid ['signingCredential.untrusted']"]);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("an authority stamps the time of signatures, and artworks are signed without a stamp while it is down", async () => {
  const authority = spawn(python, [join(import.meta.dirname, "timestamps.py")], { stdio: ["pipe", "pipe", "inherit"] });
  const ended = once(authority, "exit");
  try {
    const [address] = await once(authority.stdout, "data");
    await withFunctions({ CONTENT_CREDENTIALS_TIMESTAMP_URL: String(address).trim() }, async () => {
      const before = Date.now();
      const stamped = readCredentials((await makeArtwork()).artwork, "image/png", ours)!;
      const time = Date.parse(active(stamped).signature_info.time!);
      assert.ok(time >= before - 1000 && time <= Date.now(), active(stamped).signature_info.time);
      assert.deepEqual(failures(stamped), []);

      authority.stdin.end();
      await ended;
      const unstamped = readCredentials((await makeArtwork()).artwork, "image/png", ours)!;
      assert.equal(active(unstamped).signature_info.time, undefined);
      assert.deepEqual([unstamped.validation_state, failures(unstamped)], ["Trusted", []]);
    });
  } finally {
    authority.stdin.end();
    await ended;
  }
});
