-- What a person asks for: begin, cancel, delete. Called under the person's own token, so that PostgREST has verified
-- who it is; the callers in `public` only pass on to `private`. A person gets no lease: what has to be done next is
-- leased by the service alone.

-- Answers {outcome: created, generation, submission} or, for a key seen before, {outcome: replayed, generation}.
-- Refuses with 401, 402, 404, 409, 422, 429 or 503. The caller chooses `lease`: a retry with the same lease, because
-- the answer was lost, gets the submission again.
create function private.begin_generation(
  style text,
  input_path text,
  idempotency_key text,
  lease uuid,
  model text,
  prompt text,
  settings jsonb
)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  person uuid;
  request constant bytea := sha256(convert_to(
    jsonb_build_array(style, input_path, model, prompt, settings)::text, 'utf8'));
  wallet public.wallets;
  chosen_style public.styles;
  chosen_model public.models;
  price integer;
  generation public.generations;
  work private.generation_work;
begin
  -- One submission of a person at a time: the key, the credits and the limits are read once.
  perform private.lock_person(auth.uid());
  select * into wallet from public.wallets where person_id = auth.uid() for update;
  -- Only then, for the account may have been closed while this waited.
  person := private.require_person();

  -- Before the statement whose failure would put the whole row into the database's log (R5).
  if coalesce(idempotency_key !~ '^[\x21-\x7e]{1,255}$', true) then
    perform private.refuse(422, 'invalid_idempotency_key',
      'idempotency_key must be 1 to 255 visible ASCII characters; a new UUID for each new request does.',
      '{"field": "idempotency_key"}');
  end if;

  select * into generation from public.generations as g
  where g.person_id = person and g.idempotency_key = begin_generation.idempotency_key;
  if found then
    select * into work from private.generation_work as w where w.generation_id = generation.id;
    if work.request_digest <> request then
      perform private.refuse(409, 'idempotency_key_reused',
        'This Idempotency-Key was used for another request. Use a new key for a new request.');
    end if;
    if work.lease is distinct from begin_generation.lease then
      return jsonb_build_object('outcome', 'replayed', 'generation', private.describe(generation));
    end if;
    return private.created(generation);
  end if;

  if not private.is_intake_open() then
    perform private.refuse(503, 'intake_closed',
      'No photo is taken at the moment, because photos could not be deleted in time. Nothing was charged. '
      'Please try again in a minute.', '{"retry_after": 60}');
  end if;

  if not private.is_account_accepted() then
    perform private.refuse_unaccepted();
  end if;

  perform private.refuse_restricted(person);

  select * into chosen_style from public.styles as s where s.id = style and s.available;
  if not found then
    perform private.refuse(422, 'unknown_style',
      'style is not one of the available styles; see the styles table.', '{"field": "style"}');
  end if;
  select * into chosen_model from public.models as m
  where m.id = coalesce(model, chosen_style.model_id) and m.available;
  if not found then
    perform private.refuse(422, 'unknown_model',
      'model is not one of the available models; see the models table.', '{"field": "model"}');
  end if;
  perform private.check_settings(chosen_model.settings_schema, settings);
  if char_length(prompt) > 1000 then
    perform private.refuse(422, 'invalid_prompt', 'prompt may have at most 1000 characters.',
      '{"field": "prompt"}');
  end if;

  perform private.check_input(person, input_path);

  price := chosen_model.credits + chosen_style.extra_credits;
  if wallet.balance - wallet.held < price then
    perform private.refuse(402, 'insufficient_credits',
      format('This costs %s credits and you have %s.', price, wallet.balance - wallet.held),
      jsonb_build_object('price', price, 'balance', wallet.balance - wallet.held));
  end if;
  perform private.check_limits(wallet.id);
  -- Last, because this one is the only one that may try.
  if exists (select from private.account_refusals) and not private.begin_probe() then
    perform private.refuse_unaccepted();
  end if;

  insert into public.generations (
    person_id, idempotency_key, style_id, style_version, model_id, prompt, settings,
    credits, input_path, deadline_at
  )
  select person, begin_generation.idempotency_key, v.style_id, v.version, chosen_model.id,
    concat_ws(' ', v.prompt, nullif(btrim(begin_generation.prompt), '')),
    chosen_model.default_settings || begin_generation.settings, price,
    begin_generation.input_path, now() + chosen_model.deadline
  from private.style_versions as v
  where v.style_id = chosen_style.id and v.version = chosen_style.version
  returning * into generation;

  insert into private.generation_work (generation_id, request_digest, input_stored_at, lease, leased_until)
  values (
    generation.id, request,
    (
      select o.created_at from storage.objects as o
      where o.bucket_id = 'inputs' and o.name = begin_generation.input_path
    ),
    begin_generation.lease, private.submission_lease_end()
  );
  return private.created(generation);
end;
$$;

-- Replicate refuses our account, so a photo would be taken in vain.
create function private.refuse_unaccepted()
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.refuse(503, 'model_unavailable',
    'No photo is taken at the moment, because the image service accepts no jobs. Nothing was charged. '
    'Please try again in a few minutes.', '{"retry_after": 120}');
end;
$$;

-- The form of the names under which clients upload: <person>/<uuid>.<extension>. The functions' own objects in
-- `inputs` lie one folder deeper, where no client can write.
create function private.is_upload_name(path text)
returns boolean
language sql
immutable
set search_path = pg_catalog, pg_temp
return path ~ '^[0-9a-f-]{36}/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\.(jpg|jpeg|png|webp)$';

revoke all on function private.is_upload_name from public, anon, authenticated, service_role;
grant execute on function private.is_upload_name to authenticated;

create function private.created(generation public.generations)
returns jsonb
language sql
volatile
set search_path = pg_catalog, pg_temp
return jsonb_build_object(
  'outcome', 'created',
  'generation', private.describe(generation),
  'submission', private.describe_submission(generation)
);

-- Another's photo and one that is not there give the same answer.
create function private.check_input(person uuid, path text)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if private.is_upload_name(path) and starts_with(path, person || '/') then
    if exists (select from public.generations as g where g.input_path = path) then
      perform private.refuse(409, 'input_in_use',
        'This photo already belongs to a generation. Upload it again to use it again.',
        '{"field": "input_path"}');
    end if;
    if exists (select from storage.objects as o where o.bucket_id = 'inputs' and o.name = path)
      and not exists (
        select from public.deletions as d
        where d.bucket = 'inputs' and d.path = check_input.path and d.verified_at is null
      )
    then
      return;
    end if;
  end if;
  perform private.refuse(404, 'input_not_found',
    'There is no such photo of yours. Upload it to the bucket inputs first.', '{"field": "input_path"}');
end;
$$;

create function public.begin_generation(
  style text,
  input_path text,
  idempotency_key text,
  lease uuid,
  model text default null,
  prompt text default null,
  settings jsonb default '{}'
)
returns jsonb
language sql
set search_path = pg_catalog, pg_temp
return private.begin_generation(style, input_path, idempotency_key, lease, model, prompt, settings);

-- Locks and returns the caller's generation; another person's is as absent as none (404).
create function private.own_generation(generation_id uuid)
returns public.generations
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  person constant uuid := private.require_person();
  generation public.generations;
begin
  -- The row is locked only if it is the caller's, so that a stranger can hold up nothing.
  if exists (
    select from public.generations as g
    where g.id = own_generation.generation_id and g.person_id = person
  ) then
    perform private.lock_generations(array[own_generation.generation_id], skip => false);
    select * into generation from public.generations as g where g.id = own_generation.generation_id;
  end if;
  if generation.id is null then
    perform private.refuse(404, 'generation_not_found', 'There is no such generation of yours.');
  end if;
  return generation;
end;
$$;

-- Ends a generation of its person's. What has ended stays as it is.
create function private.end_generation(generation public.generations)
returns public.generations
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if not private.is_terminal(generation.state) then
    update public.generations as g set state = 'canceled' where g.id = generation.id
    returning * into generation;
  end if;
  return generation;
end;
$$;

-- Answers {generation, charged, free_cancels_left, cancel_prediction}: what it cost in credits, how many late cancels
-- are still free today, and the prediction to stop at Replicate, or null. One that was canceled before is answered the
-- same, since the first answer may have been lost. Refuses (409) once the model has delivered: then the artwork is
-- stored, and charged.
create function private.cancel_generation(generation_id uuid)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  generation public.generations := private.own_generation(generation_id);
begin
  if generation.state in ('storing', 'succeeded') then
    perform private.refuse(409, 'already_finished',
      'The model has finished this artwork, so it cannot be canceled any more. You can delete it.');
  end if;
  generation := private.end_generation(generation);
  return (
    select jsonb_build_object(
      'generation', private.describe(generation),
      'charged', case when h.state = 'captured' then h.amount else 0 end,
      'free_cancels_left', private.free_late_cancels(h.wallet_id),
      'cancel_prediction', case when generation.state = 'canceled' then generation.prediction_id end
    )
    from public.credit_holds as h
    where h.generation_id = generation.id
  );
end;
$$;

create function public.cancel_generation(generation_id uuid)
returns jsonb
language sql
set search_path = pg_catalog, pg_temp
return private.cancel_generation(generation_id);

-- R9: the row goes at once; its objects are ordered deleted in the same transaction. What a worker is storing at this
-- moment was ordered deleted before it was stored, and stays ordered. Answers {cancel_prediction}.
create function private.delete_generation(generation_id uuid)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  generation public.generations := private.end_generation(private.own_generation(generation_id));
begin
  delete from public.generations as g where g.id = generation.id;
  return jsonb_build_object(
    'cancel_prediction', case when generation.state = 'canceled' then generation.prediction_id end);
end;
$$;

create function public.delete_generation(generation_id uuid)
returns jsonb
language sql
set search_path = pg_catalog, pg_temp
return private.delete_generation(generation_id);

comment on function public.begin_generation is 'Reserves a generation: checks it, holds its price, answers what to submit. Use POST /generations, which also submits it.';
comment on function public.cancel_generation is 'Ends a generation of the caller''s; its credits go back, unless the model had begun and the day''s free cancels are used up. Use POST /generations/{id}/cancel, which also stops the model.';
comment on function public.delete_generation is 'Deletes a generation of the caller''s and orders its objects deleted. Use DELETE /generations/{id}, which also carries that out.';

revoke all on function
  private.begin_generation, private.cancel_generation, private.delete_generation,
  public.begin_generation, public.cancel_generation, public.delete_generation
from public, anon, authenticated, service_role;
grant execute on function
  private.begin_generation, private.cancel_generation, private.delete_generation,
  public.begin_generation, public.cancel_generation, public.delete_generation
to authenticated;
