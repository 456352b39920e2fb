-- How an export ends: it fails, it is canceled with its account, or it expires. If an artwork is deleted, an export
-- that contains it must not stay, so a running export is planned again.

create function private.abandon_export_upload(export_id uuid)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  work private.export_work;
begin
  select * into work from private.export_work as w where w.export_id = abandon_export_upload.export_id for update;
  if work.upload is not null then
    perform private.order_outbox_task('abandon_upload', work.upload,
      (select e.person_id from public.exports as e where e.id = work.export_id));
  end if;
  update private.export_work as w
  set upload = null, lease = null, leased_until = null, due_at = now()
  where w.export_id = abandon_export_upload.export_id;
end;
$$;

-- Deletes the plan of an export, with its copy of the data. The next plan has another path. So the deletion of what
-- Storage has of the old plan, or may still receive, never deletes the new archive.
create function private.abandon_export(export_id uuid)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  export public.exports;
begin
  perform private.abandon_export_upload(abandon_export.export_id);
  delete from private.export_files as f where f.export_id = abandon_export.export_id;
  update private.export_work as w
  set section = null, after = null, is_written = false
  where w.export_id = abandon_export.export_id;
  select * into export from public.exports as e where e.id = abandon_export.export_id for update;
  perform private.order_deletion('exports', export.path, 'superseded', export.person_id, null)
  where exists (select from storage.objects as o where o.bucket_id = 'exports' and o.name = export.path);
  update public.exports as e
  set path = format('%s/%s.zip', export.person_id, gen_random_uuid()),
    files_total = null, files_done = 0, bytes_done = 0, bytes_total = null
  where e.id = abandon_export.export_id;
end;
$$;

-- Ends the exports of a user, because a copy of deleted data must not stay behind.
create function private.end_exports(person uuid, is_leaving boolean)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  export public.exports;
begin
  -- Lock `export_work` first, then `exports`. All other code locks in this order.
  perform from private.export_work as w
  join public.exports as e on e.id = w.export_id
  where e.person_id = person
  for update of w;
  for export in
    select * from public.exports as e where e.person_id = person and e.state in ('building', 'ready') for update
  loop
    if export.state = 'ready' then
      update public.exports as e set state = 'expired', expires_at = now() where e.id = export.id;
      perform private.order_deletion('exports', export.path, 'export_expired', person, null);
      continue;
    end if;
    perform private.abandon_export(export.id);
    if is_leaving then
      update public.exports as e set state = 'canceled' where e.id = export.id;
      delete from private.export_work as w where w.export_id = export.id;
      -- A worker may be sending the last piece at this moment.
      perform private.order_deletion('exports', export.path, 'superseded', person, null);
    end if;
  end loop;
end;
$$;

create function private.follow_artwork_deletion()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.end_exports(old.person_id, false);
  return null;
end;
$$;

create trigger generations_end_exports
after delete on public.generations
for each row
when (old.artwork_path is not null)
execute function private.follow_artwork_deletion();

-- Expires exports whose time is over. Returns how many.
create function backend.expire_exports()
returns integer
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  expired integer;
begin
  with over as (
    update public.exports as e
    set state = 'expired'
    where e.id in (
      select n.id from public.exports as n where n.state = 'ready' and n.expires_at <= now() for update skip locked
    )
    returning e.path, e.person_id
  )
  insert into public.deletions (bucket, path, reason, person_id)
  select 'exports', o.path, 'export_expired', o.person_id from over as o
  on conflict (bucket, path) where verified_at is null do nothing;
  get diagnostics expired = row_count;
  return expired;
end;
$$;

comment on function backend.expire_exports is 'Orders the deletion of exports whose time is over (G5).';

revoke all on function backend.expire_exports from public, anon, authenticated, service_role;
grant execute on function backend.expire_exports to service_role;
