// Lets days pass without any activity.

import { passTime } from "../lab/time.ts";
import { cleanUp, database } from "./stack.ts";

/** The database tests use the people of the seed, so time does not pass for them and no sweep erases them. */
const seeded = ["alice@example.com", "bob@example.com", "carol@example.com"];

/** Lets days pass, in Auth as well. */
export async function elapse(number: number): Promise<void> {
  await passTime(number * 86_400);
  await database`update auth.users set created_at = created_at - make_interval(days => ${number}),
    last_sign_in_at = last_sign_in_at - make_interval(days => ${number})
    where email is null or email <> all (${seeded})`;
  await database`update auth.sessions set created_at = created_at - make_interval(days => ${number}),
    updated_at = updated_at - make_interval(days => ${number})`;
  await database`update auth.refresh_tokens set created_at = created_at - make_interval(days => ${number})`;
}

/** Lets days pass, and then runs one sweep. */
export async function days(number: number): Promise<void> {
  await elapse(number);
  await cleanUp();
}
