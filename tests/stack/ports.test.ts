// Stacks that start simultaneously do not use the same ports.

import assert from "node:assert/strict";
import { test } from "node:test";
import { reservePort } from "../../supabase/local/ports.ts";
import { freePort } from "../waiting.ts";

test("another stack does not get a port that is released for a service but not used yet", async () => {
  const usual = await freePort();
  const first = await reservePort(usual);
  assert.equal(first.port, usual);
  await first.release();
  const second = await reservePort(usual);
  assert.notEqual(second.port, usual);
  await second.release();
});
