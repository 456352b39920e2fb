// Tokens of this project: HS256, made by Auth for users and by Storage for signed URLs.

import { createHmac, timingSafeEqual } from "node:crypto";

export type Claims = Record<string, unknown>;

const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
const decode = (part: string) => JSON.parse(Buffer.from(part, "base64url").toString("utf8"));
const digest = (text: string, secret: string) => createHmac("sha256", secret).update(text).digest();

export function signToken(claims: Claims, secret: string, seconds: number): string {
  const now = Math.floor(Date.now() / 1000);
  return signClaims({ ...claims, iat: now, exp: now + seconds }, secret);
}

export function signClaims(claims: Claims, secret: string): string {
  const text = `${encode({ alg: "HS256", typ: "JWT" })}.${encode(claims)}`;
  return `${text}.${digest(text, secret).toString("base64url")}`;
}

/**
 * Returns the claims of a token that this project signed and that has not
 * expired. Otherwise throws the reason.
 */
export function verifyToken(token: string, secret: string): Claims {
  const [header, payload, signature, more] = token.split(".");
  if (!header || !payload || !signature || more !== undefined)
    throw new Error("Invalid Compact JWS");
  const given = Buffer.from(signature, "base64url");
  const expected = digest(`${header}.${payload}`, secret);
  if (given.length !== expected.length || !timingSafeEqual(given, expected)) {
    throw new Error("signature verification failed");
  }
  if (decode(header).alg !== "HS256") throw new Error("signature verification failed");
  const claims = decode(payload) as Claims;
  if (typeof claims.exp === "number" && claims.exp * 1000 <= Date.now()) {
    throw new Error('"exp" claim timestamp check failed');
  }
  return claims;
}
