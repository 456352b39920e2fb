// Serves all APIs at one address, as hosted Supabase does: /auth/v1, /rest/v1, /storage/v1 and /functions/v1.

import type { Server } from "bun";
import type postgres from "postgres";
import { preflight, withCors } from "./cors.ts";
import { forwardToFunctions } from "./functions.ts";
import type { Keys } from "./keys.ts";
import type { Lite } from "./lite.ts";
import type { Log } from "./log.ts";
import type { Presence } from "./presence.ts";
import { answerAdmin } from "./repairs/admin.ts";
import { answerAuth } from "./repairs/auth.ts";
import { refuseUnreadable, refuseUnstorable } from "./repairs/unstorable.ts";
import { withZ } from "./repairs/values.ts";
import { announced } from "./storage/resumable.ts";
import { answerStorage } from "./storage/routes.ts";
import type { Storage } from "./storage/storage.ts";

export interface Gateway {
  port: number;
  functions: string;
  lite: Lite;
  sql: postgres.Sql;
  keys: Keys;
  storage: Storage;
  database: Presence;
  log: Log;
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
      const response = await answer(request, gateway).catch((error: Error) => {
        gateway.log.failure(error);
        return Response.json({ message: "internal error" }, { status: 500 });
      });
      gateway.log.request(request, response.status, started);
      return response;
    },
  });
}

async function answer(request: Request, gateway: Gateway): Promise<Response> {
  const { pathname } = new URL(request.url);
  // The functions answer preflight requests themselves.
  if (pathname.startsWith("/functions/v1")) return forwardToFunctions(request, gateway.functions);
  if (request.method === "OPTIONS") return preflight(request, announced(pathname));
  return withCors(await route(request, pathname, gateway));
}

async function route(request: Request, pathname: string, gateway: Gateway): Promise<Response> {
  if (pathname === "/health") return new Response("ok");
  return gateway.database.during(() => ask(request, pathname, gateway));
}

async function ask(request: Request, pathname: string, gateway: Gateway): Promise<Response> {
  if (pathname.startsWith("/storage/v1"))
    return answerStorage(request, gateway.storage, gateway.log.failure);
  const refusal = pathname.startsWith("/auth/v1/")
    ? await refuseUnreadable(request)
    : await refuseUnstorable(request);
  if (refusal) return refusal;
  if (pathname.startsWith("/auth/v1/admin/"))
    return answerAdmin(request, gateway.sql, gateway.keys);
  // Tokens use HS256, which has no public key. Clients ask Auth instead.
  if (pathname === "/auth/v1/.well-known/jwks.json") return Response.json({ keys: [] });
  if (pathname.startsWith("/auth/v1/"))
    return withZ(await answerAuth(request, { ...gateway, inner: gateway.lite }));
  // Lite has more endpoints, for example for its own settings. Hosted Supabase does not have them, so this
  // gateway does not serve them.
  if (pathname.startsWith("/rest/v1/")) return gateway.lite.fetch(request);
  return Response.json({ message: "no Route matched with those values" }, { status: 404 });
}
