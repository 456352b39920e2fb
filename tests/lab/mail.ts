// A mail server in memory, to which the functions deliver. It plays the provider.

import type { AddressInfo } from "node:net";
import { type ParsedMail, simpleParser } from "mailparser";
import { SMTPServer } from "smtp-server";

export interface Delivered {
  to: string;
  subject: string;
  text: string;
  html: string;
  /** The headers as they were sent, by their lower-case names. */
  headers: Record<string, string>;
}

/** Where replies to emails go. */
export const replyTo = "answers@in.example.com";

export class MailServer {
  readonly emails: Delivered[] = [];
  /** The emails that came while it was down. */
  readonly refused: Delivered[] = [];
  /** While true, it refuses every email, like a provider that is down. */
  isDown = false;
  /** While true, it accepts connections and emails, but never answers. */
  isSilent = false;

  private constructor(private readonly server: SMTPServer) {}

  static async start(): Promise<MailServer> {
    const server = new SMTPServer({
      authOptional: true,
      disabledCommands: ["AUTH", "STARTTLS"],
      // The functions keep their connections open. Otherwise, closing would wait for them for half a minute.
      closeTimeout: 100,
      onConnect(_session, greet) {
        if (!mailServer.isSilent) greet();
      },
      onData(stream, session, done) {
        simpleParser(stream).then((mail: ParsedMail) => {
          if (mailServer.isSilent) return;
          const to = session.envelope.rcptTo[0]!.address;
          const headers = Object.fromEntries(mail.headerLines.map(({ key, line }) => [key, line.replace(/^[^:]*: */, "")]));
          const email = { to, subject: mail.subject!, text: mail.text!, html: mail.html as string, headers };
          (mailServer.isDown ? mailServer.refused : mailServer.emails).push(email);
          done(mailServer.isDown ? new Error("not now") : null);
        }, done);
      },
    });
    const mailServer = new MailServer(server);
    await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
    return mailServer;
  }

  /** The settings that make the functions use this server. */
  get env(): Record<string, string> {
    const { port } = this.server.server.address() as AddressInfo;
    return {
      SMTP_URL: `smtp://127.0.0.1:${port}`,
      MAIL_FROM: "OpusFlair <privacy@example.com>",
      MAIL_REPLY_TO: replyTo,
      APP_URL: "http://127.0.0.1/app",
    };
  }

  to(address: string): Delivered[] {
    return this.emails.filter(({ to }) => to === address);
  }

  stop(): Promise<void> {
    return new Promise((done) => this.server.close(() => done()));
  }
}
