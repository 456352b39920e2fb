// The usual port if it is free, any free one if not.

import { createServer } from "node:net";

export async function choosePort(usual: number): Promise<number> {
  return (await listen(usual)) ?? (await listen(0))!;
}

function listen(port: number): Promise<number | undefined> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(undefined));
    server.listen(port, "127.0.0.1", () => {
      const address = server.address();
      const chosen = typeof address === "object" && address ? address.port : undefined;
      server.close(() => resolve(chosen));
    });
  });
}
