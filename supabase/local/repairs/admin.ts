// Auth's admin API, which `@supabase/lite` has not yet: for the secret key alone.

import postgres from "postgres";
import type { Keys } from "../keys.ts";
import type { Handler } from "./storage.ts";

type Sql = postgres.Sql;

const columns = `id, aud, role, email, coalesce(phone, '') as phone, email_confirmed_at, confirmed_at,
  last_sign_in_at, raw_app_meta_data as app_metadata, raw_user_meta_data as user_metadata,
  created_at, updated_at, is_anonymous, banned_until`;

/** Answers a request below /auth/v1/admin. */
export async function answerAdmin(request: Request, sql: Sql, keys: Keys, lite: Handler): Promise<Response> {
  if (request.headers.get("apikey") !== keys.secret) return refuse(401, "no_authorization", "This endpoint requires a valid secret key");

  const url = new URL(request.url);
  const [, id] = /^\/auth\/v1\/admin\/users(?:\/([^/]+))?$/.exec(url.pathname) ?? [];
  if (!id && request.method === "GET") return listUsers(url, sql);
  if (!id && request.method === "POST") return createUser(request, sql, keys, lite);
  if (!id || !/^[0-9a-f-]{36}$/i.test(id)) return refuse(404, "validation_failed", "user_id must be an UUID");
  if (request.method === "GET") return show(await find(sql, id));
  if (request.method === "DELETE") return deleteUser(sql, id);
  return refuse(405, "not_supported", "Method not allowed");
}

async function find(sql: Sql, id: string) {
  const [user] = await sql.unsafe(`select ${columns} from auth.users where id = $1`, [id]);
  return user;
}

function show(user: postgres.Row | undefined): Response {
  return user ? Response.json({ ...user, identities: [] }) : refuse(404, "user_not_found", "User not found");
}

async function listUsers(url: URL, sql: Sql): Promise<Response> {
  const perPage = Math.min(Number(url.searchParams.get("per_page") || 50), 1000);
  const offset = (Number(url.searchParams.get("page") || 1) - 1) * perPage;
  const users = await sql.unsafe(
    `select ${columns} from auth.users order by created_at desc limit $1 offset $2`,
    [perPage, offset],
  );
  const [{ total }] = await sql`select count(*)::int as total from auth.users`;
  return Response.json(
    { users: users.map((user) => ({ ...user, identities: [] })), aud: "authenticated" },
    { headers: { "x-total-count": String(total) } },
  );
}

/** Signs up in Auth itself, so that passwords and identities are made in one place. */
async function createUser(request: Request, sql: Sql, keys: Keys, lite: Handler): Promise<Response> {
  const { email, password, user_metadata } = (await request.json()) as Record<string, unknown>;
  const signedUp = await lite(
    new Request(new URL("/auth/v1/signup", request.url), {
      method: "POST",
      headers: { apikey: keys.publishable, "content-type": "application/json" },
      body: JSON.stringify({ email, password: password ?? crypto.randomUUID(), data: user_metadata }),
    }),
  );
  if (!signedUp.ok) return signedUp;
  const { user } = (await signedUp.json()) as { user: { id: string } };
  return show(await find(sql, user.id));
}

async function deleteUser(sql: Sql, id: string): Promise<Response> {
  const deleted = await sql.begin(async (transaction) => {
    await transaction`delete from auth.refresh_tokens where user_id = ${id}`;
    return transaction`delete from auth.users where id = ${id}`;
  });
  return deleted.count === 1 ? Response.json({}) : refuse(404, "user_not_found", "User not found");
}

function refuse(code: number, error_code: string, msg: string): Response {
  return Response.json({ code, error_code, msg }, { status: code });
}
