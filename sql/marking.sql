-- Anyone can recognise what a model made here (X7), by asking whether we keep an artwork with its digest.

-- Whether an artwork with this SHA-256 (64 hex digits, lower case) is kept here. The answer is no once its deletion is
-- ordered, its account is closed or its object is gone. The answer reveals nothing else: not when, not whose, not how
-- many. An index finds the rows with the digest, and only these few are checked further.
create function backend.is_made_here(sha256 text)
returns boolean
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
return exists (
  select
  from public.generations as g
  where g.artwork_sha256 = is_made_here.sha256
    and (select p.closed_at is null from public.profiles as p where p.id = g.person_id)
    and (
      select o.id from storage.objects as o where o.bucket_id = 'artworks' and o.name = g.artwork_path
    ) is not null
    and (
      select d.id from public.deletions as d
      where d.bucket = 'artworks' and d.path = g.artwork_path and d.verified_at is null
    ) is null
);

comment on function backend.is_made_here is 'Whether an artwork with this SHA-256 is kept here: yes or no, and nothing else (X7).';

revoke all on function backend.is_made_here from public, anon, authenticated, service_role;
grant execute on function backend.is_made_here to service_role;
