// Users as their clients act: they lose connections, retry, and change their minds.

import { randomUUID } from "node:crypto";
import type { Person } from "../journeys/person.ts";
import { database } from "../journeys/stack.ts";
import { until } from "../waiting.ts";
import { cheat, grab } from "./cheats.ts";
import { photos } from "./photos.ts";
import type { Job } from "./schedule.ts";

/** What users were told. At the end it must match what is there. */
export interface Told {
  /** How many idempotency keys were used. Each is a request for one artwork. */
  keys: number;
  /** Generations that a response said exist. */
  accepted: Set<string>;
  /** Generations that a response said were deleted. */
  deleted: Set<string>;
  /** Generations whose artwork was downloaded. */
  fetched: Set<string>;
  /** What a user had or did although it is not allowed. */
  overrun: string[];
  /** Responses during an outage that were not 503 although they needed what was down. */
  untrue: string[];
}

/** How long a client follows its generation before it does something else. */
const patienceMs = 1_500;

/** Retries after an error or a lost response, with growing pauses. */
async function insist<T>(ask: () => Promise<T | undefined>): Promise<T | undefined> {
  for (let pause = 100; pause <= 3_200; pause *= 2) {
    const answer = await ask().catch(() => undefined);
    if (answer !== undefined) return answer;
    await new Promise((later) => setTimeout(later, pause));
  }
  return undefined;
}

/** Uploads a photo to `path`. If the name is taken, an earlier try has succeeded and its response was lost. */
async function upload(person: Person, path: string, bytes: Buffer, contentType: string): Promise<string> {
  const { error } = await person.client.storage.from("inputs").upload(path, bytes, { contentType });
  if (error && !/exists|used before/.test(error.message)) throw error;
  return path;
}

/** Submits until the request is accepted or refused. Returns the id of an accepted generation. */
function submit(person: Person, body: Record<string, unknown>, key: string): Promise<string | undefined> {
  return insist(async () => {
    const answer = await person.submit(body, key);
    if (answer.status >= 500) return undefined;
    return answer.ok ? ((await answer.json()) as { id: string }).id : "";
  });
}

async function follow(id: string, when: "running" | "storing" | "ended"): Promise<void> {
  const reached = { running: ["processing", "storing"], storing: ["storing"], ended: [] as string[] }[when];
  await until("progress", async () => {
    const [found] = await database`select state from public.generations where id = ${id}`.catch(() => []);
    return [...reached, "succeeded", "failed", "canceled"].includes(found?.state) || undefined;
  }, when === "storing" ? 4 * patienceMs : patienceMs).catch(() => "not yet");
}

async function end(person: Person, id: string, call: "cancel" | "delete", told: Told): Promise<void> {
  const [method, path] = call === "cancel" ? ["POST", `/generations/${id}/cancel`] : ["DELETE", `/generations/${id}`];
  const answer = await insist(async () => {
    const answer = await person.call(method!, path!);
    return answer.status < 500 ? answer : undefined;
  });
  // 404: it was deleted before, and that response was lost.
  if (call === "delete" && (answer?.ok || answer?.status === 404)) told.deleted.add(id);
}

/** One job, from the upload to whatever its user does with it. */
export async function carryOut(job: Job, person: Person, told: Told): Promise<void> {
  const { bytes, extension, contentType } = (await photos)[job.photo];
  const keys = Array.from({ length: job.submits === "eight photos" ? 8 : 1 }, () => randomUUID());
  const copies = job.submits === "same key twice" ? 2 : job.submits === "same key eight times" ? 8 : 1;
  const cheating: Promise<void>[] = [];
  const wishes = keys.map(async (key) => {
    const path = `${person.id}/${randomUUID()}.${extension}`;
    if (job.cheat) cheating.push(cheat(job.cheat, person, path, told));
    const input_path = await insist(() => upload(person, path, bytes, contentType));
    if (!input_path) return [];
    told.keys += 1;
    return Promise.all(Array.from({ length: copies }, () => submit(person, { ...job.body, input_path }, key)));
  });
  const ids = (await Promise.all(wishes)).flat().filter(Boolean) as string[];
  for (const id of ids) told.accepted.add(id);

  const [id] = ids;
  if (id) await see(job, person, id, told);
  await Promise.all(cheating);
}

/** How long a cheat tries to fetch an artwork that is being stored before it ends the generation, in milliseconds. */
const grabMs = 500;

/**
 * Follows the generation to its end, or to where its user ends it. In `storing`, the user first tries to fetch the
 * artwork.
 */
async function see(job: Job, person: Person, id: string, told: Told): Promise<void> {
  const when = job.ending?.when ?? "ended";
  let isOver = false;
  const grabbing = when === "storing" ? grab(person, id, told, () => isOver) : undefined;
  if (when !== "at once") await follow(id, when);
  if (grabbing) await Promise.race([grabbing, new Promise((later) => setTimeout(later, grabMs))]);
  if (job.ending) await end(person, id, job.ending.call, told);
  isOver = true;
  await grabbing;
}
