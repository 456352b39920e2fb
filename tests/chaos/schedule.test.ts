// Only the seed decides a schedule.

import assert from "node:assert/strict";
import { test } from "node:test";
import { cheats } from "./cheats.ts";
import { isTrue, outages, readAnswers } from "./outages.ts";
import { type Job, digest, draw } from "./schedule.ts";

test("the same seed gives the same schedule, and another seed gives another one", () => {
  assert.equal(digest(draw(7, 500)), digest(draw(7, 500)));
  const digests = Array.from({ length: 50 }, (_, seed) => digest(draw(seed, 100)));
  assert.equal(new Set(digests).size, 50);
});

test("a schedule has the requested number of jobs, about a third undisturbed, and every kind of step", () => {
  const { steps } = draw(1, 2000);
  const jobs = steps.filter((step): step is Job => step.step === "job");
  assert.equal(jobs.length, 2000);
  const calm = jobs.filter(({ sandbox, proxy, crashAt, ending, submits, cheat }) =>
    !sandbox && !proxy && !crashAt && !ending && !cheat && submits === "once");
  assert.ok(calm.length > 2000 / 3 && calm.length < 1000, `${calm.length} undisturbed`);
  const kinds = new Set(steps.map(({ step }) => step));
  assert.deepEqual([...kinds].sort(), ["ask", "begin", "crash database", "end", "freeze", "job", "kill", "outage", "pass time", "sweep"]);
  const tried = new Set(jobs.flatMap(({ cheat }) => cheat ?? []));
  assert.deepEqual([...tried].sort(), [...cheats].sort());
});

test("each outage occurs once, in the middle of the run, lasts five minutes, and is followed by a sweep", () => {
  for (let seed = 1; seed <= 50; seed += 1) {
    const { steps } = draw(seed, 50);
    const numberOfJobs = (until: number) => steps.slice(0, until).filter(({ step }) => step === "job").length;
    let last = 0;
    for (const [begin, end] of stretches(steps)) {
      assert.ok(begin > last && numberOfJobs(begin) >= 15 && numberOfJobs(end) <= 43, `seed ${seed}: ${begin} to ${end}`);
      last = end;
      const inside = steps.slice(begin, end);
      assert.ok(numberOfJobs(end) - numberOfJobs(begin) >= 6);
      assert.ok(inside.some((step) => step.step === "pass time" && step.seconds === 300));
      assert.ok(inside.some(({ step }) => step === "ask"));
      assert.equal(steps[end + 1]!.step, "sweep");
    }
  }
  assert.deepEqual(stretches(draw(1, 49).steps), []);
});

/** Where each outage begins and ends. */
function stretches(steps: ReturnType<typeof draw>["steps"]): [begin: number, end: number][] {
  const found = outages.map((outage): [number, number] => {
    const at = (edge: "begin" | "end") => steps.findIndex((step) => step.step === edge && step.outage === outage);
    return [at("begin"), at("end")];
  });
  return found.filter(([begin]) => begin >= 0).sort(([a], [b]) => a - b);
}

test("during an outage, a response is 503 or needs nothing that is down", () => {
  const line = (answer: string) => `2026-01-01T00:00:01.000000Z  INFO ${answer}`;
  const [answer] = readAnswers([
    line("listening port=1"),
    line("failed request_id=a method=POST route=/cleanup status=503 elapsed_ms=250 error=the database is unavailable: x"),
  ]);
  assert.deepEqual(answer, {
    began: Date.parse("2026-01-01T00:00:00.750Z"),
    method: "POST", route: "/cleanup", status: 503, error: "the database is unavailable: x",
  });
  const judge = (method: string, route: string, status: number, error = "") =>
    outages.filter((outage) => isTrue(outage, { began: 0, method, route, status, error }));
  assert.deepEqual(judge("POST", "/cleanup", 503, "the database is unavailable: x"), outages);
  assert.deepEqual(judge("GET", "/health", 200), outages);
  assert.deepEqual(judge("POST", "/replicate-webhook", 401, "webhook refused: the signature does not fit"), outages);
  assert.deepEqual(judge("DELETE", "/generations/{id}", 404, "refused: generation_not_found"), outages);
  assert.deepEqual(judge("GET", "/status", 200), ["read-only"]);
  assert.deepEqual(judge("POST", "/generations", 201), ["rotated key"]);
  assert.deepEqual(judge("POST", "/generations", 500, "fault: x"), []);
  assert.deepEqual(judge("POST", "/generations", 401, "not signed in"), []);
  assert.deepEqual(judge("POST", "/cleanup", 200), []);
  assert.deepEqual(judge("POST", "/replicate-webhook", 200), []);
});
