-- The life of a generation. Its state changes only along these lines. What a change implies (times, log, credits,
-- deletion) happens in the same statement.
--
--   reserved → dispatched → processing → storing → succeeded
--       └──────────┴───────────┴───────────┴────→ failed | canceled
--
-- Steps forward may be skipped, because Replicate's events come late, twice or never.

-- Whether the model has started. From then on we pay for the prediction, even if the generation is ended early.
create function private.has_begun(generation public.generations)
returns boolean
language sql
immutable
set search_path = pg_catalog, pg_temp
return generation.processing_at is not null or generation.storing_at is not null;

create function private.guard_transition()
returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  way constant text[] := array['reserved', 'dispatched', 'processing', 'storing', 'succeeded'];
  step timestamptz := clock_timestamp();
begin
  if private.is_terminal(old.state)
    or (new.state in (select unnest(way)) and array_position(way, new.state) <= array_position(way, old.state))
    or (new.state = 'succeeded' and old.state <> 'storing')
  then
    raise exception 'a generation cannot go from % to %', old.state, new.state using errcode = '23514';
  end if;

  if new.state in ('dispatched', 'processing', 'storing') then
    new.dispatched_at := coalesce(new.dispatched_at, step);
  end if;
  if new.state = 'processing' then
    new.processing_at := step;
  elsif new.state = 'storing' then
    new.storing_at := step;
  elsif private.is_terminal(new.state) then
    new.finished_at := step;
  end if;
  return new;
end;
$$;

create trigger generations_guard_transition
before update of state on public.generations
for each row
when (old.state is distinct from new.state)
execute function private.guard_transition();

-- Orders the deletion of a generation's photo: of the prepared copy, or of the original if there is no copy yet. Once
-- there is a copy, the deletion of the original is already ordered. If a worker is preparing a copy now, its deletion
-- was ordered before the worker began.
create function private.order_photo_deletion(generation public.generations, reason text, person uuid)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  work private.generation_work;
begin
  select * into work from private.generation_work as w where w.generation_id = generation.id;
  perform private.order_deletion(
    'inputs', coalesce(work.prepared_path, generation.input_path), reason, person, generation.id);
  -- The response to a create call was lost, so there may be a prediction that no row names (T3).
  if work.create_called_at is not null and generation.prediction_id is null then
    perform private.order_outbox_task('find_prediction', work.prepared_path, person, generation.id, work.create_called_at);
  end if;
end;
$$;

create function private.follow_transition()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  insert into public.processing_log (generation_id, person_id, state, reason)
  values (new.id, new.person_id, new.state, new.reason);

  if tg_op = 'INSERT' then
    insert into public.credit_holds (wallet_id, generation_id, amount)
    select w.id, new.id, new.credits from public.wallets as w where w.person_id = new.person_id;
  elsif private.is_terminal(new.state) then
    insert into private.outcomes (subject, outcome) values ('generation', coalesce(new.reason, new.state));
    if new.state = 'canceled' then
      perform private.settle_ended_by_person(new.id, private.has_begun(new));
    else
      update public.credit_holds
      set state = case when new.state = 'succeeded' then 'captured' else 'released' end,
        settled_at = clock_timestamp()
      where generation_id = new.id;
    end if;
    perform private.order_photo_deletion(new, new.state, new.person_id);
    update private.generation_work
    set lease = null, leased_until = null, dispatch_at = null
    where generation_id = new.id;
    if new.state = 'canceled' and new.prediction_id is not null then
      perform private.order_outbox_task('cancel_prediction', new.prediction_id, new.person_id, new.id);
    end if;
  end if;
  return null;
end;
$$;

create trigger generations_follow_reservation
after insert on public.generations
for each row
execute function private.follow_transition();

create trigger generations_follow_transition
after update of state on public.generations
for each row
when (old.state is distinct from new.state)
execute function private.follow_transition();

create function private.guard_reservation()
returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if new.state <> 'reserved' then
    raise exception 'a generation begins reserved' using errcode = '23514';
  end if;
  return new;
end;
$$;

-- G6: a user who restricted generation gets no new generation, whichever role makes the call.
create trigger generations_unrestricted
before insert on public.generations
for each row
execute function private.refuse_restricted();

create trigger generations_guard_reservation
before insert on public.generations
for each row
execute function private.guard_reservation();

-- Runs when a generation is deleted, by its user or with the account. It settles the hold and orders the deletion of
-- what is stored.
create function private.follow_deletion()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  -- While an account is being deleted, its row is already gone.
  person constant uuid := (select u.id from auth.users as u where u.id = old.person_id);
  is_leaving constant boolean := not exists (
    select from public.profiles as p where p.id = old.person_id and p.closed_at is null
  );
begin
  if not private.is_terminal(old.state) then
    insert into private.outcomes (subject, outcome) values ('generation', 'canceled');
    perform private.settle_ended_by_person(old.id, private.has_begun(old));
    perform private.order_photo_deletion(old, 'canceled', person);
    if old.prediction_id is not null then
      perform private.order_outbox_task('cancel_prediction', old.prediction_id, person, old.id);
    end if;
  end if;
  if old.artwork_path is not null then
    perform private.order_deletion(
      'artworks', old.artwork_path, case when is_leaving then 'erasure' else 'asked_by_person' end, person, old.id);
  end if;
  return old;
end;
$$;

create trigger generations_follow_deletion
before delete on public.generations
for each row
execute function private.follow_deletion();

-- A generation as JSON, as the functions return it to users.
create function private.describe(generation public.generations)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
return jsonb_build_object(
  'id', generation.id,
  'state', generation.state,
  'reason', generation.reason,
  'message', (select r.sentence from public.failure_reasons as r where r.id = generation.reason),
  'style', generation.style,
  'style_version', generation.style_version,
  'model', generation.model,
  'settings', generation.settings,
  'credits', generation.credits,
  'input_path', generation.input_path,
  'artwork_path', generation.artwork_path,
  'artwork_missing_at', generation.artwork_missing_at,
  'deadline_at', generation.deadline_at,
  'reserved_at', generation.reserved_at,
  'finished_at', generation.finished_at
);

-- The user whose folder a path is in, or null if that user no longer exists.
create function private.owner(path text)
returns uuid
language sql
stable
set search_path = pg_catalog, pg_temp
return (
  select u.id
  from auth.users as u
  where u.id = case
    when split_part(path, '/', 1) ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
    then split_part(path, '/', 1)::uuid
  end
);
