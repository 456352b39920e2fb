-- What the functions report about a generation, and what they have to do next. Decisions depend only on the state of
-- the generation, so an event may come late, twice or never.

-- Ends a generation as failed. If `lease` is given, it must still hold the generation. `input_sha256`: SHA-256 of a
-- photo that was judged and refused, in hex. Returns {outcome, generation, deletions}. The outcome is one of:
--   failed      the generation has failed for this reason
--   ended       it was over before, in another way
--   superseded  the lease was lost
create function backend.fail_generation(
  generation_id uuid,
  reason text,
  lease uuid default null,
  input_sha256 text default null
)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  generation public.generations;
begin
  perform from private.generation_work as w where w.generation_id = fail_generation.generation_id for update;
  select g.* into generation from public.generations as g where g.id = fail_generation.generation_id for update;
  if not private.is_terminal(generation.state)
    and (fail_generation.lease is null or exists (
      select from private.generation_work as w
      where w.generation_id = generation.id and w.lease = fail_generation.lease
    ))
  then
    update private.generation_work as w
    set input_sha256 = coalesce(fail_generation.input_sha256, w.input_sha256)
    where w.generation_id = generation.id;
    update public.generations as g
    set state = 'failed', reason = fail_generation.reason
    where g.id = generation.id
    returning * into generation;
    perform private.discard_attempts(generation.id) where fail_generation.lease is not null;
  end if;

  return jsonb_build_object(
    'outcome', case
      when generation.state = 'failed' and generation.reason = fail_generation.reason then 'failed'
      when generation.id is null or private.is_terminal(generation.state) then 'ended'
      else 'superseded'
    end,
    'generation', case when generation.id is not null then private.describe(generation) end,
    'deletions', backend.lease_deletions(
      coalesce(lease, gen_random_uuid()), generation_id => fail_generation.generation_id)
  );
end;
$$;

-- Finds and locks the generation that an event is about. An event is found by the capability in the webhook address,
-- even if the response that named its prediction was lost. If we asked Replicate, its answer has no capability and is
-- found by the prediction ID.
create function private.find_generation(generation_id uuid, capability text, prediction_id text)
returns public.generations
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  generation public.generations;
  work private.generation_work;
begin
  select w.* into work from private.generation_work as w
  where w.generation_id = find_generation.generation_id
  for update;
  select g.* into generation from public.generations as g
  where g.id = find_generation.generation_id
    and coalesce(g.prediction_id, find_generation.prediction_id) = find_generation.prediction_id
  for update;
  if work.capability_digest = decode(capability, 'hex')
    or (capability is null and generation.prediction_id is not null)
  then
    return generation;
  end if;
  return null;
end;
$$;

-- Records a webhook event from Replicate, or its answer when we asked (then `event_id` and `capability` are null).
-- `status` is Replicate's own word. `reason` is our word for a failure. `output_extension` is null if there is no
-- output, and empty if the kind of the output is not known yet.
-- Returns {action, artwork_path, model, cancel_prediction, deletions}. The action is one of:
--   unknown  there is no such generation, or it has another prediction; ignore the event
--   none     carry out the deletions, if there are any
--   store    mark the output of `model`, store it at `artwork_path`, then call complete_generation under the lease
-- `cancel_prediction` is a prediction that still runs although its generation is over. The caller has to stop it at
-- Replicate. The caller chooses `lease`, so that a retry after a lost response gets the same answer.
create function backend.record_prediction_event(
  lease uuid,
  event_id text,
  generation_id uuid,
  capability text,
  prediction_id text,
  status text,
  reason text default null,
  output_extension text default null,
  model_version text default null,
  predict_seconds numeric default null
)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  generation public.generations := private.find_generation(
    record_prediction_event.generation_id, capability, record_prediction_event.prediction_id);
  ended constant text := private.ending(status, reason, output_extension);
  is_open boolean := not private.is_terminal(generation.state);
  stray text;
  artwork text;
begin
  if generation.id is null then
    return jsonb_build_object('action', 'unknown');
  end if;

  insert into private.webhook_events as e (id, generation_id, status)
  select event_id, generation.id, left(record_prediction_event.status, 20) where event_id is not null
  on conflict (id) do update set deliveries = e.deliveries + 1;
  update private.generation_work as w set checked_at = now(), absent_since = null where w.generation_id = generation.id;

  if is_open and ended = 'platform_error' then
    is_open := not private.retry_dispatch(generation);
  end if;
  if is_open then
    -- An event may arrive before the response to the create call. Then the event ends the dispatch.
    update private.generation_work as w
    set dispatch_at = null, create_called_at = null, lease = null, leased_until = null,
      unreported = greatest(0, w.unreported - 1)
    where w.generation_id = generation.id and w.dispatch_at is not null;
    update public.generations as g
    set prediction_id = record_prediction_event.prediction_id,
      model_version = coalesce(left(record_prediction_event.model_version, 100), g.model_version),
      predict_seconds = coalesce(record_prediction_event.predict_seconds, g.predict_seconds),
      reason = ended,
      state = case
        when ended is not null then 'failed'
        when status = 'succeeded' then 'storing'
        when status = 'processing' and g.state in ('reserved', 'dispatched') then 'processing'
        when g.state = 'reserved' then 'dispatched'
        else g.state
      end
    where g.id = generation.id
    returning * into generation;

    if generation.state = 'storing' and status = 'succeeded' then
      artwork := private.lease_storing(generation, output_extension, record_prediction_event.lease);
    end if;
  elsif generation.prediction_id is null and capability is not null then
    -- The response to the create call was lost, and the generation was over before its first event arrived (T3).
    perform private.disown_prediction(
      record_prediction_event.prediction_id, generation.person_id, generation.id);
    if status in ('starting', 'processing') then
      stray := record_prediction_event.prediction_id;
    end if;
  end if;

  return jsonb_build_object(
    'action', case when artwork is null then 'none' else 'store' end,
    'artwork_path', artwork,
    'model', (select m.replicate_model from public.models as m where m.id = generation.model),
    'cancel_prediction', stray,
    'deletions', backend.lease_deletions(lease, generation_id => generation.id)
  );
end;
$$;

-- The reason for which a prediction fails its generation, or null if it does not. Only we cancel predictions. So if
-- Replicate reports `canceled` or `aborted`, the prediction has reached its deadline.
create function private.ending(status text, reason text, output_extension text)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
return case status
  when 'failed' then coalesce(reason, 'model_error')
  when 'canceled' then 'expired'
  when 'aborted' then 'expired'
  when 'succeeded' then case
    when output_extension in ('jpg', 'png', 'webp', '') then null
    else coalesce(reason, 'output_invalid')
  end
end;

-- Gives a lease back after a temporary failure, so that the next worker can begin at once.
create function backend.release_lease(generation_id uuid, lease uuid)
returns void
language sql
security definer
set search_path = pg_catalog, pg_temp
begin atomic
  update private.generation_work as w
  set lease = null, leased_until = null
  where w.generation_id = release_lease.generation_id and w.lease = release_lease.lease;
end;

-- How long a run of 404 responses must last to prove that something is gone. One 404 may be a temporary fault.
create function private.absence_proof()
returns interval
language sql
immutable
set search_path = pg_catalog, pg_temp
return interval '3 minutes';

-- Replicate does not know the prediction of a generation. Returns {outcome, deletions}. The outcome is one of:
--   waiting  ask again later
--   failed   the 404s have lasted long enough, or the deadline is over
--   ended    the generation was over, or has another prediction by now
create function backend.record_absence(generation_id uuid, prediction_id text)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  generation public.generations;
  since timestamptz;
begin
  perform from private.generation_work as w where w.generation_id = record_absence.generation_id for update;
  select g.* into generation
  from public.generations as g
  where g.id = record_absence.generation_id and g.prediction_id = record_absence.prediction_id
  for update;
  if generation.id is null or private.is_terminal(generation.state) then
    return jsonb_build_object('outcome', 'ended', 'deletions', '[]'::jsonb);
  end if;
  update private.generation_work as w
  set absent_since = coalesce(w.absent_since, now())
  where w.generation_id = generation.id
  returning w.absent_since into since;
  if since <= now() - private.absence_proof() or generation.deadline_at <= now() then
    return backend.fail_generation(generation.id, 'lost');
  end if;
  return jsonb_build_object('outcome', 'waiting', 'deletions', '[]'::jsonb);
end;
$$;

-- Ends generations that can no longer succeed, and returns those to ask Replicate about:
-- {ended, silent: [{generation, prediction_id, is_last}]}, at most `batch` of either. Those that have been silent for
-- the longest time come first. A generation is silent if no event came for `silence_seconds`, or if its deadline is
-- over. `is_last` means that the deadline is over: the caller asks one last time, under the lease, and ends the
-- generation.
create function backend.settle_generations(
  lease uuid,
  batch integer default 50,
  silence_seconds integer default 60
)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  locked uuid[];
  ended integer;
  asked jsonb;
begin
  locked := private.lock_generations(array(
    select g.id
    from public.generations as g
    join private.generation_work as w on w.generation_id = g.id
    where g.state in ('reserved', 'dispatched', 'processing', 'storing')
      and g.deadline_at < now()
      and g.prediction_id is null
      and (w.lease is null or w.leased_until <= now())
    order by g.deadline_at
    limit batch
  ));
  -- Check again under the locks, because the generations may have changed in the meantime.
  update public.generations as g
  set state = 'failed',
    reason = case when w.create_called_at is not null then 'lost' else 'platform_error' end
  from private.generation_work as w
  where w.generation_id = g.id
    and g.id = any (locked)
    and not private.is_terminal(g.state)
    and g.prediction_id is null
    and (w.lease is null or w.leased_until <= now());
  get diagnostics ended = row_count;

  with silent as (
    select w.generation_id, g.deadline_at < now() as is_last
    from private.generation_work as w
    join public.generations as g on g.id = w.generation_id
    where g.state in ('dispatched', 'processing', 'storing')
      and g.prediction_id is not null
      and (w.checked_at < now() - make_interval(secs => silence_seconds) or g.deadline_at < now())
      and (w.lease is null or w.lease = settle_generations.lease or w.leased_until <= now())
    order by w.checked_at
    limit batch
    for update of w skip locked
  ),
  asking as (
    update private.generation_work as w
    set checked_at = now(),
      lease = case when silent.is_last then settle_generations.lease else w.lease end,
      leased_until = case when silent.is_last then now() + interval '2 minutes' else w.leased_until end
    from silent
    where w.generation_id = silent.generation_id
    returning w.generation_id, silent.is_last
  )
  select coalesce(jsonb_agg(jsonb_build_object(
    'generation', g.id, 'prediction_id', g.prediction_id, 'is_last', asking.is_last
  )), '[]')
  into asked
  from asking
  join public.generations as g on g.id = asking.generation_id;
  return jsonb_build_object('ended', ended, 'silent', asked);
end;
$$;

comment on function backend.fail_generation is 'Ends a generation for a reason of public.failure_reasons. Its credits are returned, and the deletion of its photo is ordered.';
comment on function backend.record_prediction_event is 'Records what Replicate reports about a prediction. Returns what the caller has to do.';
comment on function backend.record_absence is 'Replicate does not know a prediction. If this lasts for some minutes, the generation fails as `lost`.';
comment on function backend.release_lease is 'Gives back the lease of a generation, so that the next worker can take it.';
comment on function backend.settle_generations is 'Ends generations that can no longer succeed. Returns those to ask Replicate about.';

revoke all on function
  backend.fail_generation, backend.record_prediction_event, backend.record_absence, backend.release_lease,
  backend.settle_generations
from public, anon, authenticated, service_role;
grant execute on function
  backend.fail_generation, backend.record_prediction_event, backend.record_absence, backend.release_lease,
  backend.settle_generations
to service_role;
