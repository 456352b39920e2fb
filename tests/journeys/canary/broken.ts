// Failures of models, Storage and the database. Each flow reaches the log statements about its failure.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { makeCredentials } from "../../../supabase/local/certificate.ts";
import { predictionThatIs } from "../../faults/replicate.ts";
import type { Lab } from "../../lab/lab.ts";
import { passTime } from "../../lab/time.ts";
import { until } from "../../waiting.ts";
import { arm, cleanUp, database } from "../stack.ts";
import type { Flows } from "./asked.ts";
import { photos, planted, newUser, submitted } from "./planted.ts";

/** Makes all three attempts of a call fail with `status`. */
const fails = (lab: Lab, when: RegExp, status = 500) => lab.supabase.misbehave({ fault: "status", status, when, count: 3 });
const verb = (name: string) => new RegExp(`rpc/${name}$`);
const create = /^POST \/v1\/models\//;

/** A generation whose prediction has ended, but whose webhook events were lost. */
async function withLostEvents() {
  await arm({ fault: "webhook_drop" });
  const person = await newUser();
  const generation = await submitted(person);
  await predictionThatIs("succeeded", generation.input_path);
  return { person, ...generation };
}

async function refusedInput(): Promise<Response> {
  const person = await newUser();
  return person.submit({ style: "mosaic", input_path: await person.upload(Buffer.from(planted("impostor"))) });
}

/** The decoder panics on a photo that contains this text. */
export const poison = `poison-${randomUUID()}`;

export const broken: Flows = {
  "a photo that makes its decoder panic": async () => {
    const person = await newUser();
    const photo = Buffer.concat([photos.jpeg, Buffer.from(poison)]);
    assert.equal((await person.submit({ style: "mosaic", input_path: await person.upload(photo) })).status, 422);
  },
  "predictions that fail, and outputs that are not pictures": async () => {
    for (const [fault, reason] of [
      ["fail_moderation", "content_flagged"],
      ["fail_model", "model_error"],
      ["fail_input", "input_invalid"],
      ["output_wrong_type", "output_invalid"],
    ] as const) {
      await arm({ fault });
      const person = await newUser();
      assert.equal((await person.ended((await submitted(person)).id)).reason, reason);
    }
  },
  "outputs that are not where they should be": async () => {
    for (const fault of ["output_expired", "output_redirect", "output_unnamed", "output_elsewhere"]) {
      await arm({ fault });
      const person = await newUser();
      const { id } = await submitted(person);
      await until("the function to fetch the output", async () => /stor|succ/.test((await person.generation(id))!.state) || undefined);
    }
  },
  "create calls that are refused, throttled, lost and late": async (lab) => {
    await arm({ fault: "create_422" });
    await assert.rejects(submitted(await newUser()), /dispatch_refused/);
    await arm({ fault: "create_refused", value: 404 });
    await submitted(await newUser());
    // Replicate refuses the account twice, then accepts it again.
    await arm({ fault: "create_402", count: 2 });
    await submitted(await newUser());
    for (let times = 0; times < 2; times += 1) {
      await passTime(61);
      await cleanUp();
    }
    // Replicate throttles every attempt, and refuses the one of the next sweep.
    await arm({ fault: "create_429", count: 3, value: 0 });
    fails(lab, verb("postpone_dispatch"));
    await submitted(await newUser());
    lab.replicate.misbehave({ fault: "lose_answer", when: create });
    await submitted(await newUser());
    await arm({ fault: "create_422" });
    await passTime(181);
    await cleanUp();
    // Another worker has the lease when Replicate refuses.
    lab.replicate.misbehave({ fault: "delay", ms: 1_000, when: create });
    await arm({ fault: "create_422" });
    const person = await newUser();
    const submitting = submitted(person);
    const open = await until("the create call", async () => (await database`
      select g.id from public.generations as g join private.generation_work as w on w.generation_id = g.id
      where g.person_id = ${person.id} and w.create_called_at is not null`)[0]);
    await database`update private.generation_work set lease = gen_random_uuid() where generation_id = ${open.id}`;
    await submitting;
  },
  "a refusal that the database does not record": async (lab) => {
    fails(lab, verb("fail_generation"));
    assert.equal((await refusedInput()).status, 422);
  },
  "a prediction that cannot be stopped": async (lab) => {
    await arm({ fault: "stuck_processing" });
    const person = await newUser();
    const { id } = await submitted(person);
    lab.replicate.misbehave({ fault: "status", status: 500, when: /cancel$/, count: 3 });
    assert.equal((await person.call("POST", `/generations/${id}/cancel`)).status, 200);
  },
  "no webhook events, and a Replicate that does not answer": async (lab) => {
    await withLostEvents();
    await arm({ fault: "get_500", count: 3 });
    await passTime(61);
    await cleanUp();
    // Earlier flows may have left generations past their deadlines, so the number of calls is unknown.
    lab.replicate.misbehave({ fault: "status", status: 500, when: /^GET /, count: Infinity });
    lab.supabase.misbehave({ fault: "status", status: 500, when: verb("fail_generation"), count: Infinity });
    await passTime(800);
    await cleanUp();
    lab.heal();
    await cleanUp();
  },
  "a Replicate that keeps what it has, and then does not answer": async () => {
    const person = await newUser();
    await person.ended((await submitted(person)).id);
    const due = () => database`update public.replicate_removals set due_at = now() where person_id = ${person.id}`;
    await due();
    await cleanUp();
    await due();
    await arm({ fault: "get_unreadable" });
    await cleanUp();
    await due();
    await arm({ fault: "get_500", count: 3 });
    await cleanUp();
  },
  "a list that cannot be read": async (lab) => {
    lab.replicate.misbehave({ fault: "lose_answer", when: create });
    await arm({ fault: "webhook_drop" });
    await submitted(await newUser());
    lab.replicate.misbehave({ fault: "status", status: 500, when: /^GET \/v1\/predictions$/, count: 9 });
    await passTime(181);
    await cleanUp();
  },
  "a refusal of the account that the database does not record": async (lab) => {
    fails(lab, verb("record_account_refusal"));
    await arm({ fault: "create_402" });
    await submitted(await newUser());
  },
  "outputs that cannot be stored": async (lab) => {
    const { person, id } = await withLostEvents();
    fails(lab, /^POST \/storage\/v1\/object\/artworks/);
    fails(lab, verb("release_lease"));
    await passTime(61);
    await cleanUp();
    lab.heal();
    await passTime(181);
    await cleanUp();
    assert.equal((await person.generation(id))!.state, "succeeded");
  },
  "a time-stamping authority that fails, and an expired certificate": async (lab) => {
    const { credentialsCertificate, credentialsKey } = await makeCredentials(new Date("2020-01-01"));
    const environments: Record<string, string>[] = [
      { CONTENT_CREDENTIALS_TIMESTAMP_URL: `${process.env.REPLICATE_BASE_URL}/${planted("authority")}` },
      { CONTENT_CREDENTIALS_CERTIFICATE: credentialsCertificate, CONTENT_CREDENTIALS_KEY: credentialsKey },
    ];
    for (const env of environments) {
      await lab.functions.configure(env);
      const person = await newUser();
      assert.equal((await person.ended((await submitted(person)).id)).state, "succeeded");
    }
    await lab.functions.configure({});
  },
  "photos that cannot be fetched, signed, put back or deleted": async (lab) => {
    for (const when of [/^GET \/storage\/v1\/object\/inputs/, /^POST \/storage\/v1\/object\/sign/, /^POST \/storage\/v1\/object\/inputs/]) {
      fails(lab, when);
      await submitted(await newUser());
      lab.heal();
    }
    for (const when of [/^DELETE \/storage/, verb("record_deletions")]) {
      fails(lab, when);
      assert.equal((await refusedInput()).status, 422);
      lab.heal();
    }
    // Storage deletes nothing, and the verification fails.
    await arm({ fault: "stuck_processing" });
    const person = await newUser();
    const { id } = await submitted(person);
    fails(lab, /^DELETE \/storage/, 200);
    fails(lab, /^GET \/storage\/v1\/object\/inputs/);
    assert.equal((await person.call("POST", `/generations/${id}/cancel`)).status, 200);
    // Either the cancel or the webhook event of the stopped prediction attempts the deletion.
    await until("the deletion to be attempted and fail", async () => {
      const tried = await database`
        select from public.deletions as d
        where d.generation_id = ${id} and d.verified_at is null and d.attempts > 0
          and not exists (select from private.deletion_leases as l where l.deletion_id = d.id)`;
      return tried.length > 0 || undefined;
    });
  },
  "a database and an Auth that do not answer, or refuse": async (lab) => {
    const person = await newUser();
    const input_path = await person.upload(photos.jpeg);
    const submit = () => person.submit({ style: "mosaic", input_path, prompt: planted("prompt") });
    fails(lab, verb("begin_generation"), 502);
    assert.equal((await submit()).status, 503);
    lab.heal();
    // Only erasures call Auth.
    fails(lab, /^GET \/auth/, 502);
    assert.equal((await person.call("POST", "/privacy/erasures", { email: planted("email") })).status, 503);
    lab.heal();
    lab.supabase.misbehave({ fault: "cut_answer", when: verb("begin_generation"), count: 3 });
    assert.equal((await submit()).status, 503);
    fails(lab, verb("list_due_work"), 401);
    await cleanUp();
    lab.heal();
    fails(lab, verb("record_heartbeat"));
    await assert.rejects(cleanUp(), /unavailable/);
    // PostgreSQL quotes the whole row in its message about this constraint.
    await database`alter table public.generations add constraint nothing_today check (style <> 'pop-art') not valid`;
    try {
      const refused = await person.submit({ style: "pop-art", input_path: await person.upload(photos.png), prompt: planted("prompt") });
      assert.equal(refused.status, 500);
    } finally {
      await database`alter table public.generations drop constraint nothing_today`;
    }
  },
  "a schedule without a database": async (lab) => {
    lab.supabase.misbehave({ fault: "refuse", count: 1000 });
    const before = lab.supabase.struck;
    await lab.another({ SUPABASE_URL: lab.supabase.through(process.env.SUPABASE_URL!), CLEANUP_INTERVAL_SECONDS: "1" });
    await until("a sweep to fail", async () => lab.supabase.struck - before > 3 || undefined);
  },
};
