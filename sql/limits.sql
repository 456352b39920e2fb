-- How much one person may start. Counted by holds: they stay when a generation is deleted, so deleting
-- makes no room.

create table private.submission_limits (
  id text not null,
  most integer not null,
  span interval,
  words text not null,
  constraint submission_limits_pkey primary key (id),
  constraint submission_limits_most_positive check (most > 0),
  constraint submission_limits_span_positive check (span > '0')
);

alter table private.submission_limits enable row level security;

comment on table private.submission_limits is 'Limits a person, a row each. Change a row to change a limit.';
comment on column private.submission_limits.span is 'Counted within this time; null: running at the same time.';

insert into private.submission_limits (id, most, span, words) values
  ('concurrent', 5, null, 'at the same time'),
  ('per_minute', 10, '1 minute', 'a minute'),
  ('per_day', 100, '1 day', 'a day');

-- Refuses (429) what would exceed a limit, with the limit and the seconds after which it may not.
create function private.check_limits(wallet uuid)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  reached record;
begin
  -- A limit is reached if there is a hold at its place, newest first; it ends when that one leaves.
  select l.id, l.most, l.words,
    case when l.span is null then 10 else ceil(extract(epoch from last_place.opened_at + l.span - now())) end
      as retry_after
  into reached
  from private.submission_limits as l
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
