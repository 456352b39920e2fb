// Outages of what the functions need. While one lasts, their responses must say so.

import { randomUUID } from "node:crypto";
import { predictionsOf, send } from "../faults/replicate.ts";
import { listen } from "../faults/log.ts";
import type { Person } from "../journeys/person.ts";
import { database } from "../journeys/stack.ts";
import { makeReadOnly, makeWritable } from "../lab/database.ts";
import type { Functions } from "../lab/functions.ts";

/** Either the project is read-only, or the functions have an old secret key. */
export const outages = ["read-only", "rotated key"] as const;
export type Outage = (typeof outages)[number];

/** A response of the functions. */
export interface Answer {
  /** When its request arrived, in Unix milliseconds. */
  began: number;
  method: string;
  route: string;
  status: number;
  /** Empty for a success. */
  error: string;
}

const answerLine =
  /^(\S+) +[A-Z]+ (?:answered|failed|refused) request_id=\S+ method=(\S+) route=(\S+) status=(\d+) elapsed_ms=(\d+)(?: error=(.*))?$/;

/** Reads responses from the log. The functions log every response (functions/opusflair/src/problem.rs). */
export function readAnswers(lines: string[]): Answer[] {
  return lines.flatMap((line) => {
    const [, at, method, route, status, elapsed, error = ""] = answerLine.exec(line) ?? [];
    if (!at) return [];
    return { began: Date.parse(at) - Number(elapsed), method: method!, route: route!, status: Number(status), error };
  });
}

/**
 * A request that needs what is down must get 503. Other responses may be normal: those that need no database, refusals
 * that the database decides by reading only, and what still works in the outage. That is reads while the project is
 * read-only, and what a user's own token may do with a rotated key.
 */
export function isTrue(outage: Outage, { method, route, status, error }: Answer): boolean {
  if (status === 503 || route === "/health" || error.startsWith("webhook refused: ")) return true;
  if (error.startsWith("refused: ")) return status < 500;
  const isLeft = outage === "read-only" ? method === "GET" : route.startsWith("/generations");
  return isLeft && status < 300;
}

const rotatedAway = { SUPABASE_SECRET_KEY: "sb_secret_which_was_rotated_away" };

function configure(workers: Functions[], env: Record<string, string>): Promise<unknown> {
  return Promise.all(workers.map((worker) => worker.configure(env)));
}

/** Begins an outage. The returned function ends it, and reports how many responses were checked and which were untrue. */
export async function begin(outage: Outage, workers: Functions[]): Promise<() => Promise<{ judged: number; untrue: string[] }>> {
  const lines = listen();
  await (outage === "read-only" ? makeReadOnly() : configure(workers, rotatedAway));
  const began = Date.now();
  return async () => {
    // Requests from before the outage may have succeeded.
    const answers = readAnswers(lines()).filter((answer) => answer.began > began);
    await (outage === "read-only" ? makeWritable() : configure(workers, {}));
    const untrue = answers.filter((answer) => !isTrue(outage, answer));
    return { judged: answers.length, untrue: untrue.map((answer) => `${outage}: ${JSON.stringify(answer)}`) };
  };
}

/** Sends the functions the requests of users, Replicate and the operator. */
export async function askAll(outage: Outage, people: Person[]): Promise<void> {
  const event = (await predictionsOf("/object/sign/")).findLast(({ webhook }) => webhook);
  const [one] = await database`select id, person_id from public.generations order by reserved_at desc limit 1`;
  const person = people.find(({ id }) => id === one?.person_id) ?? people[0]!;
  const path = `/generations/${one?.id ?? randomUUID()}`;
  const headers = { authorization: `Bearer ${process.env.OPERATOR_SECRET}` };
  const operator = (method: string, path: string) => fetch(`${process.env.FUNCTIONS_URL}${path}`, { method, headers });
  // With a rotated key, the user's token alone could do these, and the run would have to account for them.
  const changes = () => [
    person.submit({ style: "mosaic", input_path: `${person.id}/${randomUUID()}.jpg` }),
    person.call("POST", `${path}/cancel`),
    person.call("DELETE", path),
    person.call("POST", "/privacy/exports"),
  ];
  // A worker may have died at its crash point.
  await Promise.allSettled([
    operator("POST", "/cleanup"),
    operator("GET", "/status"),
    operator("GET", "/privacy/status"),
    ...(event ? [send(event)] : []),
    ...(outage === "read-only" ? changes() : []),
  ]);
}
