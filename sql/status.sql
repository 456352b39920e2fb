-- What the operator and anyone else can see of the running system: in numbers only, which do not say whose they are.

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

-- For the operator. Each count is of rows that an index finds, never of a whole table.
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

-- For anyone (X5). Ages and times are in whole seconds.
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
comment on function backend.read_status is 'Work in progress, what is due, what failed, and whether the books balance.';

revoke all on function backend.read_status, backend.read_privacy_status from public, anon, authenticated, service_role;
grant execute on function backend.read_status, backend.read_privacy_status to service_role;
