-- The outbox: calls that we still have to make to other services. A task stops a prediction, searches for one, or
-- abandons an upload. A worker may die before the call, so each task is a row until it is done.

create table private.outbox (
  kind text not null,
  target text not null,
  person_id uuid,
  generation_id uuid,
  ordered_at timestamptz not null default now(),
  due_at timestamptz not null default now(),
  since timestamptz,
  attempts integer not null default 0,
  lease uuid,
  constraint outbox_pkey primary key (kind, target),
  constraint outbox_kind_known check (kind in ('cancel_prediction', 'find_prediction', 'abandon_upload')),
  constraint outbox_person_exists foreign key (person_id) references auth.users (id) on delete set null
);

create index outbox_due_at_idx on private.outbox (due_at);
create index outbox_lease_idx on private.outbox (lease);
create index outbox_person_id_idx on private.outbox (person_id);
create index outbox_ordered_at_idx on private.outbox (ordered_at);

alter table private.outbox enable row level security;
revoke all on private.outbox from public, anon, authenticated, service_role;

comment on table private.outbox is 'Outbox tasks: calls to make to Replicate (stop or find a prediction) or to Storage (abandon an upload).';
comment on column private.outbox.target is 'The ID of the prediction, the path of the photo that it was made from, or the address of the upload.';
comment on column private.outbox.generation_id is 'For the log. Not a foreign key: the task stays if the generation is deleted.';
comment on column private.outbox.since is 'For a search: when the create call of the prediction was made.';

-- A search starts after a minute. By then, a create call that is in progress has its response.
create function private.order_outbox_task(
  kind text,
  target text,
  person_id uuid,
  generation_id uuid default null,
  since timestamptz default null
)
returns void
language sql
set search_path = pg_catalog, pg_temp
begin atomic
  insert into private.outbox (kind, target, person_id, generation_id, since, due_at)
  select kind, target, u.id, generation_id, since, now() + case when kind = 'find_prediction' then interval '1 minute' else '0' end
  from (values (1)) as once
  left join auth.users as u on u.id = order_outbox_task.person_id
  where target is not null
  on conflict do nothing;
end;

-- Returns due outbox tasks, [{kind, target, generation, since}], under a lease. They are due again after a minute,
-- each time later. The caller chooses the lease: a retry with the same lease gets the same tasks.
create function backend.lease_outbox(lease uuid, batch integer default 50)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if not exists (select from private.outbox as o where o.lease = lease_outbox.lease) then
    with due as (
      select o.kind, o.target
      from private.outbox as o
      where o.due_at <= now()
      order by o.due_at
      limit batch
      for update skip locked
    )
    update private.outbox as o
    set due_at = now() + interval '1 minute' * least(o.attempts + 1, 10), attempts = o.attempts + 1,
      lease = lease_outbox.lease
    from due
    where o.kind = due.kind and o.target = due.target;
  end if;
  return (
    select coalesce(jsonb_agg(jsonb_build_object(
      'kind', o.kind, 'target', o.target, 'generation', o.generation_id, 'since', extract(epoch from o.since))), '[]')
    from private.outbox as o
    where o.lease = lease_outbox.lease
  );
end;
$$;

-- A search found predictions that no row names. Each of them must be stopped, and later we ask whether Replicate has
-- removed it (T3).
create function backend.record_found_predictions(target text, predictions jsonb)
returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  task private.outbox;
begin
  select * into task
  from private.outbox as o
  where o.kind = 'find_prediction' and o.target = record_found_predictions.target;
  perform private.disown_prediction(p.id, task.person_id, task.generation_id)
  from jsonb_array_elements_text(predictions) as p (id);
end;
$$;

-- Handles a prediction that belongs to no open generation. Replicate has the photo nevertheless, so the prediction is
-- stopped, and later we ask about its data.
create function private.disown_prediction(prediction_id text, person uuid, generation_id uuid)
returns void
language sql
set search_path = pg_catalog, pg_temp
begin atomic
  select private.order_outbox_task('cancel_prediction', prediction_id, person, generation_id);
  insert into public.replicate_removals (prediction_id, person_id, generation_id, due_at)
  select prediction_id, (select u.id from auth.users as u where u.id = person), generation_id,
    now() + private.retention('replicate_hour')
  on conflict do nothing;
end;

create function backend.finish_outbox_task(kind text, target text)
returns void
language sql
security definer
set search_path = pg_catalog, pg_temp
begin atomic
  delete from private.outbox as o where o.kind = finish_outbox_task.kind and o.target = finish_outbox_task.target;
end;

comment on function backend.lease_outbox is 'Due outbox tasks for the caller to carry out.';
comment on function backend.record_found_predictions is 'Records predictions that a search found. They are stopped, and Replicate is asked about their data.';
comment on function backend.finish_outbox_task is 'Removes an outbox task that is done or no longer possible.';

revoke all on function backend.lease_outbox, backend.record_found_predictions, backend.finish_outbox_task from public, anon, authenticated, service_role;
grant execute on function backend.lease_outbox, backend.record_found_predictions, backend.finish_outbox_task to service_role;
