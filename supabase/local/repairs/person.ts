// A user in Auth's tables, and in its admin API.

import type postgres from "postgres";

export interface Wish {
  email?: string;
  password?: string;
  email_confirm?: boolean;
  user_metadata?: object;
  app_metadata?: object;
  /** "none", or a duration in Go's format, such as hours. */
  ban_duration?: string;
}

export const columns = (sql: postgres.Sql) => sql`
  u.id, u.aud, u.role, u.email, coalesce(u.phone, '') as phone, u.email_confirmed_at, u.confirmed_at,
  u.last_sign_in_at, u.raw_app_meta_data as app_metadata, u.raw_user_meta_data as user_metadata,
  u.created_at, u.updated_at, u.is_anonymous, u.banned_until,
  coalesce((
    select jsonb_agg(jsonb_build_object(
      'identity_id', i.id, 'id', i.provider_id, 'user_id', i.user_id, 'provider', i.provider, 'email', i.email,
      'identity_data', i.identity_data, 'created_at', i.created_at, 'updated_at', i.updated_at,
      'last_sign_in_at', i.last_sign_in_at
    ))
    from auth.identities as i where i.user_id = u.id
  ), '[]') as identities`;

export async function changes({
  email,
  password,
  email_confirm,
  ban_duration,
}: Wish): Promise<Record<string, unknown>> {
  const row: Record<string, unknown> = {};
  if (email !== undefined) row.email = email.toLowerCase();
  if (password !== undefined)
    row.encrypted_password = await Bun.password.hash(password, { algorithm: "bcrypt", cost: 10 });
  if (email_confirm) row.email_confirmed_at = new Date();
  if (ban_duration !== undefined) row.banned_until = bannedUntil(ban_duration);
  return row;
}

const milliseconds: Record<string, number> = { h: 3_600_000, m: 60_000, s: 1000, ms: 1 };

const duration = /^(\d+(\.\d+)?(h|ms|m|s))+$/;

export function isDuration(text: string): boolean {
  return text === "none" || duration.test(text);
}

function bannedUntil(text: string): Date | null {
  const parts = [...text.matchAll(/(\d+(?:\.\d+)?)(h|ms|m|s)/g)];
  const total = parts.reduce(
    (sum, [, amount, unit]) => sum + Number(amount) * milliseconds[unit!]!,
    0,
  );
  return total > 0 ? new Date(Date.now() + total) : null;
}

export function identitiesOf(sql: postgres.TransactionSql, id: string, email: string) {
  const identity_data = {
    sub: id,
    email: email.toLowerCase(),
    email_verified: false,
    phone_verified: false,
  };
  return {
    ...{ id: crypto.randomUUID(), provider: "email", provider_id: id, user_id: id },
    identity_data: sql.json(identity_data),
  };
}
