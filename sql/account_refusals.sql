-- Whether Replicate accepts our account, which affects every user. While it does not, jobs wait and no photos are
-- accepted. From time to time, one job tries again.

-- Records that Replicate refuses our account: the token is not valid (401), the account is out of credit (402) or has
-- no permission (403). The row exists while this lasts. The next create call that is accepted removes it.
create table private.account_refusals (
  id boolean not null default true,
  status integer not null,
  refused_at timestamptz not null default now(),
  last_at timestamptz not null default now(),
  probe_at timestamptz not null,
  constraint account_refusals_pkey primary key (id),
  constraint account_refusals_is_one_row check (id),
  constraint account_refusals_status_known check (status between 400 and 499)
);

alter table private.account_refusals enable row level security;
revoke all on private.account_refusals from public, anon, authenticated, service_role;

comment on table private.account_refusals is 'Replicate refuses our account, which affects every user: jobs wait, and no photos are accepted.';
comment on column private.account_refusals.refused_at is 'When the refusals began.';
comment on column private.account_refusals.last_at is 'When the latest refusal came.';
comment on column private.account_refusals.probe_at is 'From then on, one job may try whether Replicate still refuses the account.';

-- Shorter than the time between two sweeps, so that each sweep tries once.
create function private.probe_pause()
returns interval
language sql
immutable
set search_path = pg_catalog, pg_temp
return interval '45 seconds';

-- Claims the next try for one job. Returns false if another job has it.
create function private.begin_probe()
returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  update private.account_refusals as r set probe_at = now() + private.probe_pause() where r.probe_at <= now();
  return found;
end;
$$;

-- Whether a photo may be accepted. While Replicate refuses the account, no photo is, and the jobs that wait try again
-- from time to time. If no job waits, the next new job has to be the one that tries.
create function private.is_account_accepted()
returns boolean
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
return not exists (
  select from private.account_refusals as r
  where r.probe_at > now() or exists (
    select
    from private.generation_work as w
    join public.generations as g on g.id = w.generation_id
    where w.dispatch_at is not null and private.is_awaited(g, w)
  )
);

revoke all on function private.is_account_accepted from public, anon, authenticated, service_role;
grant execute on function private.is_account_accepted to authenticated;

-- Replicate has answered a create call of the holder of `lease` with the HTTP status `status`: it refuses the account,
-- not the user of the job. Nothing was created. The job waits, and no photos are accepted in the meantime.
-- Returns {is_first}: whether this is the first refusal.
create function backend.record_account_refusal(generation_id uuid, lease uuid, status integer)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  has_lease boolean;
  is_first boolean;
begin
  update private.generation_work as w
  set dispatch_at = now(),
    create_called_at = null,
    lease = null,
    leased_until = null,
    unreported = greatest(0, w.unreported - 1)
  where w.generation_id = record_account_refusal.generation_id and w.lease = record_account_refusal.lease;
  has_lease := found;
  insert into private.account_refusals as r (status, probe_at)
  values (record_account_refusal.status, now() + private.probe_pause())
  on conflict (id) do update set status = excluded.status, last_at = now(), probe_at = excluded.probe_at
  returning refused_at = last_at into is_first;
  perform private.discard_attempts(record_account_refusal.generation_id) where has_lease;
  return jsonb_build_object('is_first', is_first);
end;
$$;

comment on function backend.record_account_refusal is 'Records that Replicate refuses the account. No generation ends, and no photos are accepted until Replicate accepts a job again.';

revoke all on function backend.record_account_refusal from public, anon, authenticated, service_role;
grant execute on function backend.record_account_refusal to service_role;
