// Days in which nobody does anything.

import { pass } from "../lab/time.ts";
import { cleanUp, database } from "./stack.ts";

/** The people of the seed are for the tests of the database: for them no day passes, so that nobody erases them. */
const seeded = ["alice@example.com", "bob@example.com", "carol@example.com"];

/** Lets days pass, for Auth too. */
export async function elapse(number: number): Promise<void> {
  await pass(number * 86_400);
  await database`update auth.users set created_at = created_at - make_interval(days => ${number}),
    last_sign_in_at = last_sign_in_at - make_interval(days => ${number})
    where email is null or email <> all (${seeded})`;
  await database`update auth.sessions set created_at = created_at - make_interval(days => ${number}),
    updated_at = updated_at - make_interval(days => ${number})`;
  await database`update auth.refresh_tokens set created_at = created_at - make_interval(days => ${number})`;
}

/** Lets days pass, and sweeps once. */
export async function days(number: number): Promise<void> {
  await elapse(number);
  await cleanUp();
}
