-- How a reservation becomes a prediction. A submission is owed from the reservation on, until somebody
-- has heard of its prediction; whoever holds its lease carries it out, and may die after any line.

-- That Replicate refuses our account: the token is not valid (401), the account may not (403) or is out of credit (402).
-- One row while it does; the next create call that is accepted removes it.
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

comment on table private.account_refusals is 'Replicate refuses our account, for everybody: jobs wait, and no photo is taken.';
comment on column private.account_refusals.refused_at is 'Since when.';
comment on column private.account_refusals.last_at is 'When it last did.';
comment on column private.account_refusals.probe_at is 'From then on one job may try whether it still does.';

-- Shorter than the time between two passes, so that each pass tries once.
create function private.probe_pause()
returns interval
language sql
immutable
set search_path = pg_catalog, pg_temp
return interval '45 seconds';

-- Claims the next try, for one job: false if another has it.
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

-- Whether a worker will submit it, now or later. A submission whose workers keep dying is left to its deadline, and so is
-- one with too little time left.
create function private.is_awaited(generation public.generations, work private.generation_work)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
return work.submit_at is not null
  and work.unreported < 6
  and generation.prediction_id is null
  and not private.is_terminal(generation.state)
  and generation.deadline_at > now() + interval '30 seconds';

-- Whether a worker may take it up now: the one rule of what is due. Queries also say `submit_at <= now()`, for the index.
create function private.is_to_be_submitted(generation public.generations, work private.generation_work)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
return work.submit_at <= now()
  and (work.lease is null or work.leased_until <= now())
  and private.is_awaited(generation, work);

-- Whether a photo may be taken. While Replicate refuses the account none is: the jobs that wait try from time to time.
-- If none waits any more, the next job has to be the one that tries.
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
    where w.submit_at is not null and private.is_awaited(g, w)
  )
);

revoke all on function private.is_account_accepted from public, anon, authenticated, service_role;
grant execute on function private.is_account_accepted to authenticated;

-- Long enough to fetch and judge the largest photo, and to write its copy.
create function private.submission_lease_end()
returns timestamptz
language sql
stable
set search_path = pg_catalog, pg_temp
return now() + interval '90 seconds';

-- Where the photo of this attempt is prepared, as a JPEG, under a name that no client can write. The object is ordered deleted
-- before it exists; only `record_input` takes the order back. So nothing half prepared can stay.
create function private.prepare_submission(generation public.generations)
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
  path := format('%s/prepared/%s-%s.jpg', generation.person_id, generation.id, work.submissions);
  perform private.order_deletion(
    'inputs', path, 'superseded', generation.person_id, generation.id, work.leased_until + interval '1 minute');
  return path;
end;
$$;

-- What a worker needs to submit. With `create_called_at`, an earlier worker may have done so already. `is_prepared`
-- says whether the photo lies at `prepared_path`, or is to be put there.
create function private.describe_submission(generation public.generations)
returns jsonb
language sql
volatile
set search_path = pg_catalog, pg_temp
return (
  select jsonb_build_object(
    'generation', generation.id,
    'input_path', generation.input_path,
    'prepared_path', private.prepare_submission(generation),
    'is_prepared', w.prepared_path is not null,
    'replicate_model', (select m.replicate_model from public.models as m where m.id = generation.model_id),
    'prompt', generation.prompt,
    'settings', generation.settings,
    'deadline_seconds',
      greatest(0, floor(extract(epoch from generation.deadline_at - clock_timestamp())))::integer,
    'create_called_at', extract(epoch from w.create_called_at)
  )
  from private.generation_work as w
  where w.generation_id = generation.id
);

-- The photo was judged, and the new picture that was made of it lies at `prepared_path` (C2, T2): `format` to `sha256` say what
-- was measured. They are null where an earlier worker has recorded them, and then the path is that worker's. The
-- caller may now create one prediction; `capability` is the SHA-256 of the token in its events' address, in hex. The
-- original is ordered deleted. Answers {outcome, deletions}: open; superseded, when another worker has the lease by
-- now; ended, when the generation is over.
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
      -- A deletion that is under way cannot be taken back; then this attempt was too late.
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
      leased_until = private.submission_lease_end()
    where w.generation_id = generation.id and w.lease = record_input.lease;
  else
    -- The order for this path may have been carried out before the object came.
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

-- A prediction exists: it was created with that capability, or found by the holder of the lease. Answers {outcome,
-- generation, is_accepted_again}, of which the last says that Replicate had refused the account before: attached; ended, when the generation is over, or another prediction was allowed in its place by now, and
-- this one is to be canceled; superseded, when it was found under a lease that was lost: the new holder finds it, too.
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
    -- An event may have been quicker, so the state only ever moves forward here.
    update public.generations as g
    set state = case when g.state = 'reserved' then 'submitted' else g.state end,
      prediction_id = attach_prediction.prediction_id
    where g.id = generation.id
    returning * into generation;
    -- Another worker that has leased the submission meanwhile is told that it is superseded.
    update private.generation_work as w
    set submit_at = null, create_called_at = null, checked_at = now(), lease = null, leased_until = null,
      unreported = greatest(0, w.unreported - 1)
    where w.generation_id = generation.id and w.submit_at is not null;
  end if;
  -- A create call was accepted, so the account is.
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

-- Certainly nothing was created: to be tried again later, at most a minute later, under the same hold. What the caller
-- was preparing can go now: the next attempt has another path.
create function backend.postpone_submission(generation_id uuid, lease uuid)
returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  update private.generation_work as w
  set submit_at = now() + interval '15 seconds' * power(2, least(w.submissions - 1, 2)),
    create_called_at = null,
    lease = null,
    leased_until = null,
    unreported = greatest(0, w.unreported - 1)
  where w.generation_id = postpone_submission.generation_id and w.lease = postpone_submission.lease;
  if found then
    perform private.discard_attempts(postpone_submission.generation_id);
  end if;
end;
$$;

-- The holder of the lease has stopped: what it may have stored so far, and no row counts on, is due to be deleted now.
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

-- Replicate's platform failed, not the model: the prediction is forgotten, with its capability, and another is owed, at
-- once after the first fault and later after each further one. Answers false if five have failed, or no time is left.
create function private.submit_again(generation public.generations)
returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  update private.generation_work as w
  set submit_at = now() + interval '20 seconds' * w.platform_faults,
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

-- Leases submissions that are due, [] if there is none, to be carried out as the first was; those that were tried least
-- lately first. At most `batch`; with `prepared`, so many at most whose photo is prepared, if the first is one of them:
-- to prepare a photo takes memory, to submit it does not. While Replicate refuses the account, one of them tries from
-- time to time whether it still does. Asked again with the same lease, it answers the same ones.
create function backend.lease_submissions(lease uuid, batch integer default 10, prepared integer default null)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  is_new constant boolean := not exists (
    select from private.generation_work as w where w.lease = lease_submissions.lease and w.submit_at is not null
  );
  most integer := batch;
  is_prepared boolean;
  leased jsonb;
begin
  if is_new then
    select w.prepared_path is not null into is_prepared
    from private.generation_work as w
    join public.generations as g on g.id = w.generation_id
    where w.submit_at <= now() and private.is_to_be_submitted(g, w)
    order by w.submit_at
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
    where w.submit_at <= now()
      and is_new
      and private.is_to_be_submitted(g, w)
      and (prepared is null or (w.prepared_path is not null) = is_prepared)
    order by w.submit_at
    limit most
    for update of w skip locked
  )
  -- Due again when the lease ends, and then behind those that nobody has tried meanwhile.
  update private.generation_work as w
  set lease = lease_submissions.lease,
    leased_until = private.submission_lease_end(),
    submit_at = private.submission_lease_end(),
    submissions = w.submissions + 1,
    unreported = w.unreported + 1
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

-- Gives back what was leased and not begun: due now, as if it had not been leased.
create function backend.return_submissions(lease uuid, generations uuid[])
returns void
language sql
security definer
set search_path = pg_catalog, pg_temp
begin atomic
  update private.generation_work as w
  set submit_at = now(), lease = null, leased_until = null, unreported = greatest(0, w.unreported - 1)
  where w.generation_id = any (generations) and w.lease = return_submissions.lease;
end;

-- Replicate has answered a create call of the holder of `lease` with `status`: the account is refused, whosever job it
-- is. Nothing was created. The job waits, and no photo is taken meanwhile. Answers {is_first}: whether nobody knew.
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
  set submit_at = now(),
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

comment on function backend.record_input is 'What was measured of the photo (C2), before anything is submitted.';
comment on function backend.attach_prediction is 'The job was accepted: ties its prediction to the generation.';
comment on function backend.postpone_submission is 'Gives a submission back that did not come about; it is due again later.';
comment on function backend.lease_submissions is 'Submissions that nobody has finished, for the caller to carry out.';
comment on function backend.return_submissions is 'Gives submissions back that were leased and not begun.';
comment on function backend.record_account_refusal is 'Replicate refuses the account: nothing ends, and no photo is taken until it accepts a job again.';

revoke all on function
  backend.record_input, backend.attach_prediction, backend.postpone_submission, backend.lease_submissions,
  backend.return_submissions, backend.record_account_refusal
from public, anon, authenticated, service_role;
grant execute on function
  backend.record_input, backend.attach_prediction, backend.postpone_submission, backend.lease_submissions,
  backend.return_submissions, backend.record_account_refusal
to service_role;
