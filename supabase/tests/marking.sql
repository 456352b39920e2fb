-- The detector: whether an artwork with a given digest is stored here (X7).
begin;
set local search_path = public, tap;
select plan(15);

insert into generations (id, person_id, idempotency_key, style, style_version, model, prompt, settings, credits, input_path, deadline_at)
select id::uuid, person::uuid, 'marked', 'mosaic', 1, 'kontext-pro', 'a prompt', '{}', 1, person || '/marked.jpg', now()
from (values
  ('00000000-0000-4000-8000-0000000000a1', 'a11ce000-0000-4000-8000-000000000001'),
  ('00000000-0000-4000-8000-0000000000b1', 'b0b00000-0000-4000-8000-000000000002')
) as made (id, person);
update generations set state = 'storing' where idempotency_key = 'marked';
update generations
set state = 'succeeded', artwork_path = person_id || '/marked.png', artwork_content_type = 'image/png', artwork_bytes = 1,
  artwork_sha256 = repeat('5a', 32)
where idempotency_key = 'marked';
insert into storage.objects (bucket_id, name)
select 'artworks', artwork_path from generations where idempotency_key = 'marked';

select ok(backend.is_made_here(repeat('5a', 32)), 'an artwork is known by its digest, even if two artworks have the same one');
select ok(not backend.is_made_here(repeat('5b', 32)), 'another digest is not known');
select ok(not backend.is_made_here(null), 'a missing digest is not known');
select is(pg_typeof(backend.is_made_here('x'))::text, 'boolean', 'the response is yes or no');

delete from generations where id = '00000000-0000-4000-8000-0000000000b1';
select ok(backend.is_made_here(repeat('5a', 32)), 'if one of two equal artworks is deleted, the other is still known');

update profiles set closed_at = now() where id = 'a11ce000-0000-4000-8000-000000000001';
select ok(not backend.is_made_here(repeat('5a', 32)), 'while an account is being erased, its artworks are not known');
update profiles set closed_at = null where id = 'a11ce000-0000-4000-8000-000000000001';
select ok(backend.is_made_here(repeat('5a', 32)), 'if the erasure is withdrawn, they are known again');

insert into deletions (id, bucket, path, reason)
select '00000000-0000-4000-8000-0000000000d1', 'artworks', artwork_path, 'orphaned'
from generations where id = '00000000-0000-4000-8000-0000000000a1';
select ok(not backend.is_made_here(repeat('5a', 32)), 'an artwork that is ordered deleted is not known');
delete from deletions where id = '00000000-0000-4000-8000-0000000000d1';
select ok(backend.is_made_here(repeat('5a', 32)), 'if that order is withdrawn, the artwork is known again');

update storage.objects set name = name || '.moved' where bucket_id = 'artworks' and name like '%/marked.png';
select ok(not backend.is_made_here(repeat('5a', 32)), 'an artwork that is gone from Storage is not known');
update storage.objects set name = replace(name, '.moved', '') where bucket_id = 'artworks' and name like '%/marked.png.moved';
select ok(backend.is_made_here(repeat('5a', 32)), 'an artwork that is in Storage is known');

delete from generations where id = '00000000-0000-4000-8000-0000000000a1';
select ok(not backend.is_made_here(repeat('5a', 32)), 'a deleted artwork is unknown at once');

select function_privs_are('backend', 'is_made_here', array['text'], 'service_role', array['EXECUTE'], 'the service may call the detector');
select function_privs_are('backend', 'is_made_here', array['text'], 'authenticated', array[]::text[], 'people may not');
select function_privs_are('backend', 'is_made_here', array['text'], 'anon', array[]::text[], 'callers who are not signed in may not');

select * from finish();
rollback;
