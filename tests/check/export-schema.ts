// docs/export.schema.json: the format of the JSON files in an export, as the database declares it. This script writes
// it, or compares it with --check.

import { readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import postgres from "postgres";

interface Column {
  export_as: string;
  name: string;
  type: string;
  nullable: boolean;
}

const path = join(resolve(import.meta.dirname, "..", ".."), "docs", "export.schema.json");
const sql = postgres(process.env.DATABASE_ADMIN_URL!, { max: 1, onnotice: () => {} });
const columns = await sql<Column[]>`select * from private.export_columns()`;
const enums = await sql<{ type: string }[]>`select oid::regtype::text as type from pg_type where typtype = 'e'`;
await sql.end();

/** How PostgreSQL writes a value of this type in JSON. */
function shape(type: string): object {
  if (type.endsWith("[]")) return { type: "array", items: shape(type.slice(0, -2)) };
  if (type === "uuid") return { type: "string", pattern: "^[0-9a-f-]{36}$" };
  if (type.startsWith("timestamp")) return { type: "string", pattern: "^\\d{4}-\\d{2}-\\d{2}T" };
  if (["smallint", "integer", "bigint"].includes(type)) return { type: "integer" };
  if (type.startsWith("numeric") || type === "double precision") return { type: "number" };
  if (type === "boolean") return { type: "boolean" };
  if (type.startsWith("json")) return {};
  if (enums.some((known) => known.type === type)) return { type: "string" };
  if (type === "text" || type === "inet" || type.startsWith("character varying")) return { type: "string" };
  throw new Error(`how does JSON show the type ${type}? Add it to tests/check/export-schema.ts.`);
}

function rowOf(table: Column[]): object {
  const properties = table.map(({ name, type, nullable }) => {
    const own = shape(type);
    return [name, nullable && Object.keys(own).length > 0 ? { anyOf: [own, { type: "null" }] } : own];
  });
  return {
    type: "object",
    required: table.map(({ name }) => name),
    // A new column keeps the version.
    properties: Object.fromEntries(properties),
  };
}

const tables = new Map<string, Column[]>();
for (const column of columns) tables.set(column.export_as, [...(tables.get(column.export_as) ?? []), column]);

const schema = {
  $schema: "https://json-schema.org/draft/2020-12/schema",
  title: "A data file of an OpusFlair export",
  description: "Version opusflair-export-1. A table or column that is added keeps the version; one that changes or goes makes the next.",
  oneOf: [...tables].map(([name, table]) => ({
    type: "object",
    required: ["format", "table", "rows"],
    additionalProperties: false,
    properties: {
      format: { const: "opusflair-export-1" },
      table: { const: name },
      rows: { type: "array", items: rowOf(table) },
    },
  })),
};

const text = `${JSON.stringify(schema, null, 2)}\n`;
if (!process.argv.includes("--check")) {
  writeFileSync(path, text);
} else if (readFileSync(path, "utf8") !== text) {
  console.error("  docs/export.schema.json is not what the database says: run `make export-schema`");
  process.exitCode = 1;
}
