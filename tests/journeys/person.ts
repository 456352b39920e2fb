// A user with a browser: the Supabase client and a few HTTP calls.

import { randomUUID } from "node:crypto";
import { type SupabaseClient, createClient } from "@supabase/supabase-js";
import ws from "ws";
import { until } from "../waiting.ts";

export interface Generation {
  id: string;
  state: string;
  reason: string | null;
  input_path: string;
  artwork_path: string | null;
  [column: string]: unknown;
}

const terminal = ["succeeded", "failed", "canceled"];

export class Person {
  private constructor(
    readonly id: string,
    readonly client: SupabaseClient,
    readonly token: string,
    readonly email: string,
  ) {}

  /** Signs up a new account, which gets welcome credits. */
  static async signUp(name: string, metadata: Record<string, unknown> = {}): Promise<Person> {
    const client = createClient(process.env.SUPABASE_URL!, process.env.SUPABASE_PUBLISHABLE_KEY!, {
      auth: { persistSession: false, autoRefreshToken: false },
      realtime: { transport: ws as never },
    });
    const email = `${name}.${randomUUID().slice(0, 8)}@example.com`;
    const { data, error } = await client.auth.signUp({ email, password: randomUUID(), options: { data: metadata } });
    if (error) throw error;
    return new Person(data.user!.id, client, data.session!.access_token, email);
  }

  /** Allows a purpose such as `analytics`, which is not allowed by default. */
  async allow(purpose: string): Promise<void> {
    const { error } = await this.client.from("privacy_choices").insert({ purpose, allowed: true });
    if (error) throw error;
  }

  /** Uploads a photo and returns its path. */
  async upload(photo: Buffer, extension = "jpg", contentType = "image/jpeg"): Promise<string> {
    const path = `${this.id}/${randomUUID()}.${extension}`;
    const { error } = await this.client.storage.from("inputs").upload(path, photo, { contentType });
    if (error) throw error;
    return path;
  }

  call(method: string, path: string, body?: unknown, headers: Record<string, string> = {}): Promise<Response> {
    return fetch(`${process.env.FUNCTIONS_URL}${path}`, {
      method,
      headers: { authorization: `Bearer ${this.token}`, "content-type": "application/json", ...headers },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  }

  submit(body: Record<string, unknown>, key: string = randomUUID()): Promise<Response> {
    return this.call("POST", "/generations", body, { "idempotency-key": key });
  }

  /** Uploads and submits a photo. Returns the generation from the response. */
  async generate(photo: Buffer, body: Record<string, unknown> = {}): Promise<Generation> {
    const input_path = await this.upload(photo);
    const response = await this.submit({ style: "watercolor", input_path, ...body });
    if (!response.ok) throw new Error(await response.text());
    return (await response.json()) as Generation;
  }

  async generation(id: string): Promise<Generation | undefined> {
    const { data, error } = await this.client.from("generations").select().eq("id", id).maybeSingle();
    if (error) throw error;
    return data ?? undefined;
  }

  /** Waits until the generation has reached any end state. */
  ended(id: string): Promise<Generation> {
    return until(`generation ${id} to end`, async () => {
      const found = await this.generation(id);
      return found && terminal.includes(found.state) ? found : undefined;
    });
  }

  async wallet(): Promise<{ balance: number; held: number }> {
    const { data, error } = await this.client.from("wallets").select("balance, held").single();
    if (error) throw error;
    return data;
  }

  async deletions(): Promise<{ bucket: string; path: string; reason: string; verified_at: string | null }[]> {
    const { data, error } = await this.client.from("deletions").select().order("ordered_at");
    if (error) throw error;
    return data;
  }

  /** Waits until every deletion of this user's objects is verified. */
  async forgotten(): Promise<void> {
    await until("deletions to be verified", async () => {
      const open = (await this.deletions()).filter((deletion) => !deletion.verified_at);
      return open.length === 0 ? true : undefined;
    });
  }
}
