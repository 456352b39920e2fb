// Valid and invalid requests of users and strangers. Each flow plants texts in everything it sends.

import assert from "node:assert/strict";
import { randomBytes, randomUUID } from "node:crypto";
import type { Lab } from "../../lab/lab.ts";
import { type Prediction, predictionThatIs, predictionsOf, send } from "../../faults/replicate.ts";
import { impostors, small } from "../photos.ts";
import { arm, cleanUp, database } from "../stack.ts";
import { people, photos, planted, secrets, newUser, submitted } from "./planted.ts";

export type Flows = Record<string, (lab: Lab) => Promise<unknown>>;

const functions = (path: string, init: RequestInit = {}) => fetch(`${process.env.FUNCTIONS_URL}${path}`, init);

function noteCapability({ id, webhook }: Prediction): void {
  secrets.set(`the capability of ${id}`, Buffer.from(new URL(webhook).searchParams.get("token")!));
}

export async function answers(status: number, asked: Promise<Response>): Promise<void> {
  const response = await asked;
  assert.equal(response.status, status, await response.text());
}

export const asked: Flows = {
  "photos of every format become artworks": async () => {
    for (const format of ["jpeg", "png", "webp"] as const) {
      const person = await newUser();
      const { id, input_path } = await submitted(person, format);
      assert.equal((await person.ended(id)).state, "succeeded");
      await person.forgotten();
      const [prediction] = await predictionsOf(input_path);
      noteCapability(prediction!);
    }
  },
  "a retry, and another body with the same idempotency key": async () => {
    const person = await newUser();
    const body = { style: "mosaic", input_path: await person.upload(photos.jpeg), prompt: planted("prompt") };
    for (const status of [201, 200]) await answers(status, person.submit(body, planted("again")));
    await answers(409, person.submit({ ...body, prompt: planted("other") }, planted("again")));
    await answers(409, person.submit(body));
  },
  "canceled, deleted, and neither": async () => {
    await arm({ fault: "stuck_processing", count: 2 });
    const person = await newUser();
    await answers(200, person.call("POST", `/generations/${(await submitted(person)).id}/cancel`));
    const { id } = await submitted(await newUser());
    await answers(204, people.at(-1)!.call("DELETE", `/generations/${id}`));
    await answers(404, person.call("DELETE", `/generations/${id}`));
  },
  "files under their own names": async () => {
    const person = await newUser();
    const file = new File([new Uint8Array(photos.jpeg)], planted("file.jpg"), { type: "image/jpeg" });
    for (const path of [file.name, `${person.id}/${file.name}`, `${person.id}/../${file.name}`]) {
      assert.ok((await person.client.storage.from("inputs").upload(path, file)).error, path);
      assert.ok((await person.client.storage.from(planted("bucket")).upload(path, file)).error, path);
      await answers(404, person.submit({ style: "mosaic", input_path: path }));
    }
  },
  "files that are not photos": async () => {
    const text = Buffer.from(planted("impostor"));
    for (const [name, bytes] of [...(await impostors()), ["a text", text], ["an SVG", Buffer.concat([Buffer.from("<svg>"), text])]] as const) {
      const person = await newUser();
      const input_path = await person.upload(bytes);
      const response = await person.submit({ style: "mosaic", input_path, prompt: planted("prompt") });
      assert.equal(response.status, 422, name);
    }
  },
  "bodies that cannot be read": async () => {
    const person = await newUser();
    const good = { style: "mosaic", input_path: await person.upload(await small), prompt: planted("prompt") };
    const text = planted("value");
    for (const [status, body] of [
      [422, { ...good, [planted("member")]: text }],
      [422, { ...good, style: text }],
      [422, { ...good, style: [text] }],
      [422, { ...good, model: text }],
      [422, { ...good, prompt: { text } }],
      [422, { ...good, prompt: text.repeat(50) }],
      [422, { ...good, prompt: `${text}\u0000` }],
      [422, { ...good, settings: text }],
      [422, { ...good, settings: { [text]: text } }],
      [422, { ...good, settings: { aspect_ratio: text } }],
      [422, { ...good, settings: { seed: text } }],
      [404, { ...good, input_path: text }],
      [422, { ...good, input_path: 7 }],
      [413, { ...good, prompt: text.repeat(2000) }],
    ] as const) {
      await answers(status, person.submit(body));
    }
    const headers = { authorization: `Bearer ${person.token}`, "idempotency-key": randomUUID() };
    for (const body of [text, `{"prompt": "${text}`, `"${text}"`, `["${text}"]`, `{"prompt": "${text}\\ud800"}`]) {
      await answers(422, functions("/generations", { method: "POST", headers, body }));
    }
    await answers(422, person.submit(good, `${text} with a space`));
    await answers(422, person.submit(good, text.repeat(13)));
  },
  "callers without a valid token, and a user who has signed out": async () => {
    for (const authorization of [`Bearer ${planted("token")}`, `Bearer ${planted("token")}, and more`, `Basic ${planted("token")}`, planted("token")]) {
      const headers = { authorization, "user-agent": planted("agent"), cookie: `session=${planted("cookie")}` };
      const body = JSON.stringify({ style: planted("style"), input_path: planted("path") });
      const asks = { ...headers, "content-type": "application/json", "idempotency-key": planted("key") };
      await answers(401, functions("/generations", { method: "POST", headers: asks, body }));
      for (const [method, path] of [["POST", "/cleanup"], ["GET", "/status"]]) await answers(401, functions(path!, { method: method!, headers }));
    }
    const person = await newUser();
    await person.client.auth.signOut();
    await answers(401, person.submit({ style: "mosaic", input_path: planted("path") }));
  },
  "unknown paths and methods": async () => {
    const person = await newUser();
    const text = planted("path");
    await answers(404, person.call("GET", `/${text}`));
    await answers(404, person.call("GET", `/${text}?${text}=${text}`));
    await answers(404, person.call("POST", `/generations/${text}/cancel`));
    await answers(404, person.call("DELETE", `/generations/${text}?token=${text}`));
    await answers(405, person.call("PUT", `/generations/${text}`));
    await answers(405, person.call(text.toUpperCase(), "/generations"));
  },
  "webhook events that are forged, old, foreign, strange and delivered twice": async () => {
    await arm({ fault: "webhook_drop" });
    const person = await newUser();
    const { id, input_path } = await submitted(person);
    const prediction = await predictionThatIs("succeeded", input_path);
    noteCapability(prediction);
    const forged = (headers: Record<string, string>) => fetch(prediction.webhook, { method: "POST", headers, body: planted("event") });
    await answers(401, forged({}));
    await answers(401, forged({ "webhook-id": planted("id"), "webhook-timestamp": planted("time"), "webhook-signature": planted("signature") }));
    const now = String(Math.floor(Date.now() / 1000));
    for (const sent of [now, "1"]) {
      await answers(401, forged({ "webhook-id": planted("id"), "webhook-timestamp": sent, "webhook-signature": `v1,${btoa(planted("signature"))}` }));
    }
    await answers(422, send(prediction, { id: undefined, status: planted("status") }));
    for (const query of [`?generation=${planted("generation")}`, `?generation=${randomUUID()}&token=${planted("token")}`, `?generation=${id}&token=${planted("token")}`]) {
      const strange = { ...prediction, id: planted("prediction"), webhook: `${process.env.FUNCTIONS_URL}/replicate-webhook${query}` };
      await answers(200, send(strange));
    }
    for (const _ of ["first", "again"]) await answers(200, send(prediction, { logs: planted("logs") }, "msg_twice"));
    assert.equal((await person.ended(id)).state, "succeeded");
  },
  "failures that quote the prompt": async () => {
    await arm({ fault: "stuck_processing" });
    const person = await newUser();
    const { id, input_path } = await submitted(person);
    const prediction = await predictionThatIs("processing", input_path);
    await answers(200, send(prediction, { status: "failed", error: `I will not draw ${planted("error")}`, logs: planted("logs") }));
    assert.equal((await person.ended(id)).reason, "model_error");
  },
  "too few credits": async () => {
    const person = await newUser();
    await database`insert into public.credit_entries (wallet_id, kind, amount, reason)
      select id, 'adjustment', -5, 'test' from public.wallets where person_id = ${person.id}`;
    await answers(402, person.submit({ style: "mosaic", input_path: await person.upload(photos.jpeg), prompt: planted("prompt") }));
  },
  "the operator, who reads the status and runs a sweep": async () => {
    await cleanUp();
    await answers(200, functions("/status", { headers: { authorization: `Bearer ${process.env.OPERATOR_SECRET}` } }));
  },
  "strangers, who read the public status": async () => {
    for (const path of ["/privacy/status", "/privacy/badge.svg", "/.well-known/jwks.json"]) {
      await answers(200, functions(`${path}?${planted("query")}`));
    }
    const digest = randomBytes(32).toString("hex");
    secrets.set("a digest that was asked about", Buffer.from(digest));
    await answers(200, functions(`/privacy/mark?sha256=${digest}&${planted("query")}`));
    await answers(422, functions(`/privacy/mark?sha256=${digest}&sha256=${planted("digest")}`));
  },
};
