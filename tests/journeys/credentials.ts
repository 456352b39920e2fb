// Reads and writes the Content Credentials of a picture with a third-party library (credentials.py).

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
  /** `time` is the time that an authority has stamped. */
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

/** Runs credentials.py on a picture. Each of `texts` is written to a file, whose path is passed as an argument. */
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

/** The report of a reader that trusts only the authorities of `chains`. */
export function readCredentials(picture: Buffer, type: string, ...chains: string[]): Report | null {
  const authorities = chains.map((chain) => chain.match(certificates)!.at(-1)!);
  return JSON.parse(run("read", picture, type, authorities.join("\n")).toString()) as Report | null;
}

/** Adds a manifest to the picture, as a model provider may do. */
export function withCredentials(picture: Buffer, type: string, { credentialsCertificate, credentialsKey }: Credentials): Buffer {
  return run("sign", picture, type, credentialsCertificate, credentialsKey);
}

export const active = (report: Report): Manifest => report.manifests[report.active_manifest]!;

export const failures = (report: Report): string[] => report.validation_results.activeManifest.failure.map(({ code }) => code);

/** The actions that a manifest lists. */
export function actionsIn(manifest: Manifest): Record<string, any>[] {
  return manifest.assertions.filter(({ label }) => label.startsWith("c2pa.actions")).flatMap(({ data }) => data.actions);
}
