-- Erasure of an account (G3). Its user orders it. It is also ordered after a year of inactivity, or if the account was
-- never confirmed (R10). The order itself closes the account.

create table private.erasures (
  id uuid not null default gen_random_uuid(),
  person_id uuid,
  reason text not null,
  stage text not null default 'ordered',
  ordered_at timestamptz not null default now(),
  begins_at timestamptz not null default now() + private.retention('erasure_grace'),
  lease uuid,
  leased_until timestamptz,
  objects integer not null default 0,
  erased_at timestamptz,
  finished_at timestamptz,
  receipt text,
  constraint erasures_pkey primary key (id),
  constraint erasures_reason_known check (reason in ('asked', 'inactive', 'unconfirmed')),
  constraint erasures_stage_known check (stage in ('ordered', 'deleting', 'verifying', 'leaving', 'done')),
  constraint erasures_one_a_person unique (person_id),
  constraint erasures_done_forgets check ((stage = 'done') = (person_id is null)),
  constraint erasures_done_has_receipt
    check ((stage = 'done') = (receipt is not null) and (stage = 'done') = (finished_at is not null))
);

create index erasures_open_idx on private.erasures (begins_at) where stage <> 'done';
create index erasures_lease_idx on private.erasures (lease) where stage <> 'done';
create index erasures_finished_at_idx on private.erasures (finished_at);

alter table private.erasures enable row level security;
revoke all on private.erasures from public, anon, authenticated, service_role;

comment on table private.erasures is 'Accounts that are being erased, and proofs of those that are gone. Anyone who knows the ID can see the status, because no token gives access to the account any more.';
comment on column private.erasures.receipt is 'A compact JWS: what was erased and when, without whose it was.';

-- Orders an erasure: closes the account, so that its tokens give access to nothing, and stops what is in progress. A
-- retry returns the same erasure.
create function private.order_erasure(person uuid, reason text)
returns private.erasures
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  erasure private.erasures;
begin
  perform private.cancel_open(person);
  update public.profiles as p set closed_at = now() where p.id = person and p.closed_at is null;
  if not found then
    select * into erasure from private.erasures as e where e.person_id = person;
    return erasure;
  end if;
  insert into private.erasures (person_id, reason) values (person, reason) returning * into erasure;
  perform private.end_exports(person, true);
  perform private.answer_requests(person, array['erasure'], 'erasure', private.timestamp(now()));
  return erasure;
end;
$$;

create function private.describe_erasure(erasure private.erasures)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
return jsonb_build_object(
  'id', erasure.id,
  'stage', erasure.stage,
  'ordered_at', erasure.ordered_at,
  'begins_at', erasure.begins_at,
  'objects_left', (
    select count(*)
    from (
      select d.bucket, d.path from public.deletions as d
      where d.person_id = erasure.person_id and d.verified_at is null
      union
      select o.bucket_id, o.name from storage.objects as o
      join private.personal_buckets as b on b.bucket = o.bucket_id
      where o.name collate "C" >= erasure.person_id || '/' and o.name collate "C" < erasure.person_id || '0'
    ) as left_over
  ),
  'finished_at', erasure.finished_at,
  'receipt', erasure.receipt
);

-- When the user signed in to the session of this token, however often the token was renewed since. The token says so
-- (`amr`), or Auth's session does.
create function private.signed_in_at(person uuid)
returns timestamptz
language sql
stable
set search_path = pg_catalog, pg_temp
return coalesce(
  (
    select to_timestamp(max((m.value ->> 'timestamp')::bigint))
    from jsonb_array_elements(
      case when jsonb_typeof(auth.jwt() -> 'amr') = 'array' then auth.jwt() -> 'amr' else '[]' end
    ) as m
    where jsonb_typeof(m.value) = 'object'
  ),
  (
    select s.created_at
    from auth.sessions as s
    where s.user_id = person and s.id::text = auth.jwt() ->> 'session_id'
  ),
  '-infinity'
);

-- Refuses unless the user has typed the email of the account, confirmed or not. If the account has no email, the user
-- types its phone number. An anonymous account has neither.
create function private.require_typed(account auth.users, email text, phone text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if coalesce(account.email, '') <> '' then
    if account.email is distinct from lower(btrim(require_typed.email)) then
      perform private.refuse(422, 'email_differs',
        'email must be the email address of your account. Please type it again.', '{"field": "email"}');
    end if;
  elsif coalesce(account.phone, '') <> '' then
    -- Auth keeps only the digits.
    if account.phone is distinct from regexp_replace(require_typed.phone, '[^0-9]', '', 'g') then
      perform private.refuse(422, 'phone_differs',
        'phone must be the phone number of your account. Please type it again.', '{"field": "phone"}');
    end if;
  end if;
end;
$$;

-- Requires a sign-in within the last 15 minutes, and the email or phone number of the account, typed. An anonymous
-- account cannot be signed in to again, so its session is enough. A retry after a lost response returns the same
-- erasure, because its ID is the only way to the receipt.
create function private.erase_account(email text, phone text)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  person constant uuid := (
    select p.id from public.profiles as p where p.id = auth.uid() and private.has_open_session(p.id)
  );
  account auth.users;
  erasure private.erasures;
begin
  if person is null then
    perform private.refuse(401, 'not_signed_in', 'Your session is over. Please sign in again.');
  end if;
  perform private.require_second_factor(person);
  select * into account from auth.users as u where u.id = person;
  if not account.is_anonymous and private.signed_in_at(person) < now() - interval '15 minutes' then
    perform private.refuse(403, 'sign_in_again', 'Please sign in again. Then confirm the erasure within 15 minutes.');
  end if;
  perform private.require_typed(account, email, phone);
  erasure := private.order_erasure(person, 'asked');
  -- A statement of its own, so that it sees the deletions that were just ordered.
  return private.describe_erasure(erasure);
end;
$$;

create function public.erase_account(email text default null, phone text default null)
returns jsonb
language sql
set search_path = pg_catalog, pg_temp
return private.erase_account(email, phone);

comment on function public.erase_account is 'Erases the caller''s account and everything in it (G3). From this moment on, its tokens give access to nothing.';

revoke all on function private.erase_account, public.erase_account from public, anon, authenticated, service_role;
grant execute on function private.erase_account, public.erase_account to authenticated;

create function backend.read_erasure(id uuid)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  known private.erasures;
begin
  select * into known from private.erasures as e where e.id = read_erasure.id;
  if not found then
    perform private.refuse(404, 'erasure_not_found', 'There is no erasure with this id. Please check the id.');
  end if;
  return private.describe_erasure(known);
end;
$$;

-- Within its grace period, an erasure can be withdrawn. The account is then open again.
create function backend.withdraw_erasure(id uuid)
returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  person uuid;
begin
  if not exists (select from private.erasures as e where e.id = withdraw_erasure.id) then
    perform private.refuse(404, 'erasure_not_found', 'There is no erasure with this id. Please check the id.');
  end if;
  delete from private.erasures as e
  where e.id = withdraw_erasure.id and e.stage = 'ordered' and e.begins_at > now()
  returning e.person_id into person;
  if person is null then
    perform private.refuse(409, 'erasure_begun', 'This erasure has begun and cannot be taken back.');
  end if;
  update public.profiles as p set closed_at = null where p.id = person;
end;
$$;

comment on function backend.read_erasure is 'The status of an erasure, for anyone who knows its ID.';
comment on function backend.withdraw_erasure is 'Withdraws an erasure within its grace period.';

revoke all on function backend.read_erasure, backend.withdraw_erasure from public, anon, authenticated, service_role;
grant execute on function backend.read_erasure, backend.withdraw_erasure to service_role;
