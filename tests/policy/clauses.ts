// The clauses of the privacy policy: what POLICY.md has to account for, no more and no less.

function numbered(letter: string, last: number): string[] {
  return Array.from({ length: last }, (_, index) => `${letter}${index + 1}`);
}

/** By section, in the order in which they are shown. */
export const sections: ReadonlyMap<string, string[]> = new Map([
  ["Collect", numbered("C", 10)],
  ["Use", numbered("U", 6)],
  ["Keep and delete", numbered("R", 10)],
  ["Third parties", [...numbered("T", 4), ...numbered("S", 4)]],
  ["Rights", [...numbered("G", 7), ...numbered("Q", 2)]],
  ["Beyond the text", numbered("X", 6)],
]);
