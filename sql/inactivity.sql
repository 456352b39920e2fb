-- R10: inactive accounts. First the user gets emails, one step of `private.notice_ladder` after another. An account is
-- erased only if its user was sent all of them, none of them bounced, and the user has not been active since. If email
-- is not set up, no inactive account is erased.

create table private.notice_ladder (
  days integer not null,
  constraint notice_ladder_pkey primary key (days),
  constraint notice_ladder_days_positive check (days > 0)
);

alter table private.notice_ladder enable row level security;
revoke all on private.notice_ladder from public, anon, authenticated, service_role;

comment on table private.notice_ladder is 'How many days before the erasure the user gets an email.';

insert into private.notice_ladder (days) values (60), (30), (7), (1);

-- When the user was last active: a sign-in, a renewed session, or anything done here.
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

-- When an account is erased if its user stays inactive. Each email that was sent gets its full number of days first.
create function private.erased_at(person uuid, active timestamptz)
returns timestamptz
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
return (
  select greatest(active + private.retention('inactive_accounts'), max(e.sent_at + make_interval(days => e.days)))
  from private.emails as e
  where e.person_id = person and e.kind = 'inactive' and e.ordered_at >= active and e.sent_at is not null
    and e.bounced_at is null
);

-- Whether every email was sent since the user was last active, none of them bounced, and each has had its days.
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
        select from private.emails as e
        where e.person_id = person and e.kind = 'inactive' and e.days = n.days
          and e.ordered_at >= last.active and e.sent_at is not null and e.bounced_at is null
      )
    )
  from (select private.last_active(person) as active) as last
);

-- Whether no one has ever confirmed the account, and its user has been inactive for the time of the rule. Such an
-- account gets no email: the address may be anyone's, and an anonymous account has none.
create function private.is_unconfirmed(person uuid)
returns boolean
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
return exists (
  select from auth.users as u
  where u.id = person and u.email_confirmed_at is null and u.phone_confirmed_at is null
) and private.last_active(person) <= now() - private.retention('unconfirmed_accounts');

-- The next batch of a walk over all users, in the order of their IDs. Empty while the walk rests. The last batch has
-- fewer than `batch` users.
create function private.walk_people(walk text, batch integer)
returns uuid[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  after constant uuid := private.enter_audit_by_id(walk);
  people uuid[] := '{}';
begin
  if private.is_walk_due(walk) then
    people := array(select p.id from public.profiles as p where p.id > after order by p.id limit batch);
    perform private.leave_audit(walk, case when cardinality(people) = batch then people[batch]::text end, '{}');
  end if;
  return people;
end;
$$;

-- Walks all users, one batch per call, with an hour between two walks. Orders the erasure of accounts that were never
-- confirmed. No email is sent. Returns {done, erased}.
create function backend.erase_unconfirmed(batch integer default 2000)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  people constant uuid[] := private.walk_people('unconfirmed', batch);
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
    -- A sign-in and a confirmation wait for these locks, as in `erase_inactive`.
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

-- Walks all users, one batch per call, with an hour between two walks. Returns {done, ordered}. It writes down what
-- Auth knows of their activity, because Auth forgets the renewals of a session when its user signs out. It also orders
-- the next email for each user who is due for one. A user who refuses notices gets none, and their account stays. A
-- notice that bounced is sent again some weeks later. Until one arrives, the account stays.
create function backend.follow_inactive(batch integer default 500)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  people constant uuid[] := private.walk_people('people', batch);
  ordered integer;
begin
  -- Users whose row is locked at this moment are left out. The next walk records them.
  update public.profiles as p
  set active_at = last.active
  from (
    select n.id, private.last_active(n.id) as active
    from public.profiles as n
    where n.id = any (people)
    for no key update skip locked
  ) as last
  where p.id = last.id and last.active > p.active_at;

  insert into private.emails (person_id, kind, days)
  select quiet.id, 'inactive', next.days
  from (
    select p.id, p.active_at as active
    from public.profiles as p
    where p.id = any (people) and p.closed_at is null
      and exists (
        select from auth.users as u where u.id = p.id and u.email is not null and u.email_confirmed_at is not null
      )
      and p.active_at < now() - private.retention('inactive_accounts')
        + make_interval(days => (select max(n.days) from private.notice_ladder as n))
  ) as quiet
  cross join lateral (
    select n.days
    from private.notice_ladder as n
    where not exists (
      select from private.emails as e
      where e.person_id = quiet.id and e.kind = 'inactive' and e.ordered_at >= quiet.active
        and e.days = n.days and e.bounced_at is null
    )
    order by n.days desc
    limit 1
  ) as next
  where now() >= private.erased_at(quiet.id, quiet.active) - make_interval(days => next.days)
    and not exists (
      select from private.emails as e
      where e.person_id = quiet.id and e.kind = 'inactive' and e.ordered_at >= quiet.active
        and (e.sent_at is null or e.bounced_at > now() - private.retention('bounced_notices'))
    )
    and private.allows(quiet.id, 'notices');
  get diagnostics ordered = row_count;
  return jsonb_build_object('done', cardinality(people) < batch, 'ordered', ordered);
end;
$$;

-- Orders the erasure of accounts whose user was sent all emails, and each has had its days. It checks again under a
-- lock that a sign-in and any action here must wait for. So a user who comes back at the last moment keeps everything.
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
        select from private.emails as e
        where e.person_id = p.id and e.kind = 'inactive'
          and e.days = (select min(n.days) from private.notice_ladder as n)
          and e.sent_at <= now() - make_interval(days => e.days) and e.bounced_at is null
      )
      and private.is_given_up(p.id)
    limit batch
  loop
    -- Transactions that only refer to the account can go on. A sign-in or another erasure waits.
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

comment on function backend.follow_inactive is 'Records when users were last active, and orders the emails that are due to inactive ones (R10).';
comment on function backend.erase_inactive is 'Orders the erasure of accounts whose notices have all had their days (R10).';

comment on function backend.erase_unconfirmed is 'Orders the erasure of accounts that were never confirmed (R10).';

revoke all on function backend.follow_inactive, backend.erase_inactive, backend.erase_unconfirmed from public, anon, authenticated, service_role;
grant execute on function backend.follow_inactive, backend.erase_inactive, backend.erase_unconfirmed to service_role;
