// Users exercise their rights, and strangers try to. Each flow plants texts in everything it sends.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { predictionThatIs } from "../../faults/replicate.ts";
import { passTime } from "../../lab/time.ts";
import { fillGallery } from "../gallery.ts";
import { deliver, emailEvent } from "../inbox.ts";
import type { Person } from "../person.ts";
import { arm, cleanUp, database, wakeWalks } from "../stack.ts";
import { type Flows, answers } from "./asked.ts";
import { planted, newUser, submitted } from "./planted.ts";

const functions = (path: string, init: RequestInit = {}) => fetch(`${process.env.FUNCTIONS_URL}${path}`, init);

/** Sends a signed webhook event of the email provider. */
const sendEmail = (person: Person, changes: Record<string, unknown> = {}): Promise<Response> =>
  deliver(emailEvent(`${planted("sender")} <${person.email}>`, { text: planted("mail"), ...changes }));

const json = (body: unknown): RequestInit => ({ method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });

export const rights: Flows = {
  "emails with requests, some of which say too much": async () => {
    const person = await newUser();
    await answers(200, sendEmail(person));
    await answers(200, sendEmail(person, { subject: planted("subject") }));
    await answers(401, functions("/privacy-inbox", { ...json({}), headers: { "webhook-id": planted("id"), "webhook-timestamp": planted("time"), "webhook-signature": planted("signature") } }));
    await answers(422, functions(`/privacy/requests/${randomUUID()}/confirm`, json({ token: planted("token"), kind: planted("kind") })));
    await answers(404, functions(`/privacy/requests/${planted("request")}/confirm`, json({ token: "" })));
    await person.client.from("privacy_requests").insert({ kind: "other", message: planted("message") });
    assert.ok((await person.client.from("privacy_requests").insert({ kind: planted("kind") })).error);
    assert.ok((await person.client.rpc("confirm_request", { id: randomUUID(), kind: planted("kind") })).error);
    assert.ok((await person.client.from("usage_events").insert({ feature: planted("feature"), browser: planted("browser") })).error);
    await passTime(70 * 3600);
    await cleanUp();
    await database`update public.privacy_requests set closed_at = now(), evidence = '{}' where closed_at is null`;
  },
  "an export with a missing object, and a Storage that refuses uploads": async (lab) => {
    const person = await newUser();
    const [gone, changed] = await fillGallery(person, 2, 20);
    await database`update storage.objects set metadata = metadata || '{"size": 9999999}' where name = ${gone!.artwork_path}`;
    // The stored checksum is wrong. The export finds this during its upload.
    await database`insert into private.generation_work (generation_id, request_digest, capability_digest, dispatch_at, artwork_crc32)
      values (${changed!.id}, sha256('r'), sha256('c'), null, 7)
      on conflict (generation_id) do update set artwork_crc32 = excluded.artwork_crc32`;
    await answers(202, person.call("POST", "/privacy/exports"));
    lab.supabase.misbehave({ fault: "status", status: 500, when: /^POST \/storage\/v1\/upload/ });
    await cleanUp();
    lab.heal();
    await passTime(60);
    await cleanUp();
    assert.equal((await person.client.from("exports").select("state").single()).data!.state, "ready");
  },
  "an erasure while Auth and Replicate are down": async (lab) => {
    await arm({ fault: "stuck_processing" });
    const person = await newUser();
    const { input_path } = await submitted(person);
    await predictionThatIs("processing", input_path);
    await answers(422, person.call("POST", "/privacy/erasures", { email: planted("typed") }));
    await answers(422, person.call("POST", "/privacy/erasures", { [planted("member")]: "x" }));
    await answers(202, person.call("POST", "/privacy/erasures", { email: person.email }));
    lab.replicate.misbehave({ fault: "status", status: 500, when: /cancel$/, count: 3 });
    lab.supabase.misbehave({ fault: "status", status: 500, when: /^DELETE \/auth/, count: 6 });
    await cleanUp();
    const [{ stage }] = await database`select stage from private.erasures where person_id = ${person.id}`;
    assert.equal(stage, "leaving");
    lab.heal();
    await passTime(125);
    await cleanUp();
    assert.equal((await database`select from auth.users where id = ${person.id}`).length, 0);
    await answers(404, functions(`/privacy/erasures/${planted("erasure")}`));
    await answers(404, functions(`/privacy/erasures/${randomUUID()}`));
  },
  "a sweep with a step that fails": async (lab) => {
    await wakeWalks();
    lab.supabase.misbehave({ fault: "status", status: 500, when: /rpc\/due$/, count: 3 });
    lab.supabase.misbehave({ fault: "status", status: 500, when: /rpc\/audit_artworks$/, count: 3 });
    assert.equal((await cleanUp()).complete, false);
    lab.heal();
  },
  "emails that no server accepts": async (lab) => {
    const person = await newUser();
    const other = await lab.another({ RUST_LOG: "trace", SMTP_URL: "smtp://127.0.0.1:9", MAIL_FROM: "a@example.com", APP_URL: "http://127.0.0.1/" });
    await answers(200, sendEmail(person));
    await database`update private.emails set due_at = now() where sent_at is null and person_id = ${person.id}`;
    await cleanUp(other.url);
    // A server accepted one email, which then bounced.
    await database`update private.emails set sent_at = now() where person_id = ${person.id}`;
    await answers(200, deliver(JSON.stringify({
      type: "email.bounced", created_at: new Date().toISOString(),
      data: { email_id: planted("mail"), from: "a@example.com", to: [person.email], subject: planted("subject"), bounce: { type: "Permanent", message: planted("bounce") } },
    })));
    await database`update public.privacy_requests set closed_at = now(), evidence = '{}' where closed_at is null`;
  },
};
