// A project for tests: its clients, its users and a bucket for one test file.

import { randomUUID } from "node:crypto";
import { type SupabaseClient, createClient } from "@supabase/supabase-js";
import postgres from "postgres";
import ws from "ws";

export const url = process.env.SUPABASE_URL!;
export const publishable = process.env.SUPABASE_PUBLISHABLE_KEY!;
export const secret = process.env.SUPABASE_SECRET_KEY!;

/** Idle connections close after two seconds, so that no test has to close them. */
const quiet = { onnotice: () => {}, max: 2, idle_timeout: 2 };
/** Connects as superuser, to set up tests and to read what the API does not show. */
export const admin = postgres(process.env.DATABASE_ADMIN_URL!, quiet);
/** Connects as migrations do. */
export const migrator = postgres(process.env.DATABASE_URL!, quiet);

export function client(key: string): SupabaseClient {
  return createClient(url, key, {
    auth: { persistSession: false, autoRefreshToken: false },
    realtime: { transport: ws as never },
  });
}

export const service = client(secret);
export const anonymous = client(publishable);

export interface Person {
  id: string;
  email: string;
  token: string;
  client: SupabaseClient;
}

export async function signUp(name: string): Promise<Person> {
  const own = client(publishable);
  const email = `${name}.${randomUUID().slice(0, 8)}@example.com`;
  const { data, error } = await own.auth.signUp({ email, password: randomUUID() });
  if (error) throw error;
  return { id: data.user!.id, email, token: data.session!.access_token, client: own };
}

/** Creates a bucket in which users may do everything in the folder named by their id. `drop` deletes it. */
export async function makeBucket(
  options: Parameters<SupabaseClient["storage"]["createBucket"]>[1] = { public: false },
) {
  const name = `stack-${randomUUID().slice(0, 8)}`;
  const { error } = await service.storage.createBucket(name, options);
  if (error) throw error;
  const own = `bucket_id = '${name}' and (storage.foldername(name))[1] = (select auth.uid())::text`;
  await migrator.unsafe(`create policy "own folder in ${name}" on storage.objects
    for all to authenticated using (${own}) with check (${own})`);
  const drop = async () => {
    await migrator.unsafe(`drop policy "own folder in ${name}" on storage.objects`);
    await service.storage.emptyBucket(name);
    const dropped = await service.storage.deleteBucket(name);
    if (dropped.error) throw dropped.error;
  };
  return { name, drop };
}

interface Asking {
  method?: string;
  key?: string;
  token?: string;
  body?: BodyInit | object;
  headers?: Record<string, string>;
}

/** Sends a plain request. Returns the response without the interpretation of a client. */
export async function ask(
  path: string,
  { method = "GET", key, token, body, headers }: Asking = {},
) {
  const isJson = body !== undefined && Object.getPrototypeOf(body) === Object.prototype;
  const response = await fetch(`${url}${path}`, {
    method,
    headers: {
      ...(key ? { apikey: key } : {}),
      ...(token ? { authorization: `Bearer ${token}` } : {}),
      ...(isJson ? { "content-type": "application/json" } : {}),
      ...headers,
    },
    body: isJson ? JSON.stringify(body) : (body as BodyInit | undefined),
    ...(body instanceof ReadableStream ? { duplex: "half" } : {}),
  } as RequestInit);
  const text = await response.text();
  const parsed =
    /json/.test(response.headers.get("content-type") ?? "") && text ? JSON.parse(text) : text;
  return { status: response.status, headers: response.headers, body: parsed };
}
