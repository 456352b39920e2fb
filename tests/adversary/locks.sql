-- Work for each verb, for the users of locks-people.sql. `top_up` replaces what the last pair of verbs has used up.

create function pg_temp.mark(generation uuid)
returns text
language sql
return (
  select g.xmin || '.' || w.xmin
  from public.generations as g
  join private.generation_work as w on w.generation_id = g.id
  where g.id = generation
);

-- A generation of each kind for each user. If it is leased, its lease is its own id.
create function pg_temp.top_up_generations()
returns void
language plpgsql
as $$
#variable_conflict use_column
declare
  missing record;
begin
  -- No generation would begin while Replicate refuses the account.
  delete from private.account_refusals;
  delete from public.generations as g
  using people as p
  where g.person_id = p.id
    and not exists (select from fixtures as f where f.id = g.id and f.mark = pg_temp.mark(f.id));
  delete from fixtures as f where f.mark is distinct from pg_temp.mark(f.id);

  for missing in
    select p.slot, p.id as person, k.kind, gen_random_uuid() as id
    from people as p
    cross join unnest(array['due', 'leased', 'running', 'storing', 'late', 'aged', 'done']) as k (kind)
    where not exists (select from fixtures as f where (f.slot, f.kind) = (p.slot, k.kind))
  loop
    perform pg_temp.make_generation(missing.person, missing.kind, missing.id);
    insert into fixtures values (missing.slot, missing.kind, missing.id, pg_temp.mark(missing.id));
  end loop;
end;
$$;

create function pg_temp.make_generation(person uuid, kind text, id uuid)
returns void
language plpgsql
as $$
#variable_conflict use_column
declare
  photo constant text := person || '/' || id || '.jpg';
  prepared constant text := person || '/prepared/' || id || '-1.jpg';
  artwork constant text := person || '/' || id || '-1.png';
begin
  insert into public.generations
    (id, person_id, idempotency_key, style, style_version, model, prompt, settings, credits, input_path, deadline_at)
  values (id, person, kind || '-' || id, 'mosaic', 1, 'kontext-pro', 'a prompt', '{}', 1, photo,
    now() + case when kind = 'late' then interval '-1 second' else '1 hour' end);
  insert into private.generation_work (generation_id, request_digest, capability_digest, dispatch_at, checked_at, lease, leased_until)
  values (id, sha256('r'), sha256(convert_to(id::text, 'utf8')), case when kind in ('due', 'leased', 'aged') then now() end,
    now() - interval '5 minutes',
    case when kind in ('leased', 'storing') then id end, case when kind in ('leased', 'storing') then now() + interval '1 hour' end);
  if kind in ('running', 'storing', 'done') then
    update public.generations as g
    set prediction_id = 'locks-' || person || id, state = case when kind = 'running' then 'processing' else 'storing' end
    where g.id = make_generation.id;
  end if;
  insert into storage.objects (bucket_id, name, created_at, metadata)
  values ('inputs', photo, now() - case when kind = 'aged' then interval '49 hours' else '1 minute' end, '{"size": 1000}');
  if kind = 'leased' then
    insert into storage.objects (bucket_id, name, metadata) values ('inputs', prepared, '{"size": 1000}');
    insert into public.deletions (bucket, path, reason, person_id, generation_id, due_at)
    values ('inputs', prepared, 'superseded', person, id, now() + interval '1 hour');
  elsif kind = 'storing' then
    insert into storage.objects (bucket_id, name, metadata) values ('artworks', artwork, '{"size": 1000}');
    insert into public.deletions (bucket, path, reason, person_id, generation_id, due_at)
    values ('artworks', artwork, 'superseded', person, id, now() + interval '1 hour');
  elsif kind = 'done' then
    update public.generations as g
    set state = 'succeeded', artwork_path = artwork, artwork_content_type = 'image/png', artwork_bytes = 1000, artwork_sha256 = repeat('0', 64)
    where g.id = make_generation.id;
    -- Past the grace period, so that the audit finds that the artwork is missing.
    update public.generations as g set finished_at = now() - interval '1 day' where g.id = make_generation.id;
  end if;
end;
$$;

-- One export that is planned and uploaded, one that is not planned, and an expired one for each of the two users.
create function pg_temp.top_up_exports(wanted boolean)
returns void
language plpgsql
as $$
#variable_conflict use_column
declare
  order_ record;
begin
  delete from public.exports as e using people as p where e.person_id = p.id;
  if not wanted then
    return;
  end if;
  for order_ in select p.slot, p.id as person, gen_random_uuid() as id from people as p where p.slot <> 'leaving' loop
    insert into public.exports (id, person_id, path, files_total, bytes_total)
    select order_.id, order_.person, order_.person || '/' || order_.id || '.zip', done.files, done.bytes
    from (select case order_.slot when 'active' then 1 end, case order_.slot when 'active' then 1000 end) as done (files, bytes);
    insert into private.export_work (export_id, upload, lease, leased_until)
    values (order_.id, 'locks', order_.id, now() + case order_.slot when 'active' then interval '1 hour' else '-1 second' end);
    insert into private.export_files (export_id, position, name, bytes, crc32)
    select order_.id, 1, 'data', 2, 0 where order_.slot = 'active';
    insert into storage.objects (bucket_id, name, metadata)
    values ('exports', order_.person || '/' || order_.id || '.zip', '{"size": 1000}');
    insert into public.exports (person_id, path, state, ready_at, expires_at)
    values (order_.person, order_.person || '/' || gen_random_uuid() || '.zip', 'ready', now() - interval '8 days', now() - interval '1 day');
  end loop;
end;
$$;

-- Other pending work, which is due at once, and expired rows.
create function pg_temp.top_up_the_rest(photos integer)
returns void
language plpgsql
as $$
begin
  perform backend.record_heartbeat('cleanup');
  update private.audit_places set after = '', ended_at = null;
  delete from storage.objects as o using people as p
  where o.name collate "C" >= p.id || '/' and o.name collate "C" < p.id || '0'
    and not exists (select from fixtures as f where f.id::text = substring(o.name from '/(.{36})(-1)?\.'))
    and not exists (select from public.exports as e where e.path = o.name);
  insert into storage.objects (bucket_id, name, metadata)
  select 'inputs', p.id || '/' || gen_random_uuid() || '.jpg', '{"size": 1000}'
  from people as p, generate_series(1, photos)
  where p.slot <> 'leaving';
  delete from public.deletions as d using people as p
  where d.person_id = p.id
    and not exists (select from storage.objects as o where o.bucket_id = d.bucket and o.name = d.path);
  update public.deletions as d set due_at = now() from people as p where d.person_id = p.id and d.bucket = 'inputs' and d.reason <> 'superseded';
  delete from public.privacy_requests as r using people as p where r.person_id = p.id;
  delete from public.usage_events as e using people as p where e.person_id = p.id;
  delete from private.outbox as o where starts_with(o.target, 'locks-');
  delete from public.replicate_removals as r where starts_with(r.prediction_id, 'locks-');
  insert into private.outbox (kind, target, person_id)
  select 'cancel_prediction', 'locks-' || p.id || n, p.id from people as p, generate_series(1, 3) as n;
  insert into public.replicate_removals (prediction_id, person_id, due_at)
  select 'locks-' || p.id || n, p.id, now() from people as p, generate_series(1, 3) as n;
  insert into public.deletions (bucket, path, reason, person_id, generation_id)
  select 'inputs', g.person_id || '/' || gen_random_uuid() || '.jpg', 'orphaned', g.person_id, g.id
  from fixtures as f join public.generations as g on g.id = f.id where f.kind in ('due', 'running', 'done');
  -- Deletions that are due again, although a worker has a lease and may still report.
  insert into private.deletion_leases (deletion_id, lease)
  select d.id, d.id from public.deletions as d join people as p on p.id = d.person_id where d.reason = 'orphaned'
  on conflict (deletion_id) do update set lease = excluded.lease;
  delete from private.emails as e using people as p where e.person_id = p.id and e.kind = 'request_filed';
  insert into private.emails (person_id, kind, subject)
  select p.id, 'request_filed', gen_random_uuid() from people as p, generate_series(1, 2) where p.slot = 'active';
  update private.erasures as e set stage = 'deleting', leased_until = null from people as p where e.person_id = p.id and p.slot = 'leaving';
  insert into public.privacy_choices (person_id, purpose, allowed)
  select p.id, 'analytics', true from people as p where not private.allows(p.id, 'analytics');
  insert into public.usage_events (person_id, at, feature)
  select p.id, now() - interval '2 years', 'locks' from people as p, generate_series(1, 3) where p.slot <> 'leaving';
  insert into private.webhook_events (id, generation_id, status, received_at)
  select 'locks-' || f.id, f.id, 'starting', now() - interval '1 year' from fixtures as f on conflict (id) do nothing;
  -- Reset the activity, because the inserts above count as activity.
  update public.profiles as p set active_at = now() - case n.slot when 'idle' then interval '3 years' else '1 day' end
  from people as n where n.id = p.id;
end;
$$;

create function pg_temp.top_up(photos integer, with_exports boolean)
returns jsonb
language plpgsql
as $$
begin
  perform pg_temp.top_up_people();
  perform pg_temp.top_up_generations();
  perform pg_temp.top_up_exports(with_exports);
  perform pg_temp.top_up_the_rest(photos);
  return jsonb_build_object(
    'people', (select jsonb_object_agg(p.slot, p.id) from people as p),
    'generations', (
      select jsonb_object_agg(s.slot, s.kinds)
      from (select f.slot, jsonb_object_agg(f.kind, f.id) as kinds from fixtures as f group by f.slot) as s
    ),
    'exports', coalesce((
      select jsonb_object_agg(p.slot, e.id)
      from people as p join public.exports as e on e.person_id = p.id and e.state = 'building'
    ), '{}'),
    'photos', coalesce((
      select jsonb_object_agg(p.slot, (
        select jsonb_agg(o.name) from storage.objects as o
        where o.bucket_id = 'inputs' and starts_with(o.name, p.id || '/')
          and not exists (select from public.generations as g where g.input_path = o.name)
      )) from people as p
    ), '{}'),
    'deletions', (
      select jsonb_agg(d.id) from public.deletions as d join people as p on p.id = d.person_id where d.reason = 'orphaned'
    ),
    'erasure', (select e.id from private.erasures as e join people as p on p.id = e.person_id)
  );
end;
$$;
