// Emails: mailboxes accept them, replies are filed as requests, and a bounced notice does not count (R10).

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, afterEach, test } from "node:test";
import { startLab } from "../lab/lab.ts";
import { type Delivered, MailServer, replyTo } from "../lab/mail.ts";
import { startQuotedMail } from "../lab/quoted-mail.ts";
import { passTime } from "../lab/time.ts";
import { deliver, emailEvent } from "./inbox.ts";
import { Person } from "./person.ts";
import { cleanUp, database } from "./stack.ts";
import { days } from "./years.ts";

const mailServer = await MailServer.start();
const lab = await startLab(mailServer.env);

afterEach(() => {
  mailServer.isDown = false;
});
after(async () => {
  await lab.stop();
  await mailServer.stop();
  await database.end();
});

/** Signs up a user and files a request by email, so that an email to the user is due. */
async function withDueEmail(): Promise<Person> {
  const person = await Person.signUp("alice");
  assert.equal((await deliver(emailEvent(person.email))).status, 200);
  return person;
}

async function exists(person: Person): Promise<boolean> {
  return (await database`select from auth.users where id = ${person.id}`).length === 1;
}

/** The provider's event about a bounced email. */
function bounce(email: Delivered, isNamed: boolean): string {
  const headers = isNamed ? [{ name: "Message-ID", value: email.headers["message-id"] }] : undefined;
  const data = {
    email_id: randomUUID(),
    ...{ from: email.headers.from, to: [email.to], subject: email.subject, headers },
    bounce: { type: "Permanent", subType: "General", message: "The recipient's mail server permanently rejected the mail." },
  };
  return JSON.stringify({ type: "email.bounced", created_at: new Date().toISOString(), data });
}

test("a retried email has the same Message-ID, and the headers that mailboxes require", async () => {
  const alice = await withDueEmail();
  mailServer.isDown = true;
  await cleanUp();
  mailServer.isDown = false;
  await passTime(3600);
  await cleanUp();
  const [refused] = mailServer.refused.filter(({ to }) => to === alice.email);
  const [email] = mailServer.to(alice.email);
  assert.match(email!.headers["message-id"]!, /^<email\.[0-9a-f-]{36}@example\.com>$/);
  assert.equal(refused!.headers["message-id"], email!.headers["message-id"]);
  assert.equal(email!.headers["auto-submitted"], "auto-generated");
  assert.equal(email!.headers["reply-to"], replyTo);
  assert.ok(Math.abs(Date.parse(email!.headers.date!) - Date.now()) < 600_000, email!.headers.date);
});

test("an email can be sent to an address with consecutive dots, with its local part in quotes", async () => {
  const server = await startQuotedMail();
  const functions = await lab.another({ SMTP_URL: server.url });
  const url = process.env.FUNCTIONS_URL!;
  process.env.FUNCTIONS_URL = functions.url;
  try {
    const alice = await Person.signUp("alice");
    const local = `a..b${randomUUID().slice(0, 8)}`;
    await database`update auth.users set email = ${`${local}@docomo.ne.jp`} where id = ${alice.id}`;
    assert.equal((await deliver(emailEvent(`"${local}"@docomo.ne.jp`))).status, 200);
    await cleanUp();
    assert.ok(server.lines.includes(`RCPT TO:<"${local}"@docomo.ne.jp>`), server.lines.join("\n"));
    assert.ok(server.lines.includes(`To: "${local}"@docomo.ne.jp`), server.lines.join("\n"));
    const emails = await database`select sent_at is not null as sent from private.emails where person_id = ${alice.id}`;
    assert.deepEqual([...emails], [{ sent: true }]);
  } finally {
    process.env.FUNCTIONS_URL = url;
    server.stop();
  }
});

test("a reply to an email is filed with its text, whatever its subject", async () => {
  const alice = await withDueEmail();
  await cleanUp();
  const [email] = mailServer.to(alice.email);
  const headers = [
    { name: "Authentication-Results", value: "mx.example.net; dmarc=pass header.from=example.com" },
    { name: "In-Reply-To", value: email!.headers["message-id"] },
  ];
  const answer = emailEvent(alice.email, { subject: "no subject", text: "That was me, on 2 May.", headers });
  assert.equal((await deliver(answer)).status, 200);
  const { data } = await alice.client.from("privacy_requests").select("message");
  assert.deepEqual(data, [{ message: "Please send me all of it.\n\nThat was me, on 2 May." }]);
});

test("replying to a notice keeps the account (R10)", async () => {
  const alice = await Person.signUp("alice");
  await days(305);
  const answer = emailEvent(alice.email, { subject: `Re: ${mailServer.to(alice.email)[0]!.subject}`, text: "I am still here." });
  assert.equal((await deliver(answer)).status, 200);
  for (const passed of [30, 31]) await days(passed);
  assert.ok(await exists(alice));
  assert.deepEqual(mailServer.to(alice.email).map(({ subject }) => subject),
    ["Your OpusFlair account will be deleted in 60 days", "Your privacy request has arrived"]);
});

test("a bounced notice does not count: it is sent again weeks later, and the account stays until then (R10)", async () => {
  const alice = await Person.signUp("alice");
  const notices = () => mailServer.to(alice.email).map(({ subject }) => /in (.*)$/.exec(subject)![1]);
  await days(305);
  assert.deepEqual(notices(), ["60 days"]);
  assert.equal((await deliver(bounce(mailServer.to(alice.email)[0]!, true))).status, 200);
  await days(29);
  assert.deepEqual(notices(), ["60 days"]);
  await days(1);
  assert.deepEqual(notices(), ["60 days", "60 days"]);
  for (const passed of [30, 23, 6]) await days(passed);
  assert.deepEqual(notices().slice(2), ["30 days", "7 days", "1 day"]);
  // If the event does not name the email, it counts for all notices of the last week.
  assert.equal((await deliver(bounce(mailServer.to(alice.email).at(-1)!, false))).status, 200);
  for (const passed of [1, 20]) await days(passed);
  assert.ok(await exists(alice));
  assert.equal(notices().length, 5);
  for (const passed of [9, 6]) await days(passed);
  assert.deepEqual(notices().slice(5), ["7 days", "1 day"]);
  for (const passed of [1, 0]) await days(passed);
  assert.ok(!(await exists(alice)));
});
