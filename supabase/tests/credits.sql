begin;
set local search_path = public, tap;
select plan(29);

create temporary table purse as
select id from wallets where person_id = 'a11ce000-0000-4000-8000-000000000001';

select results_eq(
  $$select w.balance, sum(e.amount)::integer from wallets as w
    join credit_entries as e on e.wallet_id = w.id where w.id = (select id from purse) group by w.id$$,
  $$values (5, 5)$$,
  'a new account has welcome credits in its wallet and in the ledger'
);

select lives_ok(
  $$insert into credit_entries (wallet_id, kind, amount, reason) select id, 'purchase', 10, 'pack' from purse$$,
  'an entry can be added'
);
select results_eq(
  $$select balance from wallets where id = (select id from purse)$$, $$values (15)$$,
  'the wallet follows the ledger'
);

select throws_ok(
  $$update credit_entries set amount = 1000 where wallet_id = (select id from purse)$$,
  '42501', null, 'an entry is never changed'
);
select throws_ok(
  $$delete from credit_entries where wallet_id = (select id from purse)$$,
  '42501', null, 'an entry is never deleted'
);
select throws_ok($$truncate credit_entries$$, '42501', null, 'the ledger cannot be emptied');

select throws_ok(
  $$insert into credit_entries (wallet_id, kind, amount, reason) select id, 'grant', -1, 'x' from purse$$,
  '23514', null, 'the sign of an entry must fit its kind'
);
select throws_ok(
  $$insert into credit_entries (wallet_id, kind, amount, reason) select id, 'adjustment', -100, 'x' from purse$$,
  '23514', null, 'a balance never falls below zero'
);

select lives_ok(
  $$insert into credit_holds (wallet_id, generation_id, amount)
    select id, '00000000-0000-4000-8000-000000000001', 4 from purse$$,
  'credits can be held'
);
select throws_ok(
  $$insert into credit_holds (wallet_id, generation_id, amount)
    select id, '00000000-0000-4000-8000-000000000002', 12 from purse$$,
  '23514', null, 'no more credits can be held than the wallet has'
);
select throws_ok(
  $$insert into credit_holds (wallet_id, generation_id, amount)
    select id, '00000000-0000-4000-8000-000000000001', 1 from purse$$,
  '23505', null, 'a generation has only one hold'
);

update credit_holds set state = 'captured', settled_at = now()
where generation_id = '00000000-0000-4000-8000-000000000001';
select results_eq(
  $$select balance, held from wallets where id = (select id from purse)$$, $$values (11, 0)$$,
  'a captured hold is paid, once'
);
select throws_ok(
  $$update credit_holds set state = 'released' where generation_id = '00000000-0000-4000-8000-000000000001'$$,
  '42501', null, 'a settled hold cannot be settled again'
);
select throws_ok(
  $$delete from credit_holds where generation_id = '00000000-0000-4000-8000-000000000001'$$,
  '42501', null, 'a hold cannot be deleted'
);

select results_eq(
  $$select backend.adjust_credits('a11ce000-0000-4000-8000-000000000001', 2, 'made up for', 'key-1') from generate_series(1, 2)$$,
  $$values ('{"outcome": "adjusted", "balance": 13}'::jsonb), ('{"outcome": "replayed", "balance": 13}'::jsonb)$$,
  'an adjustment is made once per key'
);
select results_eq(
  $$select kind, amount, reason from credit_entries where key = 'key-1'$$,
  $$values ('adjustment', 2, 'made up for')$$, 'an adjustment is an entry with a reason'
);
select throws_ok(
  $$select backend.adjust_credits('a11ce000-0000-4000-8000-000000000001', 3, 'made up for', 'key-1')$$,
  'PT409', null, 'a key cannot be used for another amount'
);
select throws_ok(
  $$select backend.adjust_credits('a11ce000-0000-4000-8000-000000000001', -14, 'x', 'key-2')$$,
  'PT409', null, 'no more credits can be taken than the wallet has'
);
select throws_ok(
  $$select backend.adjust_credits('a11ce000-0000-4000-8000-000000000001', 2147483647, 'x', 'key-2')$$,
  'PT409', null, 'no more credits can be given than a wallet can hold'
);
select throws_ok(
  $$select backend.adjust_credits(gen_random_uuid(), 1, 'x', 'key-2')$$, 'PT404', null, 'an unknown user has no wallet to adjust'
);
select throws_ok(
  $$select backend.adjust_credits('a11ce000-0000-4000-8000-000000000001', 0, 'x', 'key-2')$$,
  'PT422', null, 'an adjustment of zero is refused'
);
select throws_ok(
  $$select backend.adjust_credits('b0b00000-0000-4000-8000-000000000002', 2, 'made up for', 'key-1')$$,
  'PT409', null, 'a key cannot be used for another user'
);
select throws_ok(
  $$select backend.adjust_credits('a11ce000-0000-4000-8000-000000000001', 1, '', 'key-2')$$,
  'PT422', null, 'an adjustment needs a reason'
);
select throws_ok(
  $$select backend.adjust_credits('a11ce000-0000-4000-8000-000000000001', 1, 'x', null)$$,
  'PT422', null, 'an adjustment needs a key'
);
insert into auth.users (id, aud, role, email, email_confirmed_at, is_anonymous, created_at, updated_at) values
  ('a0000000-0000-4000-8000-00000000000a', 'authenticated', 'authenticated', 'anonymous@example.com', now(), true, now(), now()),
  ('a0000000-0000-4000-8000-00000000000b', 'authenticated', 'authenticated', 'known@example.com', now(), false, now(), now());
select results_eq(
  $$select balance from wallets where person_id::text like 'a0000000%' order by person_id$$, $$values (0), (5)$$,
  'a confirmed address gets welcome credits, and an anonymous sign-in does not'
);
select is_empty('select * from backend.audit_credits()', 'the books balance');

set local role authenticated;
select throws_ok(
  $$select backend.adjust_credits('a11ce000-0000-4000-8000-000000000001', 1, 'x', 'key-3')$$,
  '42501', null, 'users cannot adjust their own credits'
);
set local role service_role;
select is(
  backend.adjust_credits('a11ce000-0000-4000-8000-000000000001', -1, 'x', 'key-4') ->> 'outcome', 'adjusted',
  'the service can adjust credits'
);
select throws_ok(
  $$insert into credit_entries (wallet_id, kind, amount, reason) values (gen_random_uuid(), 'grant', 1, 'x')$$,
  '42501', null, 'not even the service can write to the ledger directly'
);

select * from finish();
rollback;
