// The clauses of the privacy policy. POLICY.md must have exactly one row for each.

function numbered(letter: string, last: number): string[] {
  return Array.from({ length: last }, (_, index) => `${letter}${index + 1}`);
}

/** All clauses by section, in the order of the table. */
export const sections: ReadonlyMap<string, string[]> = new Map([
  ["Collect", numbered("C", 10)],
  ["Use", numbered("U", 6)],
  ["Keep and delete", numbered("R", 10)],
  ["Third parties", [...numbered("T", 4), ...numbered("S", 4)]],
  ["Rights", [...numbered("G", 7), ...numbered("Q", 2)]],
  ["Beyond the text", numbered("X", 7)],
]);

/** The requested clauses, as in "R2 G3", or all if the request is empty.
 *  @throws if one is not a clause. */
export function chosen(asked: string): ReadonlyMap<string, string[]> {
  const ids = asked.split(/[\s,]+/).filter(Boolean);
  const unknown = ids.filter((id) => ![...sections.values()].flat().includes(id));
  if (unknown.length > 0) throw new Error(`CLAUSES names ${unknown.join(", ")}, which POLICY.md does not have`);
  if (ids.length === 0) return sections;
  const found = [...sections].map(([section, all]) => [section, all.filter((id) => ids.includes(id))] as const);
  return new Map(found.filter(([, some]) => some.length > 0));
}
