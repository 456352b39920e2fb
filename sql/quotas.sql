-- How much one user may have and do. Each limit is a row, so a limit can change without a change of code.

create table private.quotas (
  scope text not null,
  id text not null,
  most bigint not null,
  span interval,
  words text not null,
  constraint quotas_pkey primary key (scope, id),
  constraint quotas_most_positive check (most > 0 or (scope in ('welcome_credits', 'late_cancels') and most = 0)),
  constraint quotas_span_positive check (span > '0')
);

alter table private.quotas enable row level security;
revoke all on private.quotas from public, anon, authenticated, service_role;

comment on table private.quotas is 'Limits for one user. Change a row to change a limit.';
comment on column private.quotas.span is 'The period in which uses are counted. Null: the limit is on what exists at the same time.';

insert into private.quotas (scope, id, most, span, words) values
  ('generations', 'concurrent', 5, null, 'at the same time'),
  ('generations', 'per_minute', 10, '1 minute', 'a minute'),
  ('generations', 'per_day', 100, '1 day', 'a day'),
  ('late_cancels', 'per_day', 3, '1 day',
    'Late cancels that are free: generations that a user ends after the model has begun.'),
  ('welcome_credits', 'per_address', 5, null, 'Credits for a new account; 0 gives none.'),
  ('uploads', 'photos', 20, null, 'Photos that wait in the bucket inputs.'),
  ('uploads', 'bytes', 150 * 1024 * 1024, null, 'Their bytes.'),
  ('choices', 'per_hour', 20, '1 hour', 'Choices about one purpose.'),
  ('requests', 'open', 10, null, 'Privacy requests from the app that are not answered yet.'),
  ('requests', 'per_day', 20, '1 day', 'Privacy requests from the app.'),
  ('emails', 'per_day', 1, '1 day', 'Privacy requests by email of one sender; further emails join the request.'),
  ('usage_events', 'per_day', 1000, '1 day', 'Recorded uses of a feature.'),
  ('exports', 'per_day', 3, '1 day', 'Exports, those that failed not counted.');

create function private.quota(scope text, id text)
returns private.quotas
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
return (select q from private.quotas as q where q.scope = quota.scope and q.id = quota.id);

-- Refuses (429) a generation that would exceed a limit. The error names the limit and the seconds to wait. The
-- function counts holds, because they stay when a generation is deleted. So deleting a generation does not reset a
-- rate limit.
create function private.check_limits(wallet uuid)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  reached record;
begin
  -- For each limit, finds the hold at the last place that the limit allows, counted from the newest. If there is one,
  -- the limit is reached until that hold leaves the period. A limit without a period has no such time, so the client
  -- waits ten seconds.
  select l.id, l.most, l.words,
    case when l.span is null then 10 else ceil(extract(epoch from last_place.opened_at + l.span - now())) end
      as retry_after
  into reached
  from private.quotas as l
  cross join lateral (
    select h.opened_at
    from public.credit_holds as h
    where h.wallet_id = wallet and l.span is not null and h.opened_at > now() - l.span
    union all
    select h.opened_at
    from public.credit_holds as h
    where h.wallet_id = wallet and l.span is null and h.state = 'open'
    order by opened_at desc
    offset l.most - 1
    limit 1
  ) as last_place
  where l.scope = 'generations'
  order by retry_after desc
  limit 1;

  if found then
    perform private.refuse(429, 'too_many_generations',
      format('You can start %s generations %s. Please try again in %s seconds.',
        reached.most, reached.words, reached.retry_after),
      jsonb_build_object(
        'limit', reached.id, 'most', reached.most, 'retry_after', reached.retry_after));
  end if;
end;
$$;
