// The usual port if it is free, any free one if not; held until its service starts, so that two stacks
// that start at the same time do not choose the same.

import { createServer } from "node:net";

export interface Reservation {
  port: number;
  release(): Promise<void>;
}

export async function reservePort(usual: number): Promise<Reservation> {
  return (await listen(usual)) ?? (await listen(0))!;
}

function listen(wanted: number): Promise<Reservation | undefined> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(undefined));
    server.listen(wanted, "127.0.0.1", () => {
      const { port } = server.address() as { port: number };
      resolve({ port, release: () => new Promise((done) => void server.close(() => done())) });
    });
  });
}
