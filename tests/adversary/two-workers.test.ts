// Two workers, one lease: no verb accepts a lost lease.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, afterEach, test } from "node:test";
import { createClient } from "@supabase/supabase-js";
import ws from "ws";
import { lab } from "../faults/lab.ts";
import { predictionThatIs, predictionsOf, send } from "../faults/replicate.ts";
import { Person } from "../journeys/person.ts";
import { small } from "../journeys/photos.ts";
import { arm, cleanUp, database } from "../journeys/stack.ts";
import { passTime } from "../lab/time.ts";
import {
  type Answer, type Leased, type Take, building, handOver, overdue, dueRows, planned, runOut, running, service, storing,
  dispatching, succeeded,
} from "./workers.ts";

afterEach(async () => {
  // Delete the exports that no worker builds. Otherwise, the next test would lease them first.
  await database`delete from public.exports where id in (select w.export_id from private.export_work as w where w.due_at = '2000-01-01')`;
});
after(() => service.end());

const takesDispatch: Take = async (sql, { id }) => {
  const [{ leased }] = await sql`select backend.lease_dispatches(${randomUUID()}::uuid, 1000) as leased`;
  assert.ok(leased.some(({ generation }: { generation: string }) => generation === id));
};

const takesStoring: Take = async (sql, leased) => {
  assert.equal((await succeeded(sql, { ...leased, lease: randomUUID() })).action, "store");
};

const takesSettling: Take = async (sql, { id }) => {
  const [{ answer }] = await sql`select backend.settle_generations(${randomUUID()}::uuid, 1000) as answer`;
  assert.ok(answer.silent.some((each: { generation: string; is_last: boolean }) => each.generation === id && each.is_last));
};

const takesExport: Take = async (sql, { id }) => {
  const [{ leased }] = await sql`select backend.lease_export(${randomUUID()}::uuid) as leased`;
  assert.equal(leased.id, id);
};

const { storage } = createClient(process.env.SUPABASE_URL!, process.env.SUPABASE_SECRET_KEY!, {
  auth: { persistSession: false },
  realtime: { transport: ws as never },
});

type Call = (leased: Leased) => Promise<Answer | boolean | string>;

const verb = (query: (leased: Leased) => Promise<readonly Record<string, never>[]>): Call =>
  async (leased) => (await query(leased))[0]!.answer as never;

const fails = verb(({ id, lease }) => service`
  select backend.fail_generation(generation_id => ${id}::uuid, reason => 'lost', lease => ${lease}::uuid) as answer`);

const completes = verb(({ id, lease, path }) => service`
  select backend.complete_generation(generation_id => ${id}::uuid, lease => ${lease}::uuid, artwork_path => ${path},
    content_type => 'image/png', bytes => 1000, sha256 => ${"0".repeat(64)}) as answer`);

const cases: [name: string, begins: () => Promise<Leased>, takes: Take, call: Call][] = [
  ["record_input", dispatching, takesDispatch, verb(({ id, lease, path }) => service`
    select backend.record_input(generation_id => ${id}::uuid, lease => ${lease}::uuid, capability => ${"ab".repeat(32)},
      prepared_path => ${path}, format => 'jpeg', width => 10, height => 10, bytes => 100, sha256 => ${"0".repeat(64)}) as answer`)],
  ["attach_prediction for a prediction that was found", dispatching, takesDispatch, verb(({ id, lease }) => service`
    select backend.attach_prediction(generation_id => ${id}::uuid, lease => ${lease}::uuid,
      prediction_id => ${`p-${id}`}, capability => null) as answer`)],
  ["fail_generation during the dispatch", dispatching, takesDispatch, fails],
  ["fail_generation while its artwork is stored", storing, takesStoring, fails],
  ["fail_generation at its deadline", overdue, takesSettling, fails],
  ["complete_generation while its artwork is stored", storing, takesStoring, completes],
  ["complete_generation at its deadline", overdue, takesSettling, completes],
];

for (const [name, begins, takes, call] of cases) {
  test(`${name}: a worker learns that it has lost its lease, and changes nothing`, async () => {
    const leased = await begins();
    const answer = (await handOver(leased, takes, () => call(leased))) as Answer;
    assert.equal(answer.outcome, "superseded");
  });
}

test("record_prediction_event: a worker that has lost its lease is not told to store the artwork", async () => {
  const leased = await storing();
  const answer = await handOver(leased, takesStoring, () => succeeded(service, leased));
  assert.equal(answer.action, "none");
});

/** Verbs that return nothing, or nothing that tells a worker to continue. */
const silent: typeof cases = [
  ["postpone_dispatch", dispatching, takesDispatch, verb(({ id, lease }) => service`
    select backend.postpone_dispatch(${id}::uuid, ${lease}::uuid) as answer`)],
  ["release_lease for a dispatch", dispatching, takesDispatch, verb(({ id, lease }) => service`
    select backend.release_lease(${id}::uuid, ${lease}::uuid) as answer`)],
  ["release_lease for an artwork", storing, takesStoring, verb(({ id, lease }) => service`
    select backend.release_lease(${id}::uuid, ${lease}::uuid) as answer`)],
  ["plan_export", building, takesExport, verb(({ id, lease }) => service`
    select backend.plan_export(${id}::uuid, ${lease}::uuid) as answer`)],
  ["restart_export", planned, takesExport, verb(({ id, lease }) => service`
    select backend.restart_export(${id}::uuid, ${lease}::uuid) as answer`)],
  ["restart_export for a missing object", planned, takesExport, verb(({ id, lease }) => service`
    select backend.restart_export(${id}::uuid, ${lease}::uuid, 'an object') as answer`)],
  ["release_export", planned, takesExport, verb(({ id, lease }) => service`
    select backend.release_export(${id}::uuid, ${lease}::uuid, true) as answer`)],
  ["finish_export", planned, takesExport, verb(({ id, lease }) => service`
    select backend.finish_export(${id}::uuid, ${lease}::uuid) as answer`)],
];

for (const [name, begins, takes, call] of silent) {
  test(`${name}: a worker that has lost its lease changes nothing`, async () => {
    const leased = await begins();
    await handOver(leased, takes, () => call(leased));
  });
}

test("record_export_piece: a worker learns that it has lost its lease, and uploads nothing more", async () => {
  const leased = await planned();
  const [{ is_held }] = await handOver(leased, takesExport, () => service`
    select backend.record_export_piece(${leased.id}::uuid, ${leased.lease}::uuid, 'another upload', 500, 1000, '[]') as is_held`);
  assert.equal(is_held, false);
});

test("each attempt to store an artwork has its own path, and a retry with the same lease keeps it", async () => {
  const first = await running();
  const path = (await succeeded(service, first)).artwork_path;
  assert.equal((await succeeded(service, first)).artwork_path, path);
  await runOut(first);
  const second = { ...first, lease: randomUUID() };
  assert.notEqual((await succeeded(service, second)).artwork_path, path);
});

test("deleting the object of the first attempt late does not delete the artwork of the second attempt", async () => {
  const first = await storing();
  const second = { ...first, lease: randomUUID() };
  second.path = (await succeeded(service, second)).artwork_path!;
  for (const path of [first.path, second.path]) {
    const { error } = await storage.from("artworks").upload(path, Buffer.alloc(1000), { contentType: "image/png", upsert: true });
    assert.equal(error, null);
  }
  assert.equal(((await completes(second)) as Answer).outcome, "completed");
  // A worker that was told to delete the first object froze until now.
  const { error } = await storage.from("artworks").remove([first.path]);
  assert.equal(error, null);
  const left = await database`
    select name from storage.objects where bucket_id = 'artworks' and starts_with(name, ${`${first.person.id}/`})`;
  assert.deepEqual(left.map(({ name }) => name), [second.path]);
});

for (const [verb, order] of Object.entries(dueRows)) {
  test(`${verb}: a retry with the same lease gets the same rows, and another lease gets none of them`, async () => {
    const due = await order(await Person.signUp("alice"));
    const [first, second] = [randomUUID(), randomUUID()];
    const ask = async (lease: string) => {
      const [{ leased }] = await service`select ${service.unsafe(`backend.${verb}`)}(lease => ${lease}::uuid, batch => 1000) as leased`;
      const found = (leased as { id?: string; target?: string; prediction?: string }[])
        .map(({ id, target, prediction }) => id ?? target ?? prediction!);
      return found.filter((id) => due.includes(id)).sort();
    };
    assert.deepEqual(await ask(first), due);
    assert.deepEqual(await ask(first), due, "a retry after a lost response");
    assert.deepEqual(await ask(second), [], "another worker");
  });
}

for (const end of ["cancel", "delete"] as const) {
  for (const seen of ["its event", "Replicate's list"]) {
    test(`if the response to a create call is lost before a ${end}, ${seen} reveals the prediction, and it is stopped and asked about (T3)`, async () => {
      await arm({ fault: "webhook_drop" }, { fault: "stuck_processing" });
      lab.replicate.misbehave({ fault: "lose_answer", when: /^POST \/v1\/models\// });
      const alice = await Person.signUp("alice");
      const { id } = await alice.generate(await small);
      const prediction = await predictionThatIs("processing", alice.id);
      const ended = end === "cancel"
        ? await alice.call("POST", `/generations/${id}/cancel`)
        : await alice.call("DELETE", `/generations/${id}`);
      assert.ok(ended.ok);

      if (seen === "its event") await send(prediction);
      // After a delete, an event finds no row, so a sweep searches Replicate's list a minute later.
      if (seen !== "its event" || end === "delete") await passTime(61);
      await cleanUp();
      assert.deepEqual((await predictionsOf(alice.id)).map(({ status }) => status), ["canceled"]);
      const removals = await database`select from public.replicate_removals where prediction_id = ${prediction.id}`;
      assert.equal(removals.length, 1);
    });
  }
}
