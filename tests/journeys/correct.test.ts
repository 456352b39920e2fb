// Users correct what is stored about them (G4, C6, C8).

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, test } from "node:test";
import { Person } from "./person.ts";
import { small } from "./photos.ts";
import { database } from "./stack.ts";

after(() => database.end());

const change = (person: Person, values: Record<string, unknown>) =>
  person.client.from("profiles").update(values).eq("id", person.id).select("username, default_style, default_settings").single();

test("users change their own profile, and the database normalises the username", async () => {
  const alice = await Person.signUp("alice");
  const username = `Alice_${randomUUID().slice(0, 8)}`;
  const { data, error } = await change(alice, { username: ` ${username} `, default_style: "mosaic", default_settings: { seed: 7 } });
  assert.equal(error, null);
  assert.deepEqual(data, { username: username.toLowerCase(), default_style: "mosaic", default_settings: { seed: 7 } });
});

const refused: [what: string, values: Record<string, unknown>, code: string, words: RegExp][] = [
  ["a username that is too short", { username: "al" }, "invalid_username", /3 to 30 characters/],
  ["a username with other letters", { username: "al ice!" }, "invalid_username", /a to z/],
  ["an unknown style", { default_style: "sculpture" }, "unknown_style", /not an available style/],
  ["a setting that no model has", { default_settings: { colour: "red" } }, "invalid_settings", /The model knows aspect_ratio/],
  ["a setting out of range", { default_settings: { seed: -1 } }, "invalid_settings", /from 0 to/],
  ["settings that are not an object", { default_settings: [1] }, "invalid_settings", /must be an object/],
];

for (const [what, values, code, words] of refused) {
  test(`a profile with ${what} is refused with a message`, async () => {
    const { error } = await change(await Person.signUp("alice"), values);
    assert.equal(error!.hint, code);
    assert.match(error!.message, words);
  });
}

test("two users cannot have the same username", async () => {
  const [alice, bob] = [await Person.signUp("alice"), await Person.signUp("bob")];
  const username = `taken_${randomUUID().slice(0, 8)}`;
  assert.equal((await change(alice, { username })).error, null);
  const { error } = await change(bob, { username: username.toUpperCase() });
  assert.equal(error!.hint, "username_taken");
  await assert.rejects(behindTheTrigger(bob.id, username), /profiles_username_unique/);
});

test("users change their email through Auth, which refuses the email of another user", async () => {
  const [alice, bob] = [await Person.signUp("alice"), await Person.signUp("bob")];
  const taken = (await bob.client.auth.getUser()).data.user!.email!;
  assert.ok((await alice.client.auth.updateUser({ email: taken })).error);
  assert.ok((await alice.client.auth.updateUser({ email: "nobody" })).error);
  assert.equal((await alice.client.auth.updateUser({ email: `new.${randomUUID()}@example.com` })).error, null);
});

test("users mark their favourites, and can change nothing else of a generation", async () => {
  const alice = await Person.signUp("alice");
  const { id } = await alice.ended((await alice.generate(await small)).id);
  const mark = await alice.client.from("generations").update({ favourite: true }).eq("id", id).select("favourite").single();
  assert.deepEqual(mark.data, { favourite: true });
  for (const [column, value] of Object.entries({ state: "failed", prompt: "x", credits: 2, artwork_path: "x" })) {
    const { error } = await alice.client.from("generations").update({ [column]: value }).eq("id", id);
    assert.equal(error!.code, "42501", column);
  }
});

/** Two users choose the same name at the same moment: only the constraint can decide. */
function behindTheTrigger(id: string, username: string): Promise<unknown> {
  return database.begin(async (sql) => {
    await sql`alter table public.profiles disable trigger profiles_check`;
    await sql`update public.profiles set username = ${username} where id = ${id}`;
  });
}
