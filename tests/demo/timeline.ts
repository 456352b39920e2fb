// What the demo says while it goes, and the checks that it makes: each is shown, and each must hold.

const began = Date.now();
const colour = process.stdout.isTTY && !process.env.NO_COLOR;
const paint = (code: number, text: string) => (colour ? `\x1b[${code}m${text}\x1b[0m` : text);

export function heading(text: string): void {
  console.log(`\n${paint(1, text)}`);
}

export function say(text: string): void {
  const seconds = ((Date.now() - began) / 1000).toFixed(2).padStart(6);
  console.log(`${paint(2, `${seconds}s`)}  ${text}`);
}

/** Shows a check; the demo ends in failure with the first that does not hold. */
export function check(holds: boolean, text: string): void {
  say(`${holds ? paint(32, "✓") : paint(31, "✗")} ${text}`);
  if (!holds) throw new Error(`this should have held: ${text}`);
}

export function table(rows: string[][]): void {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  for (const row of rows) console.log(`         ${row.map((cell, i) => cell.padEnd(widths[i])).join("  ").trimEnd()}`);
}

/** One line that grows with each state it is told, once. */
export function progress(): (state: string) => void {
  let last = "";
  return (state) => {
    if (state === last) return;
    last = state;
    say(`… ${state}`);
  };
}
