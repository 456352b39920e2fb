// Searches files and the columns of the database.

import { readFileSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { database } from "../stack.ts";

export function filesBelow(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .map((name) => join(folder, name))
    .filter((path) => statSync(path).isFile());
}

/** The secret itself and the forms in which programs print bytes: base64 at each alignment, hex, numbers, escapes. */
function formsOf(secret: Buffer): Buffer[] {
  const base64 = [0, 1, 2].map((skipped) => {
    const whole = Math.floor((secret.length - skipped) / 3) * 3;
    return secret.subarray(skipped, skipped + whole).toString("base64");
  });
  const escaped = secret.toString("latin1").replaceAll(/[^ -~]/g, (byte) => `\\x${byte.charCodeAt(0).toString(16).padStart(2, "0")}`);
  const texts = [secret.toString("hex"), secret.toString("hex").toUpperCase(), [...secret].join(", "), [...secret].join(","), escaped];
  return [secret, ...[...base64, ...base64.map((text) => text.replaceAll("+", "-").replaceAll("/", "_")), ...texts].map((text) => Buffer.from(text))];
}

/** Finds the secrets in each content, in any form. Returns entries such as "secret in content". */
export function find(secrets: Map<string, Buffer>, contents: Iterable<[name: string, content: Buffer]>): string[] {
  const sought = [...secrets].map(([name, secret]) => [name, formsOf(secret)] as const);
  return [...contents].flatMap(([where, content]) => {
    const found = sought.filter(([, forms]) => forms.some((form) => content.includes(form)));
    return found.map(([name]) => `${name} in ${where}`);
  });
}

/** The path and content of each file. The content begins with the path, so that a search covers both. */
export function contentsBelow(folder: string): [name: string, content: Buffer][] {
  return filesBelow(folder).map((path) => [path, Buffer.concat([Buffer.from(`${path}\n`), readFileSync(path)])]);
}

/** The columns that contain a text, as "schema.table.column". */
export async function columnsWith(text: string): Promise<string[]> {
  const columns = await database<{ schema: string; relation: string; name: string }[]>`
    select n.nspname as schema, c.relname as relation, a.attname as name
    from pg_attribute a
    join pg_class c on c.oid = a.attrelid and c.relkind in ('r', 'p')
    join pg_namespace n on n.oid = c.relnamespace
    where a.attnum > 0 and not a.attisdropped and n.nspname !~ '^(pg_.*|information_schema)$'
    order by 1, 2, 3`;
  const hex = Buffer.from(text).toString("hex");
  const found: string[] = [];
  for (const { schema, relation, name } of columns) {
    const [{ holds }] = await database`
      select exists (select from ${database(schema)}.${database(relation)}
        where position(${text} in ${database(name)}::text) > 0 or position(${hex} in ${database(name)}::text) > 0) as holds`;
    if (holds) found.push(`${schema}.${relation}.${name}`);
  }
  return found;
}
