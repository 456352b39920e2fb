-- The buckets, and who may do what in them. All buckets are private (R6, R8). These policies do not apply to
-- service_role.

insert into storage.buckets (id, name, public, file_size_limit, allowed_mime_types) values
  ('inputs', 'inputs', false, 25 * 1024 * 1024, array['image/jpeg', 'image/png', 'image/webp']),
  ('artworks', 'artworks', false, 50 * 1024 * 1024, array['image/jpeg', 'image/png', 'image/webp']),
  -- An export is as large as its content. The project's own limit for uploads must allow that.
  ('exports', 'exports', false, null, array['application/zip']);

-- Whether the bucket accepts an object of this type and size, in bytes. Storage does not check every upload: not the
-- size of a body without a declared length, and not the type of a resumable upload without a declared type. A value
-- that is not known yet passes, because the trigger below sees all of them. `slack` is by how many bytes a declared
-- length may exceed the limit: the length of a form includes the lines of the form.
create function private.is_within_bucket_limits(bucket text, mimetype text, bytes text, slack integer default 0)
returns boolean
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
return exists (
  select
  from storage.buckets as b
  where b.id = bucket
    and coalesce(mimetype = any (b.allowed_mime_types), true)
    and case when bytes ~ '^\d{1,18}$' then coalesce(bytes::bigint <= b.file_size_limit + slack, true) else bytes is null end
);

revoke all on function private.is_within_bucket_limits from public, anon, authenticated, service_role;
grant execute on function private.is_within_bucket_limits to authenticated;

-- The early check. Storage asks the policy before the first byte, as the user. The name must be a UUID, because a
-- file's own name may say who is in the picture (R5). Of Storage's operations, only plain and resumable uploads pass:
-- a signed upload address would pass every policy for two hours. No photo is accepted that could not be deleted in
-- time (X2).
create policy "People upload photos into their own folder, under a random name"
on storage.objects
for insert
to authenticated
with check (
  bucket_id = 'inputs'
  and (storage.foldername(name))[1] = (select private.person())::text
  and private.is_upload_name(name)
  and storage.operation() in (
    'storage.object.upload', 'storage.tus.upload.create', 'storage.tus.upload.part'
  )
  and private.is_within_bucket_limits('inputs', metadata ->> 'mimetype', metadata ->> 'contentLength', slack => 65536)
  and (select private.is_intake_open())
  and (select private.is_account_accepted())
);

-- The final check. Storage asks the policy when an upload begins, but writes the row when it ends, up to a day later.
-- It writes as service_role and replaces what has the name by then. So each row of a user is checked again in the
-- transaction that writes it, under the lock that closing the account waits for. A row that is written with the
-- service's key has no owner and passes. Storage answers 42501 with 403 and the message, and 23505 with 409. It then
-- removes the bytes.
create function private.guard_upload()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  person constant text := split_part(new.name, '/', 1);
  waiting record;
begin
  if new.bucket_id is distinct from 'inputs' or new.owner_id is null then
    return new;
  end if;
  if tg_op = 'UPDATE' then
    -- Storage also updates rows for its own reasons. A new version means another photo under the name.
    if (new.name, new.bucket_id, new.version) is not distinct from (old.name, old.bucket_id, old.version) then
      return new;
    end if;
    raise exception 'A photo cannot be replaced. Please upload the new one under a new name.' using errcode = '42501';
  end if;

  if not private.is_upload_name(new.name) or person <> new.owner_id then
    raise exception 'A photo must be uploaded into your own folder, under a new UUID: <your id>/<uuid>.jpg.'
      using errcode = '42501';
  end if;
  perform private.lock_person(person::uuid);
  if not exists (select from public.profiles as p where p.id = person::uuid and p.closed_at is null) then
    raise exception 'This account is being erased. It can no longer upload photos.' using errcode = '42501';
  end if;
  if not private.is_intake_open() then
    raise exception 'We accept no photos at the moment, because we could not delete them in time. Please try again in a minute.'
      using errcode = '42501';
  end if;
  if not private.is_account_accepted() then
    raise exception 'We accept no photos at the moment, because the image service accepts no jobs. Please try again in a few minutes.'
      using errcode = '42501';
  end if;
  if not private.allows(person::uuid, 'generation') then
    raise exception 'You have refused the making of artworks. Allow it in your privacy choices, then upload again.'
      using errcode = '42501';
  end if;
  -- A name can be used only once. So neither a slow upload nor another photo replaces a photo that was judged.
  if exists (select from storage.objects as o where o.bucket_id = 'inputs' and o.name = new.name)
    or exists (select from public.generations as g where g.input_path = new.name)
    or exists (select from public.deletions as d where d.path = new.name and d.bucket = 'inputs')
  then
    raise exception 'This name was used before. Please upload the photo under a new one.' using errcode = '23505';
  end if;
  -- Storage sets the measured values once the bytes have arrived.
  if new.metadata ? 'size'
    and not private.is_within_bucket_limits(
      'inputs', coalesce(new.metadata ->> 'mimetype', ''), new.metadata ->> 'size')
  then
    raise exception 'A photo is a JPEG, PNG or WebP of at most % MiB.',
      (select b.file_size_limit / 1024 / 1024 from storage.buckets as b where b.id = 'inputs')
      using errcode = '42501';
  end if;

  select count(*) + 1 as photos,
    coalesce(sum(private.object_bytes(o.metadata)), 0) + coalesce(private.object_bytes(new.metadata), 0) as bytes
  into waiting
  from storage.objects as o
  where o.bucket_id = 'inputs'
    and o.name collate "C" >= person || '/' and o.name collate "C" < person || '0'
    and private.is_upload_name(o.name);
  if waiting.photos > (private.quota('uploads', 'photos')).most
    or waiting.bytes > (private.quota('uploads', 'bytes')).most
  then
    raise exception 'At most % photos, with % MiB in total, can wait at a time. Please submit or remove some first.',
      (private.quota('uploads', 'photos')).most, (private.quota('uploads', 'bytes')).most / 1024 / 1024
      using errcode = '42501';
  end if;
  return new;
end;
$$;

create trigger guard_upload
before insert or update on storage.objects
for each row
execute function private.guard_upload();

-- The prepared copies that the model sees are one folder deeper, and only the functions can reach them.
create policy "People see their own photos while they last"
on storage.objects
for select
to authenticated
using (
  bucket_id = 'inputs'
  and (storage.foldername(name))[1] = (select private.person())::text
  and private.is_upload_name(name)
);

create policy "People take back their own photos"
on storage.objects
for delete
to authenticated
using (
  bucket_id = 'inputs'
  and (storage.foldername(name))[1] = (select private.person())::text
  and private.is_upload_name(name)
);

-- Only the functions write artworks. An artwork is deleted with its generation, and users cannot delete it in Storage.
-- Until the generation has succeeded, the artwork is not paid for. An attempt that did not count is never paid for.
create policy "People see their own artworks"
on storage.objects
for select
to authenticated
using (
  bucket_id = 'artworks'
  and (storage.foldername(name))[1] = (select private.person())::text
  and exists (
    select from public.generations as g
    where g.artwork_path = objects.name and g.state = 'succeeded' and g.person_id = (select private.person())
  )
);

create policy "People fetch their own exports"
on storage.objects
for select
to authenticated
using (bucket_id = 'exports' and (storage.foldername(name))[1] = (select private.person())::text);
