-- Letters: mail that is owed to people. A row is an order; whoever has its lease sends it. What it says is a
-- template of the functions; here is only to whom, and about what.

create table private.letters (
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
  constraint letters_pkey primary key (id),
  constraint letters_person_exists foreign key (person_id) references auth.users (id) on delete cascade,
  constraint letters_kind_known check (
    kind in ('inactive', 'request_filed', 'request_refused', 'request_extended', 'erased')
  ),
  constraint letters_days_of_notices check ((kind = 'inactive') = (days is not null)),
  -- Auth has the address of whoever is here. Of whoever has left it is kept here until the last letter is sent.
  constraint letters_address_of_the_gone check ((person_id is null) = (address is not null))
);

create index letters_person_id_idx on private.letters (person_id, kind);
create index letters_lease_idx on private.letters (lease) where sent_at is null;
create index letters_due_at_idx on private.letters (due_at) where sent_at is null;
create index letters_left_at_idx on private.letters (left_at) where left_at is not null;
create index letters_ordered_at_idx on private.letters (ordered_at);

alter table private.letters enable row level security;
revoke all on private.letters from public, anon, authenticated, service_role;

comment on table private.letters is 'Mail that is owed, or was sent, to somebody.';
comment on column private.letters.subject is 'What it is about: a request, an erasure.';
comment on column private.letters.days is 'Of a notice: how many days before the erasure it was due.';
comment on column private.letters.left_at is 'When the erasure of who had this address was done; soon after, the letter goes with the address, sent or not.';
comment on column private.letters.bounced_at is 'When the mail provider said that it did not arrive. Such a notice warns nobody (R10).';

create function private.order_letter(person uuid, kind text, subject text)
returns void
language sql
set search_path = pg_catalog, pg_temp
begin atomic
  insert into private.letters (person_id, kind, subject) values (person, kind, subject);
end;

-- The person of a request is told by letter what the operator has decided, if they have an address: they may never look
-- into the app.
create function private.order_decision(request public.privacy_requests, kind text)
returns void
language sql
set search_path = pg_catalog, pg_temp
begin atomic
  select private.order_letter(u.id, kind, request.id::text)
  from auth.users as u
  where u.id = request.person_id and u.email is not null and u.email_confirmed_at is not null;
end;

-- The request that a letter tells the operator's decision on; null of other letters.
create function private.request_of(letter private.letters)
returns uuid
language sql
immutable
set search_path = pg_catalog, pg_temp
return case when letter.kind in ('request_refused', 'request_extended') then letter.subject::uuid end;

create function private.reason_of(request public.privacy_requests, decision text)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
return case decision when 'request_refused' then request.answer when 'request_extended' then request.extension end;

-- Due letters, [{id, kind, subject, address, reason, until}], under a lease of the caller's choosing; after five minutes
-- they are due again, each time later. Asked again with the same lease, it answers the same ones. After 40 attempts an
-- address is given up; that of an erased account is then forgotten. `reason` and `until` are of a request that the
-- operator has refused or extended.
create function backend.lease_letters(lease uuid, batch integer default 50)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  delete from private.letters as l
  where l.id in (
    select n.id from private.letters as n where n.sent_at is null and n.attempts >= 40 for update skip locked
  );
  -- A person who has come back since the letter was ordered, refuses notices or is leaving gets none.
  delete from private.letters as l
  where l.id in (
    select n.id
    from private.letters as n
    join public.profiles as p on p.id = n.person_id
    where n.kind = 'inactive' and n.sent_at is null and n.due_at <= now()
      and (p.closed_at is not null or not private.allows(p.id, 'notices') or private.last_active(p.id) > n.ordered_at)
    for update of n skip locked
  );

  -- A further mail has opened the request again, so what was decided of it counts no more.
  delete from private.letters as l
  where l.id in (
    select n.id
    from private.letters as n
    join public.privacy_requests as r on r.id = private.request_of(n)
    where n.sent_at is null and n.due_at <= now() and private.reason_of(r, n.kind) is null
    for update of n skip locked
  );

  if not exists (select from private.letters as l where l.lease = lease_letters.lease and l.sent_at is null) then
    with due as (
      select l.id
      from private.letters as l
      where l.sent_at is null and l.due_at <= now()
      order by l.due_at
      limit batch
      for update skip locked
    )
    update private.letters as l
    set attempts = l.attempts + 1,
      lease = lease_letters.lease,
      due_at = now() + least(interval '6 hours', interval '5 minutes' * power(2, least(l.attempts, 10)))
    from due
    where l.id = due.id;
  end if;
  return (
    select coalesce(jsonb_agg(jsonb_build_object(
      'id', l.id, 'kind', l.kind, 'subject', coalesce(l.subject, l.days::text),
      'address', coalesce(l.address, u.email),
      'reason', private.reason_of(r, l.kind), 'until', to_char(r.due_at at time zone 'UTC', 'FMDD FMMonth YYYY')
    )), '[]')
    from private.letters as l
    left join auth.users as u on u.id = l.person_id
    left join public.privacy_requests as r on r.id = private.request_of(l)
    where l.lease = lease_letters.lease and l.sent_at is null and coalesce(l.address, u.email) is not null
  );
end;
$$;

-- It was sent; the address of somebody who has left is forgotten with it.
create function backend.finish_letter(id uuid)
returns void
language sql
security definer
set search_path = pg_catalog, pg_temp
begin atomic
  delete from private.letters as l where l.id = finish_letter.id and l.person_id is null;
  update private.letters as l set sent_at = now() where l.id = finish_letter.id and l.sent_at is null;
end;

-- A letter did not arrive, by word of the mail provider. If the word does not name the letter, it is about each that was
-- sent to these addresses within a week: a mail server tries for five days at most. Answers how many letters.
create function backend.record_bounce(letter uuid default null, addresses text[] default '{}')
returns integer
language sql
security definer
set search_path = pg_catalog, pg_temp
begin atomic
  with named as (
    select l.id
    from private.letters as l
    where l.bounced_at is null
      and case
        when record_bounce.letter is not null then l.id = record_bounce.letter
        else l.sent_at > now() - interval '7 days' and l.person_id in (
          select u.id from auth.users as u where u.email = any (addresses)
        )
      end
    order by l.id
    for update
  ),
  bounced as (
    update private.letters as l
    set bounced_at = now()
    from named
    where l.id = named.id
    returning 1
  )
  select count(*)::integer from bounced;
end;

comment on function backend.record_bounce is 'A letter did not arrive (R10).';
comment on function backend.lease_letters is 'Mail that is owed, for the caller to send.';
comment on function backend.finish_letter is 'A letter was sent.';

revoke all on function backend.lease_letters, backend.finish_letter, backend.record_bounce from public, anon, authenticated, service_role;
grant execute on function backend.lease_letters, backend.finish_letter, backend.record_bounce to service_role;
