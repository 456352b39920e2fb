-- How a reservation becomes a prediction. From the reservation on, a worker has to dispatch the generation, until its
-- prediction is known. The worker with the lease does so, and may die after any line.

-- Whether a worker will dispatch the generation, now or later. If workers keep dying over it, or too little time is
-- left, no worker takes it, and it ends at its deadline.
create function private.is_awaited(generation public.generations, work private.generation_work)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
return work.dispatch_at is not null
  and work.unreported < 6
  and generation.prediction_id is null
  and not private.is_terminal(generation.state)
  and generation.deadline_at > now() + interval '30 seconds';

-- Whether a worker may dispatch the generation now. This is the only rule for what is due. Queries repeat the
-- condition `dispatch_at <= now()`, so that they can use the index.
create function private.is_to_be_dispatched(generation public.generations, work private.generation_work)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
return work.dispatch_at <= now()
  and (work.lease is null or work.leased_until <= now())
  and private.is_awaited(generation, work);

-- Long enough to download and judge the largest photo, and to store its prepared copy.
create function private.dispatch_lease_end()
returns timestamptz
language sql
stable
set search_path = pg_catalog, pg_temp
return now() + interval '90 seconds';

-- Returns the path at which this attempt stores the prepared copy, a JPEG. No client can write under this name. The
-- deletion of the object is ordered before it exists, and only `record_input` takes the order back. So no unfinished
-- copy can stay.
create function private.prepare_dispatch(generation public.generations)
returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  work private.generation_work;
  path text;
begin
  select * into work from private.generation_work as w where w.generation_id = generation.id;
  if work.prepared_path is not null then
    return work.prepared_path;
  end if;
  path := format('%s/prepared/%s-%s.jpg', generation.person_id, generation.id, work.dispatches);
  perform private.order_deletion(
    'inputs', path, 'superseded', generation.person_id, generation.id, work.leased_until + interval '1 minute');
  return path;
end;
$$;

-- What a worker needs to dispatch the generation. If `create_called_at` is set, an earlier worker may have created a
-- prediction. `is_prepared` says whether the prepared copy is already at `prepared_path`, or has to be stored there.
create function private.describe_dispatch(generation public.generations)
returns jsonb
language sql
volatile
set search_path = pg_catalog, pg_temp
return (
  select jsonb_build_object(
    'generation', generation.id,
    'input_path', generation.input_path,
    'prepared_path', private.prepare_dispatch(generation),
    'is_prepared', w.prepared_path is not null,
    'replicate_model', (select m.replicate_model from public.models as m where m.id = generation.model),
    'prompt', generation.prompt,
    'settings', generation.settings,
    'deadline_seconds',
      greatest(0, floor(extract(epoch from generation.deadline_at - clock_timestamp())))::integer,
    'create_called_at', extract(epoch from w.create_called_at)
  )
  from private.generation_work as w
  where w.generation_id = generation.id
);

-- The photo was judged, and its prepared copy is at `prepared_path` (C2, T2). `format` to `sha256` are the
-- measurements. They are null if an earlier worker has recorded them, and then the path is that worker's. The caller
-- may now create one prediction. `capability`: SHA-256 of the token in the webhook address, in hex. The deletion of
-- the original is ordered. Returns {outcome, deletions}. The outcome is one of:
--   open        the caller may go on
--   superseded  another worker has the lease by now
--   ended       the generation is over
create function backend.record_input(
  generation_id uuid,
  lease uuid,
  capability text,
  prepared_path text,
  format text,
  width integer,
  height integer,
  bytes integer,
  sha256 text
)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  generation public.generations := private.lock_leased(record_input.generation_id, lease);
  is_recorded boolean := false;
begin
  if generation.id is not null and not private.is_terminal(generation.state) and generation.prediction_id is null then
    is_recorded := exists (
      select from private.generation_work as w
      where w.generation_id = generation.id and w.prepared_path = record_input.prepared_path
    );
    if not is_recorded then
      -- A deletion that has started cannot be taken back. Then this attempt was too late.
      delete from public.deletions as d
      where d.bucket = 'inputs' and d.path = record_input.prepared_path and d.verified_at is null
        and not exists (select from private.deletion_leases as l where l.deletion_id = d.id);
      is_recorded := found;
      if is_recorded then
        update public.generations as g
        set input_format = format, input_width = width, input_height = height, input_bytes = bytes
        where g.id = generation.id;
        update private.generation_work as w set input_sha256 = record_input.sha256 where w.generation_id = generation.id;
        perform private.order_deletion(
          'inputs', generation.input_path, 'prepared', generation.person_id, generation.id);
      end if;
    end if;
  end if;
  if is_recorded then
    update private.generation_work as w
    set prepared_path = record_input.prepared_path,
      capability_digest = decode(capability, 'hex'),
      create_called_at = now(),
      leased_until = private.dispatch_lease_end()
    where w.generation_id = generation.id and w.lease = record_input.lease;
  else
    -- The deletion of this path may have been carried out before the object was stored, so it is ordered again.
    perform private.order_deletion(
      'inputs', record_input.prepared_path, 'superseded', private.owner(record_input.prepared_path),
      record_input.generation_id)
    where not exists (
      select from private.generation_work as w where w.prepared_path = record_input.prepared_path
    );
  end if;

  return jsonb_build_object(
    'outcome', case
      when is_recorded then 'open'
      when exists (
        select from public.generations as g
        where g.id = record_input.generation_id and not private.is_terminal(g.state)
      ) then 'superseded'
      else 'ended'
    end,
    'deletions', backend.lease_deletions(lease, generation_id => record_input.generation_id)
  );
end;
$$;

-- A prediction exists: it was created with this capability, or found by the holder of the lease.
-- Returns {outcome, generation, is_accepted_again}. `is_accepted_again` says that Replicate had refused the account
-- before. The outcome is one of:
--   attached    the prediction belongs to the generation
--   ended       the generation is over, or another prediction was allowed in its place; this one has to be canceled
--   superseded  it was found under a lease that was lost; the new holder finds it, too
create function backend.attach_prediction(
  generation_id uuid,
  lease uuid,
  prediction_id text,
  capability text default null
)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  generation public.generations;
  work private.generation_work;
  is_accepted_again boolean;
begin
  select * into work from private.generation_work as w
  where w.generation_id = attach_prediction.generation_id
  for update;
  select * into generation from public.generations as g
  where g.id = attach_prediction.generation_id
  for update;
  if generation.prediction_id = attach_prediction.prediction_id
    or (generation.prediction_id is null and case
      when capability is null then work.lease = attach_prediction.lease
      else work.capability_digest = decode(capability, 'hex')
    end)
  then
    -- An event may have arrived first, so the state only moves forward here.
    update public.generations as g
    set state = case when g.state = 'reserved' then 'dispatched' else g.state end,
      prediction_id = attach_prediction.prediction_id
    where g.id = generation.id
    returning * into generation;
    -- Another worker that has leased the generation in the meantime is told that it is superseded.
    update private.generation_work as w
    set dispatch_at = null, create_called_at = null, checked_at = now(), lease = null, leased_until = null,
      unreported = greatest(0, w.unreported - 1)
    where w.generation_id = generation.id and w.dispatch_at is not null;
  end if;
  -- Replicate accepted a create call, so it accepts the account.
  delete from private.account_refusals where attach_prediction.capability is not null;
  is_accepted_again := found;

  if generation.prediction_id = attach_prediction.prediction_id
    and generation.state not in ('failed', 'canceled')
  then
    return jsonb_build_object(
      'outcome', 'attached', 'generation', private.describe(generation), 'is_accepted_again', is_accepted_again);
  end if;
  if capability is null and generation.prediction_id is null and not private.is_terminal(generation.state) then
    return jsonb_build_object('outcome', 'superseded', 'generation', private.describe(generation));
  end if;
  perform private.disown_prediction(
    attach_prediction.prediction_id, generation.person_id, attach_prediction.generation_id);
  return jsonb_build_object(
    'outcome', 'ended',
    'generation', case when generation.id is not null then private.describe(generation) end,
    'is_accepted_again', is_accepted_again
  );
end;
$$;

-- It is certain that nothing was created. The dispatch is retried, at most a minute later, under the same hold. What
-- the caller was preparing can be deleted now, because the next attempt has another path.
create function backend.postpone_dispatch(generation_id uuid, lease uuid)
returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  update private.generation_work as w
  set dispatch_at = now() + interval '15 seconds' * power(2, least(w.dispatches - 1, 2)),
    create_called_at = null,
    lease = null,
    leased_until = null,
    unreported = greatest(0, w.unreported - 1)
  where w.generation_id = postpone_dispatch.generation_id and w.lease = postpone_dispatch.lease;
  if found then
    perform private.discard_attempts(postpone_dispatch.generation_id);
  end if;
end;
$$;

-- The holder of the lease has stopped. What it may have stored, and no row refers to, is due for deletion now.
create function private.discard_attempts(generation uuid)
returns void
language sql
set search_path = pg_catalog, pg_temp
begin atomic
  update public.deletions as d
  set due_at = now()
  where d.generation_id = generation and d.reason = 'superseded' and d.verified_at is null and d.due_at > now()
    and not exists (select from private.deletion_leases as l where l.deletion_id = d.id);
end;

-- Replicate's platform failed, not the model. Forgets the prediction and its capability, and makes the generation due
-- for dispatch again: at once after the first fault, and later after each further one. Returns false if five
-- predictions have failed or no time is left.
create function private.retry_dispatch(generation public.generations)
returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  update private.generation_work as w
  set dispatch_at = now() + interval '20 seconds' * w.platform_faults,
    platform_faults = w.platform_faults + 1,
    create_called_at = null,
    capability_digest = null,
    lease = null,
    leased_until = null,
    absent_since = null,
    output_absent_since = null
  where w.generation_id = generation.id
    and w.platform_faults < 4
    and generation.deadline_at > now() + interval '1 minute';
  if found then
    update public.generations as g set prediction_id = null where g.id = generation.id;
  end if;
  return found;
end;
$$;

-- Leases generations that are due for dispatch, or returns [] if there are none. The least recently tried come first,
-- at most `batch`. With `prepared`, only generations of the same kind as the first are leased: if it has a prepared
-- copy, at most `prepared` that have one; otherwise at most `batch` that have none. Preparing a photo takes memory,
-- dispatching does not. While Replicate refuses the account, one job tries from time to time. The caller chooses the
-- lease: a retry with the same lease gets the same generations.
create function backend.lease_dispatches(lease uuid, batch integer default 10, prepared integer default null)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  is_new constant boolean := not exists (
    select from private.generation_work as w where w.lease = lease_dispatches.lease and w.dispatch_at is not null
  );
  most integer := batch;
  is_prepared boolean;
  leased jsonb;
begin
  if is_new then
    select w.prepared_path is not null into is_prepared
    from private.generation_work as w
    join public.generations as g on g.id = w.generation_id
    where w.dispatch_at <= now() and private.is_to_be_dispatched(g, w)
    order by w.dispatch_at
    limit 1;
    if found and exists (select from private.account_refusals) then
      most := private.begin_probe()::integer;
    elsif is_prepared then
      most := coalesce(prepared, batch);
    end if;
  end if;

  with due as (
    select w.generation_id
    from private.generation_work as w
    join public.generations as g on g.id = w.generation_id
    where w.dispatch_at <= now()
      and is_new
      and private.is_to_be_dispatched(g, w)
      and (prepared is null or (w.prepared_path is not null) = is_prepared)
    order by w.dispatch_at
    limit most
    for update of w skip locked
  )
  -- Due again when the lease ends, and then behind those that no worker has tried in the meantime.
  update private.generation_work as w
  set lease = lease_dispatches.lease,
    leased_until = private.dispatch_lease_end(),
    dispatch_at = private.dispatch_lease_end(),
    dispatches = w.dispatches + 1,
    unreported = w.unreported + 1
  from due
  where w.generation_id = due.generation_id;

  select coalesce(jsonb_agg(private.describe_dispatch(g)), '[]')
  into leased
  from private.generation_work as w
  join public.generations as g on g.id = w.generation_id
  where w.dispatch_at is not null and w.lease = lease_dispatches.lease;
  return leased;
end;
$$;

-- Gives back generations that were leased but not started. They are due now, as if they had not been leased.
create function backend.return_dispatches(lease uuid, generations uuid[])
returns void
language sql
security definer
set search_path = pg_catalog, pg_temp
begin atomic
  update private.generation_work as w
  set dispatch_at = now(), lease = null, leased_until = null, unreported = greatest(0, w.unreported - 1)
  where w.generation_id = any (generations) and w.lease = return_dispatches.lease;
end;

comment on function backend.record_input is 'Records the prepared copy and what was measured of the photo (C2), before anything is sent to Replicate.';
comment on function backend.attach_prediction is 'Replicate accepted the job: connects the prediction with its generation.';
comment on function backend.postpone_dispatch is 'Gives back a generation whose dispatch certainly created nothing. It is due again later.';
comment on function backend.lease_dispatches is 'Leases to the caller the generations that are due for dispatch.';
comment on function backend.return_dispatches is 'Gives back generations that were leased for dispatch but not started.';

revoke all on function
  backend.record_input, backend.attach_prediction, backend.postpone_dispatch, backend.lease_dispatches,
  backend.return_dispatches
from public, anon, authenticated, service_role;
grant execute on function
  backend.record_input, backend.attach_prediction, backend.postpone_dispatch, backend.lease_dispatches,
  backend.return_dispatches
to service_role;
