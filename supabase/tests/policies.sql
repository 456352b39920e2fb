-- Alice has things; Bob, signed in, tries to reach them; nobody at all tries, too.
begin;
set local search_path = public, tap;
select plan(38);

insert into private.heartbeats (id) values ('cleanup') on conflict (id) do update set at = now();

insert into replicate_removals (prediction_id, person_id, due_at)
values ('prediction', 'a11ce000-0000-4000-8000-000000000001', now());
insert into storage.objects (bucket_id, name) values
  ('inputs', 'a11ce000-0000-4000-8000-000000000001/11111111-1111-4111-8111-111111111111.jpg'),
  ('artworks', 'a11ce000-0000-4000-8000-000000000001/22222222-2222-4222-8222-222222222222.png');

set local role authenticated;
set local request.jwt.claims = '{"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated"}';
create temporary table begun as
select begin_generation(
  'watercolor', 'a11ce000-0000-4000-8000-000000000001/11111111-1111-4111-8111-111111111111.jpg',
  'key', gen_random_uuid()
) -> 'generation' ->> 'id' as id;
select lives_ok(
  format('select cancel_generation(%L)', (select id from begun)), 'alice cancels her own generation');

select isnt_empty('select from profiles', 'alice sees her profile');
select isnt_empty('select from wallets', 'alice sees her wallet');
select isnt_empty('select from credit_entries', 'alice sees her ledger');
select isnt_empty('select from credit_holds', 'alice sees her holds');
select isnt_empty('select from generations', 'alice sees her generations');
select isnt_empty('select from processing_log', 'alice sees her processing log');
select isnt_empty('select from deletions', 'alice sees her deletions');
select isnt_empty('select from replicate_removals', 'alice sees what Replicate was asked about');
select isnt_empty($$select from storage.objects where bucket_id = 'inputs'$$, 'alice sees her photo');
select isnt_empty($$select from storage.objects where bucket_id = 'artworks'$$, 'alice sees her artwork');
select lives_ok(
  $$insert into storage.objects (bucket_id, name)
    values ('inputs', 'a11ce000-0000-4000-8000-000000000001/33333333-3333-4333-8333-333333333333.webp')$$,
  'alice uploads into her folder'
);
select throws_ok(
  $$insert into storage.objects (bucket_id, name)
    values ('inputs', 'a11ce000-0000-4000-8000-000000000001/me at the beach.jpg')$$,
  '42501', null, 'a photo cannot keep the name of its file (R5)'
);
select throws_ok(
  $$insert into storage.objects (bucket_id, name)
    values ('artworks', 'a11ce000-0000-4000-8000-000000000001/33333333-3333-4333-8333-333333333333.png')$$,
  '42501', null, 'nobody uploads artworks but the functions'
);

set local request.jwt.claims = '{"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated"}';
select is_empty($$select from profiles where id::text like 'a11ce%'$$, 'bob does not see her profile');
select is_empty($$select from wallets where person_id::text like 'a11ce%'$$, 'bob does not see her wallet');
select results_eq('select count(*)::integer from credit_entries', 'values (1)', 'bob sees his own ledger alone');
select is_empty('select from credit_holds', 'bob does not see her holds');
select is_empty('select from generations', 'bob does not see her generations');
select is_empty('select from processing_log', 'bob does not see her processing log');
select is_empty('select from deletions', 'bob does not see her deletions');
select is_empty('select from replicate_removals', 'bob does not see what Replicate was asked about');
select is_empty('select from storage.objects', 'bob does not see her objects');
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
  format('select cancel_generation(%L)', (select id from begun)), 'PT404',
  'There is no such generation of yours.', 'bob does not cancel her generation'
);
select throws_ok(
  format('select delete_generation(%L)', (select id from begun)), 'PT404',
  'There is no such generation of yours.', 'bob does not delete her generation'
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
  'PT404', null, 'a photo that is not there gives the same answer'
);
select isnt_empty(
  $$update profiles set username = 'bob', default_style = 'mosaic'
    where id = 'b0b00000-0000-4000-8000-000000000002' returning id$$,
  'bob changes his own preferences'
);
select throws_ok(
  $$update profiles set id = gen_random_uuid()$$, '42501', null, 'bob does not change who he is'
);

set local role anon;
set local request.jwt.claims = '{"role": "anon"}';
select throws_ok('select from generations', '42501', null, 'nobody who is not signed in sees generations');
select throws_ok(
  $$select begin_generation('watercolor', 'x', 'key', gen_random_uuid())$$, '42501', null,
  'nobody who is not signed in begins one'
);
select isnt_empty('select from styles', 'anybody sees the styles');
select isnt_empty('select from models', 'anybody sees the models');
select isnt_empty('select from failure_reasons', 'anybody reads what the reasons for failure mean');
select isnt_empty('select from deletion_reasons', 'anybody reads what the reasons for deletions mean');

reset role;
update private.heartbeats set at = now() - interval '1 hour';
set local role authenticated;
set local request.jwt.claims = '{"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated"}';
select throws_ok(
  $$insert into storage.objects (bucket_id, name)
    values ('inputs', 'a11ce000-0000-4000-8000-000000000001/55555555-5555-4555-8555-555555555555.webp')$$,
  '42501', null, 'nobody uploads while the sweeper is silent (X2)'
);

select * from finish();
rollback;
