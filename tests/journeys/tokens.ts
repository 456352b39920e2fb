// Tokens with other claims than Auth would issue, signed with the key of the stack.

import { createHmac } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";

const jwtSecret = (JSON.parse(readFileSync(join(process.env.STACK_STATE!, "keys.json"), "utf8")) as { jwt: string }).jwt;
const base64 = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");

/** Signs a token with any claims, with the key of this project. */
export function sign(claims: object): string {
  const seconds = Math.floor(Date.now() / 1000);
  const text = `${base64({ alg: "HS256", typ: "JWT" })}.${base64({ iat: seconds, exp: seconds + 3600, ...claims })}`;
  return `${text}.${createHmac("sha256", jwtSecret).update(text).digest("base64url")}`;
}

/** The claims of a token. */
export function claimsOf(token: string): Record<string, unknown> {
  return JSON.parse(Buffer.from(token.split(".")[1]!, "base64url").toString()) as Record<string, unknown>;
}
