// A schema that could not be read: `@supabase/lite` takes it for an empty one, and answers 404 for every table.

export type Introspect = (options?: { useCache?: boolean }) => Promise<{ tables: unknown[] }>;

/** Auth has tables on every project, so a schema without any was not read: there is no connection. */
export function refusingNothing(introspect: Introspect): Introspect {
  return async (options) => {
    const schema = await introspect(options);
    if (options?.useCache && schema.tables.length === 0)
      throw Object.assign(new Error("The schema could not be read."), { code: "08006" });
    return schema;
  };
}
