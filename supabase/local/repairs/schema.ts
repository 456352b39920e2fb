// Detects a schema that could not be read. `@supabase/lite` would treat it as empty
// and answer 404 for every table.

export type Introspect = (options?: { useCache?: boolean }) => Promise<{ tables: unknown[] }>;

/**
 * Refuses a schema without tables. Every project has Auth's tables, so such a schema was
 * not read: there is no connection.
 */
export function refusingNothing(introspect: Introspect): Introspect {
  return async (options) => {
    const schema = await introspect(options);
    if (options?.useCache && schema.tables.length === 0)
      throw Object.assign(new Error("The schema could not be read."), { code: "08006" });
    return schema;
  };
}
