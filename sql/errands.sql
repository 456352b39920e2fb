-- Calls that are owed to others, and that a worker may die over: a prediction to stop, an upload to abandon.
-- Whoever comes by makes them, until they are made.

create table private.errands (
  kind text not null,
  target text not null,
  person_id uuid,
  ordered_at timestamptz not null default now(),
  due_at timestamptz not null default now(),
  attempts integer not null default 0,
  constraint errands_pkey primary key (kind, target),
  constraint errands_kind_known check (kind in ('cancel_prediction', 'abandon_upload')),
  constraint errands_person_exists foreign key (person_id) references auth.users (id) on delete set null
);

create index errands_due_at_idx on private.errands (due_at);
create index errands_person_id_idx on private.errands (person_id);
create index errands_ordered_at_idx on private.errands (ordered_at);

alter table private.errands enable row level security;

comment on table private.errands is 'Calls that are owed to Replicate (stop a prediction) or to Storage (abandon an upload).';
comment on column private.errands.target is 'The id of the prediction, or the address of the upload.';

create function private.order_errand(kind text, target text, person_id uuid)
returns void
language sql
set search_path = pg_catalog, pg_temp
begin atomic
  insert into private.errands (kind, target, person_id)
  select kind, target, u.id
  from (values (1)) as once
  left join auth.users as u on u.id = order_errand.person_id
  on conflict do nothing;
end;

-- Due errands, [{kind, target}]; whoever asks has a minute, then they are anybody's again.
create function backend.lease_errands(batch integer default 50)
returns jsonb
language sql
security definer
set search_path = pg_catalog, pg_temp
begin atomic
  with due as (
    select e.kind, e.target
    from private.errands as e
    where e.due_at <= now()
    order by e.due_at
    limit batch
    for update skip locked
  ),
  leased as (
    update private.errands as e
    set due_at = now() + interval '1 minute' * least(e.attempts + 1, 10), attempts = e.attempts + 1
    from due
    where e.kind = due.kind and e.target = due.target
    returning e.kind, e.target
  )
  select coalesce(jsonb_agg(jsonb_build_object('kind', kind, 'target', target)), '[]') from leased;
end;

create function backend.finish_errand(kind text, target text)
returns void
language sql
security definer
set search_path = pg_catalog, pg_temp
begin atomic
  delete from private.errands as e where e.kind = finish_errand.kind and e.target = finish_errand.target;
end;

comment on function backend.lease_errands is 'Calls that are owed to others, for the caller to make.';
comment on function backend.finish_errand is 'One of them was made, or has no object any more.';

grant execute on function backend.lease_errands, backend.finish_errand to service_role;
