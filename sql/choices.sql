-- What users allow. Purposes are rows, and choices are kept with their history. The database follows the last choice,
-- or the default of the purpose (G6, G7).

create table public.purposes (
  id text not null,
  clause text not null,
  words text not null,
  position smallint not null,
  allowed_by_default boolean not null,
  constraint purposes_pkey primary key (id)
);

alter table public.purposes enable row level security;
revoke all on public.purposes from public, anon, authenticated, service_role;

create policy "Anyone reads what the purposes are"
on public.purposes
for select
to anon, authenticated
using (true);

grant select on public.purposes to anon, authenticated, service_role;

comment on table public.purposes is 'What personal data is used for. Users can refuse each purpose and allow it again.';

comment on column public.purposes.allowed_by_default is 'Whether the purpose is allowed for users who have made no choice. False for a purpose that reads the user''s device.';

insert into public.purposes (id, clause, position, allowed_by_default, words) values
  ('generation', 'G6', 1, true,
    'Making artworks from your photos. If you refuse, nothing new is charged or submitted, and what runs is stopped: if the model has begun, as a late cancel.'),
  ('analytics', 'G7', 2, false,
    'Counting which features you use, and on what kind of device. This reads your device, so nothing is recorded until you allow it.'),
  ('improvement', 'G7', 3, true,
    'Reports that help to improve models and styles. If you refuse, you are left out of all of them, your past included.'),
  ('notices', 'R10', 4, true,
    'Reminders by email before an account that is not used is deleted. If you refuse, none are sent, and the account stays.');

-- We must be able to prove choices and consents later (GDPR, article 7(1)). So these rows outlive the account, under
-- its pseudonym. Their retention rule counts from the end of the account.
create function private.note_departure()
returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  new.left_at := now();
  return new;
end;
$$;

create table public.privacy_choices (
  id bigint generated always as identity,
  person_id uuid default auth.uid(),
  purpose text not null,
  allowed boolean not null,
  at timestamptz not null default now(),
  pseudonym text,
  left_at timestamptz,
  constraint privacy_choices_pkey primary key (id),
  constraint privacy_choices_person_exists foreign key (person_id) references auth.users (id) on delete set null,
  constraint privacy_choices_purpose_known foreign key (purpose) references public.purposes (id),
  constraint privacy_choices_pseudonym_without_person check (pseudonym is null or person_id is null)
);

create index privacy_choices_latest_idx on public.privacy_choices (person_id, purpose, id desc);
create index privacy_choices_purpose_idx on public.privacy_choices (purpose);
create index privacy_choices_left_at_idx on public.privacy_choices (left_at) where left_at is not null;

alter table public.privacy_choices enable row level security;
revoke all on public.privacy_choices from public, anon, authenticated, service_role;
revoke all on sequence public.privacy_choices_id_seq from public, anon, authenticated, service_role;

create policy "People see their own choices"
on public.privacy_choices
for select
to authenticated
using (person_id = (select private.person()));

create policy "People choose for themselves"
on public.privacy_choices
for insert
to authenticated
with check (person_id = (select private.person()));

grant select on public.privacy_choices to authenticated, service_role;
grant insert (person_id, purpose, allowed) on public.privacy_choices to authenticated;

comment on table public.privacy_choices is 'Every choice that was made. The last one for a purpose counts; without one, the default of the purpose counts. The rows outlive the account as proof.';
comment on column public.privacy_choices.pseudonym is 'For a deleted account: the user''s ID under a keyed hash, as in public.wallets.';
comment on column public.privacy_choices.left_at is 'When the account was deleted. The retention rule counts from then.';

create trigger privacy_choices_forget
before update of person_id on public.privacy_choices
for each row
when (new.person_id is null)
execute function private.note_departure();

create function private.allows(person uuid, purpose text)
returns boolean
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
return coalesce((
  -- No `limit` here: with one, the planner might walk the choices of all users from the end.
  select (array_agg(c.allowed order by c.id desc))[1]
  from public.privacy_choices as c
  where c.person_id = person and c.purpose = allows.purpose
), (
  select p.allowed_by_default from public.purposes as p where p.id = allows.purpose
));

revoke all on function private.allows from public, anon, authenticated, service_role;
grant execute on function private.allows to service_role;

-- Which users do not allow which purposes, by a choice or by default. For reports over all users.
create view private.refusals
as
select p.id as person_id, u.id as purpose
from public.profiles as p
cross join public.purposes as u
left join (
  select distinct on (n.person_id, n.purpose) n.person_id, n.purpose, n.allowed
  from public.privacy_choices as n
  order by n.person_id, n.purpose, n.id desc
) as c on c.person_id = p.id and c.purpose = u.id
where not coalesce(c.allowed, u.allowed_by_default);

revoke all on private.refusals from public, anon, authenticated, service_role;
grant select on private.refusals to service_role;

-- Users change their minds, and programs have bugs. The quota leaves room for the first and stops the second.
create function private.check_choice()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  quota constant private.quotas := private.quota('choices', 'per_hour');
  free_at timestamptz;
begin
  if private.is_anothers(new.person_id) then
    return new;
  end if;
  perform private.lock_person(new.person_id);
  select min(latest.at) + quota.span into free_at
  from (
    select c.at from public.privacy_choices as c
    where c.person_id = new.person_id and c.purpose = new.purpose and c.at > now() - quota.span
    order by c.id desc
    limit quota.most
  ) as latest
  having count(*) = quota.most;
  if free_at is not null then
    perform private.refuse(429, 'too_many_choices',
      format('You have changed this %s times within an hour. The last choice counts; please wait a while.', quota.most),
      private.retry_at(free_at));
  end if;
  return new;
end;
$$;

create trigger privacy_choices_check
before insert on public.privacy_choices
for each row
execute function private.check_choice();

-- Ends all open generations of a user. It locks the user first, as a submission does, so that no new generation starts
-- in between.
create function private.cancel_open(person uuid)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  locked uuid[];
begin
  perform private.lock_person(person);
  locked := private.lock_generations(array(
    select g.id from public.generations as g where g.person_id = person and not private.is_terminal(g.state)
  ), skip => false);
  update public.generations as g
  set state = 'canceled'
  where g.id = any (locked) and not private.is_terminal(g.state);
end;
$$;

-- A restriction takes effect in its own statement, which also ends what is in progress.
create function private.follow_choice()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if new.purpose = 'generation' and not new.allowed then
    perform private.cancel_open(new.person_id);
  end if;
  perform private.note_activity(new.person_id);
  -- Allowing a purpose does not answer a request to stop.
  if not new.allowed then
    perform private.answer_requests(new.person_id,
      array(
        select case p.clause when 'G6' then 'restriction' when 'G7' then 'objection' end
        from public.purposes as p
        where p.id = new.purpose and p.clause in ('G6', 'G7')
      ),
      'choice', new.id::text);
  end if;
  return null;
end;
$$;

create trigger privacy_choices_follow
after insert on public.privacy_choices
for each row
execute function private.follow_choice();
