-- What the operator looks at.

-- Recomputes wallets from their entries and holds, and returns the differences. There are none unless a rule was taken
-- away.
create function private.audit_wallets(wallets uuid[])
returns table (
  difference text,
  wallet_id uuid,
  hold_id uuid,
  generation_id uuid,
  expected bigint,
  found bigint
)
language sql
stable
set search_path = pg_catalog, pg_temp
begin atomic
  select 'balance', w.id, null::uuid, null::uuid, coalesce(e.total, 0), w.balance
  from public.wallets as w
  left join (
    select n.wallet_id, sum(n.amount) as total
    from public.credit_entries as n
    where n.wallet_id = any (wallets)
    group by n.wallet_id
  ) as e on e.wallet_id = w.id
  where w.id = any (wallets) and w.balance <> coalesce(e.total, 0)
  union all
  select 'held', w.id, null, null, coalesce(h.total, 0), w.held
  from public.wallets as w
  left join (
    select o.wallet_id, sum(o.amount) as total
    from public.credit_holds as o
    where o.wallet_id = any (wallets) and o.state = 'open'
    group by o.wallet_id
  ) as h on h.wallet_id = w.id
  where w.id = any (wallets) and w.held <> coalesce(h.total, 0)
  union all
  select 'capture', coalesce(h.wallet_id, e.wallet_id), coalesce(h.id, e.hold_id), h.generation_id, -h.amount, e.amount
  from (select * from public.credit_holds as o where o.wallet_id = any (wallets) and o.state = 'captured') as h
  full join (
    select * from public.credit_entries as n where n.wallet_id = any (wallets) and n.kind = 'capture'
  ) as e on e.hold_id = h.id
  where (h.wallet_id, -h.amount) is distinct from (e.wallet_id, e.amount)
  union all
  select 'open_hold', h.wallet_id, h.id, h.generation_id, 0, h.amount
  from public.credit_holds as h
  left join public.generations as g on g.id = h.generation_id
  where h.wallet_id = any (wallets) and h.state = 'open' and coalesce(private.is_terminal(g.state), true)
  union all
  select 'missing_hold', w.id, h.id, g.id, g.credits, 0
  from public.wallets as w
  join public.generations as g on g.person_id = w.person_id
  left join public.credit_holds as h on h.generation_id = g.id
  where w.id = any (wallets)
    and not private.is_terminal(g.state)
    and (h.state, h.amount, h.wallet_id) is distinct from ('open', g.credits, w.id)
  union all
  select 'settlement', w.id, h.id, g.id,
    case g.state when 'succeeded' then g.credits else 0 end,
    case h.state when 'captured' then h.amount else 0 end
  from public.wallets as w
  join public.generations as g on g.person_id = w.person_id
  left join public.credit_holds as h on h.generation_id = g.id
  where w.id = any (wallets)
    and private.is_terminal(g.state)
    and h.state is distinct from case g.state when 'succeeded' then 'captured' else 'released' end
    -- A late cancel may have been charged.
    and not (g.state = 'canceled' and coalesce(h.is_late_cancel and h.state = 'captured', false));
end;

-- The same for all wallets. It reads the whole ledger, so it is for tests and for repairs of the books.
create function backend.audit_credits()
returns table (
  difference text,
  wallet_id uuid,
  hold_id uuid,
  generation_id uuid,
  expected bigint,
  found bigint
)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
begin atomic
  select * from private.audit_wallets(array(select w.id from public.wallets as w));
end;

-- What the last walk over the ledger found. The status reads it here, because no request reads a whole table.
create table private.ledger_state (
  id text not null default 'ledger',
  counted bigint not null default 0,
  differences bigint,
  checked_at timestamptz,
  constraint ledger_state_pkey primary key (id),
  constraint ledger_state_is_one check (id = 'ledger')
);

alter table private.ledger_state enable row level security;
revoke all on private.ledger_state from public, anon, authenticated, service_role;

comment on table private.ledger_state is 'How many differences the last walk over the ledger found, and when it reached the end.';
comment on column private.ledger_state.counted is 'What the current walk has found so far.';

insert into private.ledger_state default values;

-- Audits the next `batch` wallets, like the other walks (`audit.sql`).
create function backend.audit_ledger(batch integer default 2000)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  after constant uuid := private.enter_audit_by_id('ledger');
  wallets constant uuid[] := array(
    select w.id from public.wallets as w where w.id > after order by w.id limit batch
  );
begin
  update private.ledger_state as s
  set counted = s.counted + (select count(*) from private.audit_wallets(wallets));
  if wallets = '{}' then
    update private.ledger_state as s set differences = s.counted, counted = 0, checked_at = now();
  end if;
  return private.leave_audit('ledger', wallets[cardinality(wallets)]::text, '{}');
end;
$$;

comment on function backend.audit_ledger is 'Counts differences in the ledger, one batch at a time, for the status (C7).';

-- Whole seconds since a time, at least 0. Null for null.
create function private.age(since timestamptz)
returns bigint
language sql
stable
set search_path = pg_catalog, pg_temp
return case when since > now() then 0 else floor(extract(epoch from now() - since)) end::bigint;

create function private.seconds(rule text)
returns bigint
language sql
stable
set search_path = pg_catalog, pg_temp
return extract(epoch from private.retention(rule))::bigint;

-- Whole seconds until a time. Negative once it is past.
create function private.seconds_until(at timestamptz)
returns bigint
language sql
stable
set search_path = pg_catalog, pg_temp
return floor(extract(epoch from at - now()))::bigint;

-- A deletion takes seconds. If it is still pending after 15 minutes, it is overdue.
create function private.is_overdue(deletion public.deletions)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
return deletion.verified_at is null and deletion.ordered_at < now() - interval '15 minutes';

-- What a sweep has to do, so that it makes no needless calls. Each answer reads one index. The next sweep sees what
-- becomes due a moment later.
create function backend.list_due_work()
returns jsonb
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
return jsonb_build_object(
  'deletions', exists (
    select from public.deletions as d where d.verified_at is null and d.due_at <= now()
  ),
  'settling', exists (
    select
    from public.generations as g
    join private.generation_work as w on w.generation_id = g.id
    where g.state in ('reserved', 'dispatched', 'processing', 'storing')
      and (g.deadline_at < now() or (g.prediction_id is not null and w.checked_at < now() - interval '1 minute'))
  ),
  'dispatches', exists (
    select
    from private.generation_work as w
    join public.generations as g on g.id = w.generation_id
    where w.dispatch_at <= now() and private.is_to_be_dispatched(g, w)
  ),
  'outbox', exists (select from private.outbox as o where o.due_at <= now()),
  'expired_exports', exists (select from public.exports as e where e.state = 'ready' and e.expires_at <= now()),
  'erasures', exists (
    select
    from private.erasures as e
    where e.stage <> 'done' and e.begins_at <= now() and coalesce(e.leased_until, '-infinity') <= now()
  ),
  'removals', exists (
    select from public.replicate_removals as r where r.removed_at is null and r.due_at <= now()
  ),
  'inactivity', private.is_walk_due('people'),
  'unconfirmed', private.is_walk_due('unconfirmed'),
  'emails', exists (select from private.emails as e where e.sent_at is null and e.due_at <= now()),
  'requests', exists (
    select from public.privacy_requests as r where r.closed_at is null and r.due_at < now() + interval '1 day'
  ),
  'rows', private.has_expired_rows(),
  'exports', exists (
    select
    from private.export_work as w
    where w.due_at <= now() and (w.lease is null or w.leased_until <= now())
  ),
  'walks', jsonb_build_object(
    -- Limits for photos are in hours, so each sweep walks the photos, if there are any.
    'audit_inputs', exists (select from storage.objects as o where o.bucket_id = 'inputs'),
    'audit_artworks', private.is_walk_due('artworks'),
    'audit_exports', private.is_walk_due('exports'),
    'audit_generations', private.is_walk_due('generations'),
    'audit_ledger', private.is_walk_due('ledger')
  )
);

comment on function backend.list_due_work is 'Which steps of a sweep have something to do.';

-- The status, in numbers only. It does not say whose they are. Each count is of rows that an index finds, never of a
-- whole table.
create function backend.read_status()
returns jsonb
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
return jsonb_build_object(
  'generations', (
    select coalesce(jsonb_agg(to_jsonb(s) order by s.place), '[]')
    from (
      select g.state, count(*) as count,
        private.age(min(g.reserved_at)) as oldest_seconds,
        count(*) filter (where g.deadline_at < now()) as past_deadline,
        array_position(array['reserved', 'dispatched', 'processing', 'storing'], g.state) as place
      from public.generations as g
      where g.state in ('reserved', 'dispatched', 'processing', 'storing')
      group by g.state
    ) as s
  ),
  'ended', (
    select coalesce(jsonb_agg(to_jsonb(s) order by s.outcome), '[]')
    from (
      select o.outcome,
        count(*) filter (where o.at > now() - interval '1 hour') as last_hour,
        count(*) as last_day
      from private.outcomes as o
      where o.subject = 'generation' and o.at > now() - interval '1 day'
      group by o.outcome
    ) as s
  ),
  'dispatches', (
    select jsonb_build_object('due', count(*), 'oldest_seconds', private.age(min(w.dispatch_at)))
    from private.generation_work as w
    join public.generations as g on g.id = w.generation_id
    where w.dispatch_at <= now() and private.is_to_be_dispatched(g, w)
  ),
  'holds', (
    select jsonb_build_object(
      'open', count(*), 'credits', coalesce(sum(h.amount), 0), 'oldest_seconds', private.age(min(h.opened_at)))
    from public.credit_holds as h
    where h.state = 'open'
  ),
  'deletions', (
    select jsonb_build_object(
      'ordered', count(*),
      'due', count(*) filter (where d.due_at <= now()),
      'overdue', count(*) filter (where private.is_overdue(d)),
      'oldest_seconds', private.age(min(d.ordered_at)),
      'most_attempts', coalesce(max(d.attempts), 0))
    from public.deletions as d
    where d.verified_at is null
  ),
  'inputs', (
    select jsonb_build_object('stored', count(*), 'oldest_seconds', private.age(min(o.created_at)))
    from storage.objects as o
    where o.bucket_id = 'inputs'
  ),
  'audit', jsonb_build_object(
    'orphaned', (
      select count(*)
      from public.deletions as d
      where d.reason = 'orphaned' and d.ordered_at > now() - interval '1 day'
    ),
    'missing', (
      select count(*)
      from private.outcomes as o
      where o.subject = 'artwork' and o.at > now() - interval '1 day'
    )
  ),
  'replicate', (
    select jsonb_build_object(
      'kept', count(*) filter (where r.due_at <= now() or r.attempts > 0),
      'overdue', count(*) filter (where r.attempts >= 3))
    from public.replicate_removals as r
    where r.removed_at is null
  ),
  'account', (
    select jsonb_build_object('refused_status', max(r.status), 'refused_seconds', private.age(min(r.refused_at)))
    from private.account_refusals as r
  ),
  'sweep', (
    select jsonb_build_object(
      'last_seconds', private.age(max(h.at)), 'intake_open', private.is_intake_open())
    from private.heartbeats as h
    where h.id = 'cleanup'
  ),
  'requests', (
    select jsonb_build_object(
      'open', count(*),
      'overdue', count(*) filter (where r.due_at <= now()),
      'next_breaches', coalesce((
        select jsonb_agg(jsonb_build_object(
          'id', n.id, 'kind', n.kind, 'channel', n.channel, 'seconds_left', private.seconds_until(n.due_at)
        ) order by n.due_at)
        from (
          select * from public.privacy_requests as b where b.closed_at is null order by b.due_at limit 5
        ) as n
      ), '[]'))
    from public.privacy_requests as r
    where r.closed_at is null
  ),
  'exports', (
    select jsonb_build_object(
      'building', count(*),
      'failed', (
        select count(*)
        from private.outcomes as o
        where o.subject = 'export' and o.at > now() - interval '1 day'
      ),
      'oldest_seconds', private.age(min(e.ordered_at)))
    from public.exports as e
    where e.state = 'building'
  ),
  'erasures', (
    select jsonb_build_object(
      'open', count(*),
      'stuck', count(*) filter (where r.begins_at < now() - interval '1 hour'),
      'oldest_seconds', private.age(min(r.begins_at)))
    from private.erasures as r
    where r.stage <> 'done'
  ),
  'emails', (
    select jsonb_build_object('waiting', count(*), 'most_attempts', coalesce(max(e.attempts), 0))
    from private.emails as e
    where e.sent_at is null and e.due_at < 'infinity'
  ),
  'ledger', (
    select jsonb_build_object('differences', s.differences, 'checked_seconds', private.age(s.checked_at))
    from private.ledger_state as s
  )
);

-- X5: what anyone may see. Ages and times are in whole seconds.
create function backend.read_privacy_status()
returns jsonb
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
return jsonb_build_object(
  'originals', (
    select jsonb_build_object(
      'stored', count(*),
      'oldest_seconds', private.age(min(o.created_at)),
      'limit_seconds', private.seconds('inputs_hard_limit'))
    from storage.objects as o
    where o.bucket_id = 'inputs'
  ),
  'deletions', (
    select jsonb_build_object('overdue', count(*) filter (where private.is_overdue(d)))
    from public.deletions as d
    where d.verified_at is null
  ),
  'sweeper', (
    select jsonb_build_object(
      'last_sweep_seconds', private.age(max(h.at)),
      'allowed_silence_seconds', private.seconds('sweep_silence'),
      'intake_open', private.is_intake_open())
    from private.heartbeats as h
    where h.id = 'cleanup'
  ),
  'requests', (
    select jsonb_build_object(
      'open', count(*),
      'shortest_seconds_left', private.seconds_until(min(r.due_at)),
      'limit_seconds', private.seconds('requests_answered'))
    from public.privacy_requests as r
    where r.closed_at is null
  )
);

comment on function backend.read_privacy_status is 'How the promises of the policy are kept at this moment. Nothing in it is personal (X5).';
comment on function backend.audit_credits is 'Differences between wallets, holds, ledger and generations. None if all is well (C7).';
comment on function backend.read_status is 'Work in progress, what is due, what failed, and whether the books balance.';

revoke all on function
  backend.audit_credits, backend.audit_ledger, backend.list_due_work, backend.read_status, backend.read_privacy_status
from public, anon, authenticated, service_role;
grant execute on function
  backend.audit_credits, backend.audit_ledger, backend.list_due_work, backend.read_status, backend.read_privacy_status
to service_role;
