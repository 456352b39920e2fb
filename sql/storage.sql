-- Buckets and who may do what in them. Both are private (R6, R8); service_role passes by.

insert into storage.buckets (id, name, public, file_size_limit, allowed_mime_types) values
  ('inputs', 'inputs', false, 10 * 1024 * 1024, array['image/jpeg', 'image/png', 'image/webp']),
  ('artworks', 'artworks', false, 50 * 1024 * 1024, array['image/jpeg', 'image/png', 'image/webp']),
  -- An export is as large as what it holds; a project's own limit for uploads must allow it.
  ('exports', 'exports', false, null, array['application/zip']);

-- The name must be a UUID: a file's own name may say who is in the picture (R5). What could not be deleted
-- in time does not come in (X2).
create policy "People upload photos into their own folder, under a random name"
on storage.objects
for insert
to authenticated
with check (
  bucket_id = 'inputs'
  and (storage.foldername(name))[1] = (select private.person())::text
  and name ~ '^[0-9a-f-]{36}/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\.(jpg|jpeg|png|webp)$'
  and (select private.is_intake_open())
);

create policy "People see their own photos while they last"
on storage.objects
for select
to authenticated
using (bucket_id = 'inputs' and (storage.foldername(name))[1] = (select private.person())::text);

create policy "People take back their own photos"
on storage.objects
for delete
to authenticated
using (bucket_id = 'inputs' and (storage.foldername(name))[1] = (select private.person())::text);

-- Written by the functions alone; deleted with its generation, never from under it.
create policy "People see their own artworks"
on storage.objects
for select
to authenticated
using (bucket_id = 'artworks' and (storage.foldername(name))[1] = (select private.person())::text);

create policy "People fetch their own exports"
on storage.objects
for select
to authenticated
using (bucket_id = 'exports' and (storage.foldername(name))[1] = (select private.person())::text);
