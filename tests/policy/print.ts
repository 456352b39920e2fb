// Prints the verdict as a table for a terminal: a line for each clause, with the reasons below if it is not kept.

import type { Line, Verdict } from "./judge.ts";

const bold = (text: string) => `\x1b[1m${text}\x1b[0m`;
const green = (text: string) => `\x1b[32m${text}\x1b[0m`;
const red = (text: string) => `\x1b[31m${text}\x1b[0m`;
const plain = (text: string) => text;

function cut(text: string, width: number): string {
  return text.length <= width ? text : `${text.slice(0, width - 1).trimEnd()}…`;
}

export function table({ lines, faults }: Verdict, width: number, isColoured: boolean): string {
  const [good, bad, strong] = isColoured ? [green, red, bold] : [plain, plain, plain];
  const clause = ({ id, promise, tests, faults }: Line) => {
    const verdict = faults.length === 0 ? good("pass") : bad("FAIL");
    const count = tests === 1 ? "1 test" : `${tests} tests`;
    const about = cut(promise.replaceAll("`", ""), width - 24);
    const first = `  ${id.padEnd(4)}${verdict}  ${about.padEnd(width - 24)}  ${count.padStart(8)}`;
    return [first, ...faults.map((fault) => bad(`            ${fault}`))];
  };
  const sections = [...new Set(lines.map(({ section }) => section))];
  const body = sections.flatMap((section) => [
    "",
    strong(section),
    ...lines.filter((line) => line.section === section).flatMap(clause),
  ]);
  const kept = lines.filter((line) => line.faults.length === 0).length;
  const sum = `${kept} of ${lines.length} promises are kept: all their tests passed in this run`;
  const isAll = isKept({ lines, faults });
  const rest = faults.map((fault) => bad(`  ${fault}`));
  return [...body, "", ...rest, isAll ? good(sum) : bad(sum)].join("\n");
}

export function isKept({ lines, faults }: Verdict): boolean {
  return faults.length === 0 && lines.every((line) => line.faults.length === 0);
}
