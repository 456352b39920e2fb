-- Privacy requests: filed in the app or by email, answered within 72 hours (Q1, Q2). If a request has no message, the
-- button of its kind answers it. If it has a message, the button only proposes an answer: the user accepts it, or the
-- operator answers. The operator can also refuse or extend a request, with a reason.

create function private.request_kinds()
returns text[]
language sql
immutable
set search_path = pg_catalog, pg_temp
return array['access', 'export', 'erasure', 'correction', 'restriction', 'objection', 'other'];

-- A constraint is checked with the rights of the role that inserts, so users need to execute this function.
revoke all on function private.request_kinds from public, anon, authenticated, service_role;
grant execute on function private.request_kinds to authenticated, service_role;

create table public.privacy_requests (
  id uuid not null default gen_random_uuid(),
  person_id uuid default auth.uid(),
  channel text not null default 'app',
  kind text not null,
  message text,
  sender text,
  mail_digest text,
  joined_mails text[] not null default '{}',
  filed_at timestamptz not null default now(),
  due_at timestamptz not null,
  confirmed_at timestamptz,
  closed_at timestamptz,
  proposed jsonb,
  evidence jsonb,
  answer text,
  extended_at timestamptz,
  extension text,
  pseudonym text,
  constraint privacy_requests_pkey primary key (id),
  constraint privacy_requests_person_exists foreign key (person_id) references auth.users (id) on delete set null,
  constraint privacy_requests_channel_known check (channel in ('app', 'mail')),
  constraint privacy_requests_kind_known check (kind = any (private.request_kinds())),
  -- Emails of one day join one request, so it may be longer.
  constraint privacy_requests_message_length
    check (char_length(message) between 1 and case channel when 'mail' then 20000 else 4000 end),
  constraint privacy_requests_sender_length check (char_length(sender) between 3 and 320),
  constraint privacy_requests_mail_unique unique (mail_digest),
  -- A request from an unknown sender has an address to answer to. For a user, Auth has the address. For a deleted
  -- account, there is only a pseudonym.
  constraint privacy_requests_one_subject check (num_nonnulls(person_id, sender, pseudonym) <= 1),
  constraint privacy_requests_closed_has_evidence check ((closed_at is null) = (evidence is null)),
  constraint privacy_requests_extended_has_reason check ((extended_at is null) = (extension is null))
);

create index privacy_requests_sender_idx on public.privacy_requests (lower(sender), filed_at desc) where sender is not null;
create index privacy_requests_person_id_idx on public.privacy_requests (person_id, filed_at desc);
create index privacy_requests_open_idx on public.privacy_requests (due_at) where closed_at is null;
create index privacy_requests_closed_at_idx on public.privacy_requests (closed_at);

alter table public.privacy_requests enable row level security;
revoke all on public.privacy_requests from public, anon, authenticated, service_role;

create policy "People see their own requests"
on public.privacy_requests
for select
to authenticated
using (person_id = (select private.person()));

create policy "People file requests for themselves"
on public.privacy_requests
for insert
to authenticated
with check (person_id = (select private.person()));

grant select on public.privacy_requests to authenticated, service_role;
grant insert (person_id, kind, message) on public.privacy_requests to authenticated;

comment on table public.privacy_requests is 'What users ask about their data, by when it is answered, and how it was answered.';
comment on column public.privacy_requests.confirmed_at is 'When the user said that the email was theirs. An email by itself changes nothing.';
comment on column public.privacy_requests.mail_digest is 'SHA-256 of the Message-ID of the email. If the email is delivered again, it files nothing.';
comment on column public.privacy_requests.joined_mails is 'The same digest of further emails that the sender wrote within a day.';
comment on column public.privacy_requests.proposed is 'What a button did that may answer the request. The user says whether it does.';
comment on column public.privacy_requests.evidence is 'What answered the request: an export, an erasure, a choice, a change of the profile, or the operator.';
comment on column public.privacy_requests.answer is 'What the operator wrote: the answer, or the reason for a refusal.';
comment on column public.privacy_requests.pseudonym is 'For a deleted account: the user''s ID under a keyed hash, as in public.wallets.';
comment on column public.privacy_requests.extension is 'Why the operator needs longer than 72 hours.';

-- A request as its user sees it: `hours_left` is rounded up, and null once the request is closed.
create view public.privacy_request_clock
with (security_invoker = true)
as
select r.id, r.kind, r.channel, r.filed_at, r.due_at, r.confirmed_at, r.closed_at, r.proposed, r.evidence, r.answer,
  r.extension,
  case when r.closed_at is null then
    greatest(0, ceil(extract(epoch from r.due_at - now()) / 3600))::integer
  end as hours_left
from public.privacy_requests as r;

revoke all on public.privacy_request_clock from public, anon, authenticated, service_role;
grant select on public.privacy_request_clock to authenticated, service_role;

comment on view public.privacy_request_clock is 'The caller''s own requests, with the hours that are left to answer each (Q2).';

create function private.check_kind(kind text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if kind <> all (private.request_kinds()) then
    perform private.refuse(422, 'unknown_kind',
      format('kind must be one of %s.', array_to_string(private.request_kinds(), ', ')), '{"field": "kind"}');
  end if;
end;
$$;

-- Q2: the 72 hours start when the request is filed. The quotas keep the app from filing a flood of requests, even if
-- earlier ones are closed.
create function private.check_request()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  open_quota constant private.quotas := private.quota('requests', 'open');
  day_quota constant private.quotas := private.quota('requests', 'per_day');
  free_at timestamptz;
begin
  new.due_at := new.filed_at + private.retention('requests_answered');
  if private.is_anothers(new.person_id) then
    return new;
  end if;
  if new.channel <> 'app' then
    return new;
  end if;
  perform private.check_kind(new.kind);
  if char_length(new.message) not between 1 and 4000 then
    perform private.refuse(422, 'invalid_message',
      'message must have 1 to 4000 characters, or be left out.', '{"field": "message"}');
  end if;
  perform private.lock_person(new.person_id);
  if (
    select count(*) from public.privacy_requests as r
    where r.person_id = new.person_id and r.channel = 'app' and r.closed_at is null
  ) >= open_quota.most then
    perform private.refuse(429, 'too_many_requests',
      format('You have %s open requests. Please wait until one of them is answered.', open_quota.most));
  end if;
  select min(latest.filed_at) + day_quota.span into free_at
  from (
    select r.filed_at from public.privacy_requests as r
    where r.person_id = new.person_id and r.channel = 'app' and r.filed_at > now() - day_quota.span
    order by r.filed_at desc
    limit day_quota.most
  ) as latest
  having count(*) = day_quota.most;
  if free_at is not null then
    perform private.refuse(429, 'too_many_requests',
      format('You have filed %s requests within a day. Please wait before you file another.', day_quota.most),
      private.retry_at(free_at));
  end if;
  return new;
end;
$$;

create trigger privacy_requests_check
before insert on public.privacy_requests
for each row
execute function private.check_request();

-- That there was a request, and how it was answered, outlives the account. Its words do not. If the request was still
-- open, the erasure closes it.
create function private.forget_request()
returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if new.closed_at is null then
    new.closed_at := now();
    new.evidence := jsonb_build_object('erasure', private.timestamp(now()));
  end if;
  new.message := null;
  new.sender := null;
  new.mail_digest := null;
  new.joined_mails := '{}';
  new.proposed := null;
  new.answer := null;
  new.extended_at := null;
  new.extension := null;
  return new;
end;
$$;

create trigger privacy_requests_forget
before update of person_id on public.privacy_requests
for each row
when (old.person_id is not null and new.person_id is null)
execute function private.forget_request();

-- What a button has done answers the open requests of its kind that have no message, and is their evidence. A request
-- with a message may ask for more, so for that the button only proposes an answer.
create function private.answer_requests(person uuid, kinds text[], by text, evidence text)
returns void
language sql
set search_path = pg_catalog, pg_temp
begin atomic
  update public.privacy_requests as r
  set closed_at = case when r.message is null then now() end,
    evidence = case when r.message is null then jsonb_build_object(by, answer_requests.evidence) end,
    proposed = case when r.message is not null then jsonb_build_object(by, answer_requests.evidence) end
  where r.person_id = person and r.kind = any (kinds) and r.closed_at is null;
end;

create function private.follow_correction()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.answer_requests(new.id, array['correction'], 'profile', private.timestamp(now()));
  return null;
end;
$$;

create trigger profiles_follow_correction
after update of username, default_style, default_settings on public.profiles
for each row
when (
  (old.username, old.default_style, old.default_settings)
    is distinct from (new.username, new.default_style, new.default_settings)
)
execute function private.follow_correction();

-- The user says that what a button did answers their request.
create function private.accept_proposal(id uuid)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  person constant uuid := private.require_person();
  accepted public.privacy_requests;
begin
  select * into accepted
  from public.privacy_requests as r
  where r.id = accept_proposal.id and r.person_id = person and r.closed_at is null
  for update;
  if accepted.id is null then
    perform private.refuse(404, 'request_not_found',
      'You have no open request with this id. It may already be closed.');
  elsif accepted.proposed is null then
    perform private.refuse(409, 'nothing_proposed',
      'Nothing has been done yet to answer this request. Please use the button of its kind, or wait for our answer.');
  end if;
  update public.privacy_requests as r
  set closed_at = now(), evidence = r.proposed, proposed = null
  where r.id = accepted.id
  returning * into accepted;
  return jsonb_build_object('id', accepted.id, 'closed_at', accepted.closed_at, 'evidence', accepted.evidence);
end;
$$;

create function public.accept_proposal(id uuid)
returns jsonb
language sql
set search_path = pg_catalog, pg_temp
return private.accept_proposal(id);

comment on function public.accept_proposal is 'Says that what a button did answers the caller''s request. Returns {id, closed_at, evidence}.';

revoke all on function private.accept_proposal, public.accept_proposal from public, anon, authenticated, service_role;
grant execute on function private.accept_proposal, public.accept_proposal to authenticated;
