-- Generations. A row exists from the moment credits are held until the user deletes the artwork.

-- Why a generation failed: a closed list. Each reason has a sentence for users. If a photo is refused, the reason is
-- the code of its fault (`functions/photo/src/rejection.rs`).
create table public.failure_reasons (
  id text not null,
  sentence text not null,
  constraint failure_reasons_pkey primary key (id)
);

alter table public.failure_reasons enable row level security;
revoke all on public.failure_reasons from public, anon, authenticated, service_role;

create policy "Anyone reads what the reasons mean"
on public.failure_reasons
for select
to anon, authenticated
using (true);

grant select on public.failure_reasons to anon, authenticated, service_role;

comment on table public.failure_reasons is 'The closed list of reasons for which a generation fails. The credits are returned for every one.';

insert into public.failure_reasons (id, sentence) values
  ('animated', 'The photo is animated. Please upload a single frame of it.'),
  ('content_flagged', 'The photo or the result was flagged as sensitive. Please try another photo or style.'),
  ('corrupt', 'The photo could not be read. Please upload a copy that you have saved again in a photo program.'),
  ('decoded_size_too_large', 'The photo takes too much memory to open. Please upload a smaller version, or an ordinary 8-bit RGB JPEG.'),
  ('dimensions_too_large', 'The photo has too many pixels. Please upload a smaller version.'),
  ('dimensions_too_small', 'The photo has too few pixels. Please upload a larger version.'),
  ('empty_file', 'The file is empty. Please upload the photo again.'),
  ('expired', 'This took too long, so it was stopped. Please upload the photo again.'),
  ('input_invalid', 'The model could not use this photo. Please upload another photo.'),
  ('input_not_found', 'The photo was gone before it could be used. Please upload it again.'),
  ('lost', 'The result was lost on the way. Please upload the photo again.'),
  ('model_error', 'The model could not make this picture. Please upload another photo, or choose other settings.'),
  ('not_an_image', 'The file is not a picture. Please upload a JPEG, PNG or WebP photo.'),
  ('output_invalid', 'The model returned something that is not a picture. Please upload the photo again.'),
  ('platform_error', 'The image service had a fault. Please upload the photo again in a few minutes.'),
  ('dispatch_refused', 'The image service did not accept this photo or these settings. Please upload another photo, or choose other settings.'),
  ('too_many_bytes', 'The file of the photo is too large. Please upload a smaller version.'),
  ('truncated', 'The photo is incomplete: the end of its file is missing. Please upload it again.'),
  ('unsupported_format', 'The photo has a format that we cannot use. Please upload it as JPEG, PNG or WebP.');

create table public.generations (
  id uuid not null default gen_random_uuid(),
  person_id uuid not null,
  idempotency_key text not null,
  style text not null,
  style_version integer not null,
  model text not null,
  prompt text not null,
  settings jsonb not null,
  credits integer not null,
  state text not null default 'reserved',
  reason text,
  input_path text not null,
  input_format text,
  input_width integer,
  input_height integer,
  input_bytes integer,
  prediction_id text,
  model_version text,
  predict_seconds numeric(8, 3),
  artwork_path text,
  artwork_content_type text,
  artwork_bytes bigint,
  artwork_sha256 text,
  artwork_missing_at timestamptz,
  favourite boolean not null default false,
  deadline_at timestamptz not null,
  reserved_at timestamptz not null default now(),
  dispatched_at timestamptz,
  processing_at timestamptz,
  storing_at timestamptz,
  finished_at timestamptz,
  constraint generations_pkey primary key (id),
  constraint generations_person_exists foreign key (person_id) references auth.users (id) on delete cascade,
  constraint generations_style_version_exists foreign key (style, style_version)
    references private.style_versions (style, version),
  constraint generations_model_exists foreign key (model) references public.models (id),
  constraint generations_reason_known foreign key (reason) references public.failure_reasons (id),
  constraint generations_idempotency_key_unique unique (person_id, idempotency_key),
  constraint generations_idempotency_key_form check (idempotency_key ~ '^[\x21-\x7e]{1,255}$'),
  constraint generations_prediction_unique unique (prediction_id),
  -- The input is deleted when its generation ends, so two generations must not share one.
  constraint generations_input_unique unique (input_path),
  constraint generations_input_belongs_to_person check (starts_with(input_path, person_id || '/')),
  constraint generations_input_format_known check (input_format in ('jpeg', 'png', 'webp', 'heic')),
  constraint generations_artwork_unique unique (artwork_path),
  constraint generations_artwork_belongs_to_person check (starts_with(artwork_path, person_id || '/')),
  constraint generations_artwork_sha256_form check (artwork_sha256 ~ '^[0-9a-f]{64}$'),
  constraint generations_credits_positive check (credits > 0),
  constraint generations_state_known check (
    state in ('reserved', 'dispatched', 'processing', 'storing', 'succeeded', 'failed', 'canceled')
  ),
  constraint generations_failed_has_reason check ((state = 'failed') = (reason is not null)),
  constraint generations_succeeded_has_artwork check (
    case
      when state = 'succeeded' then
        num_nulls(artwork_path, artwork_content_type, artwork_bytes, artwork_sha256) = 0
      else
        num_nonnulls(artwork_path, artwork_content_type, artwork_bytes, artwork_sha256) = 0
    end
  ),
  constraint generations_finished_when_terminal check (
    (state in ('succeeded', 'failed', 'canceled')) = (finished_at is not null)
  )
);

create index generations_person_newest_idx on public.generations (person_id, reserved_at desc, id desc);
create index generations_open_idx on public.generations (deadline_at)
  where state in ('reserved', 'dispatched', 'processing', 'storing');
create index generations_style_version_idx on public.generations (style, style_version);
create index generations_model_idx on public.generations (model);
create index generations_reason_idx on public.generations (reason);
create index generations_artwork_sha256_idx on public.generations (artwork_sha256) where artwork_sha256 is not null;

alter table public.generations enable row level security;
revoke all on public.generations from public, anon, authenticated, service_role;

create policy "People see their own generations"
on public.generations
for select
to authenticated
using (person_id = (select private.person()));

create policy "People mark their favourites"
on public.generations
for update
to authenticated
using (person_id = (select private.person()))
with check (person_id = (select private.person()));

grant select on public.generations to authenticated, service_role;
grant update (favourite) on public.generations to authenticated;

-- One statement of a user may lock many of their generations, in any order. The trigger locks the user first, so that
-- a transaction that ends all of them cannot deadlock with it.
create function private.lock_caller()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.lock_person(private.person());
  return null;
end;
$$;

create trigger generations_lock_caller
before update of favourite on public.generations
for each statement
execute function private.lock_caller();

comment on table public.generations is 'The history of a user (U5, G1): what was requested, what was measured, the current state, and when each step happened (C2 to C5).';
comment on column public.generations.favourite is 'Whether the user marked it as a favourite (C8).';
comment on column public.generations.prompt is 'The whole prompt as sent. It appears nowhere else: not in logs, events or errors (R5).';
comment on column public.generations.artwork_missing_at is 'When we noticed that the artwork is missing from Storage although we did not delete it. The credits were returned.';
comment on column public.generations.predict_seconds is 'Run time as reported by Replicate, in seconds.';

-- What the functions need to process a generation and users need not see.
create table private.generation_work (
  generation_id uuid not null,
  request_digest bytea not null,
  input_stored_at timestamptz,
  prepared_path text,
  input_sha256 text,
  dispatches integer not null default 1,
  unreported integer not null default 1,
  platform_faults integer not null default 0,
  dispatch_at timestamptz default now(),
  create_called_at timestamptz,
  capability_digest bytea,
  lease uuid,
  leased_until timestamptz,
  storing_lease uuid,
  storing_attempts integer not null default 0,
  checked_at timestamptz not null default now(),
  artwork_crc32 bigint,
  absent_since timestamptz,
  output_absent_since timestamptz,
  constraint generation_work_pkey primary key (generation_id),
  constraint generation_work_generation_exists foreign key (generation_id)
    references public.generations (id) on delete cascade,
  constraint generation_work_prepared_unique unique (prepared_path),
  constraint generation_work_storing_attempts_not_negative check (storing_attempts >= 0),
  constraint generation_work_input_sha256_is_hex check (input_sha256 ~ '^[0-9a-f]{64}$'),
  constraint generation_work_dispatches_positive check (dispatches > 0),
  constraint generation_work_artwork_crc32_range check (artwork_crc32 between 0 and 4294967295),
  constraint generation_work_unreported_not_negative check (unreported >= 0),
  constraint generation_work_platform_faults_not_negative check (platform_faults >= 0),
  constraint generation_work_capability_is_sha256 check (octet_length(capability_digest) = 32),
  constraint generation_work_lease_has_end check ((lease is null) = (leased_until is null))
);

create index generation_work_lease_idx on private.generation_work (lease) where lease is not null;
create index generation_work_dispatch_at_idx on private.generation_work (dispatch_at) where dispatch_at is not null;

alter table private.generation_work enable row level security;
revoke all on private.generation_work from public, anon, authenticated, service_role;

comment on table private.generation_work is 'Working data of generations: dispatches, leases and the digests of capability tokens.';
comment on column private.generation_work.request_digest is 'SHA-256 of the request. The same idempotency key with another request is refused.';
comment on column private.generation_work.input_stored_at is 'When the original was uploaded. The limits of R1 count from then, also for the prepared copy.';
comment on column private.generation_work.prepared_path is 'Path of the prepared copy, which the model sees, in the bucket inputs. No client can write to it. Null until the original has been judged.';
comment on column private.generation_work.input_sha256 is 'SHA-256 of the original as we received it, in hex. Recorded when the original was judged.';
comment on column private.generation_work.storing_lease is 'The lease of the latest attempt to store the output.';
comment on column private.generation_work.storing_attempts is 'Number of attempts to store the output. Each attempt has its own path, so that a late deletion of one never deletes the object of another.';
comment on column private.generation_work.dispatches is 'How often a worker has leased the generation for dispatch, always under the same hold and deadline.';
comment on column private.generation_work.unreported is 'Dispatch attempts whose end no worker has reported: the attempt is in progress, the worker died, or the response to its create call was lost.';
comment on column private.generation_work.platform_faults is 'Predictions of this generation that failed because of a fault in Replicate''s platform.';
comment on column private.generation_work.dispatch_at is 'The generation is due for dispatch from this time on. Null once a prediction is known.';
comment on column private.generation_work.create_called_at is 'The time of a create call whose response we do not have. Since then, Replicate may have accepted a prediction whose ID we do not know.';
comment on column private.generation_work.capability_digest is 'SHA-256 of the capability token in the webhook address. It connects an event with its generation even if the response that named the prediction was lost.';
comment on column private.generation_work.lease is 'Fencing token of the worker that dispatches the generation or stores its output. A worker whose lease was taken over changes nothing.';
comment on column private.generation_work.artwork_crc32 is 'CRC-32 of the artwork, computed while it was stored, because a ZIP file has it before the data. Null for older artworks: their export computes it.';
comment on column private.generation_work.checked_at is 'When Replicate last told us about this generation, or when we last asked.';
comment on column private.generation_work.absent_since is 'When the current run of 404 responses from Replicate for its prediction began.';
comment on column private.generation_work.output_absent_since is 'When the current run of 404 responses from the output host began.';

-- Only technical metadata (R5). The columns are the list of what may be recorded.
create table public.processing_log (
  id bigint generated always as identity,
  generation_id uuid not null,
  person_id uuid not null,
  at timestamptz not null default clock_timestamp(),
  state text not null,
  reason text,
  constraint processing_log_pkey primary key (id),
  constraint processing_log_generation_exists foreign key (generation_id)
    references public.generations (id) on delete cascade,
  constraint processing_log_person_exists foreign key (person_id)
    references auth.users (id) on delete cascade
);

create index processing_log_generation_id_idx on public.processing_log (generation_id, id);
create index processing_log_person_id_idx on public.processing_log (person_id);
create index processing_log_at_idx on public.processing_log (at);

alter table public.processing_log enable row level security;
revoke all on public.processing_log from public, anon, authenticated, service_role;
revoke all on sequence public.processing_log_id_seq from public, anon, authenticated, service_role;

create policy "People see the log of their own generations"
on public.processing_log
for select
to authenticated
using (person_id = (select private.person()));

grant select on public.processing_log to authenticated, service_role;

comment on table public.processing_log is 'Each step of each generation, and when it happened (C4, C5).';

-- A webhook event from Replicate, identified by its webhook-id. The body is not kept, because it contains the prompt.
create table private.webhook_events (
  id text not null,
  generation_id uuid not null,
  status text not null,
  deliveries integer not null default 1,
  received_at timestamptz not null default now(),
  constraint webhook_events_pkey primary key (id),
  constraint webhook_events_generation_exists foreign key (generation_id)
    references public.generations (id) on delete cascade,
  constraint webhook_events_id_length check (char_length(id) between 1 and 200)
);

create index webhook_events_generation_id_idx on private.webhook_events (generation_id);
create index webhook_events_received_at_idx on private.webhook_events (received_at);

alter table private.webhook_events enable row level security;
revoke all on private.webhook_events from public, anon, authenticated, service_role;

comment on table private.webhook_events is 'Signed webhook events that we accepted, one row per event.';

create function private.is_terminal(state text)
returns boolean
language sql
immutable
set search_path = pg_catalog, pg_temp
return state in ('succeeded', 'failed', 'canceled');

-- Locks generations in the order that all code keeps: first their rows in `generation_work`, then the generations,
-- then their wallets, each sorted by ID. Returns the IDs that are locked. With `skip`, it leaves out generations that
-- another transaction has locked.
create function private.lock_generations(ids uuid[], skip boolean default true)
returns uuid[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  locked uuid[];
begin
  if skip then
    locked := array(
      select w.generation_id from private.generation_work as w
      where w.generation_id = any (ids) order by w.generation_id for update skip locked
    );
    locked := array(
      select g.id from public.generations as g
      where g.id = any (ids)
        and (g.id = any (locked) or g.id not in (select w.generation_id from private.generation_work as w
          where w.generation_id = any (ids)))
      order by g.id
      for update skip locked
    );
  else
    perform from private.generation_work as w where w.generation_id = any (ids) order by w.generation_id for update;
    locked := array(select g.id from public.generations as g where g.id = any (ids) order by g.id for update);
  end if;
  perform from public.wallets as w
  where w.person_id in (select g.person_id from public.generations as g where g.id = any (locked))
  order by w.id
  for update;
  return locked;
end;
$$;

-- Locks a generation and returns it if `lease` is still its lease. Returns a row of nulls if the lease was lost. The
-- check is a statement of its own, because a statement that has waited for a lock would still see the old lease.
create function private.lock_leased(generation_id uuid, lease uuid)
returns public.generations
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  generation public.generations;
begin
  perform from private.generation_work as w where w.generation_id = lock_leased.generation_id for update;
  select g.* into generation from public.generations as g where g.id = lock_leased.generation_id for update;
  if not exists (
    select from private.generation_work as w
    where w.generation_id = lock_leased.generation_id and w.lease = lock_leased.lease
  ) then
    return null;
  end if;
  return generation;
end;
$$;

-- A user's request and its price never change. The trigger runs after the update, so that if the update also breaks a
-- constraint, the error names the constraint.
create function private.freeze_generation()
returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if (new.id, new.person_id, new.idempotency_key, new.style, new.style_version, new.model, new.prompt,
      new.settings, new.credits, new.input_path, new.reserved_at)
    is distinct from (old.id, old.person_id, old.idempotency_key, old.style, old.style_version, old.model,
      old.prompt, old.settings, old.credits, old.input_path, old.reserved_at)
  then
    raise exception 'what was asked for does not change' using errcode = '42501';
  end if;
  return null;
end;
$$;

create trigger generations_freeze
after update on public.generations
for each row
execute function private.freeze_generation();
