// The stack's other doors: the operator's, the sandbox's and, to look behind, the database's.

import postgres from "postgres";

/** As superuser, to look at what no API shows. */
export const database = postgres(process.env.DATABASE_ADMIN_URL!, { onnotice: () => {}, max: 2 });

/** A pass of cleanup, now; of other functions than the stack's by their address. */
export async function cleanUp(functions = process.env.FUNCTIONS_URL): Promise<Record<string, number | boolean>> {
  const response = await fetch(`${functions}/cleanup`, {
    method: "POST",
    headers: { authorization: `Bearer ${process.env.OPERATOR_SECRET}` },
  });
  if (!response.ok) throw new Error(await response.text());
  return (await response.json()) as Record<string, number | boolean>;
}

/** The walks that rest for an hour between two of them are due in the next pass. */
export async function wakeWalks(): Promise<void> {
  await database`update private.audit_places set ended_at = null`;
}

// No photo is taken before a pass (X2), and the schedule stands still while tests run.
await cleanUp();

/** Arms faults of the sandbox for what comes next. */
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

/** What the sandbox received of the input of a prediction. */
export async function received(prediction: string): Promise<Record<string, unknown> | undefined> {
  const inputs = (await (await control("GET", "/inputs")).json()) as Record<string, unknown>[];
  return inputs.find((input) => input.prediction === prediction);
}

/** What the next prediction puts out, instead of what it would paint. */
export async function deliver(picture: Buffer, type: string): Promise<void> {
  const answer = await fetch(`${process.env.SANDBOX_CONTROL_URL}/outputs`, {
    method: "POST",
    headers: { "content-type": type },
    body: new Uint8Array(picture),
  });
  if (!answer.ok) throw new Error(`POST /outputs: ${answer.status}`);
}

/** A prediction as Replicate tells of it, and what it made, for as long as Replicate keeps it. */
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
