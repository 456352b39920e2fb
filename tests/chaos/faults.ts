// The faults that a job can meet. A schedule draws from them.

import type { Fault } from "../lab/proxy.ts";

export type Way = "supabase" | "replicate" | "webhooks";

export interface SandboxFault {
  fault: string;
  count?: number;
  value?: number;
}

interface ProxyFaults {
  way: Way;
  /** Which calls it hits, as "METHOD /path". */
  when: string;
  kinds: Fault[];
}

/** The faults of tests/replicate-sandbox/src/faults.rs, without those that would only make every job wait. */
export const sandboxFaults: SandboxFault[] = [
  // No create_402: while the account is refused, no photos are accepted, so little would happen.
  { fault: "create_422" },
  { fault: "create_refused", value: 404 },
  { fault: "create_429", count: 3 },
  { fault: "create_500" },
  { fault: "create_hang" },
  { fault: "create_drop" },
  { fault: "webhook_drop" },
  { fault: "webhook_duplicate", value: 2 },
  { fault: "webhook_delay", value: 300 },
  { fault: "webhook_reorder" },
  { fault: "webhook_bad_signature" },
  { fault: "webhook_clock" },
  { fault: "fail_moderation" },
  { fault: "fail_platform" },
  { fault: "fail_high_demand" },
  { fault: "fail_input" },
  { fault: "fail_model" },
  { fault: "succeed_without_output" },
  { fault: "output_wrong_type" },
  { fault: "output_500", count: 2 },
  { fault: "output_truncated" },
  { fault: "output_stall", value: 500 },
  { fault: "output_expired" },
  { fault: "output_redirect" },
  { fault: "output_unnamed" },
  { fault: "stuck_starting" },
  { fault: "stuck_processing" },
  { fault: "get_404" },
  { fault: "get_unreadable" },
  { fault: "get_odd_status" },
  { fault: "list_unreadable" },
  { fault: "get_500", count: 2 },
];

const anyCall: Fault[] = [
  { fault: "refuse" },
  { fault: "lose_answer" },
  { fault: "cut_request", bytes: 10 },
  { fault: "cut_answer", bytes: 10 },
  { fault: "delay", ms: 400 },
  { fault: "duplicate" },
  { fault: "status", status: 500 },
  { fault: "status", status: 503 },
];

export const proxyFaults: ProxyFaults[] = [
  { way: "supabase", when: "rpc/begin_generation$", kinds: anyCall },
  { way: "supabase", when: "rpc/(record_input|attach_prediction|postpone_dispatch)$", kinds: anyCall },
  { way: "supabase", when: "rpc/record_prediction_event$", kinds: anyCall },
  { way: "supabase", when: "rpc/(complete|fail)_generation$", kinds: anyCall },
  { way: "supabase", when: "rpc/(cancel|delete)_generation$", kinds: anyCall },
  { way: "supabase", when: "rpc/(record_deletions|release_lease)$", kinds: anyCall },
  { way: "supabase", when: "rpc/lease_deletions$", kinds: anyCall },
  { way: "supabase", when: "^GET /storage/", kinds: anyCall },
  { way: "supabase", when: "^(POST|PUT) /storage/v1/object/(inputs|artworks)", kinds: anyCall },
  { way: "supabase", when: "^DELETE /storage/", kinds: anyCall },
  { way: "replicate", when: "^POST /v1/models/", kinds: [...anyCall, { fault: "status", status: 429 }] },
  { way: "replicate", when: "^GET /v1/predictions", kinds: anyCall },
  { way: "replicate", when: "/cancel$", kinds: anyCall },
  { way: "webhooks", when: "", kinds: anyCall },
];
