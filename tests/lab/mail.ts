// A mail server to which the functions deliver: what a provider is, in memory.

import type { AddressInfo } from "node:net";
import { type ParsedMail, simpleParser } from "mailparser";
import { SMTPServer } from "smtp-server";

export interface Delivered {
  to: string;
  subject: string;
  text: string;
  html: string;
}

export class MailServer {
  readonly letters: Delivered[] = [];
  /** Refuses whatever comes, as a provider that is down. */
  isDown = false;
  /** Takes connections and says nothing. */
  isSilent = false;

  private constructor(private readonly server: SMTPServer) {}

  static async start(): Promise<MailServer> {
    const server = new SMTPServer({
      authOptional: true,
      disabledCommands: ["AUTH", "STARTTLS"],
      // The functions keep their connections; half a minute is waited for them otherwise.
      closeTimeout: 100,
      onConnect(_session, greet) {
        if (!mails.isSilent) greet();
      },
      onData(stream, session, done) {
        simpleParser(stream).then((mail: ParsedMail) => {
          if (mails.isDown) return done(new Error("not now"));
          const to = session.envelope.rcptTo[0]!.address;
          mails.letters.push({ to, subject: mail.subject!, text: mail.text!, html: mail.html as string });
          done();
        }, done);
      },
    });
    const mails = new MailServer(server);
    await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
    return mails;
  }

  /** What the functions are told of it. */
  get env(): Record<string, string> {
    const { port } = this.server.server.address() as AddressInfo;
    return { SMTP_URL: `smtp://127.0.0.1:${port}`, MAIL_FROM: "OpusFlair <privacy@example.com>", APP_URL: "http://127.0.0.1/app" };
  }

  to(address: string): Delivered[] {
    return this.letters.filter(({ to }) => to === address);
  }

  stop(): Promise<void> {
    return new Promise((done) => this.server.close(() => done()));
  }
}
