-- Privacy requests by email: how they are filed, and how the sender confirms them (Q1).

-- Files an email as a request (Q1), once. `digest`: SHA-256 of its Message-ID. `sender` is matched with an account
-- only if the provider has verified it. A sender makes one request a day: a further email joins it, and opens it again
-- if it was closed. So a stranger cannot start many requests, and no message is lost. Returns {outcome, id, matched}.
-- The outcome is `filed`, `joined` or `known`.
create function backend.file_email(digest text, sender text, verified boolean, message text)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  quota constant private.quotas := private.quota('emails', 'per_day');
  -- Auth may have two accounts with one address, one of them by single sign-on. Then it is unclear whose email it is.
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
  -- The emails of one sender are handled one after the other.
  perform pg_advisory_xact_lock(hashtextextended('email:' || lower(sender), 0));
  -- A user who writes to us is active, so an answer to a notice keeps the account (R10).
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
    where r.mail_digest = file_email.digest or (r.id = any (earlier) and file_email.digest = any (r.joined_mails))
  ) then
    return jsonb_build_object('outcome', 'known');
  end if;

  if cardinality(earlier) >= quota.most then
    update public.privacy_requests as r
    set message = left(concat_ws(E'\n\n', r.message, words), 20000),
      joined_mails = r.joined_mails || file_email.digest,
      due_at = case when r.closed_at is null then r.due_at else now() + private.retention('requests_answered') end,
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
    perform private.order_email(person, 'request_filed', filed.id::text);
  end if;
  return jsonb_build_object('outcome', 'filed', 'id', filed.id, 'matched', person is not null);
end;
$$;

-- The user says that the email was theirs, and, if they like, what it is about. Then the button of that kind applies
-- to it.
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
    perform private.refuse(404, 'request_not_found',
      'There is no request by email with this id. It may have been deleted.');
  end if;
  return jsonb_build_object('id', confirmed.id, 'kind', confirmed.kind, 'confirmed_at', confirmed.confirmed_at,
    'due_at', confirmed.due_at);
end;
$$;

-- Confirms by the link in the email. The caller has checked its token.
create function backend.confirm_request(id uuid, kind text default null)
returns jsonb
language sql
security definer
set search_path = pg_catalog, pg_temp
return private.confirm_request(id, kind);

-- Confirms by signing in.
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
      'You have no request by email with this id. It may have been deleted.');
  end if;
  return private.confirm_request(id, kind);
end;
$$;

create function public.confirm_request(id uuid, kind text default null)
returns jsonb
language sql
set search_path = pg_catalog, pg_temp
return private.confirm_own_request(id, kind);

comment on function public.confirm_request is 'Says that an emailed request was the caller''s, and what it is about (Q1). Returns {id, kind, confirmed_at, due_at}.';

revoke all on function private.confirm_own_request, public.confirm_request from public, anon, authenticated, service_role;
grant execute on function private.confirm_own_request, public.confirm_request to authenticated;

comment on function backend.file_email is 'Files an email as a privacy request (Q1). If the email is delivered again, it files nothing.';
comment on function backend.confirm_request is 'Records that the user has confirmed the email as theirs.';

revoke all on function backend.file_email, backend.confirm_request from public, anon, authenticated, service_role;
grant execute on function backend.file_email, backend.confirm_request to service_role;
