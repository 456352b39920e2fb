// Chooses the usual port if it is free, and otherwise another free one. The port is held until
// its service starts, and stays marked as taken after that. So two stacks that start at the same
// time never choose the same port.

import { randomInt } from "node:crypto";
import { type Server, createServer } from "node:net";

/** A loopback address on which nothing else listens. */
const MARKS = "127.54.32.1";

export interface Reservation {
  port: number;
  /** Frees the port for the service. */
  release(): Promise<void>;
}

export async function reservePort(usual: number): Promise<Reservation> {
  let reserved = await reserve(usual);
  // These ports are below the system's range for outgoing connections, which could take the
  // port before the service starts.
  while (!reserved) reserved = await reserve(randomInt(20_000, 32_000));
  return reserved;
}

/**
 * Listens on the port, and on the same port of a second loopback address. The second one is the mark. It
 * stays until this process ends, so the port looks taken even before its service listens. If the second
 * address is missing (on macOS it must be added), there is no mark.
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
    // A client of an earlier stack may try the port again. Its open connection would keep the server from closing.
    const server = createServer((client) => client.destroy());
    server.once("error", ({ code }: NodeJS.ErrnoException) => resolve(code === "EADDRNOTAVAIL" ? "no address" : "taken"));
    // The mark must not keep the process alive.
    server.listen(port, address, () => resolve(server.unref()));
  });
}
