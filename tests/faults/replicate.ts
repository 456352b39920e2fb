// Replicate's side: what tests read from it, and what they send in its name.

import { Webhook } from "standardwebhooks";
import { cleanUp, database } from "../journeys/stack.ts";
import { until } from "../waiting.ts";

export interface Prediction {
  id: string;
  status: string;
  /** The URL of the prediction's webhook, with the secret token in it. */
  webhook: string;
  input: { input_image: string };
  [member: string]: unknown;
}

/** The predictions for one uploaded photo, or for a folder of photos, oldest first. */
export async function predictionsOf(inputPath: string): Promise<Prediction[]> {
  // Replicate gets the prepared copy, which is named after its generation.
  const generations = await database`
    select id from public.generations where input_path = ${inputPath}
    union select generation_id from public.deletions where path = ${inputPath} and generation_id is not null`;
  const names = [inputPath, ...generations.map(({ id }) => `/prepared/${id}-`)];
  const answer = await fetch(`${process.env.SANDBOX_CONTROL_URL}/predictions?${new URLSearchParams({ input: names.join(",") })}`);
  return (await answer.json()) as Prediction[];
}

/** Ends the jobs that other tests left waiting. Otherwise, this test would lease and try them, too. */
export async function endWhatWaits(): Promise<void> {
  await database`update public.generations set deadline_at = now() - interval '1 second'
    where state in ('reserved', 'dispatched', 'processing', 'storing')`;
  await database`update private.generation_work set lease = null, leased_until = null`;
  for (let sweeps = 0; sweeps < 2; sweeps += 1) await cleanUp();
}

/** Waits until the first prediction for a photo has this status. */
export function predictionThatIs(status: string, inputPath: string): Promise<Prediction> {
  return until(`a prediction to be ${status}`, async () =>
    (await predictionsOf(inputPath)).find((prediction) => prediction.status === status),
  );
}

/** Sends a webhook event as Replicate does. */
export async function send(prediction: Prediction, change: object = {}, id = `msg_${crypto.randomUUID()}`): Promise<Response> {
  const body = JSON.stringify({ ...prediction, ...change });
  const now = new Date();
  return fetch(prediction.webhook, {
    method: "POST",
    headers: {
      "content-type": "application/json",
      "webhook-id": id,
      "webhook-timestamp": String(Math.floor(now.getTime() / 1000)),
      "webhook-signature": new Webhook(process.env.REPLICATE_WEBHOOK_SECRET!).sign(id, now, body),
    },
    body,
  });
}
