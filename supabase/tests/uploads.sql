-- Storage writes the row of a user's upload as service_role, when the upload ends. It may have begun long before.
begin;
set local search_path = public, tap;
select plan(20);

insert into private.heartbeats (id) values ('cleanup') on conflict (id) do update set at = now();

-- Writes the row of an upload by Alice, as Storage does when the bytes are there.
create function pg_temp.complete(photo text, metadata jsonb default '{"size": 1000, "mimetype": "image/jpeg"}', owner text default 'a11ce000-0000-4000-8000-000000000001')
returns text
language plpgsql
as $$
begin
  set local role service_role;
  insert into storage.objects (bucket_id, name, owner_id, version, metadata)
  values ('inputs', 'a11ce000-0000-4000-8000-000000000001/' || photo, owner, gen_random_uuid()::text, complete.metadata)
  on conflict (bucket_id, name) do update set version = excluded.version, metadata = excluded.metadata;
  reset role;
  return 'stored';
exception
  when others then
    return sqlstate || ' ' || sqlerrm;
end;
$$;
create function pg_temp.photo(number integer)
returns text
language sql
as $$ select '00000000-0000-4000-8000-' || lpad(number::text, 12, '0') || '.jpg' $$;

select is(pg_temp.complete(pg_temp.photo(1)), 'stored', 'a photo is accepted');
select matches(pg_temp.complete(pg_temp.photo(1)), '^23505', 'a slow upload does not take its place');
select is(pg_temp.complete('prepared/' || pg_temp.photo(1), owner => null), 'stored', 'the functions can write the photo that the model sees');
select matches(pg_temp.complete('prepared/' || pg_temp.photo(2)), '^42501', 'a user cannot write it');
select matches(pg_temp.complete(pg_temp.photo(3), owner => 'b0b00000-0000-4000-8000-000000000002'), '^42501', 'another user cannot write into her folder');
select matches(pg_temp.complete(pg_temp.photo(3), '{"size": 26214401, "mimetype": "image/jpeg"}'), '^42501 .*25 MiB', 'a body without a declared length has a limit, too');
select matches(pg_temp.complete(pg_temp.photo(3), '{"size": 10, "mimetype": "binary/octet-stream"}'), '^42501', 'an upload without a declared type is refused if its type is not allowed');
select is(pg_temp.complete(pg_temp.photo(4)), 'stored', 'a second photo is accepted');

-- Storage also changes rows for its own reasons, such as a backfill. A new version is another photo.
set local role service_role;
select lives_ok($$update storage.objects set metadata = metadata || '{"checked": true}' where name like '%/00000000-0000-4000-8000-000000000001.jpg'$$, 'Storage may change the metadata of a photo');
select throws_ok($$update storage.objects set version = 'other' where name like 'a11ce%/00000000-0000-4000-8000-000000000001.jpg' and owner_id is not null$$, '42501', null, 'Storage may not replace the photo');
reset role;

insert into generations (person_id, idempotency_key, style, style_version, model, prompt, settings, credits, input_path, deadline_at)
values ('a11ce000-0000-4000-8000-000000000001', 'k', 'mosaic', 1, 'kontext-pro', 'a prompt', '{}', 1, 'a11ce000-0000-4000-8000-000000000001/' || pg_temp.photo(5), now());
select matches(pg_temp.complete(pg_temp.photo(5)), '^23505', 'a name that a generation has is taken');
insert into deletions (bucket, path, reason) values ('inputs', 'a11ce000-0000-4000-8000-000000000001/' || pg_temp.photo(6), 'limit_reached');
select matches(pg_temp.complete(pg_temp.photo(6)), '^23505', 'a name that was deleted is taken');

update private.quotas set most = 3 where scope = 'uploads' and id = 'photos';
select is(pg_temp.complete(pg_temp.photo(7)), 'stored', 'three photos can wait');
select matches(pg_temp.complete(pg_temp.photo(8)), '^42501 At most 3 photos', 'a fourth photo cannot wait');
update private.quotas set most = 10 where scope = 'uploads' and id = 'photos';
update private.quotas set most = 4000 where scope = 'uploads' and id = 'bytes';
select matches(pg_temp.complete(pg_temp.photo(9), '{"size": 1001, "mimetype": "image/jpeg"}'), '^42501', 'photos cannot exceed the allowed bytes');
select is(pg_temp.complete(pg_temp.photo(9)), 'stored', 'photos can use all of the allowed bytes');
update private.quotas set most = 1000000 where scope = 'uploads' and id = 'bytes';

update private.heartbeats set at = now() - interval '1 hour';
select matches(pg_temp.complete(pg_temp.photo(10)), '^42501 We accept no photos', 'an upload that ends after the intake closes is refused (X2)');
update private.heartbeats set at = now();
insert into privacy_choices (person_id, purpose, allowed) values ('a11ce000-0000-4000-8000-000000000001', 'generation', false);
select matches(pg_temp.complete(pg_temp.photo(10)), '^42501 You have refused', 'an upload that ends after the user restricts generation is refused (G6)');
insert into privacy_choices (person_id, purpose, allowed) values ('a11ce000-0000-4000-8000-000000000001', 'generation', true);
update profiles set closed_at = now() where id = 'a11ce000-0000-4000-8000-000000000001';
select matches(pg_temp.complete(pg_temp.photo(10)), '^42501 This account', 'an upload that ends after the account is closed is refused (G3)');
select is(pg_temp.complete('prepared/' || pg_temp.photo(3), owner => null), 'stored', 'the functions can still write for a closed account, because the deletion is ordered first');

select * from finish();
rollback;
