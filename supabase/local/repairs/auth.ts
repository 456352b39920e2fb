// Adds to lite's Auth: bans, the scope of a sign-out, and the claims in the tokens of hosted Supabase.

import type postgres from "postgres";
import type { Keys } from "../keys.ts";
import { type Claims, signClaims, verifyToken } from "../tokens.ts";

export interface Auth {
  sql: postgres.Sql;
  keys: Keys;
  /** Lite's own Auth. */
  inner: { fetch(request: Request): Response | Promise<Response> };
}

/** These endpoints act for the signed-in user, and refuse the token of a banned one. */
const forPeople = /^\/auth\/v1\/(user|logout|reauthenticate|factors)\b/;

export async function answerAuth(request: Request, auth: Auth): Promise<Response> {
  const url = new URL(request.url);
  if (forPeople.test(url.pathname) && (await isBanned(auth, personOf(request, auth.keys))))
    return banned(403, "User is banned");
  if (url.pathname === "/auth/v1/logout") return auth.inner.fetch(signOut(request, url));
  if (request.method !== "POST") return auth.inner.fetch(request);
  if (url.pathname === "/auth/v1/token") {
    const refusal = await refuseBanned(await request.clone().text(), auth);
    if (refusal) return refusal;
  }
  return withClaims(await auth.inner.fetch(request), url.origin, auth);
}

function banned(status: number, msg: string): Response {
  return Response.json({ code: status, error_code: "user_banned", msg }, { status });
}

function personOf(request: Request, keys: Keys): unknown {
  const token = /^Bearer\s+(.+)$/i.exec(request.headers.get("authorization") ?? "")?.[1];
  try {
    return verifyToken(token ?? "", keys.jwt).sub;
  } catch {
    return undefined;
  }
}

async function isBanned({ sql }: Auth, id: unknown): Promise<boolean> {
  if (typeof id !== "string") return false;
  const rows = await sql`select from auth.users where id::text = ${id} and banned_until > now()`;
  return rows.length > 0;
}

/** Refuses banned users before the password is checked, as hosted Supabase does. */
async function refuseBanned(body: string, auth: Auth): Promise<Response | undefined> {
  const { email, refresh_token: refresh } = parsed(body);
  if (typeof email === "string") {
    const [person] = await auth.sql`select id from auth.users where email = lower(${email})`;
    if (await isBanned(auth, person?.id)) return banned(400, "User is banned");
  }
  if (typeof refresh === "string") {
    const [token] = await auth.sql`select user_id from auth.refresh_tokens where token = ${refresh}`;
    if (await isBanned(auth, token?.user_id))
      return banned(400, "Invalid Refresh Token: User Banned");
  }
  return undefined;
}

function parsed(body: string): Record<string, unknown> {
  try {
    return Object(JSON.parse(body));
  } catch {
    return {};
  }
}

/**
 * Signs out everywhere, unless the URL says otherwise. Lite treats a missing scope as
 * `local`, and also reads the body.
 */
function signOut(request: Request, url: URL): Request {
  url.searchParams.set("scope", url.searchParams.get("scope") || "global");
  return new Request(String(url), { method: request.method, headers: request.headers });
}

async function withClaims(response: Response, origin: string, auth: Auth): Promise<Response> {
  if (!response.ok || !/\bjson\b/.test(response.headers.get("content-type") ?? "")) return response;
  const body = (await response.json()) as { access_token?: unknown };
  if (typeof body?.access_token === "string") {
    const token = verifyToken(body.access_token, auth.keys.jwt);
    const claims = { iss: `${origin}/auth/v1`, ...token, ...(await claimsOf(auth.sql, token)) };
    body.access_token = signClaims(claims, auth.keys.jwt);
  }
  const headers = new Headers(response.headers);
  headers.delete("content-length");
  return new Response(JSON.stringify(body), { status: response.status, headers });
}

async function claimsOf(sql: postgres.Sql, { session_id }: Claims): Promise<Claims> {
  const [claims] = await sql`
    select coalesce(u.phone, '') as phone, u.raw_app_meta_data as app_metadata,
      u.raw_user_meta_data as user_metadata, u.is_anonymous, coalesce(s.aal::text, 'aal1') as aal,
      extract(epoch from s.created_at)::int as signed_in,
      (select factor_type::text from auth.mfa_factors as f where f.id = s.factor_id) as factor
    from auth.sessions as s
    join auth.users as u on u.id = s.user_id
    where s.id = ${String(session_id)}`;
  if (!claims) return {};
  const { signed_in: timestamp, factor, ...rest } = claims;
  const first = { method: rest.is_anonymous ? "anonymous" : "password", timestamp };
  const second = rest.aal === "aal2" ? [{ method: factor ?? "totp", timestamp }] : [];
  return { ...rest, amr: [...second, first] };
}
