// Access to the stack beyond the API: the operator's endpoints, the sandbox and the database.

import postgres from "postgres";

/** Connects as superuser, to read what no API shows. */
export const database = postgres(process.env.DATABASE_ADMIN_URL!, { onnotice: () => {}, max: 2 });

/** Runs a sweep now. Pass a URL to use other functions than those of the stack. */
export async function cleanUp(functions = process.env.FUNCTIONS_URL): Promise<Record<string, number | boolean>> {
  const response = await fetch(`${functions}/cleanup`, {
    method: "POST",
    headers: { authorization: `Bearer ${process.env.OPERATOR_SECRET}` },
  });
  if (!response.ok) throw new Error(await response.text());
  return (await response.json()) as Record<string, number | boolean>;
}

/** Makes the hourly audits due in the next sweep. */
export async function wakeWalks(): Promise<void> {
  await database`update private.audit_places set ended_at = null`;
}

// The intake opens only after a sweep (X2), and no schedule runs sweeps during tests.
await cleanUp();

/** Arms faults of the sandbox for the next calls and predictions. */
export async function arm(...next: { fault: string; count?: number; value?: number }[]): Promise<void> {
  await control("POST", "/faults", { next });
}

export async function disarm(): Promise<void> {
  await control("DELETE", "/faults");
}

/** Moves the sandbox's clock. */
export async function advance(seconds: number): Promise<void> {
  await control("POST", "/clock", { advance_seconds: seconds });
}

/** What the sandbox recorded about the input of a prediction. */
export async function received(prediction: string): Promise<Record<string, unknown> | undefined> {
  const inputs = (await (await control("GET", "/inputs")).json()) as Record<string, unknown>[];
  return inputs.find((input) => input.prediction === prediction);
}

/** Sets the output of the next prediction. */
export async function deliver(picture: Buffer, type: string): Promise<void> {
  const answer = await fetch(`${process.env.SANDBOX_CONTROL_URL}/outputs`, {
    method: "POST",
    headers: { "content-type": type },
    body: new Uint8Array(picture),
  });
  if (!answer.ok) throw new Error(`POST /outputs: ${answer.status}`);
}

/** A prediction and its output from Replicate's API. Works only while Replicate keeps the data. */
export async function delivered(prediction: unknown): Promise<{ completed_at: string; picture: Buffer }> {
  const headers = { authorization: `Bearer ${process.env.REPLICATE_API_TOKEN}` };
  const asked = await fetch(`${process.env.REPLICATE_BASE_URL}/predictions/${prediction}`, { headers });
  const { completed_at, output } = (await asked.json()) as { completed_at: string; output: string };
  return { completed_at, picture: Buffer.from(await (await fetch(output)).arrayBuffer()) };
}

async function control(method: string, path: string, body?: unknown): Promise<Response> {
  const response = await fetch(`${process.env.SANDBOX_CONTROL_URL}${path}`, {
    method,
    headers: { "content-type": "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status}`);
  return response;
}
