// A hostile request costs at most twice the CPU time of an honest one of the same size. The CPU time of the
// functions' process has a resolution of ten milliseconds, so each request is sent many times.

import assert from "node:assert/strict";
import { createHmac, randomBytes, randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { request } from "node:http";
import { join } from "node:path";
import { after, test } from "node:test";
import { emailEvent } from "../journeys/inbox.ts";
import { Person } from "../journeys/person.ts";
import { cleanUp, database } from "../journeys/stack.ts";

const KIB = 1024;
const MIB = 1024 * KIB;
/** A hostile request may cost this many times the CPU of an honest one. */
const LIMIT = 2;
/** The total size of the headers that API Gateway lets through, in bytes. */
const HEADERS_LIMIT = 9600;
/** The least CPU time to measure for the honest requests: 25 ticks, so that a few wrong ones do not matter. */
const MEASURED_MS = 250;

const { pids, ports } = JSON.parse(readFileSync(join(process.env.STACK_STATE!, "stack.json"), "utf8")) as {
  pids: { functions: number };
  ports: { functions: number };
};
after(() => database.end());

type Headers = Record<string, string>;

interface Request {
  path: string;
  headers: Headers;
  body: Buffer | string;
  /** The expected status of the response. */
  status: number;
  /** Whether the server may close the connection early, because it answers before it has read the body. */
  mayBeCut?: boolean;
}

/** The user and system CPU time of the functions' process so far, in milliseconds. */
function cpu(): number {
  const stat = readFileSync(`/proc/${pids.functions}/stat`, "utf8");
  const [user, system] = stat.slice(stat.lastIndexOf(")") + 2).split(" ").slice(11, 13);
  return (Number(user) + Number(system)) * 10;
}

/** Sends a request directly to the functions, so that the gateway of the stack is not measured. */
function send({ path, headers, body }: Request): Promise<number | "cut"> {
  return new Promise((answered, failed) => {
    // One connection for each request, because the server closes some of them.
    const options = { agent: false, port: ports.functions, path, method: "POST", headers: { ...headers, "content-length": Buffer.byteLength(body) } };
    const sent = request(options, (response) => {
      response.on("error", () => {});
      response.on("close", () => answered(response.statusCode!));
      response.resume();
    });
    sent.on("error", (error: Error & { code?: string }) =>
      error.code === "ECONNRESET" || error.code === "EPIPE" ? answered("cut") : failed(error),
    );
    sent.end(body);
  });
}

/** The CPU time of `count` requests, in milliseconds. */
async function spent(make: () => Request, count: number): Promise<number> {
  const requests = Array.from({ length: count }, make);
  const before = cpu();
  for (const one of requests) {
    const status = await send(one);
    if (status !== "cut" || !one.mayBeCut) assert.equal(status, one.status);
  }
  return cpu() - before;
}

/** Sends both kinds in turn until enough CPU time is measured, and compares the sums. */
async function compare(name: string, honest: () => Request, hostile: () => Request, measuredMs = MEASURED_MS): Promise<void> {
  await spent(hostile, 1);
  await spent(honest, 1);
  const trial = await spent(honest, 3);
  const count = Math.ceil((3 * measuredMs) / 4 / Math.max(trial, 10));
  const sums = { honest: 0, hostile: 0, rounds: 0 };
  while (sums.rounds < 4 || (sums.honest < measuredMs && sums.rounds < 40)) {
    sums.honest += await spent(honest, count);
    sums.hostile += await spent(hostile, count);
    sums.rounds += 1;
    // Stop early if the result is clear.
    if (sums.hostile > 10 * LIMIT * Math.max(sums.honest, measuredMs / 4)) break;
  }
  const each = (sum: number) => `${(sum / sums.rounds / count).toFixed(1)} ms`;
  const times = sums.hostile / sums.honest;
  const figures = `${each(sums.hostile)}, honest ${each(sums.honest)}: ${times.toFixed(2)} times (${sums.rounds * count} each)`;
  console.log(`${name}: ${figures}`);
  assert.ok(times <= LIMIT, figures);
}

const [ID, TIMESTAMP, SIGNATURE] = ["webhook-id", "webhook-timestamp", "webhook-signature"] as const;
const seconds = () => Math.floor(Date.now() / 1000);

function sign(secret: string, id: string, timestamp: string, body: Buffer | string): string {
  const key = Buffer.from(secret.slice("whsec_".length), "base64");
  return `v1,${createHmac("sha256", key).update(`${id}.${timestamp}.`).update(body).digest("base64")}`;
}

interface Webhook {
  name: string;
  path: string;
  secret: string;
  /** A message of the largest accepted size. */
  honest: Buffer;
}

type Change = (own: Headers, body: Buffer | string) => Headers;

/** A correctly signed message, whose headers `change` may modify. */
function signed({ path, secret }: Webhook, body: Buffer | string, status = 200, change: Change = (own) => own): Request {
  const [id, timestamp] = ["msg_31ZgKQ9r8GKYqrTwjUPD8ILPZIo", String(seconds())];
  const own = { [ID]: id, [TIMESTAMP]: timestamp, [SIGNATURE]: sign(secret, id, timestamp, body) };
  const headers = { "content-type": "application/json", ...change(own, body) };
  return { path, body, status, headers, mayBeCut: status === 401 };
}

/** A message that repeats `unit` until it has the given size. */
function filled(size: number, make: (filling: string) => string, unit: string): Buffer {
  const width = Buffer.byteLength(make(unit)) - Buffer.byteLength(make(""));
  return Buffer.from(make(unit.repeat(Math.floor((size - Buffer.byteLength(make(""))) / width))));
}

const prediction = (logs: string) =>
  JSON.stringify({ id: "ufawqhfynnddngldkgtslldrkq", status: "processing", output: null, logs, input: { prompt: "a poster" } });

/** A request by email. It always has the same Message-ID, so it is filed only once. */
const email = (data: Record<string, unknown>) => emailEvent("Ada <ada@example.com>", { message_id: "<1@example.com>", ...data });

/** The same email, with a member of raw JSON. */
const written = (name: string, json: string) => email({ [name]: 7 }).replace(`"${name}":7`, () => `"${name}":${json}`);

const replicate: Webhook = {
  name: "replicate",
  path: `/replicate-webhook?generation=${randomUUID()}&token=x`,
  secret: process.env.REPLICATE_WEBHOOK_SECRET!,
  honest: filled(2 * MIB, prediction, "Step 12 of 50, all is well so far "),
};
const inbox: Webhook = {
  name: "inbox",
  path: "/privacy-inbox",
  secret: process.env.INBOX_WEBHOOK_SECRET!,
  honest: filled(6 * MIB, (content) => email({ attachments: [{ content }] }), "bm90IHJl"),
};

const unfitting = () => `v1,${randomBytes(32).toString("base64")}`;

/** As many signatures as fit into the headers. */
function listed(one: () => string): string {
  return Array.from({ length: Math.floor((HEADERS_LIMIT - 200) / (one().length + 1)) }, one).join(" ");
}

/** Validly signed headers with another id, signed `age` seconds ago. */
function resigned({ secret }: Webhook, id: string, age = 0): Change {
  return (_, body) => {
    const timestamp = String(seconds() - age);
    return { [ID]: id, [TIMESTAMP]: timestamp, [SIGNATURE]: sign(secret, id, timestamp, body) };
  };
}

for (const webhook of [replicate, inbox]) {
  const { name, honest } = webhook;
  const nested = Buffer.from("[".repeat(honest.length / 2) + "]".repeat(honest.length / 2));

  const hostile: [string, Change][] = [
    ["one invalid signature", (own) => ({ ...own, [SIGNATURE]: unfitting() })],
    ["hundreds of invalid signatures", (own) => ({ ...own, [SIGNATURE]: listed(unfitting) })],
    ["thousands of empty signatures", (own) => ({ ...own, [SIGNATURE]: listed(() => "v1,") })],
    ["thousands of signatures of another version", (own) => ({ ...own, [SIGNATURE]: listed(() => "v2") })],
    ["a signature that fits after hundreds of invalid ones", (own) => ({ ...own, [SIGNATURE]: `${listed(unfitting)} ${own[SIGNATURE]}` })],
    ["a signed id of 201 characters", resigned(webhook, "m".repeat(201))],
    ["a signed id of nine thousand characters", resigned(webhook, "m".repeat(9000))],
    ["a signed time from last year", resigned(webhook, "msg_1", 31_536_000)],
    ["no signature", () => ({})],
  ];
  for (const [what, change] of hostile) {
    test(`${name}: ${what} is refused and costs at most twice as much as an honest message`, () =>
      compare(`${name}: ${what}`, () => signed(webhook, honest), () => signed(webhook, honest, 401, change)));
  }

  test(`${name}: nested lists cost at most twice as much as an honest message`, async () => {
    const change: Change = (own) => ({ ...own, [SIGNATURE]: unfitting() });
    await compare(`${name}: nested, not signed`, () => signed(webhook, honest), () => signed(webhook, nested, 401, change));
    await compare(`${name}: nested, signed`, () => signed(webhook, honest), () => signed(webhook, nested, 422));
  });

  // The headers alone decide about these requests, so the response does not wait for the body.
  for (const [what, change] of hostile.slice(2).filter(([what]) => !/that fits/.test(what))) {
    test(`${name}: ${what} is refused before the body is sent`, async () => {
      const { path, headers } = signed(webhook, honest, 401, change);
      assert.equal(await answerToHeaders(path, headers, honest.length), 401);
    });
  }

  test(`${name}: an id of 200 characters is accepted`, async () => {
    const change = resigned(webhook, "m".repeat(200));
    assert.equal(await send(signed(webhook, name === "inbox" ? email({}) : prediction(""), 200, change)), 200);
  });
}

/** The status of the response if the headers are sent and the body is not. */
function answerToHeaders(path: string, headers: Headers, length: number): Promise<number> {
  return new Promise((answered, failed) => {
    const options = { agent: false, port: ports.functions, path, method: "POST", headers: { ...headers, "content-length": length } };
    const sent = request(options, (response) => {
      answered(response.statusCode!);
      sent.destroy();
    });
    sent.on("error", failed);
    sent.setTimeout(10_000, () => sent.destroy(new Error("the response waits for the body")));
    sent.flushHeaders();
  });
}

// Strangers can put these into an email, and the provider then signs the event.
const header = '{"name":"Received","value":"x"},';
for (const [what, make, unit, status] of [
  ["headers", (units) => written("headers", `[${units}{"name":"a","value":""}]`), header, 422],
  ["headers of one name", (units) => written("headers", `{"Received":[${units}""]}`), '"",', 422],
  ["attachments", (units) => written("attachments", `[${units}{}]`), '{"filename":""},', 422],
  ["addresses", (from) => email({ from }), "a@b.example, ", 200],
  ["groups of addresses", (from) => email({ from }), "a:;", 200],
  ["comments in the sender", (from) => email({ from }), "(", 200],
  ["quoted parts in the sender", (from) => email({ from }), '"" ', 422],
  ["encoded words in the sender", (from) => email({ from }), "=?utf-8?q?a", 200],
  ["encoded words in the subject", (subject) => email({ subject }), "=?utf-8?b?AAAA?= ", 200],
  ["encoded words without an end", (subject) => email({ subject }), "=?utf-8?b?AAAA", 200],
  ["words in the subject", (subject) => email({ subject }), "a ", 200],
  ["dots after the subject", (dots) => email({ subject: `Privacy Request - AI Data${dots}` }), ".", 200],
  ["results", (rest) => written("headers", `{"Authentication-Results":"mx.example.net${rest}"}`), ";dmarc=pass", 200],
  ["comments in the results", (rest) => written("headers", `{"Authentication-Results":"mx.example.net${rest}"}`), "(", 200],
  ["empty lines", (text) => email({ text }), "\n", 422],
  ["NULs", (text) => email({ text }), "\0", 422],
  ["quotes", (text) => email({ text }), '"', 422],
  ["spaces", (text) => email({ text }), " ", 200],
  ["lines", (text) => email({ text }), `${"Please send me all of it. ".repeat(3)}\n`, 200],
  ["ids of our emails in a bounce report", (text) => email({ from: "MAILER-DAEMON@example.com", text }), "email.", 200],
  ["spaces in its Message-ID", (message_id) => email({ message_id }), " ", 200],
] as [string, (units: string) => string, string, number][]) {
  test(`inbox: an email with endless ${what} costs at most twice as much as an honest one`, () => {
    const hostile = filled(6 * MIB, make, unit);
    return compare(`inbox: ${what}`, () => signed(inbox, inbox.honest), () => signed(inbox, hostile, status));
  });
}

test("inbox: an email with as much JSON syntax as allowed costs at most twice as much as an honest one", async () => {
  for (const [what, make, unit, cost] of [
    ["quotes", (units, rest) => email({ text: units + rest }), '"', 2],
    ["NULs", (units, rest) => email({ text: units + rest }), "\0", 1],
    ["lines", (units, rest) => email({ text: units + rest }), "\n", 1],
    ["surrogate pairs", (units, rest) => email({ text: units + rest }).replace(/\\u0000/g, "\\ud83d\\ude00"), "\0", 2],
    ["headers", (units, rest) => written("headers", `[${units}{"name":"a","value":"${rest}"}]`), header, 20],
    ["headers of one name", (units, rest) => written("headers", `{"Authentication-Results":[${units}"${rest}"]}`), '"",', 3],
    ["numbers", (units, rest) => written("attachments", `[${units}"${rest}"]`), "1,", 2],
  ] as [string, (units: string, rest: string) => string, string, number][]) {
    const units = unit.repeat(Math.floor(94_000 / cost));
    const hostile = filled(6 * MIB - 1, (rest) => make(units, rest), "a");
    await compare(`inbox: at the limit, ${what}`, () => signed(inbox, inbox.honest), () => signed(inbox, hostile), 2 * MEASURED_MS);
  }
});

test("a user's request with thousands of members costs at most twice as much as one with a long text", async () => {
  // Run a sweep, because the intake may have closed during the earlier tests.
  await cleanUp();
  const alice = await Person.signUp("alice");
  const size = 16 * KIB;
  const headers = { authorization: `Bearer ${alice.token}`, "content-type": "application/json", "idempotency-key": "1" };
  const generation = (members: object) => JSON.stringify({ style: "watercolor", input_path: `${alice.id}/none.jpg`, ...members });
  const settings = (json: string) => generation({ settings: 7 }).replace('"settings":7', () => `"settings":${json}`);
  const post = (path: string, body: Buffer, status: number) => () => ({ path, body, status, headers });
  const ask = (body: Buffer) => post("/generations", body, 422);
  const honest = ask(filled(size, (prompt) => generation({ prompt }), "a poster "));
  let count = 0;
  const members = filled(size, (units) => settings(`{${units.replaceAll("n", () => `"${count++ % 10_000}`.padStart(5, " "))}"n":0}`), 'n":0,');
  await compare("generations: members of the settings", honest, ask(members));
  const fewer = filled(size, (prompt) => settings(JSON.stringify({ ...Object.fromEntries(Array.from({ length: 480 }, (_, n) => [n, 0])), prompt })), "a poster ");
  await compare("generations: as many members as are read", honest, ask(fewer));
  await compare("generations: lists in lists", honest, ask(filled(size, (units) => settings(`{"a":${units}`), "[")));
  await compare("generations: unknown members", honest, ask(filled(size, (units) => `{${units}"style":""}`, '"a":[],')));
  const erase = (body: Buffer) => post("/privacy/erasures", body, 422);
  await compare("erasures: unknown members", erase(filled(size, (email) => JSON.stringify({ email }), "a")), erase(filled(size, (units) => `{${units}"email":""}`, '"a":[],')));
  const confirm = (body: Buffer) => post(`/privacy/requests/${randomUUID()}/confirm`, body, 422);
  await compare("confirm: unknown members", confirm(filled(size, (token) => JSON.stringify({ token }), "a")), confirm(filled(size, (units) => `{${units}"token":""}`, '"a":[],')));
});

test("a header of megabytes is refused and costs at most twice as much as an honest message of its size", async () => {
  for (const name of ["authorization", "idempotency-key", SIGNATURE]) {
    const headers = { [name]: `Bearer ${"a".repeat(2 * MIB)}` };
    const hostile = () => ({ path: "/generations", body: "{}", status: 431, headers, mayBeCut: true });
    await compare(`a header of 2 MiB, ${name}`, () => signed(replicate, replicate.honest), hostile);
  }
});
