-- How a reservation becomes a prediction. A submission is owed from the reservation on, until somebody
-- has heard of its prediction; whoever holds its lease carries it out, and may die after any line.

-- Long enough to fetch, judge and put back the largest photo.
create function private.submission_lease_end()
returns timestamptz
language sql
stable
set search_path = pg_catalog, pg_temp
return now() + interval '90 seconds';

-- What a worker needs to submit. With `create_called_at`, an earlier worker may have done so already.
create function private.describe_submission(generation public.generations)
returns jsonb
language sql
volatile
set search_path = pg_catalog, pg_temp
return jsonb_build_object(
  'generation', generation.id,
  'input_path', generation.input_path,
  'input_recorded', generation.input_format is not null,
  'replicate_model', (select m.replicate_model from public.models as m where m.id = generation.model_id),
  'prompt', generation.prompt,
  'settings', generation.settings,
  'deadline_seconds', greatest(0, floor(extract(epoch from generation.deadline_at - clock_timestamp())))::integer,
  'create_called_at', (
    select extract(epoch from w.create_called_at)
    from private.generation_work as w
    where w.generation_id = generation.id
  )
);

-- The photo was checked and lies in Storage without its metadata (C2, T2): `format` to `bytes` say what
-- was measured, or are null where an earlier worker has said so. The worker does not touch it any more,
-- and may now create one prediction, whose events carry the token that `capability` is the SHA-256 (hex)
-- of. Answers {outcome, deletions}: open; superseded, when somebody else submits by now; or ended, when
-- the generation was over before the photo was put back, and then it is among the deletions once more.
create function backend.record_input(
  generation_id uuid,
  lease uuid,
  capability text,
  path text,
  format text,
  width integer,
  height integer,
  bytes integer
)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  outcome text := 'superseded';
begin
  update public.generations as g
  set input_format = coalesce(format, g.input_format),
    input_width = coalesce(width, g.input_width),
    input_height = coalesce(height, g.input_height),
    input_bytes = coalesce(bytes, g.input_bytes)
  from private.generation_work as w
  where g.id = record_input.generation_id and not private.is_terminal(g.state)
    and g.prediction_id is null
    and w.generation_id = g.id and w.lease = record_input.lease;
  if found then
    outcome := 'open';
    update private.generation_work as w
    set capability_digest = decode(capability, 'hex'),
      create_called_at = now(),
      leased_until = private.submission_lease_end()
    where w.generation_id = record_input.generation_id;
  elsif not exists (
    select from public.generations as g
    where g.id = record_input.generation_id and not private.is_terminal(g.state)
  ) then
    outcome := 'ended';
    perform private.order_deletion(
      'inputs', path, 'superseded', private.owner(path), record_input.generation_id);
  end if;

  return jsonb_build_object(
    'outcome', outcome,
    'deletions', backend.lease_deletions(generation_id => record_input.generation_id)
  );
end;
$$;

-- A prediction exists: it was created with that capability, or found by whoever has the lease. Answers
-- {outcome, generation}: attached; or ended, when the generation is over, or another was allowed in its
-- place by now, and this one is to be canceled.
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
  is_attached boolean;
begin
  -- An event may have been quicker, so the state only ever moves forward here.
  update public.generations as g
  set state = case when g.state = 'reserved' then 'submitted' else g.state end,
    prediction_id = attach_prediction.prediction_id
  from private.generation_work as w
  where g.id = attach_prediction.generation_id
    and w.generation_id = g.id
    and (g.prediction_id = attach_prediction.prediction_id
      or (g.prediction_id is null and w.capability_digest = decode(capability, 'hex'))
      or (g.prediction_id is null and capability is null and w.lease = attach_prediction.lease));
  if found then
    -- Whoever else has leased the submission meanwhile is told that it is superseded.
    update private.generation_work as w
    set submit_at = null, create_called_at = null, checked_at = now(), lease = null, leased_until = null
    where w.generation_id = attach_prediction.generation_id and w.submit_at is not null;
  end if;

  select * into generation from public.generations as g where g.id = attach_prediction.generation_id;
  is_attached := coalesce(
    generation.prediction_id = attach_prediction.prediction_id and generation.state not in ('failed', 'canceled'),
    false);
  if not is_attached then
    perform private.order_errand('cancel_prediction', attach_prediction.prediction_id, generation.person_id);
    -- No row names it, and Replicate has the photo all the same (T3).
    insert into public.replicate_removals (prediction_id, person_id, generation_id, due_at)
    values (attach_prediction.prediction_id, generation.person_id, attach_prediction.generation_id,
      now() + private.keep('replicate_hour'))
    on conflict do nothing;
  end if;
  return jsonb_build_object(
    'outcome', case when is_attached then 'attached' else 'ended' end,
    'generation', case when generation.id is not null then private.describe(generation) end
  );
end;
$$;

-- Certainly nothing was created: to be tried again later, each time later, under the same hold.
create function backend.postpone_submission(generation_id uuid, lease uuid)
returns void
language sql
security definer
set search_path = pg_catalog, pg_temp
begin atomic
  update private.generation_work as w
  set submit_at = now() + least(interval '2 minutes', interval '15 seconds' * power(2, w.submissions - 1)),
    create_called_at = null,
    lease = null,
    leased_until = null
  where w.generation_id = postpone_submission.generation_id and w.lease = postpone_submission.lease;
end;

-- Replicate's platform failed, not the model: the prediction is forgotten, with its capability, and
-- another is owed. Answers false where that has happened too often, or no time is left.
create function private.submit_again(generation public.generations)
returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  update private.generation_work as w
  set submit_at = now(), create_called_at = null, capability_digest = null, lease = null, leased_until = null
  where w.generation_id = generation.id
    and w.submissions < 3
    and generation.deadline_at > now() + interval '1 minute';
  if found then
    update public.generations as g set prediction_id = null where g.id = generation.id;
  end if;
  return found;
end;
$$;

-- Leases submissions that are due, [] if there is none, to be carried out as the first was.
create function backend.lease_submissions(lease uuid, batch integer default 10)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  leased jsonb;
begin
  with due as (
    select w.generation_id
    from private.generation_work as w
    join public.generations as g on g.id = w.generation_id
    where w.submit_at <= now()
      and (w.lease is null or w.leased_until <= now())
      and w.submissions < 6
      and g.prediction_id is null
      and g.deadline_at > now() + interval '30 seconds'
    order by w.submit_at
    limit batch
    for update of w skip locked
  )
  update private.generation_work as w
  set lease = lease_submissions.lease,
    leased_until = private.submission_lease_end(),
    submissions = w.submissions + 1
  from due
  where w.generation_id = due.generation_id;

  select coalesce(jsonb_agg(private.describe_submission(g)), '[]')
  into leased
  from private.generation_work as w
  join public.generations as g on g.id = w.generation_id
  where w.submit_at is not null and w.lease = lease_submissions.lease;
  return leased;
end;
$$;

comment on function backend.record_input is 'What was measured of the photo (C2), before anything is submitted.';
comment on function backend.attach_prediction is 'The job was accepted: ties its prediction to the generation.';
comment on function backend.postpone_submission is 'Gives a submission back that did not come about; it is due again later.';
comment on function backend.lease_submissions is 'Submissions that nobody has finished, for the caller to carry out.';

grant execute on function
  backend.record_input, backend.attach_prediction, backend.postpone_submission, backend.lease_submissions
to service_role;
