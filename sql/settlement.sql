-- What the functions report of a generation, and what they are told to do next. Decisions follow from
-- the generation's state alone, so an event may come late, twice, or never.

-- Ends a generation. With a lease, only if the lease still holds. Answers {outcome, generation,
-- deletions}: failed; ended when it was over before, otherwise than so; superseded when the lease was lost.
create function backend.fail_generation(generation_id uuid, reason text, lease uuid default null)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  generation public.generations;
  failed boolean;
begin
  update public.generations as g
  set state = 'failed', reason = fail_generation.reason
  where g.id = generation_id
    and not private.is_terminal(g.state)
    and (fail_generation.lease is null or exists (
      select from private.generation_work as w
      where w.generation_id = g.id and w.lease = fail_generation.lease
    ))
  returning * into generation;
  failed := found;

  if failed and lease is not null then
    -- Whoever held the lease has stopped storing: what came of it can go now.
    update public.deletions as d set due_at = now()
    where d.bucket = 'artworks' and d.generation_id = generation.id and d.verified_at is null;
  end if;
  if not failed then
    select * into generation from public.generations as g where g.id = generation_id;
  end if;
  return jsonb_build_object(
    'outcome', case
      when generation.state = 'failed' and generation.reason = fail_generation.reason then 'failed'
      when generation.id is null or private.is_terminal(generation.state) then 'ended'
      else 'superseded'
    end,
    'generation', case when generation.id is not null then private.describe(generation) end,
    'deletions', backend.lease_deletions(generation_id => fail_generation.generation_id)
  );
end;
$$;

-- The generation that an event speaks of: by the capability in the webhook's address, so that an
-- event is at home even where the answer that named its prediction was lost; or, for an answer we
-- asked for ourselves, by the prediction alone.
create function private.find_generation(generation_id uuid, capability text, prediction_id text)
returns public.generations
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  generation public.generations;
begin
  select g.* into generation
  from public.generations as g
  join private.generation_work as w on w.generation_id = g.id
  where g.id = find_generation.generation_id
    and coalesce(g.prediction_id, find_generation.prediction_id) = find_generation.prediction_id
    and (w.capability_digest = decode(capability, 'hex') or (capability is null and g.prediction_id is not null))
  -- Both, so that who has waited for another event sees what that has made of the capability.
  for update of g, w;
  return generation;
end;
$$;

-- One event of Replicate's, or one answer to a question of ours (then `event_id` and `capability` are
-- null). `status` is Replicate's own word; `reason` is ours for a failure; `output_extension` is null
-- where there is no output. Answers {action, deletions}:
--   unknown  no such generation, or no longer its prediction; ignore it
--   none     nothing to do but the deletions, if any
--   store    stream the output to `artwork_path`, then complete_generation under the lease
-- `lease` is of the caller's choosing, so that asking again after a lost answer gives the same.
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
  artwork text;
begin
  if generation.id is null then
    return jsonb_build_object('action', 'unknown');
  end if;

  insert into private.webhook_events as e (id, generation_id, status)
  select event_id, generation.id, left(record_prediction_event.status, 20) where event_id is not null
  on conflict (id) do update set deliveries = e.deliveries + 1;
  update private.generation_work as w set checked_at = now() where w.generation_id = generation.id;

  if is_open and ended = 'platform_error' then
    is_open := not private.submit_again(generation);
  end if;
  if is_open then
    -- An event that is quicker than the answer to the create call ends the submission.
    update private.generation_work as w
    set submit_at = null, create_called_at = null, lease = null, leased_until = null
    where w.generation_id = generation.id and w.submit_at is not null;
    update public.generations as g
    set prediction_id = record_prediction_event.prediction_id,
      model_version = coalesce(left(record_prediction_event.model_version, 100), g.model_version),
      predict_seconds = coalesce(record_prediction_event.predict_seconds, g.predict_seconds),
      reason = ended,
      state = case
        when ended is not null then 'failed'
        when status = 'succeeded' then 'storing'
        when status = 'processing' and g.state in ('reserved', 'submitted') then 'processing'
        when g.state = 'reserved' then 'submitted'
        else g.state
      end
    where g.id = generation.id
    returning * into generation;

    if generation.state = 'storing' and status = 'succeeded' then
      artwork := private.lease_storing(generation, output_extension, record_prediction_event.lease);
    end if;
  end if;

  return jsonb_build_object(
    'action', case when artwork is null then 'none' else 'store' end,
    'artwork_path', artwork,
    'deletions', backend.lease_deletions(generation_id => generation.id)
  );
end;
$$;

-- The reason for which a prediction ends its generation in failure, or null if it does not. Nobody
-- but us cancels: a prediction that Replicate calls canceled or aborted has met its deadline.
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
    when output_extension in ('jpg', 'png', 'webp') then null
    else coalesce(reason, 'output_invalid')
  end
end;

-- The right to store an output, for one worker at a time. The object is ordered deleted before it
-- exists: only its completion takes the order back, so nothing half stored can stay. Answers where to
-- store it, or null while another worker is at it.
create function private.lease_storing(generation public.generations, extension text, new_lease uuid)
returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  lease_end constant timestamptz := now() + interval '2 minutes';
  artwork constant text := format('%s/%s.%s', generation.person_id, generation.id, extension);
begin
  update private.generation_work as w
  set lease = new_lease, leased_until = lease_end
  where w.generation_id = generation.id
    and (w.lease is null or w.lease = new_lease or w.leased_until <= now());
  if not found then
    return null;
  end if;

  insert into public.deletions as d (bucket, path, reason, person_id, generation_id, due_at)
  values ('artworks', artwork, 'superseded', generation.person_id, generation.id, lease_end + interval '1 minute')
  on conflict (bucket, path) where verified_at is null
  do update set due_at = excluded.due_at;
  delete from private.deletion_leases as l
  using public.deletions as d
  where l.deletion_id = d.id and d.bucket = 'artworks' and d.path = artwork and d.verified_at is null;

  return artwork;
end;
$$;

-- The artwork is stored. Answers {outcome, deletions}: completed; or superseded when the lease was
-- lost or the generation is over, and then what was stored is among the deletions. Refuses (409) what
-- Storage does not hold, whole: an upload may have been answered and lost.
create function backend.complete_generation(
  generation_id uuid,
  lease uuid,
  artwork_path text,
  content_type text,
  bytes bigint,
  sha256 text
)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  completed boolean;
begin
  -- The generation first, then the order: every other path locks in this sequence.
  perform from public.generations as g where g.id = complete_generation.generation_id for update;
  perform from private.generation_work as w
  where w.generation_id = complete_generation.generation_id and w.lease = complete_generation.lease;
  completed := found;

  if completed and not exists (
    select from storage.objects as o
    where o.bucket_id = 'artworks' and o.name = complete_generation.artwork_path
      and private.object_bytes(o.metadata) = complete_generation.bytes
  ) then
    perform private.refuse(409, 'artwork_not_stored', 'The artwork is not in Storage.');
  end if;
  if completed then
    -- A deletion that is under way cannot be taken back; then this attempt was too late.
    delete from public.deletions as d
    where d.bucket = 'artworks' and d.path = complete_generation.artwork_path and d.verified_at is null
      and not exists (select from private.deletion_leases as l where l.deletion_id = d.id);
    completed := found;
  end if;

  if completed then
    update public.generations as g
    set state = 'succeeded',
      artwork_path = complete_generation.artwork_path,
      artwork_content_type = content_type,
      artwork_bytes = bytes,
      artwork_sha256 = sha256
    where g.id = complete_generation.generation_id;
  else
    perform private.discard_artwork(complete_generation.generation_id, complete_generation.artwork_path);
  end if;

  return jsonb_build_object(
    'outcome', case when completed then 'completed' else 'superseded' end,
    'deletions', backend.lease_deletions(generation_id => complete_generation.generation_id)
  );
end;
$$;

-- What was stored too late goes, unless another worker stores or has stored it. Its order may have been
-- carried out before it was stored, so it is ordered once more.
create function private.discard_artwork(generation uuid, path text)
returns void
language sql
set search_path = pg_catalog, pg_temp
begin atomic
  select private.order_deletion('artworks', path, 'superseded', private.owner(path), generation)
  where not exists (
    select from public.generations as g where g.id = generation and g.state in ('storing', 'succeeded')
  );
end;

-- Gives a lease back after a failure that may pass, so that whoever comes next can begin at once.
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

-- Ends what no answer can save any more, and answers what is to be asked about, least recently heard of
-- first: {ended, silent: [{generation, prediction_id, is_last}]}, at most `batch` of either. Nothing was
-- heard of it for `silence_seconds`; or its deadline is over, and then it is the last time, under the
-- lease, and whoever asks also ends it.
create function backend.generations_to_settle(
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
  ended integer;
  asked jsonb;
begin
  update public.generations as g
  set state = 'failed',
    reason = case when over.create_called_at is not null then 'lost' else 'platform_error' end
  from (
    select o.id, w.create_called_at
    from public.generations as o
    join private.generation_work as w on w.generation_id = o.id
    where o.state in ('reserved', 'submitted', 'processing', 'storing')
      and o.deadline_at < now()
      and o.prediction_id is null
      and (w.lease is null or w.leased_until <= now())
    order by o.deadline_at
    limit batch
    for update of o skip locked
  ) as over
  where g.id = over.id;
  get diagnostics ended = row_count;

  with silent as (
    select w.generation_id, g.deadline_at < now() as is_last
    from private.generation_work as w
    join public.generations as g on g.id = w.generation_id
    where g.state in ('submitted', 'processing', 'storing')
      and g.prediction_id is not null
      and (w.checked_at < now() - make_interval(secs => silence_seconds) or g.deadline_at < now())
      and (w.lease is null or w.lease = generations_to_settle.lease or w.leased_until <= now())
    order by w.checked_at
    limit batch
    for update of w skip locked
  ),
  asking as (
    update private.generation_work as w
    set checked_at = now(),
      lease = case when silent.is_last then generations_to_settle.lease else w.lease end,
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

comment on function backend.fail_generation is 'Ends a generation for a reason of public.failure_reasons; its credits go back, its photo is ordered deleted.';
comment on function backend.record_prediction_event is 'What Replicate says of a prediction; answers what is to be done.';
comment on function backend.complete_generation is 'The artwork is stored: captures the credits and orders the photo deleted (R2).';
comment on function backend.release_lease is 'Gives a generation back to whoever comes next.';
comment on function backend.generations_to_settle is 'Ends generations past saving; answers those to ask Replicate about.';

grant execute on function
  backend.fail_generation, backend.record_prediction_event, backend.complete_generation,
  backend.release_lease, backend.generations_to_settle
to service_role;
