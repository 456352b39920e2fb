-- What SQL alone can do to the ledger as service_role, whatever it tries: nothing. And what the audit finds
-- where an owner has done it all the same: each kind of difference, by its name.
begin;
set local search_path = public, tap;
select plan(70);

-- Alice has one generation in each situation that has to do with credits.
create temporary table given (name text, id uuid, lease uuid);
insert into given values
  ('open', '00000000-0000-4000-8000-00000000000a', '11111111-1111-4111-8111-111111111111'),
  ('storing', '00000000-0000-4000-8000-00000000000b', '22222222-2222-4222-8222-222222222222'),
  ('succeeded', '00000000-0000-4000-8000-00000000000c', null),
  ('failed', '00000000-0000-4000-8000-00000000000d', null),
  ('canceled', '00000000-0000-4000-8000-00000000000e', null);
insert into generations (id, person_id, idempotency_key, style_id, style_version, model_id, prompt, settings, credits, input_path, deadline_at)
select id, 'a11ce000-0000-4000-8000-000000000001', name, 'mosaic', 1, 'kontext-pro', 'a prompt', '{}', 1,
  'a11ce000-0000-4000-8000-000000000001/' || name || '.jpg', now() + interval '10 minutes'
from given;
insert into private.generation_work (generation_id, request_digest, lease, leased_until)
select id, sha256('r'), lease, case when lease is not null then now() + interval '1 minute' end from given;
update generations set state = 'storing', prediction_id = 'prediction-' || idempotency_key
where idempotency_key in ('storing', 'succeeded');
update generations
set state = 'succeeded', artwork_path = person_id || '/x.png', artwork_content_type = 'image/png', artwork_bytes = 1, artwork_sha256 = repeat('a', 64)
where idempotency_key = 'succeeded';
update generations set state = 'failed', reason = 'lost' where idempotency_key = 'failed';
update generations set state = 'canceled' where idempotency_key = 'canceled';

create temporary table attempts (place integer generated always as identity, name text, expected text, statement text);
insert into attempts (name, expected, statement) values
  ('add an entry', 'refused', $$insert into public.credit_entries (wallet_id, kind, amount, reason) select id, 'grant', 100, 'x' from public.wallets$$),
  ('change an entry', 'refused', $$update public.credit_entries set amount = 100$$),
  ('change the reason of an entry', 'refused', $$update public.credit_entries set reason = 'x'$$),
  ('delete an entry', 'refused', $$delete from public.credit_entries$$),
  ('empty the ledger', 'refused', $$truncate public.credit_entries$$),
  ('merge into the ledger', 'refused', $$merge into public.credit_entries as e using public.wallets as w on e.wallet_id = w.id when matched then update set amount = 100$$),
  ('copy into the ledger', 'refused', $$copy public.credit_entries (wallet_id, kind, amount, reason) from program 'true'$$),
  ('write the ledger from within a query', 'refused', $$with gone as (delete from public.credit_entries returning 1) select count(*) from gone$$),
  ('set a balance', 'refused', $$update public.wallets set balance = 1000$$),
  ('free what is held', 'refused', $$update public.wallets set held = 0$$),
  ('open another wallet', 'refused', $$insert into public.wallets (person_id) values (null)$$),
  ('delete a wallet', 'refused', $$delete from public.wallets$$),
  ('empty the wallets', 'refused', $$truncate public.wallets cascade$$),
  ('open a hold', 'refused', $$insert into public.credit_holds (wallet_id, generation_id, amount) select id, gen_random_uuid(), 1 from public.wallets$$),
  ('capture a hold', 'refused', $$update public.credit_holds set state = 'captured', settled_at = now()$$),
  ('release a hold', 'refused', $$update public.credit_holds set state = 'released', settled_at = now()$$),
  ('delete a hold', 'refused', $$delete from public.credit_holds$$),
  ('empty the holds', 'refused', $$truncate public.credit_holds cascade$$),
  ('end a generation by hand', 'refused', $$update public.generations set state = 'canceled'$$),
  ('bring a generation back', 'refused', $$update public.generations set state = 'reserved', finished_at = null$$),
  ('make a generation cheaper', 'refused', $$update public.generations set credits = 1$$),
  ('delete a generation by hand', 'refused', $$delete from public.generations$$),
  ('give a generation to another', 'refused', $$update public.generations set person_id = 'b0b00000-0000-4000-8000-000000000002'$$),
  ('make a generation without a hold', 'refused', $$insert into public.generations select * from public.generations$$),
  ('take a lease by hand', 'refused', $$update private.generation_work set lease = gen_random_uuid()$$),
  ('switch the triggers off', 'refused', $$alter table public.credit_entries disable trigger all$$),
  ('switch all triggers off', 'refused', $$set local session_replication_role = replica$$),
  ('switch row-level security off', 'refused', $$alter table public.wallets disable row level security$$),
  ('drop a trigger', 'refused', $$drop trigger credit_entries_append_only on public.credit_entries$$),
  ('drop a constraint', 'refused', $$alter table public.wallets drop constraint wallets_balance_not_negative$$),
  ('drop the ledger', 'refused', $$drop table public.credit_entries cascade$$),
  ('own the ledger', 'refused', $$alter table public.credit_entries owner to service_role$$),
  ('grant itself the ledger', 'refused', $$grant insert, update, delete on public.credit_entries to service_role; delete from public.credit_entries$$),
  ('add a trigger of its own', 'refused', $$create trigger mine before insert on public.credit_entries for each row execute function private.refuse_change()$$),
  ('add a rule', 'refused', $$create rule mine as on update to public.wallets do instead nothing$$),
  ('replace a function', 'refused', $$create or replace function private.settle_hold() returns trigger language plpgsql as 'begin return new; end'$$),
  ('add a function to the vocabulary', 'refused', $$create function backend.mine() returns void language sql security definer as 'update public.wallets set balance = 1'$$),
  ('add a function beside it', 'refused', $$create function public.mine() returns void language sql as 'update public.wallets set balance = 1'$$),
  ('count the entries anew', 'refused', $$select setval(pg_get_serial_sequence('public.credit_entries', 'id'), 1)$$),
  ('open a wallet by its helper', 'refused', $$select private.open_wallet('a11ce000-0000-4000-8000-000000000001')$$),
  ('begin for somebody', 'refused', $$select public.begin_generation('mosaic', 'x', 'k', gen_random_uuid())$$),
  ('begin for somebody by the helper', 'refused', $$select private.begin_generation('mosaic', 'x', 'k', gen_random_uuid(), null, null, '{}')$$),
  ('cancel for somebody', 'refused', $$select public.cancel_generation('00000000-0000-4000-8000-00000000000a')$$),
  ('delete a person by hand', 'refused', $$delete from auth.users$$),
  ('fail for no reason', 'refused', $$select backend.fail_generation('00000000-0000-4000-8000-00000000000a', 'because')$$),
  ('take more than there is', 'refused', $$select backend.adjust_credits('a11ce000-0000-4000-8000-000000000001', -1000, 'x', 'k')$$),
  ('take what is held', 'refused', $$select backend.adjust_credits('a11ce000-0000-4000-8000-000000000001', -4, 'x', 'k')$$),
  ('complete what is not stored', 'refused', $$select backend.complete_generation('00000000-0000-4000-8000-00000000000b', '22222222-2222-4222-8222-222222222222', 'a11ce000-0000-4000-8000-000000000001/b.png', 'image/png', 1, repeat('a', 64))$$),
  ('fail twice', 'allowed', $$select backend.fail_generation('00000000-0000-4000-8000-00000000000a', 'lost') from generate_series(1, 2)$$),
  ('fail what has succeeded', 'allowed', $$select backend.fail_generation('00000000-0000-4000-8000-00000000000c', 'lost')$$),
  ('fail what was canceled', 'allowed', $$select backend.fail_generation('00000000-0000-4000-8000-00000000000e', 'lost')$$),
  ('complete what has failed', 'allowed', $$select backend.complete_generation('00000000-0000-4000-8000-00000000000d', gen_random_uuid(), 'a11ce000-0000-4000-8000-000000000001/d.png', 'image/png', 1, repeat('a', 64))$$),
  ('complete with the lease of another', 'allowed', $$select backend.complete_generation('00000000-0000-4000-8000-00000000000b', '11111111-1111-4111-8111-111111111111', 'a11ce000-0000-4000-8000-000000000001/b.png', 'image/png', 1, repeat('a', 64))$$),
  ('attach to what is over', 'allowed', $$select backend.attach_prediction('00000000-0000-4000-8000-00000000000d', gen_random_uuid(), 'late')$$),
  ('an event for what is over', 'allowed', $$select backend.record_prediction_event(gen_random_uuid(), null, '00000000-0000-4000-8000-00000000000c', null, 'prediction-succeeded', 'failed')$$),
  ('settle everything, again and again', 'allowed', $$select backend.generations_to_settle(gen_random_uuid()) from generate_series(1, 3)$$),
  ('give credits back, once for a key', 'allowed', $$select backend.adjust_credits('a11ce000-0000-4000-8000-000000000001', 7, 'x', 'k') from generate_series(1, 3)$$);

-- Undoes what it has tried, so that each attempt begins alike.
create function pg_temp.attempt(statement text)
returns text
language plpgsql
as $$
declare
  differences text;
begin
  execute statement;
  select string_agg(a.difference, ', ') into differences from backend.audit_credits() as a;
  raise exception using errcode = 'TRIED', message = coalesce('broken: ' || differences, 'allowed');
exception
  when sqlstate 'TRIED' then return sqlerrm;
  when others then return 'refused';
end;
$$;
grant execute on function pg_temp.attempt to service_role;
grant select on attempts to service_role;
grant usage on schema tap to service_role;

select is_empty('select * from backend.audit_credits()', 'before anything is tried, the books balance');
set local role service_role;
create temporary table outcomes as
select place, name, expected, pg_temp.attempt(statement) as outcome from pg_temp.attempts order by place;
reset role;
select is(outcome, expected, 'to ' || name) from outcomes order by place;
select is(pg_has_role('service_role', other, 'member'), false, 'service_role does not become ' || other)
from unnest(array['postgres', 'supabase_admin', 'authenticator']) as other;
select is_empty('select * from backend.audit_credits()', 'after all of it, the books balance');

-- As the owner of the tables, past every trigger.
create function pg_temp.finds(breakage text)
returns text
language plpgsql
as $$
declare
  found text;
begin
  execute breakage;
  select string_agg(concat_ws(' ', a.difference, a.expected, a.found), ', ') into found from backend.audit_credits() as a;
  raise exception using errcode = 'TRIED', message = coalesce(found, 'nothing');
exception
  when sqlstate 'TRIED' then return sqlerrm;
end;
$$;
alter table wallets disable trigger user;
alter table credit_holds disable trigger user;
alter table credit_entries disable trigger user;
alter table generations disable trigger user;

select is(pg_temp.finds(breakage), found, name)
from (values
  ('a balance that is not the sum of its entries', 'balance 4 9',
    $$update wallets set balance = 9 where person_id = 'a11ce000-0000-4000-8000-000000000001'$$),
  ('credits held for nothing', 'held 2 3',
    $$update wallets set held = 3 where person_id = 'a11ce000-0000-4000-8000-000000000001'$$),
  ('a captured hold that nobody paid', 'balance 5 4, capture -1',
    $$delete from credit_entries where hold_id = (select id from credit_holds where generation_id = '00000000-0000-4000-8000-00000000000c')$$),
  ('credits held for what is gone', 'open_hold 0 1',
    $$delete from generations where idempotency_key = 'open'$$),
  ('a generation that runs for nothing', 'held 1 2, missing_hold 1 0',
    $$update credit_holds set state = 'released', settled_at = now() where generation_id = '00000000-0000-4000-8000-00000000000a'$$),
  ('a failure that was paid', 'settlement 0 1',
    $$update generations set state = 'failed', reason = 'lost', artwork_path = null, artwork_content_type = null, artwork_bytes = null, artwork_sha256 = null
      where idempotency_key = 'succeeded'$$),
  ('a success that was not paid', 'settlement 1 0',
    $$update generations set state = 'succeeded', reason = null, artwork_path = person_id || '/y.png', artwork_content_type = 'image/png', artwork_bytes = 1, artwork_sha256 = repeat('a', 64)
      where idempotency_key = 'failed'$$),
  ('nothing, where nothing is wrong', 'nothing', 'select')
) as broken (name, found, breakage);

select * from finish();
rollback;
