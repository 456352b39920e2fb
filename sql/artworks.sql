-- How an output becomes an artwork: a worker leases the generation, stores the output, and reports that it is stored or
-- cannot be fetched.

-- Gives one worker at a time the right to store an output. Each attempt has its own path, so that a late deletion of
-- one never deletes the object of another. The deletion of the object is ordered before it exists, and only its
-- completion takes the order back. So no unfinished object can stay. Returns the path to store it at, or null while
-- another worker stores it.
create function private.lease_storing(generation public.generations, extension text, new_lease uuid)
returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  lease_end constant timestamptz := now() + interval '2 minutes';
  attempt integer;
  artwork text;
begin
  update private.generation_work as w
  set lease = new_lease,
    leased_until = lease_end,
    storing_attempts = w.storing_attempts + (w.storing_lease is distinct from new_lease)::integer,
    storing_lease = new_lease
  where w.generation_id = generation.id
    and (w.lease is null or w.lease = new_lease or w.leased_until <= now())
  returning w.storing_attempts into attempt;
  if not found then
    return null;
  end if;

  artwork := format('%s/%s-%s', generation.person_id, generation.id, attempt) || coalesce('.' || nullif(extension, ''), '');
  insert into public.deletions as d (bucket, path, reason, person_id, generation_id, due_at)
  values ('artworks', artwork, 'superseded', generation.person_id, generation.id, lease_end + interval '1 minute')
  on conflict (bucket, path) where verified_at is null
  do update set due_at = excluded.due_at;
  return artwork;
end;
$$;

-- The artwork is stored. Returns {outcome, deletions}. The outcome is `completed`, or `superseded` if the lease was
-- lost or the generation is over. Then what was stored is among the deletions. Refuses (409) if Storage does not hold
-- the whole object, because an upload may have been confirmed and then lost.
create function backend.complete_generation(
  generation_id uuid,
  lease uuid,
  artwork_path text,
  content_type text,
  bytes bigint,
  sha256 text,
  crc32 bigint default null
)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  generation constant public.generations := private.lock_leased(complete_generation.generation_id, lease);
  completed boolean := generation.id is not null;
begin
  if completed and not exists (
    select from storage.objects as o
    where o.bucket_id = 'artworks' and o.name = complete_generation.artwork_path
      and private.object_bytes(o.metadata) = complete_generation.bytes
  ) then
    perform private.refuse(409, 'artwork_not_stored', 'The artwork is not in Storage.');
  end if;
  if completed then
    -- A deletion that has started cannot be taken back. Then this attempt was too late.
    delete from public.deletions as d
    where d.bucket = 'artworks' and d.path = complete_generation.artwork_path and d.verified_at is null
      and not exists (select from private.deletion_leases as l where l.deletion_id = d.id);
    completed := found;
  end if;

  if completed then
    update public.generations as g
    set state = 'succeeded',
      artwork_path = complete_generation.artwork_path,
      artwork_content_type = content_type,
      artwork_bytes = bytes,
      artwork_sha256 = sha256
    where g.id = complete_generation.generation_id;
    update private.generation_work as w
    set artwork_crc32 = complete_generation.crc32
    where w.generation_id = complete_generation.generation_id;
  else
    perform private.discard_artwork(complete_generation.generation_id, complete_generation.artwork_path);
  end if;

  return jsonb_build_object(
    'outcome', case
      when completed or exists (
        -- This was reported before, and the response was lost.
        select from public.generations as g
        where g.id = complete_generation.generation_id and g.artwork_path = complete_generation.artwork_path
      ) then 'completed'
      else 'superseded'
    end,
    'deletions', backend.lease_deletions(lease, generation_id => complete_generation.generation_id)
  );
end;
$$;

-- Orders the deletion of an object that was stored too late. An earlier deletion of this path may have been carried
-- out before the object was stored.
create function private.discard_artwork(generation uuid, path text)
returns void
language sql
set search_path = pg_catalog, pg_temp
begin atomic
  select private.order_deletion('artworks', path, 'superseded', private.owner(path), generation)
  where not exists (select from public.generations as g where g.artwork_path = path);
end;

-- The output could not be fetched, but a retry may succeed, so the lease is given back. `reason` is why the generation
-- fails if no retry succeeds: `lost` if the output host does not know the output, `output_invalid` if the output is on
-- another host or behind a redirect. Returns the same as `record_absence`, or `superseded` if the lease was lost.
create function backend.doubt_output(generation_id uuid, lease uuid, reason text)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  generation constant public.generations := private.lock_leased(doubt_output.generation_id, lease);
  since timestamptz;
begin
  if generation.id is not null and not private.is_terminal(generation.state) and generation.deadline_at > now() then
    update private.generation_work as w
    set output_absent_since = case when doubt_output.reason = 'lost' then coalesce(w.output_absent_since, now()) end
    where w.generation_id = generation.id
    returning w.output_absent_since into since;
    if since is null or since > now() - private.absence_proof() then
      update private.generation_work as w set lease = null, leased_until = null where w.generation_id = generation.id;
      return jsonb_build_object('outcome', 'waiting', 'deletions', '[]'::jsonb);
    end if;
  end if;
  return backend.fail_generation(doubt_output.generation_id, doubt_output.reason, doubt_output.lease);
end;
$$;

comment on function backend.complete_generation is 'The artwork is stored: captures the credits and orders the deletion of the photo (R2).';
comment on function backend.doubt_output is 'An output could not be fetched. It is tried again, at most until the deadline.';

revoke all on function backend.complete_generation, backend.doubt_output from public, anon, authenticated, service_role;
grant execute on function backend.complete_generation, backend.doubt_output to service_role;
