// The environment variables that describe the stack: for the functions, the
// sandbox and every user of the stack.

import { resolve } from "node:path";
import type { Keys } from "./keys.ts";
import { address } from "./postgres.ts";

export interface Ports {
  gateway: number;
  database: number;
  functions: number;
  sandbox: number;
}

export function environment(state: string, keys: Keys, ports: Ports): Record<string, string> {
  const gateway = `http://127.0.0.1:${ports.gateway}`;
  const sandbox = `127.0.0.1:${ports.sandbox}`;
  return {
    SUPABASE_URL: gateway,
    SUPABASE_PUBLISHABLE_KEY: keys.publishable,
    SUPABASE_SECRET_KEY: keys.secret,
    DATABASE_URL: address(ports.database, "postgres", keys.databasePassword),
    DATABASE_ADMIN_URL: address(ports.database, "supabase_admin", keys.adminPassword),
    FUNCTIONS_URL: `${gateway}/functions/v1`,
    WEBHOOK_BASE_URL: `${gateway}/functions/v1`,
    FUNCTIONS_ADDRESS: `127.0.0.1:${ports.functions}`,
    REPLICATE_BASE_URL: `http://${sandbox}/v1`,
    REPLICATE_API_TOKEN: keys.replicateToken,
    REPLICATE_WEBHOOK_SECRET: keys.webhookSecret,
    REPLICATE_OUTPUT_HOSTS: "127.0.0.1",
    SANDBOX_ADDRESS: sandbox,
    SANDBOX_CONTROL_URL: `http://${sandbox}/_sandbox`,
    ALLOW_LOOPBACK: "1",
    APP_ORIGINS: "*",
    OPERATOR_SECRET: keys.operatorSecret,
    RECEIPT_SIGNING_KEY: keys.receiptKey,
    PSEUDONYM_KEY: keys.pseudonymKey,
    CONTENT_CREDENTIALS_CERTIFICATE: keys.credentialsCertificate,
    CONTENT_CREDENTIALS_KEY: keys.credentialsKey,
    INBOX_WEBHOOK_SECRET: keys.inboxSecret,
    INBOX_AUTHSERV_ID: "mx.example.net",
    STACK_STATE: resolve(state),
  };
}
