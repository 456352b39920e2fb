// A schedule is decided by its seed alone.

import assert from "node:assert/strict";
import { test } from "node:test";
import { cheats } from "./cheats.ts";
import { type Job, digest, draw } from "./schedule.ts";

test("the same seed gives the same schedule, and another seed another", () => {
  assert.equal(digest(draw(7, 500)), digest(draw(7, 500)));
  const digests = Array.from({ length: 50 }, (_, seed) => digest(draw(seed, 100)));
  assert.equal(new Set(digests).size, 50);
});

test("as many jobs as were asked for, about a third of them undisturbed, and every kind of step", () => {
  const { steps } = draw(1, 2000);
  const jobs = steps.filter((step): step is Job => step.step === "job");
  assert.equal(jobs.length, 2000);
  const calm = jobs.filter(({ sandbox, proxy, crashAt, ending, submits, cheat }) =>
    !sandbox && !proxy && !crashAt && !ending && !cheat && submits === "once");
  assert.ok(calm.length > 2000 / 3 && calm.length < 1000, `${calm.length} undisturbed`);
  const kinds = new Set(steps.map(({ step }) => step));
  assert.deepEqual([...kinds].sort(), ["crash database", "freeze", "job", "kill", "outage", "pass", "sweep"]);
  const tried = new Set(jobs.flatMap(({ cheat }) => cheat ?? []));
  assert.deepEqual([...tried].sort(), [...cheats].sort());
});
