// Generations in the situations from which tests start.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import type { Generation, Person } from "../journeys/person.ts";
import { small } from "../journeys/photos.ts";
import { arm } from "../journeys/stack.ts";
import { predictionThatIs } from "./replicate.ts";

/** A generation whose prediction has succeeded, but whose webhook event was lost. */
export async function withLostEvents(person: Person): Promise<Generation> {
  await arm({ fault: "webhook_drop" });
  const generation = await person.generate(await small);
  await predictionThatIs("succeeded", generation.input_path);
  return generation;
}

/** Checks that the download has exactly the stored bytes. */
export async function artworkIsWhole(person: Person, id: string): Promise<void> {
  const generation = (await person.generation(id))!;
  const { data } = await person.client.storage.from("artworks").download(generation.artwork_path!);
  const digest = createHash("sha256").update(Buffer.from(await data!.arrayBuffer())).digest("hex");
  assert.equal(digest, generation.artwork_sha256);
}
