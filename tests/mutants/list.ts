// Lines without which a credit would be held, taken or given back wrongly: each is taken away, and a test
// must notice.

export interface Mutant {
  name: string;
  file: string;
  /** Occurs once in the file. */
  line: string;
  /** What stands there instead; nothing if absent. */
  instead?: string;
  /** The suites that are run until one is red: `database` is pgTAP, the others are files of tests. */
  seenBy: string[];
}

const sql = (file: string) => `sql/${file}.sql`;
const rust = (file: string) => `functions/${file}.rs`;
const submission = "faults/submission.test.ts";
const events = "faults/events.test.ts";
const races = "faults/races.test.ts";

export const mutants: Mutant[] = [
  {
    name: "a hold is not added to what is held",
    file: sql("credits"),
    line: "  update public.wallets set held = held + new.amount where id = new.wallet_id;\n",
    seenBy: ["database"],
  },
  {
    name: "an entry does not move the balance",
    file: sql("credits"),
    line: "  update public.wallets set balance = balance + new.amount where id = new.wallet_id;\n",
    seenBy: ["database"],
  },
  {
    name: "a settled hold is still held",
    file: sql("credits"),
    line: "  update public.wallets set held = held - old.amount where id = old.wallet_id;\n",
    seenBy: ["database"],
  },
  {
    name: "a captured hold is not paid",
    file: sql("credits"),
    line: "  if new.state = 'captured' then\n    insert",
    instead: "  if false then\n    insert",
    seenBy: ["database"],
  },
  {
    name: "a released hold is paid",
    file: sql("credits"),
    line: "  if new.state = 'captured' then\n    insert",
    instead: "  if true then\n    insert",
    seenBy: ["database"],
  },
  {
    name: "a hold can be settled twice",
    file: sql("credits"),
    line: "if tg_op = 'DELETE' or old.state <> 'open' or new.state = 'open'",
    instead: "if tg_op = 'DELETE' or new.state = 'open'",
    seenBy: ["database"],
  },
  {
    name: "an adjustment is made twice for one key",
    file: sql("credits"),
    line: "    return jsonb_build_object('outcome', 'replayed', 'balance', wallet.balance);\n",
    seenBy: ["database"],
  },
  {
    name: "a generation begins without a hold",
    file: sql("lifecycle"),
    line: "    select w.id, new.id, new.credits from public.wallets as w where w.person_id = new.person_id;",
    instead: "    select w.id, new.id, new.credits from public.wallets as w where false;",
    seenBy: ["database"],
  },
  {
    name: "an end settles nothing",
    file: sql("lifecycle"),
    line: "      settled_at = clock_timestamp()\n    where generation_id = new.id;",
    instead: "      settled_at = clock_timestamp()\n    where false;",
    seenBy: ["database"],
  },
  {
    name: "a success is not captured",
    file: sql("lifecycle"),
    line: "set state = case when new.state = 'succeeded' then 'captured' else 'released' end,",
    instead: "set state = 'released',",
    seenBy: ["database"],
  },
  {
    name: "a failure is captured",
    file: sql("lifecycle"),
    line: "set state = case when new.state = 'succeeded' then 'captured' else 'released' end,",
    instead: "set state = 'captured',",
    seenBy: ["database"],
  },
  {
    name: "a generation that is deleted keeps its hold",
    file: sql("lifecycle"),
    line: "    where generation_id = old.id;",
    instead: "    where false;",
    seenBy: ["database"],
  },
  {
    name: "credits are not asked for",
    file: sql("submission"),
    line: "  if wallet.balance - wallet.held < price then",
    instead: "  if wallet.balance < price then",
    seenBy: [submission],
  },
  {
    name: "two submissions of a person at once",
    file: sql("submission"),
    line: "where person_id = person for update;",
    instead: "where person_id = person;",
    seenBy: [submission, "faults/limits.test.ts"],
  },
  {
    name: "cancelling ends nothing",
    file: sql("submission"),
    line: "    update public.generations as g set state = 'canceled' where g.id = generation.id\n    returning * into generation;\n",
    seenBy: [races],
  },
  {
    name: "a failure that is reported fails nothing",
    file: sql("settlement"),
    line: "  where g.id = generation_id\n    and not private.is_terminal(g.state)",
    instead: "  where false\n    and not private.is_terminal(g.state)",
    seenBy: [submission],
  },
  {
    name: "a failure that Replicate reports fails nothing",
    file: sql("settlement"),
    line: "        when ended is not null then 'failed'\n",
    seenBy: [events, "journeys/lifecycle.test.ts"],
  },
  {
    name: "a success captures without its artwork",
    file: sql("settlement"),
    line: "      and (o.metadata ->> 'size')::bigint = complete_generation.bytes\n  ) then",
    instead: "  ) and false then",
    seenBy: ["faults/storage.test.ts"],
  },
  {
    name: "a success is never recorded",
    file: sql("settlement"),
    line: "    set state = 'succeeded',\n      artwork_path",
    instead: "    set state = g.state,\n      artwork_path",
    seenBy: [events],
  },
  {
    name: "a worker without the lease completes",
    file: sql("settlement"),
    line: "  where w.generation_id = complete_generation.generation_id and w.lease = complete_generation.lease;",
    instead: "  where w.generation_id = complete_generation.generation_id;",
    seenBy: ["database"],
  },
  {
    name: "nothing ends at its deadline without a prediction",
    file: sql("settlement"),
    line: "      and o.prediction_id is null\n",
    instead: "      and false\n",
    seenBy: ["faults/outage.test.ts"],
  },
  {
    name: "a fault of the platform is final",
    file: sql("dispatch"),
    line: "    and w.submissions < 3\n",
    instead: "    and w.submissions < 0\n",
    seenBy: [events],
  },
  {
    name: "a fault of the platform is never final",
    file: sql("dispatch"),
    line: "    and w.submissions < 3\n",
    seenBy: [events],
  },
  {
    name: "a worker without the lease submits",
    file: sql("dispatch"),
    line: "    and w.generation_id = g.id and w.lease = record_input.lease;",
    instead: "    and w.generation_id = g.id;",
    seenBy: [submission],
  },
  {
    name: "a second prediction takes the place of the first",
    file: sql("dispatch"),
    line: "      or (g.prediction_id is null and capability is null and w.lease = attach_prediction.lease));",
    instead: "      or true);",
    seenBy: [submission],
  },
  {
    name: "a refused submission keeps its hold",
    file: rust("opusflair/src/submission"),
    line: "self.fail_generation(generation, reason, Some(lease)).await",
    instead: "Ok::<Outcome, Error>(Outcome::Failed)",
    seenBy: [submission],
  },
  {
    name: "a worthless output keeps its hold",
    file: rust("opusflair/src/prediction"),
    line: `self.ask::<Ended>("fail_generation", arguments).await`,
    instead: `{ let _ = arguments; Err(Error::Fault(String::new())) }`,
    seenBy: ["journeys/lifecycle.test.ts"],
  },
  {
    name: "a prediction that Replicate does not know keeps its hold",
    file: rust("cleanup/src/settle"),
    line: `app.fail_generation(silent.generation, "lost", None).await`,
    instead: "Ok(Outcome::Failed)",
    seenBy: ["journeys/lifecycle.test.ts"],
  },
  {
    name: "a deadline that is over keeps its hold",
    file: rust("cleanup/src/settle"),
    line: `app.fail_generation(generation, "expired", None).await`,
    instead: "Ok::<(), Error>(())",
    seenBy: ["faults/outage.test.ts"],
  },
];
