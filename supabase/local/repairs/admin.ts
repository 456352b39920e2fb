// Auth's admin API, which `@supabase/lite` does not have yet. It requires the secret key.

import { randomUUID } from "node:crypto";
import type postgres from "postgres";
import type { Keys } from "../keys.ts";
import { verifyToken } from "../tokens.ts";
import { type Wish, changes, columns, identitiesOf, isDuration } from "./person.ts";

type Sql = postgres.Sql;

class Refusal extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

/** Answers requests below /auth/v1/admin. */
export async function answerAdmin(request: Request, sql: Sql, keys: Keys): Promise<Response> {
  try {
    requireSecret(request, keys);
    return await answer(request, sql);
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    const body = { code: error.status, error_code: error.code, msg: error.message };
    return Response.json(body, { status: error.status });
  }
}

function requireSecret(request: Request, keys: Keys): void {
  const key = request.headers.get("apikey");
  if (key === keys.secret) return;
  const bearer = request.headers.get("authorization")?.replace(/^Bearer\s+/i, "");
  if (key === keys.publishable && bearer && !bearer.startsWith("sb_") && isOurs(bearer, keys)) {
    throw new Refusal(403, "not_admin", "User not allowed");
  }
  throw new Refusal(401, "no_authorization", "This endpoint requires a valid Bearer token");
}

function isOurs(token: string, keys: Keys): boolean {
  try {
    return Boolean(verifyToken(token, keys.jwt));
  } catch {
    return false;
  }
}

async function answer(request: Request, sql: Sql): Promise<Response> {
  const url = new URL(request.url);
  const [, id] = /^\/auth\/v1\/admin\/users(?:\/([^/]+))?\/?$/.exec(url.pathname) ?? [];
  if (!id && request.method === "GET") return listPeople(url, sql);
  if (!id && request.method === "POST") return createPerson((await request.json()) as Wish, sql);
  if (!id || !/^[0-9a-f-]{36}$/i.test(id))
    throw new Refusal(404, "validation_failed", "user_id must be an UUID");
  if (request.method === "GET") return Response.json(await find(sql, id));
  if (request.method === "PUT") return updatePerson(id, (await request.json()) as Wish, sql);
  if (request.method === "DELETE") return deletePerson(id, sql);
  throw new Refusal(405, "method_not_allowed", "Method not allowed");
}

async function find(sql: Sql, id: string) {
  const [person] = await sql`select ${columns(sql)} from auth.users as u where id = ${id}`;
  if (!person) throw new Refusal(404, "user_not_found", "User not found");
  return person;
}

async function listPeople(url: URL, sql: Sql): Promise<Response> {
  const perPage = Math.min(Number(url.searchParams.get("per_page") || 50), 1000);
  const page = Math.max(Number(url.searchParams.get("page") || 1), 1);
  const users = await sql`
    select ${columns(sql)} from auth.users as u
    order by created_at desc limit ${perPage} offset ${(page - 1) * perPage}`;
  const [counted] = await sql<{ total: number }[]>`select count(*)::int as total from auth.users`;
  const total = counted?.total ?? 0;
  const last = Math.max(Math.ceil(total / perPage), 1);
  const link = (to: number, rel: string) =>
    `</admin/users?page=${to}&per_page=${perPage}>; rel="${rel}"`;
  const links = [...(page < last ? [link(page + 1, "next")] : []), link(last, "last")];
  return Response.json(
    { users, aud: "authenticated" },
    { headers: { "x-total-count": String(total), link: links.join(", ") } },
  );
}

async function changesOf(wish: Wish) {
  if (wish.password !== undefined && wish.password.length < 6) {
    throw new Refusal(422, "weak_password", "Password should be at least 6 characters.");
  }
  if (wish.ban_duration && !isDuration(wish.ban_duration))
    throw new Refusal(400, "validation_failed", "invalid format for ban duration");
  return changes(wish);
}

function nameTaken(error: { code?: string }): never {
  if (error.code !== "23505") throw error;
  throw new Refusal(
    422,
    "email_exists",
    "A user with this email address has already been registered",
  );
}

async function createPerson(wish: Wish, sql: Sql): Promise<Response> {
  if (!wish.email)
    throw new Refusal(
      400,
      "validation_failed",
      "Cannot create a user without either an email or phone",
    );
  const changed = await changesOf(wish);
  const id = randomUUID();
  const providers = { provider: "email", providers: ["email"] };
  const row = {
    ...{ id, aud: "authenticated", role: "authenticated" },
    ...changed,
    raw_app_meta_data: sql.json({ ...providers, ...wish.app_metadata } as never),
    raw_user_meta_data: sql.json((wish.user_metadata ?? {}) as never),
  };
  await sql
    .begin(async (transaction) => {
      await transaction`insert into auth.users ${transaction(row)}`;
      await transaction`insert into auth.identities ${transaction(identitiesOf(transaction, id, wish.email!))}`;
    })
    .catch(nameTaken);
  return Response.json(await find(sql, id));
}

async function updatePerson(id: string, wish: Wish, sql: Sql): Promise<Response> {
  await find(sql, id);
  const row = { ...(await changesOf(wish)), updated_at: new Date() };
  await sql`
    update auth.users set ${sql(row)},
      raw_app_meta_data = raw_app_meta_data || ${sql.json((wish.app_metadata ?? {}) as never)},
      raw_user_meta_data = raw_user_meta_data || ${sql.json((wish.user_metadata ?? {}) as never)}
    where id = ${id}`.catch(nameTaken);
  return Response.json(await find(sql, id));
}

async function deletePerson(id: string, sql: Sql): Promise<Response> {
  await find(sql, id);
  await sql
    .begin(async (transaction) => {
      await transaction`delete from auth.refresh_tokens where user_id = ${id}`;
      await transaction`delete from auth.users where id = ${id}`;
    })
    .catch(() => {
      throw new Refusal(500, "unexpected_failure", "Database error deleting user");
    });
  return Response.json({});
}
