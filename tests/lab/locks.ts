// Who waits for whom in the database, so that two can be made to meet.

import { database } from "../journeys/stack.ts";
import { until } from "../waiting.ts";

/** Until so many wait for a lock that somebody else has. */
export function untilWaiting(count = 1): Promise<true> {
  return until("somebody to wait for a lock", async () => {
    const [{ waiting }] = await database`select count(*)::int as waiting from pg_stat_activity where wait_event_type = 'Lock'`;
    return waiting >= count || undefined;
  });
}
