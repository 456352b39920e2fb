// A mail server that accepts addresses with a quoted local part (RFC 5321). `smtp-server` refuses those.

import { type AddressInfo, createServer } from "node:net";

export interface QuotedMail {
  /** The value for `SMTP_URL`. */
  url: string;
  /** What the client sent, line by line. */
  lines: string[];
  stop(): void;
}

export async function startQuotedMail(): Promise<QuotedMail> {
  const lines: string[] = [];
  const server = createServer((socket) => {
    let isData = false;
    let rest = "";
    const say = (answer: string) => socket.write(`${answer}\r\n`);
    say("220 mail.example");
    socket.on("error", () => socket.destroy());
    socket.setEncoding("utf8").on("data", (said) => {
      const read = (rest + said).split("\r\n");
      rest = read.pop()!;
      for (const line of read) {
        lines.push(line);
        if (isData && line !== ".") continue;
        isData = line === "DATA";
        say(isData ? "354 go on" : line === "QUIT" ? "221 bye" : "250 ok");
      }
    });
  });
  server.unref();
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  return { url: `smtp://127.0.0.1:${(server.address() as AddressInfo).port}`, lines, stop: () => server.close() };
}
