// Faults between the functions and the database.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import { Person } from "../journeys/person.ts";
import { small } from "../journeys/photos.ts";
import { arm, cleanUp, database } from "../journeys/stack.ts";
import { crashDatabase } from "../lab/database.ts";
import { type CrashPoint, crashPoints } from "../lab/functions.ts";
import { passTime } from "../lab/time.ts";
import { until } from "../waiting.ts";
import { lab } from "./lab.ts";
import { predictionThatIs, predictionsOf } from "./replicate.ts";
import { quiet, sound } from "./sound.ts";

/** Every verb that a generation uses, from the upload of its photo to the artwork and the deletion of the photo. */
const verbs = [
  "begin_generation",
  "record_input",
  "attach_prediction",
  "record_prediction_event",
  "complete_generation",
  "record_deletions",
];

for (const verb of verbs) {
  test(`if ${verb} commits and its response is lost, a retry gets the same response and nothing is done twice`, async () => {
    lab.supabase.misbehave({ fault: "lose_answer", when: new RegExp(`rpc/${verb}$`) });
    const alice = await Person.signUp("alice");
    const { id, input_path } = await alice.generate(await small);
    assert.equal((await alice.ended(id)).state, "succeeded");
    await sound(alice, { succeeded: 1 });
    assert.equal((await predictionsOf(input_path)).length, 1);
    assert.ok(lab.supabase.struck > 0);
  });

  test(`if ${verb} arrives twice, it does its work once`, async () => {
    lab.supabase.misbehave({ fault: "duplicate", when: new RegExp(`rpc/${verb}$`), count: 3 });
    const alice = await Person.signUp("alice");
    const { id, input_path } = await alice.generate(await small);
    assert.equal((await alice.ended(id)).state, "succeeded");
    await sound(alice, { succeeded: 1 });
    assert.equal((await predictionsOf(input_path)).length, 1);
  });

  test(`if ${verb} gets no response for a while, the job is done later, once`, async () => {
    const alice = await Person.signUp("alice");
    const [input_path, key] = [await alice.upload(await small), randomUUID()];
    const submit = () => alice.submit({ style: "mosaic", input_path }, key);
    lab.supabase.misbehave({ fault: "lose_answer", when: new RegExp(`rpc/${verb}$`), count: 3 });
    await submit();
    assert.ok((await submit()).ok);
    await sound(alice, { succeeded: 1 });
    assert.equal((await predictionsOf(input_path)).length, 1);
  });
}

for (const [sqlstate, name] of [["40001", "serialization failure"], ["40P01", "deadlock"], ["57P01", "closed connection"]] as const) {
  test(`after a ${name} (${sqlstate}) in each statement that moves a generation, the statement is retried and done once`, async () => {
    await database.unsafe(`
      create sequence private.moves;
      create function private.fail_every_other_move() returns trigger language plpgsql set search_path = '' as $$
      begin
        -- A sequence does not roll back, so the second attempt passes.
        if nextval('private.moves') % 2 = 1 then raise exception 'no luck' using errcode = '${sqlstate}'; end if;
        return new;
      end $$;
      create trigger aa_fail_every_other_move before insert or update of state on public.generations
        for each row execute function private.fail_every_other_move();
      grant usage on sequence private.moves to public`);
    try {
      const alice = await Person.signUp("alice");
      const { id } = await alice.generate(await small);
      assert.equal((await alice.ended(id)).state, "succeeded");
      await sound(alice, { succeeded: 1 });
      const [{ moves }] = await database`select last_value::int as moves from private.moves`;
      assert.ok(moves >= 6, `${moves} moves`);
    } finally {
      await database.unsafe(`
        drop trigger aa_fail_every_other_move on public.generations;
        drop function private.fail_every_other_move; drop sequence private.moves`);
    }
  });
}

const submit = async (person: Person) => person.submit({ style: "mosaic", input_path: await person.upload(await small) });

/** For each kind of crash point, a flow that leads to it. The caller then loses the connection. */
const flows: Record<string, (person: Person) => Promise<unknown>> = {
  submit,
  dispatch: submit,
  event: async (person) => person.generate(await small),
  artwork: async (person) => person.generate(await small),
  deletion: async (person) => person.generate(await small),
  end: async (person) => {
    await arm({ fault: "stuck_processing" });
    const { id } = await person.generate(await small);
    return person.call("POST", `/generations/${id}/cancel`);
  },
  cleanup: async (person) => {
    await arm({ fault: "webhook_drop" });
    const { input_path } = await person.generate(await small);
    await predictionThatIs("succeeded", input_path);
    await passTime(61);
    return cleanUp();
  },
};

for (const point of crashPoints) {
  test(`a worker killed at ${point} loses no credits, makes at most one artwork and leaves no photo (X6)`, async () => {
    const alice = await Person.signUp("alice");
    await lab.functions.crashAt(point as CrashPoint);
    const crashes = lab.functions.restarts;
    await flows[point.split(".")[0]!]!(alice).catch(() => "the connection is lost");
    await lab.functions.crashed();
    await sound(alice, point.startsWith("end") ? { canceled: 1 } : { succeeded: 1 });
    assert.equal(lab.functions.restarts, crashes + 1);
  });
}

test("if the database is killed at any moment, accepted submissions stay valid and the rest is done later", async () => {
  const alice = await Person.signUp("alice");
  for (const wait of [0, 60, 150, 300]) {
    const [input_path, key] = [await alice.upload(await small), randomUUID()];
    const submit = () => alice.submit({ style: "mosaic", input_path }, key).catch(() => undefined);
    const submitting = submit();
    await new Promise((later) => setTimeout(later, wait));
    await crashDatabase();
    const first = await submitting;
    // A client that got an error or no response submits again.
    if (!first?.ok) await until("the submission to be taken", async () => (await submit())?.ok || undefined);
    await quiet(alice);
    assert.equal((await predictionsOf(input_path)).length, 1);
  }
  // Replicate fetches the photo at a time of its choice. If Storage is down then, the model reports an error.
  const unread = (await predictionsOf(`/${alice.id}/`)).filter(({ status }) => status === "failed");
  for (const { error } of unread) assert.match(error as string, /download/);
  await sound(alice, { succeeded: 4 - unread.length, ...(unread.length > 0 && { model_error: unread.length }) });
});
