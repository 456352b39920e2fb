// Stacks that start at the same time do not take each other's ports.

import assert from "node:assert/strict";
import { test } from "node:test";
import { reservePort } from "../../supabase/local/ports.ts";
import { freePort } from "../waiting.ts";

test("a port that is released for a service is not given to another stack before the service listens", async () => {
  const usual = await freePort();
  const first = await reservePort(usual);
  assert.equal(first.port, usual);
  await first.release();
  const second = await reservePort(usual);
  assert.notEqual(second.port, usual);
  await second.release();
});
