// A job that fails: its person reads its own cause, and the operator counts it by that cause.

import assert from "node:assert/strict";
import { test } from "node:test";
import { ended, status } from "../journeys/operator.ts";
import { Person } from "../journeys/person.ts";
import { impostors } from "../journeys/photos.ts";
import { lab } from "./lab.ts";
import { sound } from "./sound.ts";

const download = /^GET \/storage\/v1\/object\/inputs/;

/** What the sentence of each cause says. */
const says: Record<string, RegExp> = {
  not_an_image: /not a picture/,
  unsupported_format: /format that we cannot use/,
  corrupt: /could not be read/,
  truncated: /incomplete/,
  dimensions_too_large: /too many pixels/,
  dimensions_too_small: /too few pixels/,
};

for (const [name, bytes, cause] of await impostors()) {
  test(`${name} that is judged later ends its job as ${cause}: its person reads so, and the operator counts it so`, async () => {
    lab.supabase.misbehave({ fault: "status", status: 500, when: download, count: 3 });
    const before = await status();
    const alice = await Person.signUp("alice");
    const { id, state } = await alice.generate(bytes);
    assert.equal(state, "reserved");
    await sound(alice, { [cause]: 1 });
    const { data } = await alice.client.from("generations").select("failure_reasons(sentence)").eq("id", id).single();
    assert.match((data!.failure_reasons as unknown as { sentence: string }).sentence, says[cause]!);
    assert.equal(ended(cause, await status()), ended(cause, before) + 1);
  });
}
