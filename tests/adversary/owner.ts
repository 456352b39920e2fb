// An account owner who cheats, and can send requests that the app does not send.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { createClient } from "@supabase/supabase-js";
import ws from "ws";
import { type Generation, Person } from "../journeys/person.ts";
import { small } from "../journeys/photos.ts";
import { arm, cleanUp, database } from "../journeys/stack.ts";
import { until } from "../waiting.ts";

export const service = process.env.SUPABASE_SECRET_KEY!;
export const publishable = process.env.SUPABASE_PUBLISHABLE_KEY!;
export const password = randomUUID();

export interface Answer {
  status: number;
  body: any;
}

/** Sends a request to Supabase exactly as given. */
export async function ask(token: string, method: string, path: string, body?: string | Buffer, headers: Record<string, string> = {}): Promise<Answer> {
  const response = await fetch(`${process.env.SUPABASE_URL}${path}`, {
    method,
    headers: { apikey: publishable, authorization: `Bearer ${token}`, "content-type": "application/json", ...headers },
    body: body as BodyInit | undefined,
  });
  const text = await response.text();
  const isJson = /json/.test(response.headers.get("content-type") ?? "") && text !== "";
  return { status: response.status, body: isJson ? JSON.parse(text) : text };
}

const connect = () =>
  createClient(process.env.SUPABASE_URL!, publishable, {
    auth: { persistSession: false, autoRefreshToken: false },
    realtime: { transport: ws as never },
  });

/** A user with the given session. */
const personOf = (client: unknown, { user, session }: { user: { id: string; email?: string } | null; session: { access_token: string } | null }): Person =>
  Object.assign(Object.create(Person.prototype), { id: user!.id, email: user!.email, token: session!.access_token, client }) as Person;

/** Signs up an account with exactly this email, and a password that `signIn` knows. */
export async function signUpAs(email: string): Promise<Person> {
  const client = connect();
  const { data, error } = await client.auth.signUp({ email, password });
  if (error) throw error;
  return personOf(client, data);
}

/** Another session of a user from `signUpAs`. */
export async function signIn(email: string): Promise<Person> {
  const client = connect();
  const { data, error } = await client.auth.signInWithPassword({ email, password });
  if (error) throw error;
  return personOf(client, data);
}

export async function give(person: Person, credits: number): Promise<void> {
  await database`select backend.adjust_credits(${person.id}, ${credits}, 'for a test', ${randomUUID()})`;
}

/** Generations whose model runs and never finishes. */
export async function running(person: Person, count = 1, body: Record<string, unknown> = {}): Promise<Generation[]> {
  await arm({ fault: "stuck_processing", count });
  const made: Generation[] = [];
  for (let each = 0; each < count; each += 1) made.push(await person.generate(await small, body));
  for (const { id } of made) await untilState(person, id, "processing");
  return made;
}

/** Waits until a generation has the given state for its user. */
export function untilState(person: Person, id: string, state: string): Promise<Generation> {
  return until(`a generation to be ${state}`, async () => {
    const found = await person.generation(id);
    return found?.state === state ? found : undefined;
  });
}

/** The states of a user's holds, oldest first. */
export async function holds(person: Person): Promise<string[]> {
  const rows = await database<{ state: string }[]>`
    select h.state from public.credit_holds as h join public.wallets as w on w.id = h.wallet_id
    where w.person_id = ${person.id} order by h.opened_at`;
  return rows.map(({ state }) => state);
}

/** Erases an account as its user would, and waits until it is gone. */
export async function erase(person: Person): Promise<void> {
  const asked = await person.call("POST", "/privacy/erasures", { email: person.email });
  assert.equal(asked.status, 202, await asked.clone().text());
  await until("the account to be erased", async () => {
    await cleanUp();
    return (await database`select id from auth.users where id = ${person.id}`).length === 0 || undefined;
  });
}

export async function booksBalance(): Promise<void> {
  assert.deepEqual([...(await database`select * from backend.audit_credits()`)], []);
}
