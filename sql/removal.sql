-- Replicate keeps what we send and what it makes for an hour. After that we ask whether all of it is gone, and keep
-- the answer as evidence (T3).

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
revoke all on public.replicate_removals from public, anon, authenticated, service_role;

create policy "People see what Replicate has removed of theirs"
on public.replicate_removals
for select
to authenticated
using (person_id = (select private.person()));

grant select on public.replicate_removals to authenticated, service_role;

comment on table public.replicate_removals is 'Each prediction that was made, and the evidence that Replicate has removed its data (T3).';
comment on column public.replicate_removals.generation_id is 'Not a foreign key: we also ask about a generation that is deleted within the hour.';
comment on column public.replicate_removals.evidence is 'Replicate''s answer: `data_removed`, or `not_found` if it no longer knows the prediction.';

create table private.removal_leases (
  prediction_id text not null,
  lease uuid not null,
  constraint removal_leases_pkey primary key (prediction_id),
  constraint removal_leases_removal_exists foreign key (prediction_id)
    references public.replicate_removals (prediction_id) on delete cascade
);

create index removal_leases_lease_idx on private.removal_leases (lease);

alter table private.removal_leases enable row level security;
revoke all on private.removal_leases from public, anon, authenticated, service_role;

comment on table private.removal_leases is 'Which worker asks Replicate about a prediction. A lease ends when the prediction is due again.';

-- One 404 proves nothing, because it may be a temporary fault.
create table private.removal_absences (
  prediction_id text not null,
  since timestamptz not null default now(),
  constraint removal_absences_pkey primary key (prediction_id),
  constraint removal_absences_removal_exists foreign key (prediction_id)
    references public.replicate_removals (prediction_id) on delete cascade
);

alter table private.removal_absences enable row level security;
revoke all on private.removal_absences from public, anon, authenticated, service_role;

comment on table private.removal_absences is 'Predictions that Replicate did not know when we last asked, and since when. A second 404, some minutes later, is the evidence.';

create function private.follow_prediction()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  insert into public.replicate_removals (prediction_id, person_id, generation_id, due_at)
  values (new.prediction_id, new.person_id, new.id, now() + private.retention('replicate_hour'))
  on conflict do nothing;
  return null;
end;
$$;

create trigger generations_follow_prediction
after update of prediction_id on public.generations
for each row
when (new.prediction_id is not null and new.prediction_id is distinct from old.prediction_id)
execute function private.follow_prediction();

-- Returns predictions to ask about, [{prediction, generation}], the longest due first. They are leased for ten
-- minutes. The caller chooses the lease: a retry with the same lease gets the same predictions.
create function backend.lease_removals(lease uuid, batch integer default 50)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if not exists (select from private.removal_leases as l where l.lease = lease_removals.lease) then
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
    insert into private.removal_leases as l (prediction_id, lease)
    select prediction_id, lease_removals.lease from asked
    on conflict (prediction_id) do update set lease = excluded.lease;
  end if;
  return (
    select coalesce(jsonb_agg(jsonb_build_object('prediction', r.prediction_id, 'generation', r.generation_id)), '[]')
    from private.removal_leases as l
    join public.replicate_removals as r on r.prediction_id = l.prediction_id
    where l.lease = lease_removals.lease
  );
end;
$$;

-- `results`: [{prediction, evidence}]. `evidence` is null if some data is still there. Then we ask again, at most six
-- hours later. `not_found` counts only if Replicate also gave this answer some minutes before.
create function backend.record_removals(results jsonb)
returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Lock the rows in one order, so that two reports about the same predictions cannot deadlock.
  perform from public.replicate_removals as r
  where r.prediction_id in (select t.value ->> 'prediction' from jsonb_array_elements(results) as t)
  order by r.prediction_id
  for update;
  update public.replicate_removals as r
  set evidence = case when told.is_proof then told.evidence end,
    removed_at = case when told.is_proof then now() end,
    due_at = now() + case
      when told.evidence is not null then interval '5 minutes'
      else least(interval '6 hours', interval '5 minutes' * power(2, least(r.attempts, 10)))
    end
  from (
    select t.prediction, t.evidence,
      t.evidence is not null and (t.evidence <> 'not_found' or exists (
        select from private.removal_absences as a
        where a.prediction_id = t.prediction and a.since <= now() - interval '4 minutes'
      )) as is_proof
    from jsonb_to_recordset(results) as t (prediction text, evidence text)
  ) as told
  where r.prediction_id = told.prediction and r.removed_at is null;
  insert into private.removal_absences (prediction_id)
  select r.prediction_id
  from jsonb_to_recordset(results) as t (prediction text, evidence text)
  join public.replicate_removals as r on r.prediction_id = t.prediction
  where t.evidence = 'not_found' and r.removed_at is null
  on conflict do nothing;
  delete from private.removal_absences as a
  using public.replicate_removals as r
  where r.prediction_id = a.prediction_id
    and a.prediction_id in (select t.value ->> 'prediction' from jsonb_array_elements(results) as t)
    and (r.removed_at is not null or a.prediction_id not in (
      select t.value ->> 'prediction' from jsonb_array_elements(results) as t where t.value ->> 'evidence' = 'not_found'));
  delete from private.removal_leases as l
  where l.prediction_id in (select t.value ->> 'prediction' from jsonb_array_elements(results) as t);
end;
$$;

comment on function backend.lease_removals is 'Predictions whose hour at Replicate is over, for the caller to ask about.';
comment on function backend.record_removals is 'Records Replicate''s answers: the evidence, or that some data is still there.';

revoke all on function backend.lease_removals, backend.record_removals from public, anon, authenticated, service_role;
grant execute on function backend.lease_removals, backend.record_removals to service_role;
