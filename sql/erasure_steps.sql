-- How an ordered erasure is carried out, in steps that can be repeated. A stage ends only when its data is seen to be
-- gone. So a failure of Storage or Auth delays an erasure and never makes it report too early.

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

comment on function backend.lease_erasures is 'Leases to the caller the erasures to continue.';
comment on function backend.forget_in_auth is 'Deletes what Auth keeps about a user that it has deleted.';
comment on function backend.advance_erasure is 'Takes the next step of an erasure. Returns what the caller has to do.';
comment on function backend.finish_erasure is 'Completes an erasure, with its proof.';

revoke all on function
  backend.lease_erasures, backend.advance_erasure, backend.forget_in_auth, backend.finish_erasure
from public, anon, authenticated, service_role;
grant execute on function
  backend.lease_erasures, backend.advance_erasure, backend.forget_in_auth, backend.finish_erasure
to service_role;
