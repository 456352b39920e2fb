// Compares the settings that the catalogue offers with the schemas that Replicate publishes for the models.

export interface CatalogueModel {
  id: string;
  replicate_model: string;
  settings_schema: Record<string, Rule>;
  default_settings: Record<string, unknown>;
}

interface Rule {
  type?: string;
  enum?: unknown[];
  minimum?: number;
  maximum?: number;
}

interface Schema {
  properties: Record<string, Rule & { allOf?: { $ref: string }[]; $ref?: string }>;
}

/** The schema of a model's input, with its references resolved. */
async function publishedSchema(model: string): Promise<Schema["properties"]> {
  const answer = await fetch(`${process.env.REPLICATE_BASE_URL}/models/${model}`, {
    headers: { authorization: `Bearer ${process.env.REPLICATE_API_TOKEN}` },
  });
  if (!answer.ok) throw new Error(`Replicate answers ${answer.status} for ${model}`);
  const { latest_version } = (await answer.json()) as {
    latest_version: { openapi_schema: { components: { schemas: Record<string, Rule> & { Input: Schema } } } };
  };
  const { schemas } = latest_version.openapi_schema.components;
  const resolved = Object.entries(schemas.Input.properties).map(([name, property]) => {
    const reference = property.$ref ?? property.allOf?.[0]?.$ref;
    const part = reference ? schemas[reference.split("/").at(-1)!] : undefined;
    return [name, { ...part, ...property }] as const;
  });
  return Object.fromEntries(resolved);
}

/** Describes each setting that the catalogue offers and the model does not accept, in one sentence. */
export async function differencesOf(model: CatalogueModel): Promise<string[]> {
  const published = await publishedSchema(model.replicate_model);
  const differences: string[] = [];
  const say = (name: string, what: string) => void differences.push(`${model.id}: ${name} ${what}`);
  for (const [name, rule] of Object.entries(model.settings_schema)) {
    const taken = published[name];
    if (!taken) {
      say(name, "is no input of the model");
      continue;
    }
    const extra = (rule.enum ?? []).filter((choice) => taken.enum && !taken.enum.includes(choice));
    for (const choice of extra) say(name, `offers ${choice}, which the model does not take`);
    if (rule.minimum !== undefined && taken.minimum !== undefined && rule.minimum < taken.minimum) say(name, `begins below ${taken.minimum}`);
    if (rule.maximum !== undefined && taken.maximum !== undefined && rule.maximum > taken.maximum) say(name, `ends above ${taken.maximum}`);
    if (rule.type && taken.type && rule.type !== taken.type) say(name, `is a ${taken.type} to the model`);
  }
  for (const [name, value] of Object.entries(model.default_settings)) {
    const taken = published[name];
    if (!taken) say(name, "has a default and is no input of the model");
    else if (taken.enum && !taken.enum.includes(value)) say(name, `has the default ${value}, which the model does not take`);
  }
  return differences;
}
