-- What a model made can be recognised (X7): anybody may ask whether an artwork is one of ours.

-- Whether an artwork with this SHA-256 (64 hex digits, lower case) is kept here. It no longer is once it is ordered
-- deleted, its account is closed or its object is gone. Nobody learns more: not when, not whose, not how many. An index
-- finds the rows of the digest, and only these few are looked at further.
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
