-- What the operator does with a privacy request: answer, refuse or extend it, each with words for the user (Q2).

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

-- Locks an open request for the operator, and records who does what with it.
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
    perform private.refuse(404, 'request_not_found', 'There is no open request with this id.');
  end if;
  insert into private.request_actions (request_id, action, operator)
  values (noted.id, note_action.action, note_action.operator);
  return noted;
end;
$$;

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

-- The operator does not do what was asked. The email with the reason also tells the user where to complain (GDPR,
-- article 12(4)).
create function backend.refuse_request(id uuid, reason text, operator text)
returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  request constant public.privacy_requests := private.note_action(id, 'refused', operator, reason, 'reason');
begin
  update public.privacy_requests as r
  set closed_at = now(), evidence = '{"operator": "refused"}', proposed = null, answer = refuse_request.reason
  where r.id = request.id;
  perform private.order_decision(request, 'request_refused');
end;
$$;

-- The operator needs longer. The law allows three months from the filing, and the user must be told why within the
-- first month (GDPR, article 12(3)). The rules count in days, for the shortest months.
create function backend.extend_request(id uuid, due_at timestamptz, reason text, operator text)
returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  request constant public.privacy_requests := private.note_action(id, 'extended', operator, reason, 'reason');
begin
  if now() > request.filed_at + private.retention('requests_extendable') then
    perform private.refuse(409, 'too_late',
      'A request can be extended only within 28 days of its filing. Answer or refuse it instead.');
  elsif extend_request.due_at is null
    or extend_request.due_at not between request.due_at and request.filed_at + private.retention('requests_extended')
  then
    perform private.refuse(422, 'invalid_due_at',
      'due_at must be later than it is now, and at most 89 days after the filing.', '{"field": "due_at"}');
  end if;
  update public.privacy_requests as r
  set due_at = extend_request.due_at, extended_at = now(), extension = extend_request.reason
  where r.id = extend_request.id;
  perform private.order_decision(request, 'request_extended');
end;
$$;

comment on function backend.close_request is 'Records the operator''s answer and closes the request.';
comment on function backend.refuse_request is 'Records the operator''s refusal and its reason, and closes the request.';
comment on function backend.extend_request is 'Records that the operator needs longer for a request, and why.';

revoke all on function backend.close_request, backend.refuse_request, backend.extend_request from public, anon, authenticated, service_role;
grant execute on function backend.close_request, backend.refuse_request, backend.extend_request to service_role;
