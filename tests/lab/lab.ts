// The fault lab: its own functions on the running stack, with a proxy on each of their connections.

import { freePort } from "../waiting.ts";
import { type Functions, startFunctions } from "./functions.ts";
import { Proxy } from "./proxy.ts";

export interface Lab {
  /** From the functions to Supabase. */
  supabase: Proxy;
  /** From the functions to Replicate's API. */
  replicate: Proxy;
  /** From Replicate to the functions. */
  webhooks: Proxy;
  functions: Functions;
  /** Starts another process of the same functions without proxies. It plays a second worker. */
  another(env?: Record<string, string>): Promise<Functions>;
  heal(): void;
  stop(): Promise<void>;
}

/** Starts the lab. From now on, `FUNCTIONS_URL` points to its functions. `env` applies only to them. */
export async function startLab(env: Record<string, string> = {}): Promise<Lab> {
  const port = await freePort();
  const before = process.env.FUNCTIONS_URL!;
  const supabase = await Proxy.before(process.env.SUPABASE_URL!);
  const replicate = await Proxy.before(process.env.REPLICATE_BASE_URL!);
  const webhooks = await Proxy.before(`http://127.0.0.1:${port}`);
  const webhook = webhooks.through(`http://127.0.0.1:${port}`);
  const functions = await startFunctions(
    {
      SUPABASE_URL: supabase.through(process.env.SUPABASE_URL!),
      REPLICATE_BASE_URL: replicate.through(process.env.REPLICATE_BASE_URL!),
      WEBHOOK_BASE_URL: webhook,
      CLEANUP_INTERVAL_SECONDS: "0",
      ...env,
    },
    port,
  );
  process.env.FUNCTIONS_URL = functions.url;
  const others: Functions[] = [];
  const proxies = [supabase, replicate, webhooks];
  return {
    supabase,
    replicate,
    webhooks,
    functions,
    async another(own = {}) {
      const started = await startFunctions({ WEBHOOK_BASE_URL: webhook, CLEANUP_INTERVAL_SECONDS: "0", ...env, ...own });
      others.push(started);
      return started;
    },
    heal: () => proxies.forEach((proxy) => proxy.heal()),
    async stop() {
      process.env.FUNCTIONS_URL = before;
      await Promise.all([functions, ...others].map((each) => each.stop()));
      await Promise.all(proxies.map((proxy) => proxy.stop()));
    },
  };
}
