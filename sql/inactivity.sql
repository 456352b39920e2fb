-- R10: accounts that nobody uses. Letters come first, a rung of the ladder at a time. An account is erased only if its
-- person was sent all of them, none of them bounced, and there was no sign of the person since. Without mail nobody is
-- erased.

create table private.notice_ladder (
  days integer not null,
  constraint notice_ladder_pkey primary key (days),
  constraint notice_ladder_days_positive check (days > 0)
);

alter table private.notice_ladder enable row level security;
revoke all on private.notice_ladder from public, anon, authenticated, service_role;

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
    and l.bounced_at is null
);

-- Whether every letter has reached somebody since the last sign of them, and each has had its days.
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
          and l.ordered_at >= last.active and l.sent_at is not null and l.bounced_at is null
      )
    )
  from (select private.last_active(person) as active) as last
);

-- Whether nobody has ever confirmed that the account is theirs, and there was no sign of them for its time. Such an
-- account cannot be written to: the address may be anybody's, and an anonymous one has none.
create function private.is_unconfirmed(person uuid)
returns boolean
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
return exists (
  select from auth.users as u
  where u.id = person and u.email_confirmed_at is null and u.phone_confirmed_at is null
) and private.last_active(person) <= now() - private.keep('unconfirmed_accounts');

-- The next stretch of a walk over all people, by their ids; none while the walk rests. The last stretch has less than
-- `batch`.
create function private.next_people(walk text, batch integer)
returns uuid[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  after constant uuid := private.audit_id(walk);
  people uuid[] := '{}';
begin
  if private.is_walk_due(walk) then
    people := array(select p.id from public.profiles as p where p.id > after order by p.id limit batch);
    perform private.leave_audit(walk, case when cardinality(people) = batch then people[batch]::text end, '{}');
  end if;
  return people;
end;
$$;

-- Walks all people, a stretch in each call and an hour between two walks, and orders the erasure of accounts that were
-- never confirmed. No letter is sent. Answers {done, erased}.
create function backend.erase_unconfirmed(batch integer default 2000)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  people constant uuid[] := private.next_people('unconfirmed', batch);
  candidate uuid;
  erased integer := 0;
begin
  for candidate in
    select p.id
    from public.profiles as p
    join auth.users as u on u.id = p.id and u.email_confirmed_at is null and u.phone_confirmed_at is null
    where p.id = any (people) and p.closed_at is null and private.is_unconfirmed(p.id)
    order by p.id
  loop
    -- Signing in and confirming wait, as for `erase_inactive`.
    perform from auth.users as u where u.id = candidate for no key update;
    perform from public.profiles as p where p.id = candidate and p.closed_at is null for no key update;
    if found and private.is_unconfirmed(candidate) then
      perform private.order_erasure(candidate, 'unconfirmed');
      erased := erased + 1;
    end if;
  end loop;
  return jsonb_build_object('done', cardinality(people) < batch, 'erased', erased);
end;
$$;

-- Walks all people, a stretch in each call and an hour between two walks; answers {done, ordered}. Writes down what Auth
-- says of them, for it forgets the renewals of a session when its person signs out; and orders the next letter of
-- whoever is due for one. Who does not want notices gets none, and stays. A notice that bounced is written again, some
-- weeks later; until one arrives, the account stays.
create function backend.follow_inactive(batch integer default 500)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  people constant uuid[] := private.next_people('people', batch);
  ordered integer;
begin
  -- A person who is busy at this moment is noted in the next walk: nobody is waited for.
  update public.profiles as p
  set active_at = last.active
  from (
    select n.id, private.last_active(n.id) as active
    from public.profiles as n
    where n.id = any (people)
    for no key update skip locked
  ) as last
  where p.id = last.id and last.active > p.active_at;

  insert into private.letters (person_id, kind, days)
  select quiet.id, 'inactive', next.days
  from (
    select p.id, p.active_at as active
    from public.profiles as p
    where p.id = any (people) and p.closed_at is null
      and exists (
        select from auth.users as u where u.id = p.id and u.email is not null and u.email_confirmed_at is not null
      )
      and p.active_at < now() - private.keep('inactive_accounts')
        + make_interval(days => (select max(n.days) from private.notice_ladder as n))
  ) as quiet
  cross join lateral (
    select n.days
    from private.notice_ladder as n
    where not exists (
      select from private.letters as l
      where l.person_id = quiet.id and l.kind = 'inactive' and l.ordered_at >= quiet.active
        and l.days = n.days and l.bounced_at is null
    )
    order by n.days desc
    limit 1
  ) as next
  where now() >= private.erased_at(quiet.id, quiet.active) - make_interval(days => next.days)
    and not exists (
      select from private.letters as l
      where l.person_id = quiet.id and l.kind = 'inactive' and l.ordered_at >= quiet.active
        and (l.sent_at is null or l.bounced_at > now() - private.keep('bounced_notices'))
    )
    and private.allows(quiet.id, 'notices');
  get diagnostics ordered = row_count;
  return jsonb_build_object('done', cardinality(people) < batch, 'ordered', ordered);
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
          and l.sent_at <= now() - make_interval(days => l.days) and l.bounced_at is null
      )
      and private.is_given_up(p.id)
    limit batch
  loop
    -- What refers to the account may go on; signing in and being erased wait.
    perform from auth.users as u where u.id = candidate for no key update;
    perform from public.profiles as p where p.id = candidate and p.closed_at is null for no key update;
    if found and private.is_given_up(candidate) then
      perform private.order_erasure(candidate, 'inactive');
      erased := erased + 1;
    end if;
  end loop;
  return erased;
end;
$$;

comment on function backend.follow_inactive is 'Notes when people were last here, and orders the letters that are due to those who were not (R10).';
comment on function backend.erase_inactive is 'Orders the erasure of accounts whose notices have all had their days (R10).';

comment on function backend.erase_unconfirmed is 'Orders the erasure of accounts that were never confirmed (R10).';

revoke all on function backend.follow_inactive, backend.erase_inactive, backend.erase_unconfirmed from public, anon, authenticated, service_role;
grant execute on function backend.follow_inactive, backend.erase_inactive, backend.erase_unconfirmed to service_role;
