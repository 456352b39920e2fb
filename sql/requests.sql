-- Privacy requests: filed in the app or by mail, answered within 72 hours (Q1, Q2). A request without words is answered
-- by the button of its kind. For a request with words the button only proposes an answer: its person accepts it, or the
-- operator answers. The operator can also refuse or extend a request, with a reason.

create function private.request_kinds()
returns text[]
language sql
immutable
set search_path = pg_catalog, pg_temp
return array['access', 'export', 'erasure', 'correction', 'restriction', 'objection', 'other'];

-- A constraint is checked with the rights of whoever inserts.
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
  -- Mails of one day join one request.
  constraint privacy_requests_message_length
    check (char_length(message) between 1 and case channel when 'mail' then 20000 else 4000 end),
  constraint privacy_requests_sender_length check (char_length(sender) between 3 and 320),
  constraint privacy_requests_mail_unique unique (mail_digest),
  -- Of somebody whom nobody knows there is an address to answer to; of everybody else Auth has it. Of somebody who is
  -- gone there is only a pseudonym.
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

comment on table public.privacy_requests is 'What people ask of us about their data, by when it is answered, and how it was.';
comment on column public.privacy_requests.confirmed_at is 'When its person said that the mail was theirs; a mail by itself moves nothing.';
comment on column public.privacy_requests.mail_digest is 'SHA-256 of the name of the mail: delivered again, it files nothing.';
comment on column public.privacy_requests.joined_mails is 'The same of further mails that the sender wrote within a day.';
comment on column public.privacy_requests.proposed is 'What a button did that may answer it; its person says whether it does.';
comment on column public.privacy_requests.evidence is 'What answered it: an export, an erasure, a choice, or the operator.';
comment on column public.privacy_requests.answer is 'What the operator wrote: the answer, or the reason of a refusal.';
comment on column public.privacy_requests.pseudonym is 'Of whoever is gone: their id under a keyed hash, as in public.wallets.';
comment on column public.privacy_requests.extension is 'Why the operator needs longer than 72 hours.';

-- Who has done what with a request. The reasons and answers are in the request itself.
create table private.request_actions (
  id bigint generated always as identity,
  request_id uuid not null,
  at timestamptz not null default now(),
  action text not null,
  operator text not null,
  constraint request_actions_pkey primary key (id),
  constraint request_actions_request_exists foreign key (request_id) references public.privacy_requests (id) on delete cascade,
  constraint request_actions_action_known check (action in ('answered', 'refused', 'extended')),
  constraint request_actions_operator_length check (char_length(operator) between 1 and 100)
);

create index request_actions_request_id_idx on private.request_actions (request_id);

alter table private.request_actions enable row level security;
revoke all on private.request_actions from public, anon, authenticated, service_role;

comment on table private.request_actions is 'Which operator answered, refused or extended a request, and when.';

-- The clock, as its subject sees it: hours that are left, rounded up; none once it is closed.
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

comment on view public.privacy_request_clock is 'One''s own requests, with the hours that are left to answer each (Q2).';

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

-- Q2: the clock starts with the filing. The app files a handful, not a flood, whatever has been closed meanwhile.
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
  new.due_at := new.filed_at + private.keep('requests_answered');
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
      format('You have %s open requests. They are answered first.', open_quota.most));
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

-- That there was a request, and how it was answered, outlives the account. Its words do not. What was still open is
-- closed by the erasure.
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

-- What a button has done answers the requests of its kind that say nothing else; the button is the evidence. A request
-- with words may ask for more, so for that it only proposes the answer.
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

-- A mail with the right subject (Q1), once each: `digest` is the SHA-256 of its name. `sender` is matched with an
-- account only if the provider has verified it. A sender makes one request a day: a further mail joins it, and opens it
-- again if it was closed, so that a stranger cannot start many clocks and no word is lost. Answers {outcome, id,
-- matched}: filed, joined, or known.
create function backend.file_mail(digest text, sender text, verified boolean, message text)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  quota constant private.quotas := private.quota('mails', 'per_day');
  -- Auth may have two accounts with one address, one of them by single sign-on: then it is unclear whose mail it is.
  person constant uuid := (
    select (array_agg(u.id))[1]
    from auth.users as u
    join public.profiles as p on p.id = u.id and p.closed_at is null
    where verified and u.email = lower(sender) and u.email_confirmed_at is not null
    having count(*) = 1
  );
  address constant text := left(sender, 320);
  words constant text := nullif(left(message, 4000), '');
  earlier uuid[];
  filed public.privacy_requests;
begin
  -- The mails of one sender come one after the other.
  perform pg_advisory_xact_lock(hashtextextended('mail:' || lower(sender), 0));
  -- Who has written to us is here: an answer to a notice keeps the account (R10).
  perform private.note_activity(person);
  earlier := array(
    select r.id
    from public.privacy_requests as r
    where r.channel = 'mail' and r.filed_at > now() - quota.span
      and case when person is null then lower(r.sender) = lower(address) else r.person_id = person end
    order by r.filed_at desc
  );
  if exists (
    select from public.privacy_requests as r
    where r.mail_digest = file_mail.digest or (r.id = any (earlier) and file_mail.digest = any (r.joined_mails))
  ) then
    return jsonb_build_object('outcome', 'known');
  end if;

  if cardinality(earlier) >= quota.most then
    update public.privacy_requests as r
    set message = left(concat_ws(E'\n\n', r.message, words), 20000),
      joined_mails = r.joined_mails || file_mail.digest,
      due_at = case when r.closed_at is null then r.due_at else now() + private.keep('requests_answered') end,
      closed_at = null, evidence = null, answer = null, proposed = null,
      extended_at = case when r.closed_at is null then r.extended_at end,
      extension = case when r.closed_at is null then r.extension end
    where r.id = earlier[1];
    return jsonb_build_object('outcome', 'joined', 'id', earlier[1], 'matched', person is not null);
  end if;

  insert into public.privacy_requests (person_id, channel, kind, message, sender, mail_digest)
  values (person, 'mail', 'other', words, case when person is null then address end, digest)
  on conflict (mail_digest) do nothing
  returning * into filed;
  if filed.id is null then
    return jsonb_build_object('outcome', 'known');
  end if;
  if person is not null then
    perform private.order_letter(person, 'request_filed', filed.id::text);
  end if;
  return jsonb_build_object('outcome', 'filed', 'id', filed.id, 'matched', person is not null);
end;
$$;

-- Its person says that the mail was theirs, and if they like what it is about, so that a button of that kind answers it.
create function private.confirm_request(request uuid, kind text)
returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  confirmed public.privacy_requests;
begin
  perform private.check_kind(kind);
  update public.privacy_requests as r
  set confirmed_at = coalesce(r.confirmed_at, now()),
    kind = case when r.closed_at is null then coalesce(confirm_request.kind, r.kind) else r.kind end
  where r.id = confirm_request.request and r.channel = 'mail' and r.person_id is not null
  returning * into confirmed;
  if confirmed.id is null then
    perform private.refuse(404, 'request_not_found', 'There is no mailed request with this id, or not any more.');
  end if;
  return jsonb_build_object('id', confirmed.id, 'kind', confirmed.kind, 'confirmed_at', confirmed.confirmed_at,
    'due_at', confirmed.due_at);
end;
$$;

-- By the link of the letter, whose token the function has checked.
create function backend.confirm_request(id uuid, kind text default null)
returns jsonb
language sql
security definer
set search_path = pg_catalog, pg_temp
return private.confirm_request(id, kind);

-- By signing in.
create function private.confirm_own_request(id uuid, kind text)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if not exists (
    select from public.privacy_requests as r
    where r.id = confirm_own_request.id and r.person_id = private.person()
  ) then
    perform private.refuse(404, 'request_not_found',
      'You have no mailed request with this id; see the view privacy_request_clock.');
  end if;
  return private.confirm_request(id, kind);
end;
$$;

create function public.confirm_request(id uuid, kind text default null)
returns jsonb
language sql
set search_path = pg_catalog, pg_temp
return private.confirm_own_request(id, kind);

comment on function public.confirm_request is 'Says that a mailed request was the caller''s, and what it is about (Q1). Answers {id, kind, confirmed_at, due_at}.';

revoke all on function private.confirm_own_request, public.confirm_request from public, anon, authenticated, service_role;
grant execute on function private.confirm_own_request, public.confirm_request to authenticated;

-- The person says that what a button did answers their request.
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
      'You have no open request with this id; see the view privacy_request_clock.');
  elsif accepted.proposed is null then
    perform private.refuse(409, 'nothing_proposed',
      'Nothing was done yet that answers this request. Please use the button of its kind, or wait for our answer.');
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

comment on function public.accept_proposal is 'Says that what a button did answers the caller''s request. Answers {id, closed_at, evidence}.';

revoke all on function private.accept_proposal, public.accept_proposal from public, anon, authenticated, service_role;
grant execute on function private.accept_proposal, public.accept_proposal to authenticated;

-- Locks an open request for the operator, and writes down who does what with it.
create function private.note_action(request uuid, action text, operator text, words text, field text)
returns public.privacy_requests
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  noted public.privacy_requests;
begin
  if coalesce(char_length(words), 0) not between 1 and 2000 then
    perform private.refuse(422, 'invalid_' || field, field || ' must have 1 to 2000 characters.',
      jsonb_build_object('field', field));
  elsif coalesce(char_length(operator), 0) not between 1 and 100 then
    perform private.refuse(422, 'invalid_operator', 'operator must say who you are, in 1 to 100 characters.',
      '{"field": "operator"}');
  end if;
  select * into noted
  from public.privacy_requests as r
  where r.id = note_action.request and r.closed_at is null
  for update;
  if noted.id is null then
    perform private.refuse(404, 'request_not_found', 'There is no such open request.');
  end if;
  insert into private.request_actions (request_id, action, operator)
  values (noted.id, note_action.action, note_action.operator);
  return noted;
end;
$$;

-- The operator's answer.
create function backend.close_request(id uuid, answer text, operator text)
returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.note_action(id, 'answered', operator, answer, 'answer');
  update public.privacy_requests as r
  set closed_at = now(), evidence = '{"operator": "answered"}', proposed = null, answer = close_request.answer
  where r.id = close_request.id;
end;
$$;

-- The operator does not do what was asked. The reason also tells the person where to complain (GDPR, article 12(4)).
create function backend.refuse_request(id uuid, reason text, operator text)
returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.note_action(id, 'refused', operator, reason, 'reason');
  update public.privacy_requests as r
  set closed_at = now(), evidence = '{"operator": "refused"}', proposed = null, answer = refuse_request.reason
  where r.id = refuse_request.id;
end;
$$;

-- The operator needs longer. The law allows three months from the filing, and wants the person told why within the
-- first month (GDPR, article 12(3)). The rules say so in days, for the shortest months.
create function backend.extend_request(id uuid, due_at timestamptz, reason text, operator text)
returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  request constant public.privacy_requests := private.note_action(id, 'extended', operator, reason, 'reason');
begin
  if now() > request.filed_at + private.keep('requests_extendable') then
    perform private.refuse(409, 'too_late', 'A request can be extended within 28 days of its filing.');
  elsif extend_request.due_at is null
    or extend_request.due_at not between request.due_at and request.filed_at + private.keep('requests_extended')
  then
    perform private.refuse(422, 'invalid_due_at',
      'due_at must be later than it is, and at most 89 days after the filing.', '{"field": "due_at"}');
  end if;
  update public.privacy_requests as r
  set due_at = extend_request.due_at, extended_at = now(), extension = extend_request.reason
  where r.id = extend_request.id;
end;
$$;

comment on function backend.file_mail is 'Files a mail with the subject of the policy (Q1); delivered again, it files nothing.';
comment on function backend.confirm_request is 'Its person has said that the mail was theirs.';
comment on function backend.close_request is 'The operator has answered a request, in these words.';
comment on function backend.refuse_request is 'The operator has refused a request, for this reason.';
comment on function backend.extend_request is 'The operator needs longer for a request, for this reason.';

revoke all on function
  backend.file_mail, backend.confirm_request, backend.close_request, backend.refuse_request, backend.extend_request
from public, anon, authenticated, service_role;
grant execute on function
  backend.file_mail, backend.confirm_request, backend.close_request, backend.refuse_request, backend.extend_request
to service_role;
