// Carries out a schedule, and then waits until all is quiet.

import { Person } from "../journeys/person.ts";
import { arm, database, disarm } from "../journeys/stack.ts";
import { crashDatabase } from "../lab/database.ts";
import type { Functions } from "../lab/functions.ts";
import { predictionsOf } from "../faults/replicate.ts";
import type { Lab } from "../lab/lab.ts";
import { passTime } from "../lab/time.ts";
import { type Told, carryOut } from "./client.ts";
import { type Outage, askAll, begin } from "./outages.ts";
import { late } from "./invariants.ts";
import type { Disturbance, Job, Schedule } from "./schedule.ts";

const jobsInFlight = 8;
/** In minutes. Covers the deadline of a generation, the leases after it, and the pauses of failed deletions. */
const patience = 25;

export class Run {
  readonly told: Told = { keys: 0, accepted: new Set(), deleted: new Set(), fetched: new Set(), overrun: [], untrue: [] };
  /** The photo that Replicate was given for each prediction. Replicate forgets it after an hour. */
  readonly given = new Map<string, string>();
  /** Generations that were open past their deadline after a complete sweep. */
  readonly late = new Set<string>();
  sweeps = 0;
  /** How many responses were checked during outages. */
  judged = 0;
  private people: Person[] = [];
  private flying = new Set<Promise<void>>();
  private failures: unknown[] = [];
  private outage?: { kind: Outage; end: Awaited<ReturnType<typeof begin>> };

  /** `another` is a second worker of the same functions. No proxy disturbs it. */
  constructor(
    private readonly lab: Lab,
    private readonly another: Functions,
  ) {}

  async carryOut({ grants, steps }: Schedule, progress: (done: number) => void): Promise<void> {
    for (const grant of grants) this.people.push(await signUp(grant));
    for (const [done, step] of steps.entries()) {
      progress(done);
      if (step.step === "job") await this.begin(step);
      else await this.disturb(step);
    }
    await Promise.all(this.flying);
    if (this.failures.length > 0) throw this.failures[0];
  }

  /** Heals everything and sweeps, a minute at a time, until nothing is running. Then the same a day later. */
  async untilQuiet(): Promise<void> {
    this.lab.heal();
    await disarm();
    // A restart clears a crash point that was not reached.
    await this.lab.functions.kill();
    await this.untilNone(underWay);
    await this.passTime(25 * 60 * 60);
    await this.sweep(this.lab.functions.url);
    await this.untilNone(underWay);
  }

  private async untilNone(count: () => Promise<number>): Promise<void> {
    for (let minutes = 0; (await count()) > 0; minutes += 1) {
      if (minutes === patience) return;
      await this.passTime(61);
      await this.sweep(this.lab.functions.url);
    }
  }

  private async begin(job: Job): Promise<void> {
    while (this.flying.size >= jobsInFlight) await Promise.race(this.flying);
    if (job.crashAt) await this.lab.functions.crashAt(job.crashAt);
    if (job.sandbox) await arm(job.sandbox);
    if (job.proxy) {
      const { way, when, ...fault } = job.proxy;
      this.lab[way].misbehave({ ...fault, when: new RegExp(when) });
    }
    const flight = carryOut(job, this.people[job.person]!, this.told)
      .catch((error) => void this.failures.push(error))
      .finally(() => this.flying.delete(flight));
    this.flying.add(flight);
  }

  private async disturb(step: Disturbance): Promise<void> {
    const { functions, replicate } = this.lab;
    switch (step.step) {
      case "kill":
        return functions.kill();
      case "freeze":
        functions.freeze();
        await this.passTime(step.seconds);
        await this.sweep(this.another.url);
        return functions.thaw();
      case "crash database":
        return crashDatabase();
      case "sweep": {
        const workers = [functions.url, this.another.url, functions.url].slice(0, step.times);
        return void (await Promise.all(workers.map((url) => this.sweep(url))));
      }
      case "pass time":
        return this.passTime(step.seconds);
      case "outage":
        return replicate.misbehave({ fault: "refuse", count: step.calls });
      case "begin":
        this.outage = { kind: step.outage, end: await begin(step.outage, [functions, this.another]) };
        return;
      case "ask":
        return askAll(this.outage!.kind, this.people);
      case "end":
        return this.endOutage();
    }
  }

  private async endOutage(): Promise<void> {
    const { kind, end } = this.outage!;
    const { judged, untrue } = await end();
    this.outage = undefined;
    this.judged += judged;
    this.told.untrue.push(...untrue);
    if (judged === 0) this.told.untrue.push(`${kind}: the functions gave no response`);
  }

  private async passTime(seconds: number): Promise<void> {
    for (const { id, input } of await predictionsOf("/object/sign/")) this.given.set(id, input.input_image);
    await passTime(seconds, this.outage ? "silent" : "at work");
  }

  /** A complete sweep must end every generation that was past its deadline when the sweep began. */
  private async sweep(url: string): Promise<void> {
    const [{ began }] = await database`select now()::text as began`;
    const headers = { authorization: `Bearer ${process.env.OPERATOR_SECRET}` };
    const answer = await fetch(`${url}/cleanup`, { method: "POST", headers }).catch(() => undefined);
    const report = (await answer?.json().catch(() => undefined)) as { complete?: boolean } | undefined;
    if (!report?.complete) return;
    this.sweeps += 1;
    for (const id of await late(began)) this.late.add(id);
  }
}

async function signUp(grant: number): Promise<Person> {
  const person = await Person.signUp("somebody");
  if (grant > 0) {
    await database`
      insert into public.credit_entries (wallet_id, kind, amount, reason)
      select id, 'grant', ${grant}, 'chaos' from public.wallets where person_id = ${person.id}`;
  }
  return person;
}

/** How many generations are open, deletions are not verified, and photos are older than 24 hours. */
async function underWay(): Promise<number> {
  const [{ count }] = await database`
    select (
      (select count(*) from public.generations where state not in ('succeeded', 'failed', 'canceled'))
      + (select count(*) from public.deletions where verified_at is null)
      + (select count(*) from storage.objects
        where bucket_id = 'inputs' and created_at < now() - interval '24 hours')
    )::int as count`;
  return count;
}
