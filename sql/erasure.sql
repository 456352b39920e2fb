-- Erasure of an account (G3). Its user orders it. It is also ordered after a year of inactivity, or if the account was
-- never confirmed (R10). It is carried out in steps that can be repeated. The order itself closes the account. A stage
-- ends only when its data is seen to be gone. So a failure of Storage or Auth delays an erasure and never makes it
-- report too early.

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

-- Returns erasures to continue, [{id, person}], leased for two minutes. The caller chooses the lease: a retry with the
-- same lease gets the same erasures.
create function backend.lease_erasures(lease uuid, batch integer default 20)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if not exists (select from private.erasures as e where e.lease = lease_erasures.lease and e.stage <> 'done') then
    with due as (
      select e.id
      from private.erasures as e
      where e.stage <> 'done' and e.begins_at <= now() and coalesce(e.leased_until, '-infinity') <= now()
      order by e.begins_at
      limit batch
      for update skip locked
    )
    update private.erasures as e
    set lease = lease_erasures.lease, leased_until = now() + interval '2 minutes'
    from due
    where e.id = due.id;
  end if;
  return (
    select coalesce(jsonb_agg(jsonb_build_object('id', e.id, 'person', e.person_id)), '[]')
    from private.erasures as e
    where e.lease = lease_erasures.lease and e.stage <> 'done'
  );
end;
$$;

create function private.order_folder(person uuid)
returns integer
language sql
set search_path = pg_catalog, pg_temp
begin atomic
  with ordered as (
    insert into public.deletions (bucket, path, reason, person_id)
    select o.bucket_id, o.name, 'erasure', (select u.id from auth.users as u where u.id = person)
    from storage.objects as o
    join private.personal_buckets as b on b.bucket = o.bucket_id
    where o.name collate "C" >= person || '/' and o.name collate "C" < person || '0'
      and not exists (
        select from public.deletions as d
        where d.bucket = o.bucket_id and d.path = o.name and d.verified_at is null
      )
    limit 1000
    on conflict (bucket, path) where verified_at is null do nothing
    returning 1
  )
  select count(*)::integer from ordered;
end;

create function private.may_delete_from(relation text)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
return coalesce(
  has_table_privilege(to_regclass(relation), 'select') and has_table_privilege(to_regclass(relation), 'delete'),
  false
);

-- Deletes what Auth keeps about a user that it has deleted, above all its own log, with IDs and emails. This happens
-- only if the owner of the table lets us. It is a call of its own, because the log has no index and a long one takes
-- time. docs/runbook.md says how a project keeps the log out of the database.
create function backend.forget_in_auth(id uuid)
returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set statement_timeout = '1min'
as $$
declare
  person constant uuid := (
    select e.person_id from private.erasures as e where e.id = forget_in_auth.id and e.stage = 'leaving'
  );
  declared private.personal_data;
begin
  if person is null or exists (select from auth.users as u where u.id = person) then
    return;
  end if;
  for declared in select * from private.personal_data as p where p.erasure = 'after_account' order by p.relation loop
    if private.may_delete_from(declared.relation) then
      execute format('delete from %s as t where %s', declared.relation::regclass, declared.subject) using person;
    end if;
  end loop;
  update private.erasures as e set erased_at = coalesce(e.erased_at, now()) where e.id = forget_in_auth.id;
end;
$$;

-- Deletes a user's rows in one table, and the rows that name the user, one batch at a time. Returns how many rows.
create function private.delete_rows(declared private.personal_data, person uuid)
returns integer
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  stretch constant text := 'delete from %1$s where ctid = any (array(select t.ctid from %1$s as t where %2$s limit 5000))';
  deleted integer := 0;
  named integer := 0;
begin
  if declared.erasure = 'delete' then
    execute format(stretch, declared.relation::regclass, declared.subject) using person;
    get diagnostics deleted = row_count;
  end if;
  if declared.names is not null then
    execute format(stretch, declared.relation::regclass, declared.names)
    using (select u.email::text from auth.users as u where u.id = person);
    get diagnostics named = row_count;
  end if;
  return deleted + named;
end;
$$;

-- Takes the next step. Returns {next}:
--   again   there is more to do; call this again
--   wait    some data may not be gone yet; call this again in a later sweep
--   leave   delete `person` in Auth, then call this again
--   forget  call forget_in_auth, then call this again
--   sign    sign `statement`, then call finish_erasure
-- `pseudonym` is the user's ID under a keyed hash. `writes` says whether email can be sent.
create function backend.advance_erasure(id uuid, pseudonym text default null, writes boolean default false)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  erasure private.erasures;
  declared private.personal_data;
  locked uuid[];
begin
  select * into erasure from private.erasures as e where e.id = advance_erasure.id for update;
  if not found or erasure.stage = 'done' or erasure.begins_at > now() then
    return jsonb_build_object('next', 'wait');
  end if;

  if erasure.stage in ('ordered', 'deleting') then
    update private.erasures as e set stage = 'deleting' where e.id = erasure.id;
    -- Each deleted generation orders the deletion of its own objects.
    locked := private.lock_generations(array(
      select n.id from public.generations as n where n.person_id = erasure.person_id order by n.id limit 200
    ), skip => false);
    delete from public.generations as g where g.id = any (locked);
    if found or private.order_folder(erasure.person_id) > 0 then
      return jsonb_build_object('next', 'again');
    end if;
    for declared in select * from private.personal_data as p where p.erasure = 'delete' or p.names is not null order by p.relation loop
      if private.delete_rows(declared, erasure.person_id) > 0 then
        return jsonb_build_object('next', 'again');
      end if;
    end loop;
    update private.erasures as e set stage = 'verifying' where e.id = erasure.id;
    return jsonb_build_object('next', 'again');
  end if;

  -- This is also checked after the account is gone, because an upload that was in progress may have come late.
  if private.order_folder(erasure.person_id) > 0
    or exists (
      select from public.deletions as d
      where (d.person_id = erasure.person_id or starts_with(d.path, erasure.person_id || '/')) and d.verified_at is null
    )
    or exists (
      select from private.outbox as o
      where o.person_id = erasure.person_id and o.kind in ('abandon_upload', 'find_prediction')
    )
  then
    return jsonb_build_object('next', 'wait');
  end if;

  if erasure.stage = 'verifying' then
    update private.erasures as e
    set stage = 'leaving',
      objects = (select count(*) from public.deletions as d where d.person_id = erasure.person_id)
    where e.id = erasure.id;
  end if;
  if exists (select from auth.users as u where u.id = erasure.person_id) then
    update public.wallets as w
    set person_id = null, pseudonym = advance_erasure.pseudonym
    where w.person_id = erasure.person_id;
    update public.privacy_choices as c
    set person_id = null, pseudonym = advance_erasure.pseudonym
    where c.person_id = erasure.person_id;
    update public.policy_consents as c
    set person_id = null, pseudonym = advance_erasure.pseudonym
    where c.person_id = erasure.person_id;
    update public.privacy_requests as r
    set person_id = null, pseudonym = advance_erasure.pseudonym
    where r.person_id = erasure.person_id;
    insert into private.emails (kind, subject, address, due_at)
    select 'erased', erasure.id::text, u.email, 'infinity'
    from auth.users as u
    where writes and u.id = erasure.person_id and u.email is not null and u.email_confirmed_at is not null
      and not exists (select from private.emails as e where e.subject = erasure.id::text);
    return jsonb_build_object('next', 'leave', 'person', erasure.person_id);
  end if;

  if erasure.erased_at is null then
    return jsonb_build_object('next', 'forget');
  end if;
  return jsonb_build_object('next', 'sign', 'statement', jsonb_build_object(
    'jti', erasure.id, 'reason', erasure.reason, 'objects', erasure.objects,
    'ordered_at', private.timestamp(erasure.ordered_at), 'erased_at', private.timestamp(erasure.erased_at)
  ));
end;
$$;

-- The last step. From now on, nothing says whose erasure it was.
create function backend.finish_erasure(id uuid, receipt text)
returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  update private.erasures as e
  set stage = 'done', person_id = null, finished_at = now(), receipt = finish_erasure.receipt
  where e.id = finish_erasure.id and e.stage = 'leaving' and e.erased_at is not null;
  update private.emails as e
  set due_at = now(), left_at = now()
  where e.subject = finish_erasure.id::text and e.kind = 'erased' and e.left_at is null;
end;
$$;

comment on function backend.read_erasure is 'The status of an erasure, for anyone who knows its ID.';
comment on function backend.withdraw_erasure is 'Withdraws an erasure within its grace period.';
comment on function backend.lease_erasures is 'Leases to the caller the erasures to continue.';
comment on function backend.forget_in_auth is 'Deletes what Auth keeps about a user that it has deleted.';
comment on function backend.advance_erasure is 'Takes the next step of an erasure. Returns what the caller has to do.';
comment on function backend.finish_erasure is 'Completes an erasure, with its proof.';

revoke all on function
  backend.read_erasure, backend.withdraw_erasure, backend.lease_erasures, backend.advance_erasure,
  backend.forget_in_auth, backend.finish_erasure
from public, anon, authenticated, service_role;
grant execute on function
  backend.read_erasure, backend.withdraw_erasure, backend.lease_erasures, backend.advance_erasure,
  backend.forget_in_auth, backend.finish_erasure
to service_role;
