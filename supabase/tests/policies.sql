-- Alice has data. Bob, who is signed in, and callers who are not signed in try to reach it.
begin;
set local search_path = public, tap;
select plan(149);

-- Every place where Alice has data, and every table to which she can write.
create temporary table places (kind text, source text, words text);
insert into places values
  ('table', 'profiles', 'her profile'),
  ('table', 'wallets', 'her wallet'),
  ('table', 'credit_entries', 'her ledger'),
  ('table', 'credit_holds', 'her holds'),
  ('table', 'generations', 'her generations'),
  ('table', 'processing_log', 'her processing log'),
  ('table', 'deletions', 'her deletions'),
  ('table', 'replicate_removals', 'what Replicate was asked about'),
  ('right', 'privacy_choices', 'her choices'),
  ('right', 'policy_consents', 'her consents'),
  ('right', 'usage_events', 'what she used'),
  ('right', 'privacy_requests', 'her requests'),
  ('right', 'exports', 'her exports'),
  ('view', 'privacy_request_clock', 'the clock of her requests'),
  ('bucket', $$storage.objects where bucket_id = 'inputs'$$, 'her photo'),
  ('bucket', $$storage.objects where bucket_id = 'artworks'$$, 'her artwork'),
  ('bucket', $$storage.objects where bucket_id = 'exports'$$, 'the file of her export');
create temporary table writes (target text, columns text, cells text, words text);
insert into writes values
  ('usage_events', 'feature, browser', $$'gallery', 'firefox'$$, 'what she used'),
  ('privacy_choices', 'purpose, allowed', $$'analytics', false$$, 'her choices'),
  ('policy_consents', 'version', $$'2026-11'$$, 'her consents'),
  ('privacy_requests', 'kind, message', $$'access', 'Everything, please.'$$, 'her requests');
grant select on places, writes to anon, authenticated;

-- How many rows a statement changes, or the error. Without a condition, only the policy of its verb decides.
create function pg_temp.changed_by(statement text)
returns text
language plpgsql
as $$
declare
  changed bigint;
begin
  execute statement;
  get diagnostics changed = row_count;
  return changed;
exception
  when others then
    return sqlerrm;
end;
$$;
grant execute on function pg_temp.changed_by to authenticated;

select set_eq(
  $$select distinct tablename::text from pg_policies
    where not coalesce(qual, with_check) = any (array['true', 'available', '(published_at <= now())'])$$,
  $$select regexp_replace(source, '^storage\.(\w+).*', '\1') from places where kind <> 'view'$$,
  'this test covers every table with a policy'
);

insert into privacy_choices (person_id, purpose, allowed)
values ('a11ce000-0000-4000-8000-000000000001', 'analytics', true);
insert into privacy_requests (person_id, kind)
select 'a11ce000-0000-4000-8000-000000000001', 'other' from generate_series(1, 9);
update styles set available = false where id = 'mosaic';
update models set available = false where id = (select id from models order by position desc limit 1);
insert into private.heartbeats (id) values ('cleanup') on conflict (id) do update set at = now();

insert into replicate_removals (prediction_id, person_id, due_at)
values ('prediction', 'a11ce000-0000-4000-8000-000000000001', now());
insert into auth.sessions (id, user_id, created_at, updated_at) values
  ('5e551000-0000-4000-8000-000000000001', 'a11ce000-0000-4000-8000-000000000001', now() - interval '1 day', now()),
  ('5e551000-0000-4000-8000-000000000002', 'b0b00000-0000-4000-8000-000000000002', now(), now());
-- Alice can see only artworks of succeeded generations, so she gets one.
insert into generations (id, person_id, idempotency_key, style, style_version, model, prompt, settings, credits, input_path, deadline_at)
values ('00000000-0000-4000-8000-0000000000aa', 'a11ce000-0000-4000-8000-000000000001', 'made', 'watercolor', 1, 'kontext-pro', 'a prompt', '{}', 1,
  'a11ce000-0000-4000-8000-000000000001/99999999-9999-4999-8999-999999999999.jpg', now());
update generations set state = 'storing' where idempotency_key = 'made';
update generations
set state = 'succeeded', artwork_path = 'a11ce000-0000-4000-8000-000000000001/22222222-2222-4222-8222-222222222222.png',
  artwork_content_type = 'image/png', artwork_bytes = 1, artwork_sha256 = repeat('a', 64)
where idempotency_key = 'made';
insert into storage.buckets (id, name) values ('sketches', 'sketches');
insert into storage.objects (bucket_id, name) values
  ('sketches', 'a11ce000-0000-4000-8000-000000000001/88888888-8888-4888-8888-888888888888.jpg'),
  ('inputs', 'a11ce000-0000-4000-8000-000000000001/66666666-6666-4666-8666-666666666666.jpg'),
  ('inputs', 'a11ce000-0000-4000-8000-000000000001/11111111-1111-4111-8111-111111111111.jpg'),
  ('artworks', 'a11ce000-0000-4000-8000-000000000001/22222222-2222-4222-8222-222222222222.png'),
  ('inputs', 'a11ce000-0000-4000-8000-000000000001/prepared/44444444-4444-4444-8444-444444444444-1.jpg'),
  ('artworks', 'a11ce000-0000-4000-8000-000000000001/44444444-4444-4444-8444-444444444444-1.png'),
  ('exports', 'a11ce000-0000-4000-8000-000000000001/77777777-7777-4777-8777-777777777777.zip');
set local storage.operation = 'storage.object.upload';

set local role authenticated;
set local request.jwt.claims = '{"sub": "a11ce000-0000-4000-8000-000000000001", "session_id": "5e551000-0000-4000-8000-000000000001", "role": "authenticated"}';
create temporary table begun as
select begin_generation(
  'watercolor', 'a11ce000-0000-4000-8000-000000000001/11111111-1111-4111-8111-111111111111.jpg',
  'key', gen_random_uuid()
) -> 'generation' ->> 'id' as id;
select is(
  read_generation((select id::uuid from begun)) ->> 'state', 'reserved', 'alice reads her own generation');
select lives_ok(
  format('select cancel_generation(%L)', (select id from begun)), 'alice cancels her own generation');

select lives_ok(
  format('insert into %s (%s) values (%s)', target, columns, cells), format('alice adds to %s', words)
) from writes;
select lives_ok('select request_export()', 'alice requests an export');
select isnt_empty('update generations set favourite = true returning id', 'alice marks a favourite');
select isnt_empty('select from ' || source, format('alice sees %s', words)) from places;
select lives_ok(
  $$insert into storage.objects (bucket_id, name)
    values ('inputs', 'a11ce000-0000-4000-8000-000000000001/33333333-3333-4333-8333-333333333333.webp')$$,
  'alice uploads into her folder'
);
select is_empty(
  $$select name from storage.objects where name like '%/prepared/%' or name like '%-1.png'$$,
  'alice sees neither what the model will see nor what a worker is storing'
);
select throws_ok(
  $$insert into storage.objects (bucket_id, name)
    values ('inputs', 'a11ce000-0000-4000-8000-000000000001/prepared/55555555-5555-4555-8555-555555555555-1.jpg')$$,
  '42501', null, 'alice cannot write where the model reads'
);
select throws_ok(
  $$set local storage.operation = 'storage.object.sign_upload_url';
    insert into storage.objects (bucket_id, name)
    values ('inputs', 'a11ce000-0000-4000-8000-000000000001/55555555-5555-4555-8555-555555555555.jpg')$$,
  '42501', null, 'alice cannot have an address signed for an upload, which would pass every policy for two hours'
);
select throws_ok(
  format($$insert into storage.objects (bucket_id, name, metadata)
    values ('inputs', 'a11ce000-0000-4000-8000-000000000001/55555555-5555-4555-8555-555555555555.jpg', %L)$$, metadata),
  '42501', null, 'alice cannot begin to upload ' || words
) from (values
  ('{"mimetype": "image/gif", "contentLength": 10}', 'a file of another type'),
  ('{"mimetype": "image/jpeg", "contentLength": 26279937}', 'a file larger than the limit of the bucket'),
  ('{"mimetype": "image/jpeg", "contentLength": "a lot"}', 'a file whose length is not a number')
) as given (metadata, words);
select throws_ok(
  $$insert into storage.objects (bucket_id, name)
    values ('inputs', 'a11ce000-0000-4000-8000-000000000001/me at the beach.jpg')$$,
  '42501', null, 'a photo cannot keep the name of its file (R5)'
);
select throws_ok(
  $$insert into storage.objects (bucket_id, name)
    values ('artworks', 'a11ce000-0000-4000-8000-000000000001/33333333-3333-4333-8333-333333333333.png')$$,
  '42501', null, 'only the functions can upload artworks'
);
select throws_ok(
  $$insert into storage.objects (bucket_id, name)
    values ('exports', 'a11ce000-0000-4000-8000-000000000001/33333333-3333-4333-8333-333333333333.zip')$$,
  '42501', null, 'only the functions can upload exports'
);
select is_empty(
  $$select from storage.objects where bucket_id = 'sketches'$$,
  'no user can see a bucket that no policy names'
);
-- Storage sets this before it deletes.
set local storage.allow_delete_query = 'true';
select results_eq(
  $$with gone as (delete from storage.objects where name ~ '[2678]{8}-' returning bucket_id)
    select bucket_id from gone$$,
  $$values ('inputs')$$,
  'alice can delete her photo, but neither artworks nor exports'
);

set local request.jwt.claims = '{"sub": "b0b00000-0000-4000-8000-000000000002", "session_id": "5e551000-0000-4000-8000-000000000002", "role": "authenticated", "amr": [{"method": "password", "timestamp": 9999999999}]}';
select is_empty($$select from profiles where id::text like 'a11ce%'$$, 'bob does not see her profile');
select is_empty($$select from wallets where person_id::text like 'a11ce%'$$, 'bob does not see her wallet');
select results_eq('select count(*)::integer from credit_entries', 'values (1)', 'bob sees only his own ledger');
select is_empty('select from credit_holds', 'bob does not see her holds');
select is_empty('select from generations', 'bob does not see her generations');
select is_empty('select from processing_log', 'bob does not see her processing log');
select is_empty('select from deletions', 'bob does not see her deletions');
select is_empty('select from replicate_removals', 'bob does not see her removals at Replicate');
select is_empty('select from storage.objects', 'bob does not see her objects');
select is_empty('select from ' || source, format('bob does not see %s', words))
from places where kind in ('right', 'view');
select throws_ok(
  format($$insert into %s (person_id, %s) values ('a11ce000-0000-4000-8000-000000000001', %s)$$,
    target, columns, cells),
  '42501', format('new row violates row-level security policy for table "%s"', target),
  format('bob cannot add to %s, and the error reveals nothing', words)
) from writes;
select throws_ok(
  format('update %s set person_id = person_id', source), '42501', 'permission denied for table ' || source,
  format('no user can change %s afterwards', words)
) from places where kind = 'right';
select throws_ok(
  format('delete from %s', source), '42501', 'permission denied for table ' || source,
  format('no user can delete %s', words)
) from places where kind = 'right';
select throws_ok(
  $$insert into exports (person_id, path) values ('b0b00000-0000-4000-8000-000000000002', 'b.zip')$$, '42501',
  'permission denied for table exports', 'users can make exports only by a request'
);
select throws_ok(
  $$select erase_account('alice@example.com')$$, 'PT422', null, 'bob does not erase her account'
);
select is_empty(
  'update generations set favourite = false returning id', 'bob does not change her favourites'
);
select is(pg_temp.changed_by(statement), changed, 'bob ' || words)
from (values
  ($$update profiles set default_style = 'watercolor'$$, '1', 'changes no profile but his'),
  ('update generations set favourite = false', '0', 'marks no artwork but his'),
  ('delete from storage.objects', '0', 'deletes no photo but his')
) as given (statement, changed, words);
select is_empty(
  $$update profiles set username = 'bob_was_here' where id::text like 'a11ce%' returning id$$,
  'bob does not change her profile'
);
select throws_ok(
  $$insert into storage.objects (bucket_id, name)
    values ('inputs', 'a11ce000-0000-4000-8000-000000000001/44444444-4444-4444-8444-444444444444.jpg')$$,
  '42501', null, 'bob does not upload into her folder'
);
select throws_ok(
  format('select read_generation(%L)', (select id from begun)), 'PT404',
  'You have no generation with this id. It may have been deleted.', 'bob does not read her generation'
);
select throws_ok(
  format('select cancel_generation(%L)', (select id from begun)), 'PT404',
  'You have no generation with this id. It may have been deleted.', 'bob does not cancel her generation'
);
select throws_ok(
  format('select delete_generation(%L)', (select id from begun)), 'PT404',
  'You have no generation with this id. It may have been deleted.', 'bob does not delete her generation'
);
select throws_ok(
  $$select begin_generation('watercolor',
    'a11ce000-0000-4000-8000-000000000001/33333333-3333-4333-8333-333333333333.webp',
    'key', gen_random_uuid())$$,
  'PT404', null, 'bob does not use her photo'
);
select throws_ok(
  $$select begin_generation('watercolor',
    'b0b00000-0000-4000-8000-000000000002/33333333-3333-4333-8333-333333333333.webp',
    'key', gen_random_uuid())$$,
  'PT404', null, 'a photo that does not exist gives the same response'
);
select isnt_empty(
  $$update profiles set username = 'bob', default_style = 'mosaic'
    where id = 'b0b00000-0000-4000-8000-000000000002' returning id$$,
  'bob changes his own preferences'
);
select throws_ok(
  $$update profiles set id = gen_random_uuid()$$, '42501', null, 'bob cannot change his id'
);

set local role anon;
set local request.jwt.claims = '{"role": "anon"}';
select throws_ok('select from generations', '42501', null, 'callers who are not signed in do not see generations');
select throws_ok(
  $$select begin_generation('watercolor', 'x', 'key', gen_random_uuid())$$, '42501', null,
  'callers who are not signed in cannot begin a generation'
);
select throws_ok(
  'select from ' || source, '42501', null, format('callers who are not signed in do not see %s', words)
) from places where kind <> 'bucket' and source <> 'generations';
select is_empty('select from ' || source, format('callers who are not signed in do not see %s', words))
from places where kind = 'bucket';
select throws_ok(
  format('insert into %s (%s) values (%s)', target, columns, cells), '42501', null,
  format('callers who are not signed in cannot add to %s', words)
) from writes;
select throws_ok(statement, '42501', null, 'callers who are not signed in cannot ' || words)
from (values
  ('select request_export()', 'request an export'),
  ($$select erase_account('alice@example.com')$$, 'erase an account')
) as given (statement, words);
select isnt_empty('select from purposes', 'anyone can read the purposes');
select isnt_empty('select from policy_versions', 'anyone can read the versions of the policy');
select is_empty($$select from styles where id = 'mosaic'$$, 'no one can see a style that is not available');
select is_empty('select from models where not available', 'no one can see a model that is not available');
select isnt_empty('select from styles', 'anybody sees the styles');
select isnt_empty('select from models', 'anybody sees the models');
select isnt_empty('select from failure_reasons', 'anyone can read the failure reasons');
select isnt_empty('select from deletion_reasons', 'anyone can read the deletion reasons');

reset role;
update private.heartbeats set at = now() - interval '1 hour';
set local role authenticated;
set local request.jwt.claims = '{"sub": "a11ce000-0000-4000-8000-000000000001", "session_id": "5e551000-0000-4000-8000-000000000001", "role": "authenticated"}';
select throws_ok(
  $$insert into storage.objects (bucket_id, name)
    values ('inputs', 'a11ce000-0000-4000-8000-000000000001/55555555-5555-4555-8555-555555555555.webp')$$,
  '42501', 'new row violates row-level security policy for table "objects"',
  'no one can upload while the heartbeat is too old (X2)'
);

-- S1: a closed session reaches nothing, even if its token has not expired. The same holds for a banned user.
reset role;
update private.heartbeats set at = now();
create temporary table endings (words text, statement text, undo text);
insert into endings values
  ('has signed out', $$delete from auth.sessions where user_id = 'a11ce000-0000-4000-8000-000000000001'$$,
    $$insert into auth.sessions (id, user_id, created_at, updated_at)
      values ('5e551000-0000-4000-8000-000000000001', 'a11ce000-0000-4000-8000-000000000001', now() - interval '1 day', now())$$),
  ('is banned', $$update auth.users set banned_until = now() + interval '1 hour' where id = 'a11ce000-0000-4000-8000-000000000001'$$,
    $$update auth.users set banned_until = null where id = 'a11ce000-0000-4000-8000-000000000001'$$);
create function pg_temp.seen_after(ending text, undo text)
returns text[]
language plpgsql
as $$
declare
  seen text[] := '{}';
  place record;
  there boolean;
begin
  execute ending;
  set local role authenticated;
  for place in select source, words from places loop
    execute 'select exists (select from ' || place.source || ')' into there;
    if there then
      seen := seen || place.words;
    end if;
  end loop;
  begin
    perform begin_generation('watercolor', 'a11ce000-0000-4000-8000-000000000001/33333333-3333-4333-8333-333333333333.webp', 'third', gen_random_uuid());
    seen := seen || 'a generation'::text;
  exception when sqlstate 'PT401' then null;
  end;
  begin
    perform request_export();
    seen := seen || 'another export'::text;
  exception when sqlstate 'PT401' then null;
  end;
  begin
    perform erase_account('alice@example.com');
    seen := seen || 'an erasure'::text;
  exception when sqlstate 'PT401' then null;
  end;
  reset role;
  execute undo;
  return seen;
end;
$$;
select is(pg_temp.seen_after(statement, undo), '{}'::text[], format('once alice %s, her token reaches nothing', words))
from endings;
set local role authenticated;
select isnt_empty('select from generations', 'a new session of alice reaches her data again');

-- G3: as soon as an account is closed, its tokens reach nothing.
reset role;
update private.heartbeats set at = now();
update profiles set closed_at = now() where id = 'a11ce000-0000-4000-8000-000000000001';
set local role authenticated;
select is_empty(
  'select from ' || source, format('once her account is closed, alice does not see %s', words)
) from places;
select throws_ok(
  format('insert into %s (%s) values (%s)', target, columns, cells),
  '42501', format('new row violates row-level security policy for table "%s"', target),
  format('once her account is closed, alice does not add to %s', words)
) from writes;
select throws_ok(
  $$insert into storage.objects (bucket_id, name)
    values ('inputs', 'a11ce000-0000-4000-8000-000000000001/55555555-5555-4555-8555-555555555555.webp')$$,
  '42501', null, 'once her account is closed, alice uploads nothing'
);
select is(pg_temp.changed_by(statement), '0', 'once her account is closed, alice ' || words)
from (values
  ($$update profiles set default_style = 'watercolor'$$, 'changes no profile'),
  ('update generations set favourite = false', 'marks no artwork'),
  ('delete from storage.objects', 'deletes no photo')
) as given (statement, words);
select throws_ok(statement, refusal, null, 'once her account is closed, alice ' || words)
from (values
  ($$select begin_generation('watercolor',
    'a11ce000-0000-4000-8000-000000000001/33333333-3333-4333-8333-333333333333.webp',
    'another', gen_random_uuid())$$, 'PT403', 'begins no generation'),
  ('select read_generation((select id::uuid from begun))', 'PT403', 'reads no generation'),
  ('select cancel_generation((select id::uuid from begun))', 'PT403', 'cancels no generation'),
  ('select delete_generation((select id::uuid from begun))', 'PT403', 'deletes no generation'),
  ('select request_export()', 'PT403', 'is given no export'),
  ($$select erase_account('alice@example.com')$$, 'PT403', 'cannot read her erasure without a recent sign-in')
) as given (statement, refusal, words);

select * from finish();
rollback;
