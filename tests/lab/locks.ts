// Watches which sessions wait for locks, so that a test can make two of them meet.

import { database } from "../journeys/stack.ts";
import { until } from "../waiting.ts";

/** Waits until this number of sessions wait for a lock that another session holds. */
export function untilWaiting(count = 1): Promise<true> {
  return until("sessions to wait for a lock", async () => {
    const [{ waiting }] = await database`select count(*)::int as waiting from pg_stat_activity where wait_event_type = 'Lock'`;
    return waiting >= count || undefined;
  });
}
