// The usual port if it is free, another free one if not. It is held until its service starts, and after that it stays
// marked as taken: two stacks that start at the same time never choose the same port.

import { randomInt } from "node:crypto";
import { type Server, createServer } from "node:net";

/** An address of this machine that nothing else listens on. */
const MARKS = "127.54.32.1";

export interface Reservation {
  port: number;
  /** Lets the service have the port. */
  release(): Promise<void>;
}

export async function reservePort(usual: number): Promise<Reservation> {
  let reserved = await reserve(usual);
  // Below the ports that the system gives to outgoing connections: one of them could take it in between.
  while (!reserved) reserved = await reserve(randomInt(20_000, 32_000));
  return reserved;
}

/**
 * Listens on the port itself, and on the same port of another address of this machine. The second is the mark: it is
 * kept until this process ends, so the port looks taken while its service has not begun to listen. Where there is no
 * such address (macOS has it only on request), there is no mark.
 */
async function reserve(port: number): Promise<Reservation | undefined> {
  const mark = await listen(port, MARKS);
  if (mark === "taken") return undefined;
  const held = await listen(port, "127.0.0.1");
  if (held === "taken" || held === "no address") {
    if (mark !== "no address") mark.close();
    return undefined;
  }
  return { port, release: () => new Promise((done) => void held.close(() => done())) };
}

function listen(port: number, address: string): Promise<Server | "taken" | "no address"> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", ({ code }: NodeJS.ErrnoException) => resolve(code === "EADDRNOTAVAIL" ? "no address" : "taken"));
    // It never keeps the process alive.
    server.listen(port, address, () => resolve(server.unref()));
  });
}
