-- R10: accounts that nobody uses. Letters come first, a rung of the ladder at a time; only whoever was sent all
-- of them, and gave no sign since, is erased. Without mail nobody is.

create table private.notice_ladder (
  days integer not null,
  constraint notice_ladder_pkey primary key (days),
  constraint notice_ladder_days_positive check (days > 0)
);

alter table private.notice_ladder enable row level security;

comment on table private.notice_ladder is 'How many days before the erasure its person is written to.';

insert into private.notice_ladder (days) values (60), (30), (7), (1);

-- The last sign of somebody: signed in, a session renewed, or anything done here.
create function private.last_active(person uuid)
returns timestamptz
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
return (
  select greatest(u.created_at, u.last_sign_in_at, p.active_at, (
    select max(greatest(s.created_at, s.updated_at, t.created_at))
    from auth.sessions as s
    left join auth.refresh_tokens as t on t.session_id = s.id
    where s.user_id = person
  ))
  from auth.users as u
  join public.profiles as p on p.id = u.id
  where u.id = person
);

-- When an account is erased if nothing happens: not before each letter that was sent has had its days.
create function private.erased_at(person uuid, active timestamptz)
returns timestamptz
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
return (
  select greatest(active + private.keep('inactive_accounts'), max(l.sent_at + make_interval(days => l.days)))
  from private.letters as l
  where l.person_id = person and l.kind = 'inactive' and l.ordered_at >= active and l.sent_at is not null
);

-- Whether somebody was sent every letter since the last sign of them, and each has had its days.
create function private.is_given_up(person uuid)
returns boolean
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
return (
  select private.erased_at(person, last.active) <= now()
    and private.allows(person, 'notices')
    and not exists (
      select from private.notice_ladder as n
      where not exists (
        select from private.letters as l
        where l.person_id = person and l.kind = 'inactive' and l.days = n.days
          and l.ordered_at >= last.active and l.sent_at is not null
      )
    )
  from (select private.last_active(person) as active) as last
);

-- Orders the next letter of whoever is due for one; answers for how many. Who does not want notices gets none, and stays.
create function backend.order_notices(batch integer default 500)
returns integer
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  limit_at constant timestamptz := now() - private.keep('inactive_accounts')
    + make_interval(days => (select max(n.days) from private.notice_ladder as n));
  ordered integer;
begin
  -- Who only signs in is remembered by Auth; written down here, they are not looked at again for long.
  update public.profiles as p
  set active_at = private.last_active(p.id)
  where p.id = any (array(
    select q.id
    from public.profiles as q
    where q.closed_at is null and q.active_at < limit_at and private.last_active(q.id) >= limit_at
    limit batch
  ));

  insert into private.letters (person_id, kind, days)
  select quiet.id, 'inactive', next.days
  from (
    select p.id, private.last_active(p.id) as active
    from public.profiles as p
    where p.closed_at is null and p.active_at < limit_at
  ) as quiet
  cross join lateral (
    select n.days
    from private.notice_ladder as n
    where not exists (
      select from private.letters as l
      where l.person_id = quiet.id and l.kind = 'inactive' and l.ordered_at >= quiet.active
        and l.days <= n.days
    )
    order by n.days desc
    limit 1
  ) as next
  where now() >= private.erased_at(quiet.id, quiet.active) - make_interval(days => next.days)
    and not exists (
      select from private.letters as l
      where l.person_id = quiet.id and l.kind = 'inactive' and l.ordered_at >= quiet.active and l.sent_at is null
    )
    and private.allows(quiet.id, 'notices')
  limit batch;
  get diagnostics ordered = row_count;
  return ordered;
end;
$$;

-- Orders the erasure of whoever has had all letters and their days. Looked at again under a lock that signing in
-- and doing anything here must wait for: who comes back at the last moment keeps everything.
create function backend.erase_inactive(batch integer default 50)
returns integer
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  candidate uuid;
  erased integer := 0;
begin
  for candidate in
    select p.id
    from public.profiles as p
    where p.closed_at is null
      and exists (
        select from private.letters as l
        where l.person_id = p.id and l.kind = 'inactive'
          and l.days = (select min(n.days) from private.notice_ladder as n)
          and l.sent_at <= now() - make_interval(days => l.days)
      )
      and private.is_given_up(p.id)
    limit batch
  loop
    perform from auth.users as u where u.id = candidate for update;
    perform from public.profiles as p where p.id = candidate and p.closed_at is null for update;
    if found and private.is_given_up(candidate) then
      perform private.order_erasure(candidate, 'inactive');
      erased := erased + 1;
    end if;
  end loop;
  return erased;
end;
$$;

comment on function backend.order_notices is 'Orders the letters that are due to people who have not been here (R10).';
comment on function backend.erase_inactive is 'Orders the erasure of accounts whose notices have all had their days (R10).';

grant execute on function backend.order_notices, backend.erase_inactive to service_role;
