// One address, as on hosted: /auth/v1, /rest/v1, /storage/v1 and /functions/v1.

import { appendFileSync } from "node:fs";
import type { Server } from "bun";
import type postgres from "postgres";
import { forwardToFunctions } from "./functions.ts";
import type { Keys } from "./keys.ts";
import type { Lite } from "./lite.ts";
import { answerAdmin } from "./repairs/admin.ts";
import { answerStorage } from "./repairs/storage.ts";
import { withTimestamps } from "./repairs/timestamps.ts";

export interface Gateway {
  port: number;
  functions: string;
  lite: Lite;
  sql: postgres.Sql;
  keys: Keys;
  log: string;
}

const megabyte = 1024 * 1024;

export function serveGateway(gateway: Gateway): Server<undefined> {
  return Bun.serve({
    hostname: "127.0.0.1",
    port: gateway.port,
    idleTimeout: 120,
    maxRequestBodySize: 60 * megabyte,
    async fetch(request) {
      const started = performance.now();
      const response = await route(request, gateway).catch((error: Error) => {
        appendFileSync(gateway.log, `${new Date().toISOString()} failed: ${error.name}\n`);
        return Response.json({ message: "internal error" }, { status: 500 });
      });
      record(request, response, started, gateway.log);
      return response;
    },
  });
}

async function route(request: Request, gateway: Gateway): Promise<Response> {
  const { pathname } = new URL(request.url);
  const lite = async (asked: Request) => gateway.lite.fetch(asked);
  if (pathname === "/health") return new Response("ok");
  if (pathname.startsWith("/functions/v1/")) return forwardToFunctions(request, gateway.functions);
  if (pathname.startsWith("/auth/v1/admin/")) return answerAdmin(request, gateway.sql, gateway.keys, lite);
  // HS256: there is no public key to show, and clients ask Auth instead.
  if (pathname === "/auth/v1/.well-known/jwks.json") return Response.json({ keys: [] });
  if (pathname.startsWith("/storage/v1/")) return withTimestamps(await answerStorage(request, lite), "Z");
  return withTimestamps(await lite(request), pathname.startsWith("/rest/v1/") ? "+00:00" : "Z");
}

/** The first parts of the path alone: the rest may name a person, a file or a token (R5). */
function record(request: Request, response: Response, started: number, log: string): void {
  const path = new URL(request.url).pathname.split("/").slice(0, 4).join("/");
  const elapsed = Math.round(performance.now() - started);
  appendFileSync(log, `${new Date().toISOString()} ${request.method} ${path} ${response.status} ${elapsed}ms\n`);
}
