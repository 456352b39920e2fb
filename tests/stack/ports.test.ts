// Stacks that start simultaneously do not use the same ports.

import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:net";
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

test("a port is released even if a client of an earlier stack has connected to it", { timeout: 5000 }, async (t) => {
  const reserved = await reservePort(await freePort());
  const client = connect(reserved.port, "127.0.0.1");
  t.after(() => client.destroy());
  await once(client, "connect");
  await reserved.release();
});
