// Identifies the caller of Storage by a token from Auth or by a key of the project.

import type { Keys } from "../keys.ts";
import { type Claims, verifyToken } from "../tokens.ts";
import { accessDenied, invalidRequest } from "./failure.ts";

export interface Caller {
  role: string;
  claims: Claims;
  /** Null for the keys, because they belong to no user. */
  owner: string | null;
  isAuthenticated: boolean;
}

const roles = new Set(["anon", "authenticated", "service_role"]);
export const nobody: Caller = {
  role: "anon",
  claims: { role: "anon" },
  owner: null,
  isAuthenticated: false,
};

/** Storage itself. It tests signed uploads and writes each row in this role, which bypasses every policy. */
export const service: Caller = {
  role: "service_role",
  claims: { role: "service_role" },
  owner: null,
  isAuthenticated: true,
};

export function identify(request: Request, keys: Keys): Caller {
  const bearer = /^Bearer\s+(.+)$/i.exec(request.headers.get("authorization") ?? "")?.[1];
  // Opaque keys count only in `apikey`, but the Supabase client also sends them as the bearer token.
  if (bearer === undefined || bearer.startsWith("sb_"))
    return byKey(request.headers.get("apikey"), request, keys);
  const claims = verified(bearer, keys.jwt);
  const role = typeof claims.role === "string" && roles.has(claims.role) ? claims.role : undefined;
  if (!role) throw accessDenied("Invalid JWT");
  return {
    role,
    claims,
    owner: typeof claims.sub === "string" ? claims.sub : null,
    isAuthenticated: true,
  };
}

function byKey(key: string | null, request: Request, keys: Keys): Caller {
  if (key === keys.publishable) return { ...nobody, isAuthenticated: true };
  if (key !== keys.secret)
    throw invalidRequest("headers must have required property 'authorization'");
  if (/^\s*Mozilla\/5\.0/i.test(request.headers.get("user-agent") ?? "")) {
    throw accessDenied("Forbidden use of secret API key in browser");
  }
  return service;
}

function verified(token: string, secret: string): Claims {
  try {
    return verifyToken(token, secret);
  } catch (error) {
    throw accessDenied((error as Error).message);
  }
}
