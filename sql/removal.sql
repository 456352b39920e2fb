-- Replicate keeps what it was sent, and what it made, for an hour. After that it is asked whether all of it
-- is gone, and the answer is the evidence (T3).

create table public.replicate_removals (
  prediction_id text not null,
  person_id uuid,
  generation_id uuid,
  due_at timestamptz not null,
  attempts integer not null default 0,
  removed_at timestamptz,
  evidence text,
  constraint replicate_removals_pkey primary key (prediction_id),
  constraint replicate_removals_person_exists foreign key (person_id)
    references auth.users (id) on delete set null,
  constraint replicate_removals_attempts_not_negative check (attempts >= 0),
  constraint replicate_removals_evidence_known check (evidence in ('data_removed', 'not_found')),
  constraint replicate_removals_removed_has_evidence check ((removed_at is null) = (evidence is null))
);

create index replicate_removals_due_idx on public.replicate_removals (due_at) where removed_at is null;
create index replicate_removals_person_id_idx on public.replicate_removals (person_id);
create index replicate_removals_removed_at_idx on public.replicate_removals (removed_at);

alter table public.replicate_removals enable row level security;

create policy "People see what Replicate has removed of theirs"
on public.replicate_removals
for select
to authenticated
using (person_id = (select private.person()));

grant select on public.replicate_removals to authenticated, service_role;

comment on table public.replicate_removals is 'Each prediction that was made, and the evidence that Replicate keeps nothing of it (T3).';
comment on column public.replicate_removals.generation_id is 'Not a foreign key: a generation that is deleted within the hour is asked about all the same.';
comment on column public.replicate_removals.evidence is 'What Replicate answered: data_removed, or that it does not know the prediction any more.';

create function private.follow_prediction()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  insert into public.replicate_removals (prediction_id, person_id, generation_id, due_at)
  values (new.prediction_id, new.person_id, new.id, now() + private.keep('replicate_hour'))
  on conflict do nothing;
  return null;
end;
$$;

create trigger generations_follow_prediction
after update of prediction_id on public.generations
for each row
when (new.prediction_id is not null and new.prediction_id is distinct from old.prediction_id)
execute function private.follow_prediction();

-- Predictions to ask about, longest due first. Who asks has ten minutes; then it is anybody's again.
create function backend.lease_removals(batch integer default 50)
returns jsonb
language sql
security definer
set search_path = pg_catalog, pg_temp
begin atomic
  with due as (
    select r.prediction_id
    from public.replicate_removals as r
    where r.removed_at is null and r.due_at <= now()
    order by r.due_at
    limit batch
    for update skip locked
  ),
  asked as (
    update public.replicate_removals as r
    set due_at = now() + interval '10 minutes', attempts = r.attempts + 1
    from due
    where r.prediction_id = due.prediction_id
    returning r.prediction_id
  )
  select coalesce(jsonb_agg(prediction_id), '[]') from asked;
end;

-- `results`: [{prediction, evidence}]; evidence is null where something is still there, and then it is
-- asked about again, at most six hours later.
create function backend.record_removals(results jsonb)
returns void
language sql
security definer
set search_path = pg_catalog, pg_temp
begin atomic
  update public.replicate_removals as r
  set evidence = told.evidence,
    removed_at = case when told.evidence is not null then now() end,
    due_at = now() + least(interval '6 hours', interval '5 minutes' * power(2, least(r.attempts, 10)))
  from jsonb_to_recordset(results) as told (prediction text, evidence text)
  where r.prediction_id = told.prediction and r.removed_at is null;
end;

comment on function backend.lease_removals is 'Predictions whose hour at Replicate is over, for the caller to ask about.';
comment on function backend.record_removals is 'What Replicate answered about them: the evidence, or that something is still there.';

grant execute on function backend.lease_removals, backend.record_removals to service_role;
