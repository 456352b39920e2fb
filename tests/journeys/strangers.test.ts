// Alice has a photo, an artwork and a history. Bob is signed in and knows all her ids.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, test } from "node:test";
import { until } from "../waiting.ts";
import { type Generation, Person } from "./person.ts";
import { small } from "./photos.ts";
import { cleanUp, database } from "./stack.ts";

let alice: Person;
let bob: Person;
let photo: string;
let generation: Generation;
let file: string;
let request: string;
let untouched: string;

before(async () => {
  [alice, bob] = await Promise.all([Person.signUp("alice"), Person.signUp("bob")]);
  generation = await alice.ended((await alice.generate(await small)).id);
  photo = await alice.upload(await small);
  await alice.client.from("privacy_choices").insert({ purpose: "improvement", allowed: false });
  await alice.client.from("policy_consents").insert({ version: "2026-11" });
  await alice.allow("analytics");
  await alice.client.from("usage_events").insert({ feature: "gallery", browser: "firefox" });
  await alice.client.from("privacy_requests").insert({ kind: "other", message: "Who reads my prompts?" });
  request = (await alice.client.from("privacy_requests").select("id").single()).data!.id;
  assert.equal((await alice.call("POST", "/privacy/exports")).status, 202);
  file = await until("her export to be ready", async () => {
    await cleanUp();
    const { data } = await alice.client.from("exports").select("path").eq("state", "ready");
    return data![0]?.path as string | undefined;
  }, 60_000);
  untouched = await everythingOfAlice();
});
after(() => database.end());

/** Everything of Alice's, to check that it stays unchanged. */
async function everythingOfAlice(): Promise<string> {
  const rows = await database`select
    (select jsonb_agg(to_jsonb(g)) from public.generations g where person_id = ${alice.id}) as generations,
    (select to_jsonb(p) from public.profiles p where id = ${alice.id}) as profile,
    (select to_jsonb(w) from public.wallets w where person_id = ${alice.id}) as wallet,
    (select jsonb_agg(to_jsonb(c)) from public.privacy_choices c where person_id = ${alice.id}) as choices,
    (select jsonb_agg(to_jsonb(c)) from public.policy_consents c where person_id = ${alice.id}) as consents,
    (select jsonb_agg(to_jsonb(e)) from public.usage_events e where person_id = ${alice.id}) as use,
    (select jsonb_agg(to_jsonb(r)) from public.privacy_requests r where person_id = ${alice.id}) as requests,
    (select jsonb_agg(to_jsonb(e)) from public.exports e where person_id = ${alice.id}) as exports,
    (select jsonb_agg(jsonb_build_array(o.bucket_id, o.name, o.version, o.metadata) order by o.name)
      from storage.objects o where o.name like ${`${alice.id}/%`}) as objects`;
  return JSON.stringify(rows);
}

type Attempt = () => PromiseLike<unknown>;
const inputs = () => bob.client.storage.from("inputs");
const artworks = () => bob.client.storage.from("artworks");
const exports = () => bob.client.storage.from("exports");
const unsigned = { authorization: "" };
const own = (table: string, column: string) => bob.client.from(table).select().eq(column, alice.id);

/** One row for each verb: what Bob tries, and how he fails. */
const attempts: [verb: string, attempt: Attempt, failure: "nothing" | "error" | number][] = [
  ["read her profile", () => own("profiles", "id"), "nothing"],
  ["read her wallet", () => own("wallets", "person_id"), "nothing"],
  ["read her generations", () => own("generations", "person_id"), "nothing"],
  ["read her generation by its id", () => bob.client.from("generations").select().eq("id", generation.id), "nothing"],
  ["read her processing log", () => own("processing_log", "person_id"), "nothing"],
  ["read her deletions", () => own("deletions", "person_id"), "nothing"],
  ["read her ledger", () => bob.client.from("credit_entries").select("*, wallets!inner(person_id)").eq("wallets.person_id", alice.id), "nothing"],
  ["read her holds", () => bob.client.from("credit_holds").select().eq("generation_id", generation.id), "nothing"],
  ["read her choices", () => own("privacy_choices", "person_id"), "nothing"],
  ["read her consents", () => own("policy_consents", "person_id"), "nothing"],
  ["read her usage events", () => own("usage_events", "person_id"), "nothing"],
  ["read her requests", () => own("privacy_requests", "person_id"), "nothing"],
  ["read the time left for her request", () => bob.client.from("privacy_request_clock").select().eq("id", request), "nothing"],
  ["read her exports", () => own("exports", "person_id"), "nothing"],
  ["record a choice for her", () => bob.client.from("privacy_choices").insert({ person_id: alice.id, purpose: "generation", allowed: false }), "error"],
  ["record a consent for her", () => bob.client.from("policy_consents").insert({ person_id: alice.id, version: "2026-11" }), "error"],
  ["record a usage event for her", () => bob.client.from("usage_events").insert({ person_id: alice.id, feature: "gallery" }), "error"],
  ["file a request for her", () => bob.client.from("privacy_requests").insert({ person_id: alice.id, kind: "erasure" }), "error"],
  ["close her request", () => bob.client.from("privacy_requests").update({ closed_at: new Date() }).eq("id", request), "error"],
  ["claim her export as his own", () => bob.client.from("exports").insert({ person_id: bob.id, path: file }), "error"],
  ["mark her artwork as his favourite", () => bob.client.from("generations").update({ favourite: true }).eq("id", generation.id).select(), "nothing"],
  ["change her profile", () => bob.client.from("profiles").update({ username: "mine_now" }).eq("id", alice.id).select(), "nothing"],
  ["change her generation", () => bob.client.from("generations").update({ state: "failed" }).eq("id", generation.id).select(), "error"],
  ["delete her generation's row", () => bob.client.from("generations").delete().eq("id", generation.id).select(), "error"],
  ["insert a generation for her", () => bob.client.from("generations").insert({ person_id: alice.id }), "error"],
  ["give himself credits", () => bob.client.from("credit_entries").insert({ kind: "grant", amount: 100 }), "error"],
  ["raise his own balance", () => bob.client.from("wallets").update({ balance: 100 }).eq("person_id", bob.id), "error"],
  ["call the backend", () => bob.client.schema("backend").rpc("lease_deletions"), "error"],
  ["ask the database directly whether an artwork is stored", () => bob.client.schema("backend").rpc("is_made_here", { sha256: generation.artwork_sha256 }), "error"],
  ["read through the database", () => bob.client.rpc("read_generation", { generation_id: generation.id }), "error"],
  ["cancel through the database", () => bob.client.rpc("cancel_generation", { generation_id: generation.id }), "error"],
  ["delete through the database", () => bob.client.rpc("delete_generation", { generation_id: generation.id }), "error"],
  ["list her photos", () => inputs().list(alice.id), "nothing"],
  ["list her artworks", () => artworks().list(alice.id), "nothing"],
  ["list all folders", () => artworks().list(), "nothing"],
  ["download her photo", () => inputs().download(photo), "error"],
  ["download her artwork", () => artworks().download(generation.artwork_path!), "error"],
  ["read the metadata of her artwork", () => artworks().info(generation.artwork_path!), "error"],
  ["sign a URL for her photo", () => inputs().createSignedUrl(photo, 60), "error"],
  ["sign a URL for her artwork", () => artworks().createSignedUrl(generation.artwork_path!, 60), "error"],
  ["upload into her folder", async () => inputs().upload(`${alice.id}/${randomUUID()}.jpg`, await small, { contentType: "image/jpeg" }), "error"],
  ["overwrite her photo", async () => inputs().upload(photo, await small, { contentType: "image/jpeg", upsert: true }), "error"],
  ["update her artwork", async () => artworks().update(generation.artwork_path!, await small, { contentType: "image/png" }), "error"],
  ["sign a URL for an upload into her folder", () => inputs().createSignedUploadUrl(`${alice.id}/${randomUUID()}.jpg`), "error"],
  ["move her artwork to himself", () => artworks().move(generation.artwork_path!, `${bob.id}/${randomUUID()}.png`), "error"],
  ["copy her artwork to himself", () => artworks().copy(generation.artwork_path!, `${bob.id}/${randomUUID()}.png`), "error"],
  ["remove her photo", () => inputs().remove([photo]), "nothing"],
  ["remove her artwork", () => artworks().remove([generation.artwork_path!]), "nothing"],
  ["list her exports", () => exports().list(alice.id), "nothing"],
  ["download her export", () => exports().download(file), "error"],
  ["read the metadata of her export", () => exports().info(file), "error"],
  ["sign a URL for her export", () => exports().createSignedUrl(file, 60), "error"],
  ["move her export to himself", () => exports().move(file, `${bob.id}/${randomUUID()}.zip`), "error"],
  ["remove her export", () => exports().remove([file]), "nothing"],
  ["upload an export of his own", () => exports().upload(`${bob.id}/${randomUUID()}.zip`, Buffer.from("PK"), { contentType: "application/zip" }), "error"],
  ["submit her photo", () => bob.submit({ style: "mosaic", input_path: photo }), 404],
  ["read her generation", () => bob.call("GET", `/generations/${generation.id}`), 404],
  ["cancel her generation", () => bob.call("POST", `/generations/${generation.id}/cancel`), 404],
  ["delete her generation", () => bob.call("DELETE", `/generations/${generation.id}`), 404],
  ["confirm her request", () => bob.call("POST", `/privacy/requests/${request}/confirm`, { token: "0".repeat(64) }), 422],
  ["erase her account", () => bob.call("POST", "/privacy/erasures", { email: alice.email }), 422],
  ["read an erasure by a guessed id", () => bob.call("GET", `/privacy/erasures/${randomUUID()}`), 404],
  ["withdraw an erasure by a guessed id", () => bob.call("DELETE", `/privacy/erasures/${randomUUID()}`), 404],
  ["ask for an export without a token", () => bob.call("POST", "/privacy/exports", undefined, unsigned), 401],
  ["erase an account without a token", () => bob.call("POST", "/privacy/erasures", { email: bob.email }, unsigned), 401],
];

for (const [verb, attempt, failure] of attempts) {
  test(`bob cannot ${verb}`, async () => {
    const answer = await attempt();
    if (typeof failure === "number") {
      assert.equal((answer as Response).status, failure);
    } else {
      const { data, error } = answer as { data: unknown; error: unknown };
      if (failure === "error") assert.ok(error, JSON.stringify(data));
      else assert.deepEqual([data, error], [[], null]);
    }
    assert.equal(await everythingOfAlice(), untouched);
  });
}

test("bob gets the same answers for her objects and for objects that do not exist", async () => {
  const answers = async (path: string, id: string) => {
    const calls = [
      await bob.submit({ style: "mosaic", input_path: path }),
      await bob.call("GET", `/generations/${id}`),
      await bob.call("POST", `/generations/${id}/cancel`),
      await bob.call("DELETE", `/generations/${id}`),
    ];
    const bodies = await Promise.all(calls.map((call) => call.json() as Promise<Record<string, unknown>>));
    const storage = await inputs().download(path);
    return [...bodies.map(({ request_id, ...rest }) => rest), String(storage.error)];
  };
  const hers = await answers(photo, generation.id);
  const nobodys = await answers(`${randomUUID()}/${randomUUID()}.jpg`, randomUUID());
  assert.deepEqual(hers, nobodys);
});

test("alice can do what bob cannot", async () => {
  assert.ok((await alice.client.storage.from("artworks").download(generation.artwork_path!)).data);
  const { data } = await alice.client.storage.from("artworks").createSignedUrl(generation.artwork_path!, 60);
  assert.equal((await fetch(data!.signedUrl)).status, 200);
  assert.ok((await alice.client.storage.from("exports").download(file)).data);
  const marked = await alice.client.from("generations").update({ favourite: true }).eq("id", generation.id).select("favourite");
  assert.deepEqual(marked.data, [{ favourite: true }]);
  assert.deepEqual((await alice.client.storage.from("inputs").remove([photo])).data!.length, 1);
});
