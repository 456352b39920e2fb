// The lab of a file of tests: healed after each, and gone after the last.

import { after, afterEach } from "node:test";
import { database, disarm } from "../journeys/stack.ts";
import { startLab } from "../lab/lab.ts";

export const lab = await startLab();

afterEach(async () => {
  // What a failed test left frozen would hold up all that follow.
  lab.functions.thaw();
  lab.heal();
  await disarm();
});

after(async () => {
  await lab.stop();
  await database.end();
});
