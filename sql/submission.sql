-- What a user can request: begin, cancel and delete a generation. Each call runs under the user's own token, so
-- PostgREST has verified the user. The functions in `public` only call those in `private`. They lease no deletions to
-- a user; only the service can lease those.

-- Returns {outcome: created, generation, dispatch}, or {outcome: replayed, generation} if the key was used before.
-- Refuses with 401, 402, 403, 404, 409, 422, 429 or 503. The caller chooses `lease`: a retry with the same lease after
-- a lost response gets the dispatch again.
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
  -- Credits that no other generation holds.
  available integer;
  generation public.generations;
  work private.generation_work;
begin
  -- One submission per user at a time, so the key, the credits and the limits cannot change while they are checked.
  perform private.lock_person(auth.uid());
  select * into wallet from public.wallets where person_id = auth.uid() for update;
  -- This comes after the locks, because the account may have been closed while the call waited for them.
  person := private.require_person();

  -- This comes before the insert. If the insert failed, the whole row would be in the database's log (R5).
  if coalesce(idempotency_key !~ '^[\x21-\x7e]{1,255}$', true) then
    perform private.refuse(422, 'invalid_idempotency_key',
      'idempotency_key must be 1 to 255 visible ASCII characters, such as a new UUID.',
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
    return private.describe_reservation(generation);
  end if;

  if not private.is_intake_open() then
    perform private.refuse(503, 'intake_closed',
      'We accept no photos at the moment, because we could not delete them in time. You were not charged. '
      'Please try again in a minute.', '{"retry_after": 60}');
  end if;

  if not private.is_account_accepted() then
    perform private.refuse_unaccepted();
  end if;

  perform private.refuse_restricted(person);

  select * into chosen_style from public.styles as s where s.id = style and s.available;
  if not found then
    perform private.refuse(422, 'unknown_style',
      'style is not an available style. Please choose another one.', '{"field": "style"}');
  end if;
  select * into chosen_model from public.models as m
  where m.id = coalesce(begin_generation.model, chosen_style.model) and m.available;
  if not found then
    perform private.refuse(422, 'unknown_model',
      'model is not an available model. Please choose another one.', '{"field": "model"}');
  end if;
  perform private.check_settings(chosen_model.settings_schema, settings);
  if char_length(prompt) > 1000 then
    perform private.refuse(422, 'invalid_prompt', 'prompt may have at most 1000 characters.',
      '{"field": "prompt"}');
  end if;

  perform private.check_input(person, input_path);

  price := chosen_model.credits + chosen_style.extra_credits;
  available := wallet.balance - wallet.held;
  if available < price then
    perform private.refuse(402, 'insufficient_credits',
      format('This costs %s %s and you have %s.', price, case price when 1 then 'credit' else 'credits' end, available),
      jsonb_build_object('price', price, 'available', available));
  end if;
  perform private.check_limits(wallet.id);
  -- This comes last, because it claims the only try while Replicate refuses the account.
  if exists (select from private.account_refusals) and not private.begin_probe() then
    perform private.refuse_unaccepted();
  end if;

  insert into public.generations (
    person_id, idempotency_key, style, style_version, model, prompt, settings,
    credits, input_path, deadline_at
  )
  select person, begin_generation.idempotency_key, v.style, v.version, chosen_model.id,
    concat_ws(' ', v.prompt, nullif(btrim(begin_generation.prompt), '')),
    chosen_model.default_settings || begin_generation.settings, price,
    begin_generation.input_path, now() + chosen_model.deadline
  from private.style_versions as v
  where v.style = chosen_style.id and v.version = chosen_style.version
  returning * into generation;

  insert into private.generation_work (generation_id, request_digest, input_stored_at, lease, leased_until)
  values (
    generation.id, request,
    (
      select o.created_at from storage.objects as o
      where o.bucket_id = 'inputs' and o.name = begin_generation.input_path
    ),
    begin_generation.lease, private.dispatch_lease_end()
  );
  return private.describe_reservation(generation);
end;
$$;

-- Replicate refuses our account, so the photo could not be used.
create function private.refuse_unaccepted()
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.refuse(503, 'model_unavailable',
    'We accept no photos at the moment, because the image service accepts no jobs. You were not charged. '
    'Please try again in a few minutes.', '{"retry_after": 120}');
end;
$$;

-- The form of the names under which clients upload: <person>/<uuid>.<extension>. The functions' own objects in
-- `inputs` are one folder deeper, where no client can write.
create function private.is_upload_name(path text)
returns boolean
language sql
immutable
set search_path = pg_catalog, pg_temp
return path ~ '^[0-9a-f-]{36}/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\.(jpg|jpeg|png|webp)$';

revoke all on function private.is_upload_name from public, anon, authenticated, service_role;
grant execute on function private.is_upload_name to authenticated;

create function private.describe_reservation(generation public.generations)
returns jsonb
language sql
volatile
set search_path = pg_catalog, pg_temp
return jsonb_build_object(
  'outcome', 'created',
  'generation', private.describe(generation),
  'dispatch', private.describe_dispatch(generation)
);

-- A photo of another user and a photo that does not exist give the same answer.
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
        'This photo was already submitted. To use it for another artwork, please upload it again.',
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
    'We cannot find this photo. Please upload it again.', '{"field": "input_path"}');
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

-- Returns the caller's generation. A generation of another user gets the same 404 as one that does not exist.
create function private.find_own_generation(generation_id uuid)
returns public.generations
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  person constant uuid := private.require_person();
  generation public.generations;
begin
  select g.* into generation
  from public.generations as g
  where g.id = find_own_generation.generation_id and g.person_id = person;
  if not found then
    perform private.refuse(404, 'generation_not_found',
      'You have no generation with this id. It may have been deleted.');
  end if;
  return generation;
end;
$$;

-- Locks and returns the caller's generation. Only a row of the caller is locked, so that a stranger cannot block
-- anything.
create function private.lock_own_generation(generation_id uuid)
returns public.generations
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.find_own_generation(generation_id);
  perform private.lock_generations(array[generation_id], skip => false);
  -- It may have been deleted while this call waited for the lock.
  return private.find_own_generation(generation_id);
end;
$$;

-- Ends a user's generation. A generation that is over stays as it is.
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

-- Returns {generation, charged, free_cancels_left, cancel_prediction}: what the cancel cost in credits, how many free
-- late cancels are left today, and the prediction to stop at Replicate, or null. A retry gets the same answer, because
-- the first response may have been lost. Refuses (409) once the model has delivered, because the artwork is then
-- stored and charged.
create function private.cancel_generation(generation_id uuid)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  generation public.generations := private.lock_own_generation(generation_id);
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

-- R9: the row is deleted at once, and the deletion of its objects is ordered in the same transaction. If a worker is
-- storing the output now, its deletion was ordered before and stays ordered. Returns {cancel_prediction}.
create function private.delete_generation(generation_id uuid)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  generation public.generations := private.end_generation(private.lock_own_generation(generation_id));
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

create function private.read_generation(generation_id uuid)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  return private.describe(private.find_own_generation(generation_id));
end;
$$;

create function public.read_generation(generation_id uuid)
returns jsonb
language sql
set search_path = pg_catalog, pg_temp
return private.read_generation(generation_id);

comment on function public.begin_generation is 'Reserves a generation: checks the request, holds its price and returns what to dispatch. Use POST /generations, which also dispatches it.';
comment on function public.cancel_generation is 'Ends a generation of the caller. Its credits are returned, unless the model has started and the free cancels of the day are used up. Use POST /generations/{id}/cancel, which also stops the model.';
comment on function public.delete_generation is 'Deletes a generation of the caller and orders the deletion of its objects. Use DELETE /generations/{id}, which also carries that out.';
comment on function public.read_generation is 'Returns a generation of the caller, as GET /generations/{id} does.';

revoke all on function
  private.begin_generation, private.cancel_generation, private.delete_generation, private.read_generation,
  public.begin_generation, public.cancel_generation, public.delete_generation, public.read_generation
from public, anon, authenticated, service_role;
grant execute on function
  private.begin_generation, private.cancel_generation, private.delete_generation, private.read_generation,
  public.begin_generation, public.cancel_generation, public.delete_generation, public.read_generation
to authenticated;
