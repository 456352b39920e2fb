// The catalogue must offer exactly what the models accept. If REPLICATE_BASE_URL and REPLICATE_API_TOKEN name a real
// account, this test asks Replicate itself.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { type CatalogueModel, differencesOf } from "../check/models.ts";
import { Person } from "../journeys/person.ts";
import { small } from "../journeys/photos.ts";
import { database } from "../journeys/stack.ts";

after(() => database.end());

const models = [...(await database`select id, replicate_model, settings_schema, default_settings from public.models`)] as unknown as CatalogueModel[];

for (const model of models) {
  test(`the settings of ${model.id} match its published schema`, async () => {
    assert.deepEqual(await differencesOf(model), []);
  });
}

test("the check finds settings that the model does not accept: a wrong name, choice or range", async () => {
  const model = models.find(({ id }) => id === "kontext-dev")!;
  const settings_schema = {
    ...model.settings_schema,
    aspect_ratio: { enum: ["1:1", "2:1"] },
    guidance: { type: "number", minimum: 0, maximum: 11 },
    mood: { type: "boolean" },
  };
  const default_settings = { output_format: "gif" };
  const found = await differencesOf({ ...model, settings_schema, default_settings });
  assert.deepEqual(found.sort(), [
    "kontext-dev: aspect_ratio offers 2:1, which the model does not take",
    "kontext-dev: guidance ends above 10",
    "kontext-dev: mood is no input of the model",
    "kontext-dev: output_format has the default gif, which the model does not take",
  ]);
});

for (const aspect_ratio of ["2:1", "1:2"]) {
  test(`kontext-dev refuses ${aspect_ratio} before credits are held, and kontext-pro accepts it`, async () => {
    const alice = await Person.signUp("alice");
    const input_path = await alice.upload(await small);
    const ask = (model: string) => alice.submit({ style: "mosaic", model, input_path, settings: { aspect_ratio } });
    const answer = await ask("kontext-dev");
    const problem = (await answer.json()) as { code: string; detail: string };
    assert.deepEqual([answer.status, problem.code], [422, "invalid_settings"]);
    assert.match(problem.detail, /^settings\.aspect_ratio must be one of match_input_image, 1:1, .*9:21\.$/);
    assert.deepEqual(await alice.wallet(), { balance: 5, held: 0 });
    assert.equal((await ask("kontext-pro")).status, 201);
  });
}
