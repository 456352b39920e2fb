// A proxy between two parts that misbehaves on command. It reads HTTP, so that a fault can hit one call.

import { type ClientRequest, type IncomingMessage, type Server, type ServerResponse, createServer, request } from "node:http";

export type Fault =
  /** Closes the connection before anything is forwarded. */
  | { fault: "refuse" }
  /** Forwards the request, and closes the connection instead of sending the response. */
  | { fault: "lose_answer" }
  /** Breaks off the request's body after this number of bytes. */
  | { fault: "cut_request"; bytes?: number }
  /** Breaks off the response's body after this number of bytes, although its full length was announced. */
  | { fault: "cut_answer"; bytes?: number }
  | { fault: "delay"; ms: number }
  /** Accepts the request, but never forwards or answers it. */
  | { fault: "hang" }
  /** Forwards the request twice, and returns the second response. */
  | { fault: "duplicate" }
  /** Answers with this status and does not forward the request. The default body is an empty object. */
  | { fault: "status"; status: number; body?: string; headers?: Record<string, string> }
  /** Forwards only the first half of the objects that a bulk deletion names. Storage gives such partial answers. */
  | { fault: "halve" };

export type Aim = {
  /** Hits the calls whose "METHOD /path" matches. If absent, it hits every call. */
  when?: RegExp;
  /** How many calls it hits. The default is 1. */
  count?: number;
  /** Hits only every nth call that matches. If absent, it hits each of them. */
  every?: number;
};

export class Proxy {
  private armed: (Fault & Aim & { count: number; seen: number })[] = [];
  private sockets = new Set<IncomingMessage["socket"]>();
  /** How many calls were hit by a fault. */
  struck = 0;

  private constructor(
    private readonly server: Server,
    private readonly target: URL,
  ) {
    server.on("connection", (socket) => {
      this.sockets.add(socket);
      socket.once("close", () => this.sockets.delete(socket));
    });
    server.on("request", (incoming, outgoing) => {
      const giveUp = () => incoming.socket.destroy();
      for (const end of [incoming, outgoing]) end.on("error", giveUp);
      this.handle(incoming, outgoing).catch(giveUp);
    });
  }

  /** Starts a proxy in front of the origin of `target`. */
  static async before(target: string): Promise<Proxy> {
    const server = createServer({ keepAliveTimeout: 60_000 });
    const proxy = new Proxy(server, new URL(target));
    await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
    return proxy;
  }

  /** `address`, rewritten to go through this proxy. */
  through(address: string): string {
    const url = new URL(address);
    url.port = String((this.server.address() as { port: number }).port);
    return url.href.replace(/\/$/, "");
  }

  misbehave(fault: Fault & Aim): void {
    this.armed.push({ ...fault, count: fault.count ?? 1, seen: 0 });
  }

  heal(): void {
    this.armed = [];
  }

  stop(): Promise<void> {
    for (const socket of this.sockets) socket.destroy();
    return new Promise((done) => void this.server.close(() => done()));
  }

  private draw(incoming: IncomingMessage): Fault | undefined {
    const call = `${incoming.method} ${incoming.url}`;
    const aimed = this.armed.filter(({ count, when }) => count > 0 && (when?.test(call) ?? true));
    const found = aimed.find((fault) => (fault.seen += 1) % (fault.every ?? 1) === 0);
    if (!found) return undefined;
    found.count -= 1;
    this.struck += 1;
    return found;
  }

  private async handle(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const fault = this.draw(incoming);
    if (fault?.fault === "refuse") return void incoming.socket.destroy();
    if (fault?.fault === "hang") return void incoming.resume();
    if (fault?.fault === "status") {
      incoming.resume();
      const headers = { "content-type": "application/json", ...fault.headers };
      return void outgoing.writeHead(fault.status, headers).end(fault.body ?? "{}");
    }
    if (fault?.fault === "delay") await new Promise((later) => setTimeout(later, fault.ms));
    if (fault?.fault === "duplicate") return this.twice(incoming, outgoing);
    if (fault?.fault === "halve") return this.halved(incoming, outgoing);
    this.forward(incoming, outgoing, fault);
  }

  private open(incoming: IncomingMessage, answered: (answer: IncomingMessage) => void): ClientRequest {
    const { hostname, port, host } = this.target;
    const headers = [...headersOf(incoming), "Host", host];
    const { method, url: path } = incoming;
    return request({ hostname, port, method, path, headers, agent: false }, answered);
  }

  private forward(incoming: IncomingMessage, outgoing: ServerResponse, fault?: Fault): void {
    const giveUp = () => incoming.socket.destroy();
    const upstream = this.open(incoming, (answer) => {
      if (fault?.fault === "lose_answer") {
        answer.resume();
        return void answer.once("end", giveUp);
      }
      outgoing.writeHead(answer.statusCode!, headersOf(answer));
      answer.once("error", giveUp);
      if (fault?.fault === "cut_answer") return cut(answer, (piece) => outgoing.write(piece), fault.bytes ?? 20, giveUp);
      answer.pipe(outgoing);
    });
    upstream.once("error", giveUp);
    outgoing.once("close", () => upstream.destroy());
    if (fault?.fault !== "cut_request") return void incoming.pipe(upstream);
    cut(incoming, (piece) => upstream.write(piece), fault.bytes ?? 20, () => {
      upstream.destroy();
      giveUp();
    });
  }

  private async twice(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const body = await whole(incoming);
    (await this.send(incoming, body)).resume();
    answerWith(await this.send(incoming, body), outgoing);
  }

  private async halved(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const { prefixes } = JSON.parse(String(await whole(incoming))) as { prefixes: string[] };
    const half = Buffer.from(JSON.stringify({ prefixes: prefixes.slice(0, Math.ceil(prefixes.length / 2)) }));
    // The length must match what is sent now, not what came.
    const at = incoming.rawHeaders.findIndex((name) => /^content-length$/i.test(name));
    if (at >= 0) incoming.rawHeaders[at + 1] = String(half.length);
    answerWith(await this.send(incoming, half), outgoing);
  }

  private send(incoming: IncomingMessage, body: Buffer): Promise<IncomingMessage> {
    return new Promise((answered, failed) => void this.open(incoming, answered).once("error", failed).end(body));
  }
}

async function whole(incoming: IncomingMessage): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of incoming) pieces.push(piece as Buffer);
  return Buffer.concat(pieces);
}

function answerWith(answer: IncomingMessage, outgoing: ServerResponse): void {
  outgoing.writeHead(answer.statusCode!, headersOf(answer));
  answer.once("error", () => outgoing.destroy()).pipe(outgoing);
}

/** The headers as they came, without those of the connection: names and values in turn. */
function headersOf({ rawHeaders }: IncomingMessage): string[] {
  return rawHeaders.filter((_, index) => !/^(host|connection)$/i.test(rawHeaders[index & ~1]!));
}

/** Forwards this number of bytes and then breaks off. A shorter body breaks off at its end. */
function cut(source: IncomingMessage, pass: (piece: Buffer) => void, bytes: number, breakOff: () => void): void {
  let left = bytes;
  source.on("data", (piece: Buffer) => {
    if (left > 0) pass(piece.subarray(0, left));
    left -= piece.length;
    // Wait a moment, so that the forwarded bytes have left.
    if (left <= 0) setImmediate(breakOff);
  });
  source.once("end", breakOff);
}
