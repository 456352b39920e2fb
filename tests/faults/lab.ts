// The lab for one test file. It is healed after each test and stopped after the last.

import { after, afterEach } from "node:test";
import { database, disarm } from "../journeys/stack.ts";
import { startLab } from "../lab/lab.ts";

export const lab = await startLab();

afterEach(async () => {
  // A function that a failed test left frozen would block all later tests.
  lab.functions.thaw();
  lab.heal();
  await disarm();
});

after(async () => {
  await lab.stop();
  await database.end();
});
