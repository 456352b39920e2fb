// People as their clients are: they lose connections, ask again, change their minds.

import { randomUUID } from "node:crypto";
import type { Person } from "../journeys/person.ts";
import { database } from "../journeys/stack.ts";
import { until } from "../waiting.ts";
import { cheat, grab } from "./cheats.ts";
import { photos } from "./photos.ts";
import type { Job } from "./schedule.ts";

/** What people were told, to be held against what is. */
export interface Told {
  /** Keys that were used: each is one wish for an artwork. */
  keys: number;
  /** Generations that were said to exist. */
  accepted: Set<string>;
  /** Generations that were said to be deleted. */
  deleted: Set<string>;
  /** Generations whose artwork somebody has downloaded. */
  fetched: Set<string>;
  /** What somebody had, or did, that nobody may. */
  overrun: string[];
  /** Answers during an outage that did not say so. */
  untrue: string[];
}

/** How long a client follows its generation before it turns to something else. */
const patienceMs = 1_500;

/** What a client does that hears nothing, or is told to come back: the same again, later each time. */
async function insist<T>(ask: () => Promise<T | undefined>): Promise<T | undefined> {
  for (let pause = 100; pause <= 3_200; pause *= 2) {
    const answer = await ask().catch(() => undefined);
    if (answer !== undefined) return answer;
    await new Promise((later) => setTimeout(later, pause));
  }
  return undefined;
}

/** Uploads a photo to where it says; a name that is there is its own, of an answer that was lost. */
async function upload(person: Person, path: string, bytes: Buffer, contentType: string): Promise<string> {
  const { error } = await person.client.storage.from("inputs").upload(path, bytes, { contentType });
  if (error && !/exists|used before/.test(error.message)) throw error;
  return path;
}

/** Submits until it is taken or refused; answers the id of what was taken. */
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
  // Not found: it was deleted, and the answer that said so was lost.
  if (call === "delete" && (answer?.ok || answer?.status === 404)) told.deleted.add(id);
}

/** One job, from the upload to whatever its person makes of it. */
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

/** Milliseconds for which a cheat tries to fetch an artwork that is being stored, before it ends the generation. */
const grabMs = 500;

/** To its end, or to where its person ends it: while it is stored, but not before the artwork could be fetched. */
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
