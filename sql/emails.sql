-- Emails to users. Each row orders one email, and the worker with the lease sends it. The text is a template in the
-- functions. The row holds only the recipient and what the email is about.

create table private.emails (
  id uuid not null default gen_random_uuid(),
  person_id uuid,
  kind text not null,
  subject text,
  days integer,
  address text,
  ordered_at timestamptz not null default now(),
  due_at timestamptz not null default now(),
  attempts integer not null default 0,
  lease uuid,
  sent_at timestamptz,
  bounced_at timestamptz,
  left_at timestamptz,
  constraint emails_pkey primary key (id),
  constraint emails_person_exists foreign key (person_id) references auth.users (id) on delete cascade,
  constraint emails_kind_known check (
    kind in ('inactive', 'request_filed', 'request_refused', 'request_extended', 'erased')
  ),
  constraint emails_days_of_notices check ((kind = 'inactive') = (days is not null)),
  -- Auth has the address of a user. For a deleted account, the address is kept here until the last email is sent.
  constraint emails_address_of_the_gone check ((person_id is null) = (address is not null))
);

create index emails_person_id_idx on private.emails (person_id, kind);
create index emails_lease_idx on private.emails (lease) where sent_at is null;
create index emails_due_at_idx on private.emails (due_at) where sent_at is null;
create index emails_left_at_idx on private.emails (left_at) where left_at is not null;
create index emails_ordered_at_idx on private.emails (ordered_at);

alter table private.emails enable row level security;
revoke all on private.emails from public, anon, authenticated, service_role;

comment on table private.emails is 'Emails to users that are due or were sent.';
comment on column private.emails.subject is 'What the email is about: the ID of a request or of an erasure.';
comment on column private.emails.days is 'For a notice: how many days before the erasure it was due.';
comment on column private.emails.left_at is 'When the erasure of the account was done. Soon after, the row and its address are deleted, sent or not (rule last_emails).';
comment on column private.emails.bounced_at is 'When the email provider reported that the email did not arrive. Such a notice does not count as a warning (R10).';

create function private.order_email(person uuid, kind text, subject text)
returns void
language sql
set search_path = pg_catalog, pg_temp
begin atomic
  insert into private.emails (person_id, kind, subject) values (person, kind, subject);
end;

-- Tells the user by email what the operator has decided, if they have a confirmed address. They may never look into
-- the app.
create function private.order_decision(request public.privacy_requests, kind text)
returns void
language sql
set search_path = pg_catalog, pg_temp
begin atomic
  select private.order_email(u.id, kind, request.id::text)
  from auth.users as u
  where u.id = request.person_id and u.email is not null and u.email_confirmed_at is not null;
end;

-- The request whose decision an email reports. Null for other emails.
create function private.request_of(email private.emails)
returns uuid
language sql
immutable
set search_path = pg_catalog, pg_temp
return case when email.kind in ('request_refused', 'request_extended') then email.subject::uuid end;

create function private.reason_of(request public.privacy_requests, decision text)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
return case decision when 'request_refused' then request.answer when 'request_extended' then request.extension end;

-- Returns due emails, [{id, kind, subject, address, reason, until}], under a lease. They are due again after five
-- minutes, each time later. The caller chooses the lease: a retry with the same lease gets the same emails. After 40
-- attempts an email is given up, and the address of a deleted account is forgotten with it. `reason` and `until` are
-- those of a request that the operator has refused or extended.
create function backend.lease_emails(lease uuid, batch integer default 50)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  delete from private.emails as e
  where e.id in (
    select n.id from private.emails as n where n.sent_at is null and n.attempts >= 40 for update skip locked
  );
  -- Notices are not sent to a user who came back since the notice was ordered, refuses notices, or is leaving.
  delete from private.emails as e
  where e.id in (
    select n.id
    from private.emails as n
    join public.profiles as p on p.id = n.person_id
    where n.kind = 'inactive' and n.sent_at is null and n.due_at <= now()
      and (p.closed_at is not null or not private.allows(p.id, 'notices') or private.last_active(p.id) > n.ordered_at)
    for update of n skip locked
  );

  -- A further email has opened the request again, so the earlier decision no longer counts.
  delete from private.emails as e
  where e.id in (
    select n.id
    from private.emails as n
    join public.privacy_requests as r on r.id = private.request_of(n)
    where n.sent_at is null and n.due_at <= now() and private.reason_of(r, n.kind) is null
    for update of n skip locked
  );

  if not exists (select from private.emails as e where e.lease = lease_emails.lease and e.sent_at is null) then
    with due as (
      select e.id
      from private.emails as e
      where e.sent_at is null and e.due_at <= now()
      order by e.due_at
      limit batch
      for update skip locked
    )
    update private.emails as e
    set attempts = e.attempts + 1,
      lease = lease_emails.lease,
      due_at = now() + least(interval '6 hours', interval '5 minutes' * power(2, least(e.attempts, 10)))
    from due
    where e.id = due.id;
  end if;
  return (
    select coalesce(jsonb_agg(jsonb_build_object(
      'id', e.id, 'kind', e.kind, 'subject', coalesce(e.subject, e.days::text),
      'address', coalesce(e.address, u.email),
      'reason', private.reason_of(r, e.kind), 'until', to_char(r.due_at at time zone 'UTC', 'FMDD FMMonth YYYY')
    )), '[]')
    from private.emails as e
    left join auth.users as u on u.id = e.person_id
    left join public.privacy_requests as r on r.id = private.request_of(e)
    where e.lease = lease_emails.lease and e.sent_at is null and coalesce(e.address, u.email) is not null
  );
end;
$$;

-- The email was sent. For a deleted account, its row and address are deleted.
create function backend.finish_email(id uuid)
returns void
language sql
security definer
set search_path = pg_catalog, pg_temp
begin atomic
  delete from private.emails as e where e.id = finish_email.id and e.person_id is null;
  update private.emails as e set sent_at = now() where e.id = finish_email.id and e.sent_at is null;
end;

-- The email provider reports that an email did not arrive. If the report does not name the email, it is about each one
-- that was sent to these addresses within a week, because a mail server tries for five days at most. Returns the
-- number of emails.
create function backend.record_bounce(email uuid default null, addresses text[] default '{}')
returns integer
language sql
security definer
set search_path = pg_catalog, pg_temp
begin atomic
  with named as (
    select e.id
    from private.emails as e
    where e.bounced_at is null
      and case
        when record_bounce.email is not null then e.id = record_bounce.email
        else e.sent_at > now() - interval '7 days' and e.person_id in (
          select u.id from auth.users as u where u.email = any (addresses)
        )
      end
    order by e.id
    for update
  ),
  bounced as (
    update private.emails as e
    set bounced_at = now()
    from named
    where e.id = named.id
    returning 1
  )
  select count(*)::integer from bounced;
end;

comment on function backend.record_bounce is 'Records that an email did not arrive (R10).';
comment on function backend.lease_emails is 'Leases to the caller the emails that are due.';
comment on function backend.finish_email is 'Records that an email was sent.';

revoke all on function backend.lease_emails, backend.finish_email, backend.record_bounce from public, anon, authenticated, service_role;
grant execute on function backend.lease_emails, backend.finish_email, backend.record_bounce to service_role;
