// The output of the demo. It shows every check, and every check must hold.

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

/** Shows a check. Throws if it does not hold, which ends the demo with an error. */
export function check(holds: boolean, text: string): void {
  say(`${holds ? paint(32, "✓") : paint(31, "✗")} ${text}`);
  if (!holds) throw new Error(`this check failed: ${text}`);
}

export function table(rows: string[][]): void {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  for (const row of rows) console.log(`         ${row.map((cell, i) => cell.padEnd(widths[i])).join("  ").trimEnd()}`);
}

/** Shows each state once, when it is reported for the first time. */
export function progress(): (state: string) => void {
  let last = "";
  return (state) => {
    if (state === last) return;
    last = state;
    say(`… ${state}`);
  };
}
