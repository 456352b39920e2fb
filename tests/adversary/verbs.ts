// Every verb that locks rows, as one statement each: the verbs of users and those of the functions.

import { randomUUID } from "node:crypto";

export type Slot = "active" | "idle" | "leaving";
export type Kind = "due" | "leased" | "running" | "storing" | "late" | "aged" | "done";

/** The result of `top_up` in locks.sql. */
export interface World {
  people: Record<Slot, string>;
  generations: Record<Slot, Record<Kind, string>>;
  exports: Partial<Record<Slot, string>>;
  photos: Partial<Record<Slot, string[] | null>>;
  deletions: string[] | null;
  erasure: string;
}

/** The user and the rows of one call. */
export interface Target {
  world: World;
  person: string;
  generation: string;
  export: string;
  photo: string;
  turn: number;
}

export interface Verb {
  name: string;
  /** The kind of generation that the verb needs. */
  kind?: Kind;
  says: (target: Target) => string;
}

const nobody = "00000000-0000-4000-8000-000000000000";

/** Sets the role and the claims as PostgREST does for a user's token. */
function as(role: "authenticated" | "service_role", person: string, statement: string): string {
  const amr = [{ method: "password", timestamp: Math.floor(Date.now() / 1000) }];
  const claims = { sub: person, role: "authenticated", session_id: person, aal: "aal1", amr };
  return `select set_config('request.jwt.claims', '${JSON.stringify(claims)}', true);
    select set_config('storage.operation', 'storage.object.upload', true);
    set local role ${role};
    ${statement}`;
}

function own(name: string, says: Verb["says"], kind?: Kind): Verb {
  return { name, kind, says: (target) => as("authenticated", target.person, says(target)) };
}

/** A call of the functions to the schema `backend`, with named arguments. */
function backend(name: string, given: (target: Target) => Record<string, string | number | null>, kind?: Kind): Verb {
  return {
    name,
    kind,
    says: (target) => {
      const named = Object.entries(given(target)).map(([argument, value]) =>
        `${argument} => ${typeof value === "string" ? `'${value}'` : value}`);
      return `set local role service_role; select backend.${name}(${named.join(", ")})`;
    },
  };
}

const leased = ({ generation }: Target) => ({ generation_id: generation, lease: generation });
const exported = (target: Target) => ({ export_id: target.export, lease: target.export });
const named = () => ({ lease: randomUUID(), batch: 100 });

const people: Verb[] = [
  own("begin_generation", ({ photo }) => `select public.begin_generation('mosaic', '${photo}', '${randomUUID()}', '${randomUUID()}')`),
  own("cancel_generation", ({ generation }) => `select public.cancel_generation('${generation}')`, "running"),
  own("delete_generation", ({ generation }) => `select public.delete_generation('${generation}')`, "done"),
  own("request_export", () => "select public.request_export()"),
  own("erase_account", ({ person }) => `select public.erase_account('${person}@locks.example.com')`),
  own("a choice", ({ turn }) => `insert into public.privacy_choices (purpose, allowed) values ('generation', ${turn % 2 === 1})`),
  own("a request", () => "insert into public.privacy_requests (kind) values ('correction')"),
  own("accept_proposal", () =>
    "select public.accept_proposal(r.id) from (select id from public.privacy_requests where proposed is not null limit 1) as r"),
  own("an event of use", () => "insert into public.usage_events (feature) values ('locks')"),
  own("a profile", ({ person, turn }) =>
    `update public.profiles set default_style = '${turn % 2 ? "mosaic" : "watercolor"}' where id = '${person}'`),
  own("a favourite", ({ generation }) => `update public.generations set favourite = not favourite where id = '${generation}'`),
  own("all favourites", () => "update public.generations set favourite = not favourite"),
  {
    name: "an upload",
    says: ({ person }) => as("service_role", person, `
      insert into storage.objects (bucket_id, name, owner, owner_id, version, metadata)
      values ('inputs', '${person}/${randomUUID()}.jpg', '${person}', '${person}', 'locks', '{"size": 1000, "mimetype": "image/jpeg"}')`),
  },
];

const functions: Verb[] = [
  backend("record_input", (target) => ({
    ...leased(target), capability: "ab".repeat(32), prepared_path: `${target.person}/prepared/${target.generation}-1.jpg`,
    format: "jpeg", width: 10, height: 10, bytes: 100, sha256: "0".repeat(64),
  }), "leased"),
  backend("attach_prediction", (target) => ({
    ...leased(target), prediction_id: `locks-${target.person}${target.generation}`, capability: null,
  }), "leased"),
  backend("postpone_dispatch", leased, "leased"),
  backend("record_account_refusal", (target) => ({ ...leased(target), status: 402 }), "leased"),
  backend("return_dispatches", ({ generation }) => ({ lease: generation, generations: `{${generation}}` }), "leased"),
  backend("lease_dispatches", named),
  backend("record_prediction_event", ({ person, generation, turn }) => ({
    lease: randomUUID(), event_id: `locks-${randomUUID()}`, generation_id: generation, capability: null,
    prediction_id: `locks-${person}${generation}`, status: turn % 3 ? "succeeded" : "processing", output_extension: "png",
  }), "running"),
  backend("complete_generation", (target) => ({
    ...leased(target), artwork_path: `${target.person}/${target.generation}-1.png`, content_type: "image/png",
    bytes: 1000, sha256: "0".repeat(64),
  }), "storing"),
  backend("fail_generation", (target) => ({ ...leased(target), reason: "lost" }), "storing"),
  backend("release_lease", leased, "storing"),
  backend("doubt_output", (target) => ({ ...leased(target), reason: "lost" }), "storing"),
  backend("record_absence", ({ person, generation }) => ({
    generation_id: generation, prediction_id: `locks-${person}${generation}`,
  }), "running"),
  backend("settle_generations", named, "late"),
  backend("lease_deletions", named),
  backend("record_deletions", ({ world }) => {
    const at = new Date().toISOString();
    const results = (world.deletions ?? []).map((id) =>
      ({ id, lease: id, absent: true, deleted_at: at, verified_at: at, receipt: "a.b.c" }));
    return { results: JSON.stringify(results) };
  }),
  backend("audit_inputs", () => ({ batch: 2000 }), "aged"),
  backend("audit_artworks", () => ({ batch: 2000 })),
  backend("audit_generations", () => ({ batch: 2000 }), "done"),
  backend("audit_exports", () => ({ batch: 2000 })),
  backend("audit_ledger", () => ({ batch: 2000 })),
  backend("expire_exports", () => ({})),
  backend("lease_export", () => ({ lease: randomUUID() })),
  backend("plan_export", exported),
  backend("record_export_piece", (target) => ({
    ...exported(target), upload: "locks", bytes_done: 10, bytes_total: 1000, files: "[]",
  })),
  backend("restart_export", exported),
  backend("release_export", (target) => ({ ...exported(target), failed: "true" })),
  backend("finish_export", exported),
  backend("follow_inactive", () => ({ batch: 500 })),
  backend("erase_inactive", () => ({ batch: 50 })),
  backend("erase_unconfirmed", () => ({ batch: 2000 })),
  backend("file_email", ({ person }) => ({
    digest: randomUUID(), sender: `${person}@locks.example.com`, verified: "true", message: "locks",
  })),
  ...["close_request", "refuse_request"].map((name): Verb => ({
    name,
    says: ({ person }) => `set local role service_role;
      select backend.${name}(r.id, 'locks', 'locks')
      from (select id from public.privacy_requests where person_id = '${person}' and closed_at is null limit 1) as r`,
  })),
  {
    name: "extend_request",
    says: ({ person }) => `set local role service_role;
      select backend.extend_request(r.id, r.due_at + interval '1 second', 'locks', 'locks')
      from (select id, due_at from public.privacy_requests where person_id = '${person}' and closed_at is null limit 1) as r`,
  },
  backend("lease_erasures", named),
  backend("advance_erasure", ({ world }) => ({ id: world.erasure, pseudonym: "0".repeat(64) })),
  backend("lease_outbox", named),
  backend("lease_emails", named),
  {
    name: "record_bounce",
    says: ({ person }) => `set local role service_role;
      select backend.record_bounce(addresses => array['${person}@locks.example.com'])`,
  },
  backend("lease_removals", named),
  backend("record_removals", ({ world }) => ({
    results: JSON.stringify(Object.values(world.people).map((id) => ({ prediction: `locks-${id}1`, evidence: "not_found" }))),
  })),
  backend("expire_rows", () => ({ batch: 1000 })),
  backend("adjust_credits", ({ person }) => ({ person_id: person, amount: 1, reason: "locks", key: `locks-${randomUUID()}` })),
];

export const verbs: Verb[] = [...people, ...functions];

const order: Slot[] = ["active", "idle", "active", "leaving", "idle"];

/** The target of a round. Both verbs of a pair use the same one. */
export function target(world: World, turn: number, kind: Kind): Target {
  const slot = order[turn % order.length]!;
  return {
    world,
    person: world.people[slot],
    generation: world.generations[slot][kind],
    export: world.exports[slot] ?? nobody,
    photo: world.photos[slot]?.[turn] ?? `${world.people[slot]}/none.jpg`,
    turn,
  };
}
