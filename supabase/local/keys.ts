// The keys of this stack. They are made with its state, and never committed.

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { type Credentials, makeCredentials } from "./certificate.ts";

export interface Keys extends Credentials {
  publishable: string;
  secret: string;
  jwt: string;
  databasePassword: string;
  adminPassword: string;
  replicateToken: string;
  webhookSecret: string;
  operatorSecret: string;
  receiptKey: string;
  pseudonymKey: string;
  inboxSecret: string;
}

export async function loadKeys(state: string): Promise<Keys> {
  const path = join(state, "keys.json");
  const known = existsSync(path) ? (JSON.parse(readFileSync(path, "utf8")) as Partial<Keys>) : {};
  const random = (bytes = 24) => randomBytes(bytes).toString("base64url");
  const keys: Keys = {
    publishable: `sb_publishable_${random()}`,
    secret: `sb_secret_${random()}`,
    jwt: random(48),
    databasePassword: random(),
    adminPassword: random(),
    replicateToken: `r8_${random()}`,
    webhookSecret: `whsec_${randomBytes(32).toString("base64")}`,
    operatorSecret: random(),
    receiptKey: random(32),
    pseudonymKey: random(32),
    inboxSecret: `whsec_${randomBytes(32).toString("base64")}`,
    ...(await makeCredentials()),
    // If the state is older than a new key, only this key is added.
    ...known,
  };
  writeFileSync(path, JSON.stringify(keys, null, 2), { mode: 0o600 });
  return keys;
}
