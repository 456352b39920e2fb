// Webhook events about received emails, signed as the email provider signs them (Q1).

import { randomUUID } from "node:crypto";
import { Webhook } from "standardwebhooks";

export const inbox = new Webhook(process.env.INBOX_WEBHOOK_SECRET!);
export const subject = "Privacy Request - AI Data";

/** Deviations from how the provider signs and sends an event. */
interface Sending {
  id?: string;
  prefix?: string;
  signature?: string;
  sentAt?: Date;
}

/** Delivers an event as the email provider would. */
export function deliver(body: string, { id = `msg_${randomUUID()}`, prefix = "webhook", signature, sentAt = new Date() }: Sending = {}): Promise<Response> {
  const headers = {
    "content-type": "application/json",
    [`${prefix}-id`]: id,
    [`${prefix}-timestamp`]: String(Math.floor(sentAt.getTime() / 1000)),
    [`${prefix}-signature`]: signature ?? inbox.sign(id, sentAt, body),
  };
  return fetch(`${process.env.FUNCTIONS_URL}/privacy-inbox`, { method: "POST", headers, body });
}

/** An event about a received email with a verified sender. */
export function emailEvent(from: string, changes: Record<string, unknown> = {}): string {
  const domain = from.split("@")[1]!.replace(">", "");
  const data = {
    ...{ from, subject, text: "Please send me all of it.", message_id: `<${randomUUID()}@${domain}>` },
    headers: [{ name: "Authentication-Results", value: `mx.example.net; dmarc=pass header.from=${domain}` }],
    attachments: [{ filename: "passport.pdf", content: "bm90IHJlYWQ=" }],
    ...changes,
  };
  return JSON.stringify({ type: "email.received", created_at: new Date().toISOString(), data });
}
