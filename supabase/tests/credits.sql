begin;
set local search_path = public, tap;
select plan(29);

create temporary table purse as
select id from wallets where person_id = 'a11ce000-0000-4000-8000-000000000001';

select results_eq(
  $$select w.balance, sum(e.amount)::integer from wallets as w
    join credit_entries as e on e.wallet_id = w.id where w.id = (select id from purse) group by w.id$$,
  $$values (5, 5)$$,
  'a new account has its welcome credits, in the wallet and in the ledger'
);

select lives_ok(
  $$insert into credit_entries (wallet_id, kind, amount, reason) select id, 'purchase', 10, 'pack' from purse$$,
  'an entry is added'
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
select throws_ok($$truncate credit_entries$$, '42501', null, 'the ledger is never emptied');

select throws_ok(
  $$insert into credit_entries (wallet_id, kind, amount, reason) select id, 'grant', -1, 'x' from purse$$,
  '23514', null, 'the sign of an entry fits its kind'
);
select throws_ok(
  $$insert into credit_entries (wallet_id, kind, amount, reason) select id, 'adjustment', -100, 'x' from purse$$,
  '23514', null, 'a balance never falls below zero'
);

select lives_ok(
  $$insert into credit_holds (wallet_id, generation_id, amount)
    select id, '00000000-0000-4000-8000-000000000001', 4 from purse$$,
  'credits are held'
);
select throws_ok(
  $$insert into credit_holds (wallet_id, generation_id, amount)
    select id, '00000000-0000-4000-8000-000000000002', 12 from purse$$,
  '23514', null, 'no more is held than there is'
);
select throws_ok(
  $$insert into credit_holds (wallet_id, generation_id, amount)
    select id, '00000000-0000-4000-8000-000000000001', 1 from purse$$,
  '23505', null, 'a generation has one hold'
);

update credit_holds set state = 'captured', settled_at = now()
where generation_id = '00000000-0000-4000-8000-000000000001';
select results_eq(
  $$select balance, held from wallets where id = (select id from purse)$$, $$values (11, 0)$$,
  'a captured hold is paid, once'
);
select throws_ok(
  $$update credit_holds set state = 'released' where generation_id = '00000000-0000-4000-8000-000000000001'$$,
  '42501', null, 'a settled hold is never settled again'
);
select throws_ok(
  $$delete from credit_holds where generation_id = '00000000-0000-4000-8000-000000000001'$$,
  '42501', null, 'a hold is never deleted'
);

select results_eq(
  $$select backend.adjust_credits('a11ce000-0000-4000-8000-000000000001', 2, 'made up for', 'key-1') from generate_series(1, 2)$$,
  $$values ('{"outcome": "adjusted", "balance": 13}'::jsonb), ('{"outcome": "replayed", "balance": 13}'::jsonb)$$,
  'what was wrong is made up for, once for a key'
);
select results_eq(
  $$select kind, amount, reason from credit_entries where key = 'key-1'$$,
  $$values ('adjustment', 2, 'made up for')$$, 'by an entry with its reason'
);
select throws_ok(
  $$select backend.adjust_credits('a11ce000-0000-4000-8000-000000000001', 3, 'made up for', 'key-1')$$,
  'PT409', null, 'a key is not used for another amount'
);
select throws_ok(
  $$select backend.adjust_credits('a11ce000-0000-4000-8000-000000000001', -14, 'x', 'key-2')$$,
  'PT409', null, 'no more is taken than there is'
);
select throws_ok(
  $$select backend.adjust_credits('a11ce000-0000-4000-8000-000000000001', 2147483647, 'x', 'key-2')$$,
  'PT409', null, 'no more is given than a wallet holds'
);
select throws_ok(
  $$select backend.adjust_credits(gen_random_uuid(), 1, 'x', 'key-2')$$, 'PT404', null, 'nobody has no wallet'
);
select throws_ok(
  $$select backend.adjust_credits('a11ce000-0000-4000-8000-000000000001', 0, 'x', 'key-2')$$,
  'PT422', null, 'an adjustment adjusts something'
);
select throws_ok(
  $$select backend.adjust_credits('b0b00000-0000-4000-8000-000000000002', 2, 'made up for', 'key-1')$$,
  'PT409', null, 'nor for another person'
);
select throws_ok(
  $$select backend.adjust_credits('a11ce000-0000-4000-8000-000000000001', 1, '', 'key-2')$$,
  'PT422', null, 'it has a reason'
);
select throws_ok(
  $$select backend.adjust_credits('a11ce000-0000-4000-8000-000000000001', 1, 'x', null)$$,
  'PT422', null, 'and a key'
);
insert into auth.users (id, aud, role, email, email_confirmed_at, is_anonymous, created_at, updated_at) values
  ('a0000000-0000-4000-8000-00000000000a', 'authenticated', 'authenticated', 'anonymous@example.com', now(), true, now(), now()),
  ('a0000000-0000-4000-8000-00000000000b', 'authenticated', 'authenticated', 'known@example.com', now(), false, now(), now());
select results_eq(
  $$select balance from wallets where person_id::text like 'a0000000%' order by person_id$$, $$values (0), (5)$$,
  'an anonymous sign-in is not welcomed with credits, a confirmed address is'
);
select is_empty('select * from backend.audit_credits()', 'and the books balance');

set local role authenticated;
select throws_ok(
  $$select backend.adjust_credits('a11ce000-0000-4000-8000-000000000001', 1, 'x', 'key-3')$$,
  '42501', null, 'nobody adjusts their own'
);
set local role service_role;
select is(
  backend.adjust_credits('a11ce000-0000-4000-8000-000000000001', -1, 'x', 'key-4') ->> 'outcome', 'adjusted',
  'the service does'
);
select throws_ok(
  $$insert into credit_entries (wallet_id, kind, amount, reason) values (gen_random_uuid(), 'grant', 1, 'x')$$,
  '42501', null, 'not even the service writes to the ledger by itself'
);

select * from finish();
rollback;
