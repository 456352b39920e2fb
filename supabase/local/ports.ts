// The usual port if it is free, another free one if not. It is held until its service starts, so that two stacks
// that start at the same time do not choose the same.

import { randomInt } from "node:crypto";
import { createServer } from "node:net";

export interface Reservation {
  port: number;
  release(): Promise<void>;
}

export async function reservePort(usual: number): Promise<Reservation> {
  let reserved = await listen(usual);
  // Below the ports that the system gives to outgoing connections: one of them could take it in between.
  while (!reserved) reserved = await listen(randomInt(20_000, 32_000));
  return reserved;
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
