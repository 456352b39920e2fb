// Events about emails as real email programs send them. The inbox files each with its text, or recognises an automatic
// reply and opens no request (Q1).

import assert from "node:assert/strict";
import { createHash, randomUUID } from "node:crypto";
import { after, test } from "node:test";
import { deliver, subject } from "./inbox.ts";
import { Person } from "./person.ts";
import { database } from "./stack.ts";

after(() => database.end());

const run = randomUUID().slice(0, 8);
const email = `<email.${randomUUID()}@mail.opusflair.example>`;
const verifiedBy = (domain: string) => ({ name: "Authentication-Results", value: `mx.example.net; spf=pass; dkim=pass; dmarc=pass (p=none) header.from=${domain}` });

interface RealEmail {
  name: string;
  /** The data of the event. The test adds `message_id` and the provider's verification of the sender. */
  data: Record<string, unknown>;
  headers?: { name: string; value: string }[];
  /** The domain that the provider has verified. If absent, the sender is not verified. */
  domain?: string;
  /** The address of an existing account, to which the request must belong. */
  account?: string;
  /** The sender that is stored if the email matches no account. */
  sender?: string;
  /** The text that is stored. If absent, the email must not open a request. */
  words?: string | null;
  /** Changes the JSON of the event, for bytes that JSON.stringify cannot produce. */
  raw?: (body: string) => string;
}

const emails: RealEmail[] = [
  {
    name: "Outlook for Windows: a ticket number after the subject, and HTML without plain text",
    data: {
      from: `"Ada Lovelace" <ada.${run}@contoso.example>`,
      to: ["privacy@opusflair.example"],
      subject: "Privacy Request - AI Data [Ticket#20260714]",
      text: "",
      html:
        '<html xmlns:v="urn:schemas-microsoft-com:vml"><head><meta http-equiv="Content-Type" content="text/html; charset=utf-8">' +
        '<style><!-- @font-face {font-family:Calibri;} p.MsoNormal {margin:0cm;} --></style></head><body lang="EN-GB">' +
        '<!--[if gte mso 9]><xml><o:shapedefaults v:ext="edit" spidmax="1026" /></xml><![endif]-->' +
        '<div class="WordSection1"><p class="MsoNormal">Hello,<o:p></o:p></p><p class="MsoNormal"><o:p>&nbsp;</o:p></p>' +
        '<p class="MsoNormal">please delete my photos &amp; artworks.<o:p></o:p></p></div></body></html>',
    },
    domain: "contoso.example",
    account: `ada.${run}@contoso.example`,
    words: "Ticket#20260714\n\nHello,\nplease delete my photos & artworks.",
  },
  {
    name: "Outlook in a German company: the family name first, with a comma and without quotes",
    data: { from: `Müller, Anna <anna.${run}@mueller.example>`, subject: `AW: ${subject}`, text: "Bitte löschen Sie alles.\r\n\r\nGrüße\r\nAnna" },
    domain: "mueller.example",
    account: `anna.${run}@mueller.example`,
    words: "Bitte löschen Sie alles.\r\n\r\nGrüße\r\nAnna",
  },
  {
    name: "Gmail on the web: nested HTML without plain text",
    data: {
      from: `Grace Hopper <grace.${run}@gmail.com>`,
      subject,
      text: null,
      html: '<div dir="ltr">Which data do you keep?<div><br></div><div>Grace</div></div>\r\n',
    },
    domain: "gmail.com",
    account: `grace.${run}@gmail.com`,
    words: "Which data do you keep?\nGrace",
  },
  {
    name: "Gmail: a reply to our email, with a subject that the sender has changed",
    data: { from: `Katherine <katherine.${run}@gmail.com>`, subject: "It was me", text: "Yes, that mail was mine.\r\n\r\nOn Tue, OpusFlair wrote:\r\n> Hello," },
    headers: [{ name: "In-Reply-To", value: email }, { name: "References", value: `<CAF@mail.gmail.com> ${email}` }],
    domain: "gmail.com",
    account: `katherine.${run}@gmail.com`,
    words: "Yes, that mail was mine.\r\n\r\nOn Tue, OpusFlair wrote:\r\n> Hello,",
  },
  {
    name: "Apple Mail: a reply to our notice, without the headers, which the provider leaves out",
    data: { from: `"Jean" <jean.${run}@icloud.com>`, subject: "Re: Your OpusFlair account will be deleted in 7 days", text: "Please keep it.", headers: null },
    sender: `jean.${run}@icloud.com`,
    words: "Please keep it.",
  },
  {
    name: "Apple Mail: typographic dashes and no-break spaces in the subject",
    data: { from: `hedy.${run}@me.com`, subject: "Privacy Request — AI Data", text: "\u00a0Send me everything. ❤️" },
    domain: "me.com",
    account: `hedy.${run}@me.com`,
    words: "Send me everything. ❤️",
  },
  {
    name: "a docomo phone: an address with consecutive dots, in quotes",
    data: { from: `"山田" <"a..b${run}"@docomo.ne.jp>`, subject: `=?ISO-2022-JP?B?${Buffer.from("Re: ").toString("base64")}?= ${subject}`, text: "写真を消してください。" },
    domain: "docomo.ne.jp",
    account: `a..b${run}@docomo.ne.jp`,
    words: "写真を消してください。",
  },
  {
    name: "an au phone: an address with a dot before the @, without quotes, and a full-width subject",
    data: { from: `c.${run}.@ezweb.ne.jp`, subject: "Ｐｒｉｖａｃｙ　Ｒｅｑｕｅｓｔ　－　ＡＩ　Ｄａｔａ", text: "お願いします" },
    domain: "ezweb.ne.jp",
    account: `c.${run}.@ezweb.ne.jp`,
    words: "お願いします",
  },
  {
    name: "an encoded name with a comma, and a subject in several encoded words",
    data: {
      from: `=?utf-8?Q?M=C3=BCller=2C_J=C3=B6rg?= <joerg.${run}@web.de>`,
      subject: "=?iso-8859-1?Q?Privacy_Request_-_AI?=\r\n =?utf-8?B?IERhdGE=?= =?utf-8?Q?_=E2=80=93_L=C3=B6schung?=",
      text: "Alles.",
    },
    domain: "web.de",
    account: `joerg.${run}@web.de`,
    words: "Löschung\n\nAlles.",
  },
  {
    name: "half of an emoji: a lone surrogate in the text",
    data: { from: `emoji.${run}@gmail.com`, subject, text: "Please delete this \uE000 photo." },
    raw: (body) => body.replace("\uE000", "\\ud83d"),
    domain: "gmail.com",
    account: `emoji.${run}@gmail.com`,
    words: "Please delete this \ufffd photo.",
  },
  {
    name: "quoted-printable text that the provider has decoded incorrectly: NULs and control characters",
    data: { from: `"Ode\u0007tte" <odette.${run}@orange.fr>`, subject, text: "\u0000\u0000Suppr=C3=A9ssion\u0000 s'il vous pla\u00eet" },
    domain: "orange.fr",
    account: `odette.${run}@orange.fr`,
    words: "Suppr=C3=A9ssion s'il vous pla\u00eet",
  },
  {
    name: "an empty text: an email whose subject says everything",
    data: { from: `short.${run}@yahoo.com`, subject: `${subject}: DELETE MY ACCOUNT!!`, text: "\r\n" },
    domain: "yahoo.com",
    account: `short.${run}@yahoo.com`,
    words: "DELETE MY ACCOUNT",
  },
  {
    name: "only a subject, and the HTML of an empty line",
    data: { from: `empty.${run}@outlook.com`, subject, text: null, html: "<div><br></div>" },
    domain: "outlook.com",
    account: `empty.${run}@outlook.com`,
    words: null,
  },
  {
    name: "forwarded by a friend: the friend must confirm the request",
    data: { from: `friend.${run}@gmail.com`, subject: `Fwd: ${subject}`, text: "---------- Forwarded message ---------\r\nFrom: Ada <ada@contoso.example>\r\n\r\nDelete my photos." },
    domain: "gmail.com",
    account: `friend.${run}@gmail.com`,
    words: "---------- Forwarded message ---------\r\nFrom: Ada <ada@contoso.example>\r\n\r\nDelete my photos.",
  },
  {
    name: "through a mailing list: from the list, with the name of the author, and marked as bulk",
    data: { from: `"Ada via Rights" <rights.${run}@lists.example>`, subject: `[Rights] ${subject}`, text: "Delete my photos.\r\n\r\n_____\r\nRights mailing list" },
    headers: [{ name: "Precedence", value: "list" }, { name: "List-Id", value: "<rights.lists.example>" }],
    domain: "lists.example",
    sender: `rights.${run}@lists.example`,
    words: "Delete my photos.\r\n\r\n_____\r\nRights mailing list",
  },
  {
    name: "several recipients, and a group in the From",
    data: { from: `Family: family.${run}@posteo.de;`, to: ["a@example.com", "privacy@opusflair.example"], cc: ["b@example.com"], subject, text: "All of us." },
    domain: "posteo.de",
    account: `family.${run}@posteo.de`,
    words: "All of us.",
  },
  {
    name: "two senders: the email matches no account, and its text is kept",
    data: { from: `one.${run}@gmx.net, two.${run}@gmx.net`, subject, text: "We both." },
    domain: "gmx.net",
    sender: `one.${run}@gmx.net`,
    words: "We both.",
  },
  {
    name: "a subject of 20,000 characters",
    data: { from: `long.${run}@gmail.com`, subject: `${subject} ${"very ".repeat(4000)}`, text: "Long." },
    domain: "gmail.com",
    account: `long.${run}@gmail.com`,
    words: `${"very ".repeat(794)}very\n\nLong.`,
  },
  {
    name: "no readable sender: stored as written",
    data: { from: `Undisclosed ${run}`, subject, text: "Guess who." },
    sender: `Undisclosed ${run}`,
    words: "Guess who.",
  },
  {
    name: "an internationalised domain, which the provider writes in its other form",
    data: { from: `anna.${run}@bücher.example`, subject, text: "Bitte." },
    domain: "xn--bcher-kva.example",
    account: `anna.${run}@bücher.example`,
    words: "Bitte.",
  },
  {
    name: "a service that sends requests for its customers, and marks them as automatic",
    data: { from: `agent.${run}@optery.example`, subject, text: "On behalf of our customer." },
    headers: [{ name: "Auto-Submitted", value: "auto-generated" }],
    domain: "optery.example",
    sender: `agent.${run}@optery.example`,
    words: "On behalf of our customer.",
  },
  {
    name: "Exchange: an out-of-office reply to our email",
    data: { from: `ooo.${run}@contoso.example`, subject: "Automatic reply: Your privacy request has arrived", text: "I am away until Monday." },
    headers: [{ name: "In-Reply-To", value: email }, { name: "X-Auto-Response-Suppress", value: "All" }, { name: "Auto-Submitted", value: "auto-generated" }],
    domain: "contoso.example",
  },
  {
    name: "Gmail: a vacation reply to our email",
    data: { from: `away.${run}@gmail.com`, subject: "Away Re: Your OpusFlair account will be deleted in 30 days", text: "Back in May." },
    headers: [{ name: "In-Reply-To", value: email }, { name: "Auto-Submitted", value: "auto-replied" }, { name: "Precedence", value: "bulk" }],
    domain: "gmail.com",
  },
  {
    name: "an out-of-office reply, without the headers, which the provider leaves out",
    data: { from: `weg.${run}@web.de`, subject: `Abwesenheitsnotiz: ${subject}`, text: "Ich bin im Urlaub.", headers: null },
  },
  {
    name: "Postfix: our email is returned",
    data: { from: "MAILER-DAEMON@mx.contoso.example (Mail Delivery System)", subject: "Undelivered Mail Returned to Sender", text: "I'm sorry to have to inform you" },
    headers: [{ name: "Return-Path", value: "<>" }, { name: "Auto-Submitted", value: "auto-replied" }, { name: "Content-Type", value: "multipart/report; report-type=delivery-status" }],
  },
  {
    name: "Exchange: an email is returned with its original subject",
    data: { from: `postmaster.${run}@contoso.example`, subject: `Undeliverable: ${subject}`, text: "Delivery has failed to these recipients" },
    headers: [{ name: "In-Reply-To", value: email }],
    domain: "contoso.example",
  },
  {
    name: "the other subject in the privacy policy, which is not a request",
    data: { from: `question.${run}@gmail.com`, subject: "Privacy Policy - AI Data Protection", text: "Which law applies?" },
    domain: "gmail.com",
  },
];

for (const each of emails) {
  test(`${each.words === undefined ? "no request" : "filed"}: ${each.name}`, async () => {
    if (each.account) {
      const { id } = await Person.signUp("reader");
      await database`update auth.users set email = ${each.account} where id = ${id}`;
    }
    const messageId = `<${randomUUID()}@mx.example>`;
    const headers = [...(each.domain ? [verifiedBy(each.domain)] : []), { name: "Received", value: "from x" }, ...(each.headers ?? [])];
    const data = { message_id: messageId, headers, attachments: [], ...each.data };
    const body = JSON.stringify({ type: "email.received", created_at: new Date().toISOString(), data });
    const answer = await deliver(each.raw?.(body) ?? body);
    assert.equal(answer.status, 200, await answer.clone().text());
    const { ignored = false } = (await answer.json()) as { ignored?: boolean };

    const digest = createHash("sha256").update(messageId).digest("hex");
    const found = await database`
      select u.email as account, r.sender, r.message as words
      from public.privacy_requests as r
      left join auth.users as u on u.id = r.person_id
      where r.mail_digest = ${digest} or ${digest} = any (r.joined_mails)`;
    const { account = null, sender = null, words } = each;
    assert.deepEqual([...found], words === undefined ? [] : [{ account, sender, words }]);
    assert.equal(ignored, words === undefined);
  });
}
