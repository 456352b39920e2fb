// Content Credentials of a picture, read and written by a program that is not ours (credentials.py).

import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import type { Credentials } from "../../supabase/local/certificate.ts";

export interface Manifest {
  label: string;
  claim_generator_info: { name: string }[];
  assertions: { label: string; data: Record<string, any> }[];
  ingredients?: { relationship: string; active_manifest?: string }[];
  thumbnail?: unknown;
  /** `time` is what an authority has stamped. */
  signature_info: { time?: string };
}

interface Status {
  code: string;
}

export interface Report {
  active_manifest: string;
  manifests: Record<string, Manifest>;
  validation_state: "Trusted" | "Valid" | "Invalid";
  validation_results: {
    activeManifest: { failure: Status[] };
    ingredientDeltas?: { validationDeltas: { failure: Status[] } }[];
  };
}

export const python = resolve(import.meta.dirname, "../../.local/tools/bin/python");
const certificates = /-----BEGIN CERTIFICATE-----[^]+?-----END CERTIFICATE-----/g;

/** Runs the program on a picture, with each of `texts` in a file that it is told of. */
function run(command: string, picture: Buffer, type: string, ...texts: string[]): Buffer {
  const folder = mkdtempSync(join(tmpdir(), "credentials-"));
  try {
    const files = texts.map((text, at) => {
      const file = join(folder, String(at));
      writeFileSync(file, text, { mode: 0o600 });
      return file;
    });
    const script = join(import.meta.dirname, "credentials.py");
    return execFileSync(python, [script, command, type, ...files], { input: picture, maxBuffer: 64 * 1024 * 1024 });
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** What a reader says that trusts the authorities of `chains`, and no other. */
export function readCredentials(picture: Buffer, type: string, ...chains: string[]): Report | null {
  const authorities = chains.map((chain) => chain.match(certificates)!.at(-1)!);
  return JSON.parse(run("read", picture, type, authorities.join("\n")).toString()) as Report | null;
}

/** The picture with a manifest of its own, as a model's provider may deliver it. */
export function withCredentials(picture: Buffer, type: string, { credentialsCertificate, credentialsKey }: Credentials): Buffer {
  return run("sign", picture, type, credentialsCertificate, credentialsKey);
}

export const active = (report: Report): Manifest => report.manifests[report.active_manifest]!;

export const failures = (report: Report): string[] => report.validation_results.activeManifest.failure.map(({ code }) => code);

/** What happened to the picture, by its newest manifest. */
export function actionsIn(manifest: Manifest): Record<string, any>[] {
  return manifest.assertions.filter(({ label }) => label.startsWith("c2pa.actions")).flatMap(({ data }) => data.actions);
}
