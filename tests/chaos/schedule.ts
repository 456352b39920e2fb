// The steps of a run and their order. The seed decides all of them before anything begins.

import { createHash } from "node:crypto";
import { type CrashPoint, crashPoints } from "../lab/functions.ts";
import type { Fault } from "../lab/proxy.ts";
import { type Cheat, cheats } from "./cheats.ts";
import { type SandboxFault, type Way, proxyFaults, sandboxFaults } from "./faults.ts";
import { type Outage, outages } from "./outages.ts";
import { Random } from "./random.ts";

const photoNames = ["jpeg", "png", "webp", "text", "broken"] as const;
export type PhotoName = (typeof photoNames)[number];

export interface Job {
  step: "job";
  person: number;
  body: { style: string; model?: string };
  photo: PhotoName;
  /** How many requests are sent at once: with one key, or with a key and a photo each. */
  submits: "once" | "same key twice" | "same key eight times" | "eight photos";
  /** What the user does with the generation, and when. */
  ending?: { call: "cancel" | "delete"; when: "at once" | "running" | "storing" | "ended" };
  /** How the user cheats next to the job. */
  cheat?: Cheat;
  sandbox?: SandboxFault;
  proxy?: Fault & { way: Way; when: string; count: number };
  crashAt?: CrashPoint;
}

export type Disturbance =
  | { step: "kill" }
  | { step: "freeze"; seconds: number }
  | { step: "crash database" }
  | { step: "sweep"; times: number }
  | { step: "pass time"; seconds: number }
  /** Replicate refuses connections for this number of calls. */
  | { step: "outage"; calls: number }
  /** The begin or the end of an outage of Supabase. */
  | { step: "begin" | "end"; outage: Outage }
  /** Sends the functions every kind of request. */
  | { step: "ask" };

export interface Schedule {
  /** Extra credits for each user, besides the welcome credits. Some users get none, and run out. */
  grants: number[];
  steps: (Job | Disturbance)[];
}

const styles = ["watercolor", "oil-painting", "pencil-sketch", "pop-art", "pixel-art", "mosaic", "comic-book"];

export function draw(seed: number, jobs: number): Schedule {
  const random = new Random(seed);
  const grants = Array.from({ length: Math.ceil(jobs / 20) }, () => (random.chance(0.2) ? 0 : 200));
  const steps: Schedule["steps"] = [];
  const planned = jobs < fewestForOutages ? new Map<number, Disturbance[]>() : drawOutages(random, jobs);
  for (let count = 0; count < jobs; count += 1) {
    steps.push(...(planned.get(count) ?? []));
    steps.push(drawJob(random, grants.length));
    if (random.chance(0.12)) steps.push(drawDisturbance(random));
  }
  return { grants, steps };
}

/** In a shorter run, too few jobs would come before and after an outage. */
const fewestForOutages = 50;

/** Each outage once, in the middle of the run. The key is the number of the job before which the steps come. */
function drawOutages(random: Random, jobs: number): Map<number, Disturbance[]> {
  const planned = new Map<number, Disturbance[]>();
  const order = random.chance(0.5) ? outages : [...outages].reverse();
  for (const [turn, outage] of order.entries()) {
    const first = Math.floor(jobs * (0.3 + 0.3 * turn + 0.1 * random.next()));
    planned.set(first, [{ step: "begin", outage }]);
    // Five minutes pass for every part.
    planned.set(first + random.between(2, 4), [{ step: "pass time", seconds: 300 }, { step: "ask" }]);
    // The schedule runs the next sweep within a minute.
    planned.set(first + random.between(6, 8), [{ step: "end", outage }, { step: "sweep", times: 1 }]);
  }
  return planned;
}

/** A hash of the schedule, the same on every machine. */
export function digest(schedule: Schedule): string {
  return createHash("sha256").update(JSON.stringify(schedule)).digest("hex").slice(0, 16);
}

const slowCompletion: Job["proxy"] =
  { way: "supabase", when: "rpc/complete_generation$", fault: "delay", ms: 400, count: 3 };

function drawJob(random: Random, people: number): Job {
  const job: Job = {
    step: "job",
    person: random.between(0, people - 1),
    body: { style: random.pick(styles) },
    photo: random.pick(["jpeg", "png", "webp"]),
    submits: "once",
  };
  if (random.chance(0.15)) job.body.model = "kontext-max";
  if (random.chance(1 / 3)) return job;

  job.submits = random.weigh({
    "once": 80, "same key twice": 10, "same key eight times": 5, "eight photos": 5,
  });
  if (random.chance(0.08)) job.photo = random.pick(["text", "broken"]);
  if (random.chance(0.3)) {
    job.ending = {
      call: random.pick(["cancel", "delete"]),
      when: random.pick(["at once", "running", "storing", "storing", "ended"]),
    };
  }
  if (random.chance(0.4)) job.sandbox = random.pick(sandboxFaults);
  if (random.chance(0.5)) {
    const { kinds, ...aim } = random.pick(proxyFaults);
    job.proxy = { ...aim, ...random.pick(kinds), count: random.between(1, 4) };
  }
  // Leaves time to fetch the artwork before it is charged.
  if (job.ending?.when === "storing") job.proxy = slowCompletion;
  if (random.chance(0.06)) job.crashAt = random.pick(crashPoints);
  if (random.chance(0.2)) job.cheat = random.pick(cheats);
  return job;
}

function drawDisturbance(random: Random): Disturbance {
  const step = random.weigh({ "kill": 5, "freeze": 2, "crash database": 1, "sweep": 6, "pass time": 4, "outage": 2 });
  switch (step) {
    case "freeze":
      return { step, seconds: 180 };
    case "sweep":
      return { step, times: random.between(1, 3) };
    case "pass time":
      return { step, seconds: random.between(30, 300) };
    case "outage":
      return { step, calls: random.between(5, 40) };
    default:
      return { step };
  }
}
