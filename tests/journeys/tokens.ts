// Tokens with other claims than Auth gave them, signed with the key of the stack.

import { createHmac } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";

const jwtSecret = (JSON.parse(readFileSync(join(process.env.STACK_STATE!, "keys.json"), "utf8")) as { jwt: string }).jwt;
const base64 = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");

/** A token that this project has signed, with any claims. */
export function sign(claims: object): string {
  const seconds = Math.floor(Date.now() / 1000);
  const text = `${base64({ alg: "HS256", typ: "JWT" })}.${base64({ iat: seconds, exp: seconds + 3600, ...claims })}`;
  return `${text}.${createHmac("sha256", jwtSecret).update(text).digest("base64url")}`;
}

/** What a token claims. */
export function claimsOf(token: string): Record<string, unknown> {
  return JSON.parse(Buffer.from(token.split(".")[1]!, "base64url").toString()) as Record<string, unknown>;
}
