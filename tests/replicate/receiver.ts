// A server that receives webhook events for a test.

import { type Server, createServer } from "node:http";
import type { AddressInfo } from "node:net";
import type { Prediction } from "replicate";

export interface Delivery {
  headers: Record<string, string>;
  body: string;
  prediction: Prediction & { webhook: string; webhook_events_filter: string[] };
}

export class Receiver {
  readonly deliveries: Delivery[] = [];
  /** The status of its responses: one number, or one for each delivery. */
  answer: number | ((delivery: Delivery) => number) = 200;

  private constructor(private readonly server: Server) {}

  static async start(): Promise<Receiver> {
    const server = createServer();
    const receiver = new Receiver(server);
    server.on("request", (request, response) => {
      const chunks: Buffer[] = [];
      request.on("data", (chunk) => chunks.push(chunk));
      request.on("end", () => {
        const body = Buffer.concat(chunks).toString();
        const headers = request.headers as Record<string, string>;
        const delivery = { headers, body, prediction: JSON.parse(body) };
        receiver.deliveries.push(delivery);
        const { answer } = receiver;
        const status = typeof answer === "number" ? answer : answer(delivery);
        response.writeHead(status, { location: receiver.address }).end();
      });
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return receiver;
  }

  get address(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}/hook?own=1`;
  }

  of(id: string): Delivery[] {
    return this.deliveries.filter(({ prediction }) => prediction.id === id);
  }

  stop(): void {
    this.server.close();
    this.server.closeAllConnections();
  }
}
