// The operator reads the status.

export interface Status {
  generations: { state: string; count: number; oldest_seconds: number; past_deadline: number }[];
  dispatches: { due: number; oldest_seconds: number | null };
  holds: { open: number; credits: number };
  deletions: { ordered: number; due: number };
  inputs: { stored: number };
  audit: { orphaned: number; missing: number };
  exports: { building: number; failed: number };
  sweep: { last_seconds: number };
  ledger: { differences: number };
  marks: { is_signed: boolean; certificate_seconds_left: number | null };
  ended: { outcome: string; last_hour: number; last_day: number }[];
}

export function askForStatus(accept: string, secret = process.env.OPERATOR_SECRET): Promise<Response> {
  return fetch(`${process.env.FUNCTIONS_URL}/status`, { headers: { accept, authorization: `Bearer ${secret}` } });
}

export async function status(): Promise<Status> {
  const answer = await askForStatus("application/json");
  if (!answer.ok) throw new Error(await answer.text());
  return (await answer.json()) as Status;
}

/** How often this outcome occurred in the last day. */
export function ended(outcome: string, of: Status): number {
  return of.ended.find((each) => each.outcome === outcome)?.last_day ?? 0;
}
