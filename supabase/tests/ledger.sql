-- First part: no SQL statement of service_role can break the ledger. Second part: if the owner of the tables breaks it
-- anyway, the audit finds each kind of difference and names it.
begin;
set local search_path = public, tap;
select plan(87);

-- Alice has one generation in each situation that matters for credits. The open one is past its deadline.
create temporary table given (name text, id uuid, lease uuid);
insert into given values
  ('open', '00000000-0000-4000-8000-00000000000a', '11111111-1111-4111-8111-111111111111'),
  ('storing', '00000000-0000-4000-8000-00000000000b', '22222222-2222-4222-8222-222222222222'),
  ('succeeded', '00000000-0000-4000-8000-00000000000c', null),
  ('failed', '00000000-0000-4000-8000-00000000000d', null),
  ('canceled', '00000000-0000-4000-8000-00000000000e', null);
insert into generations (id, person_id, idempotency_key, style, style_version, model, prompt, settings, credits, input_path, deadline_at)
select id, 'a11ce000-0000-4000-8000-000000000001', name, 'mosaic', 1, 'kontext-pro', 'a prompt', '{}', 1,
  'a11ce000-0000-4000-8000-000000000001/' || name || '.jpg', now() + case name when 'open' then interval '-1 minute' else interval '10 minutes' end
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

-- The expected outcome is the code of a refusal, `ignored` if the books do not change, or `allowed`.
create temporary table attempts (place integer generated always as identity, name text, expected text, statement text);
insert into attempts (name, expected, statement) values
  -- This attempt comes first, because a session keeps what it has compiled once.
  ('replace the type text with its own', 'ignored', $$
    create function pg_temp.mine() returns boolean language plpgsql as 'begin if current_user <> ''service_role'' then update public.wallets set balance = 1000; end if; return true; end';
    create domain pg_temp.text as pg_catalog.text check (pg_temp.mine());
    select backend.record_prediction_event(gen_random_uuid(), null, '00000000-0000-4000-8000-00000000000b', null, 'prediction-storing', 'processing')$$),
  ('add an entry', '42501', $$insert into public.credit_entries (wallet_id, kind, amount, reason) select id, 'grant', 100, 'x' from public.wallets$$),
  ('change an entry', '42501', $$update public.credit_entries set amount = 100$$),
  ('change the reason of an entry', '42501', $$update public.credit_entries set reason = 'x'$$),
  ('delete an entry', '42501', $$delete from public.credit_entries$$),
  ('empty the ledger', '42501', $$truncate public.credit_entries$$),
  ('merge into the ledger', '42501', $$merge into public.credit_entries as e using public.wallets as w on e.wallet_id = w.id when matched then update set amount = 100$$),
  ('copy into the ledger', '42501', $$copy public.credit_entries (wallet_id, kind, amount, reason) from program 'true'$$),
  ('write the ledger inside a query', '42501', $$with gone as (delete from public.credit_entries returning 1) select count(*) from gone$$),
  ('set a balance', '42501', $$update public.wallets set balance = 1000$$),
  ('free held credits', '42501', $$update public.wallets set held = 0$$),
  ('open another wallet', '42501', $$insert into public.wallets (person_id) values (null)$$),
  ('delete a wallet', '42501', $$delete from public.wallets$$),
  ('empty the wallets', '42501', $$truncate public.wallets cascade$$),
  ('open a hold', '42501', $$insert into public.credit_holds (wallet_id, generation_id, amount) select id, gen_random_uuid(), 1 from public.wallets$$),
  ('capture a hold', '42501', $$update public.credit_holds set state = 'captured', settled_at = now()$$),
  ('release a hold', '42501', $$update public.credit_holds set state = 'released', settled_at = now()$$),
  ('delete a hold', '42501', $$delete from public.credit_holds$$),
  ('empty the holds', '42501', $$truncate public.credit_holds cascade$$),
  ('end a generation by hand', '42501', $$update public.generations set state = 'canceled'$$),
  ('bring a generation back', '42501', $$update public.generations set state = 'reserved', finished_at = null$$),
  ('make a generation cheaper', '42501', $$update public.generations set credits = 1$$),
  ('delete a generation by hand', '42501', $$delete from public.generations$$),
  ('give a generation to another user', '42501', $$update public.generations set person_id = 'b0b00000-0000-4000-8000-000000000002'$$),
  ('make a generation without a hold', '42501', $$insert into public.generations select * from public.generations$$),
  ('take a lease by hand', '42501', $$update private.generation_work set lease = gen_random_uuid()$$),
  ('switch the triggers off', '42501', $$alter table public.credit_entries disable trigger all$$),
  ('switch all triggers off', '42501', $$set local session_replication_role = replica$$),
  ('switch row-level security off', '42501', $$alter table public.wallets disable row level security$$),
  ('drop a trigger', '42501', $$drop trigger credit_entries_append_only on public.credit_entries$$),
  ('drop a constraint', '42501', $$alter table public.wallets drop constraint wallets_balance_not_negative$$),
  ('drop the ledger', '42501', $$drop table public.credit_entries cascade$$),
  ('become the owner of the ledger', '42501', $$alter table public.credit_entries owner to service_role$$),
  ('grant itself the ledger', '42501', $$grant insert, update, delete on public.credit_entries to service_role; delete from public.credit_entries$$),
  ('add a trigger of its own', '42501', $$create trigger mine before insert on public.credit_entries for each row execute function private.refuse_change()$$),
  ('add a rule', '42501', $$create rule mine as on update to public.wallets do instead nothing$$),
  ('replace a function', '42501', $$create or replace function private.settle_hold() returns trigger language plpgsql as 'begin return new; end'$$),
  ('add a function to the schema backend', '42501', $$create function backend.mine() returns void language sql security definer as 'update public.wallets set balance = 1'$$),
  ('add a function to the schema public', '42501', $$create function public.mine() returns void language sql as 'update public.wallets set balance = 1'$$),
  ('reset the numbers of entries', '42501', $$select setval(pg_get_serial_sequence('public.credit_entries', 'id'), 1)$$),
  ('use up the numbers of entries', '42501', $$select nextval(pg_get_serial_sequence('public.credit_entries', 'id'))$$),
  ('add a function to the schema private', '42501', $$create function private.mine() returns void language sql as 'update public.wallets set balance = 1'$$),
  ('add a schema', '42501', $$create schema mine$$),
  ('become a superuser', '42501', $$alter role service_role superuser$$),
  ('open a wallet through a helper', '42501', $$select private.open_wallet('a11ce000-0000-4000-8000-000000000001')$$),
  ('begin a generation for a user', '42501', $$select public.begin_generation('mosaic', 'x', 'k', gen_random_uuid())$$),
  ('begin a generation for a user through a helper', '42501', $$select private.begin_generation('mosaic', 'x', 'k', gen_random_uuid(), null, null, '{}')$$),
  ('cancel a generation for a user', '42501', $$select public.cancel_generation('00000000-0000-4000-8000-00000000000a')$$),
  ('cancel a generation as a user', '42501', $$set local request.jwt.claims = '{"sub": "a11ce000-0000-4000-8000-000000000001"}'; select private.cancel_generation('00000000-0000-4000-8000-00000000000a')$$),
  ('forget a prediction through a helper', '42501', $$select private.retry_dispatch(g) from public.generations as g$$),
  ('take the lease for storing through a helper', '42501', $$select private.lease_storing(g, 'png', gen_random_uuid()) from public.generations as g$$),
  ('delete a user by hand', '42501', $$delete from auth.users$$),
  ('fail a generation with an unknown reason', '23503', $$select backend.fail_generation('00000000-0000-4000-8000-00000000000a', 'because')$$),
  ('fail a generation without a reason', '23514', $$select backend.fail_generation('00000000-0000-4000-8000-00000000000a', null)$$),
  ('take more credits than the wallet has', 'PT409', $$select backend.adjust_credits('a11ce000-0000-4000-8000-000000000001', -1000, 'x', 'k')$$),
  ('take held credits', 'PT409', $$select backend.adjust_credits('a11ce000-0000-4000-8000-000000000001', -4, 'x', 'k')$$),
  ('complete a generation without a stored artwork', 'PT409', $$select backend.complete_generation('00000000-0000-4000-8000-00000000000b', '22222222-2222-4222-8222-222222222222', 'a11ce000-0000-4000-8000-000000000001/b.png', 'image/png', 1, repeat('a', 64))$$),
  ('complete a generation with a file that is not a picture', '23514', $$
    select backend.record_prediction_event('22222222-2222-4222-8222-222222222222', null, '00000000-0000-4000-8000-00000000000b', null, 'prediction-storing', 'succeeded', null, 'png');
    insert into storage.objects (bucket_id, name, metadata) values ('artworks', 'a11ce000-0000-4000-8000-000000000001/00000000-0000-4000-8000-00000000000b-1.png', '{"size": 1}');
    select backend.complete_generation('00000000-0000-4000-8000-00000000000b', '22222222-2222-4222-8222-222222222222', 'a11ce000-0000-4000-8000-000000000001/00000000-0000-4000-8000-00000000000b-1.png', 'image/png', 1, 'x')$$),
  ('complete a generation twice, fail it, and record another event', 'allowed', $$
    select backend.record_prediction_event('22222222-2222-4222-8222-222222222222', null, '00000000-0000-4000-8000-00000000000b', null, 'prediction-storing', 'succeeded', null, 'png');
    insert into storage.objects (bucket_id, name, metadata) values ('artworks', 'a11ce000-0000-4000-8000-000000000001/00000000-0000-4000-8000-00000000000b-1.png', '{"size": 1}');
    select backend.complete_generation('00000000-0000-4000-8000-00000000000b', '22222222-2222-4222-8222-222222222222', 'a11ce000-0000-4000-8000-000000000001/00000000-0000-4000-8000-00000000000b-1.png', 'image/png', 1, repeat('a', 64)) from generate_series(1, 2);
    select backend.fail_generation('00000000-0000-4000-8000-00000000000b', 'lost');
    select backend.record_prediction_event(gen_random_uuid(), null, '00000000-0000-4000-8000-00000000000b', null, 'prediction-storing', 'canceled')$$),
  ('fail a generation twice', 'allowed', $$select backend.fail_generation('00000000-0000-4000-8000-00000000000a', 'lost') from generate_series(1, 2)$$),
  ('fail a succeeded generation', 'ignored', $$select backend.fail_generation('00000000-0000-4000-8000-00000000000c', 'lost')$$),
  ('fail a canceled generation', 'ignored', $$select backend.fail_generation('00000000-0000-4000-8000-00000000000e', 'lost')$$),
  ('complete a failed generation', 'ignored', $$select backend.complete_generation('00000000-0000-4000-8000-00000000000d', gen_random_uuid(), 'a11ce000-0000-4000-8000-000000000001/d.png', 'image/png', 1, repeat('a', 64))$$),
  ('fail a generation with another worker''s lease', 'ignored', $$select backend.fail_generation('00000000-0000-4000-8000-00000000000a', 'lost', '22222222-2222-4222-8222-222222222222')$$),
  ('release another worker''s lease', 'allowed', $$
    select backend.release_lease('00000000-0000-4000-8000-00000000000b', gen_random_uuid());
    select backend.fail_generation('00000000-0000-4000-8000-00000000000b', 'lost', '22222222-2222-4222-8222-222222222222')$$),
  ('postpone another worker''s dispatch', 'allowed', $$
    select backend.postpone_dispatch('00000000-0000-4000-8000-00000000000a', gen_random_uuid());
    select backend.fail_generation('00000000-0000-4000-8000-00000000000a', 'lost', '11111111-1111-4111-8111-111111111111')$$),
  ('complete a generation with another worker''s lease', 'ignored', $$select backend.complete_generation('00000000-0000-4000-8000-00000000000b', '11111111-1111-4111-8111-111111111111', 'a11ce000-0000-4000-8000-000000000001/b.png', 'image/png', 1, repeat('a', 64))$$),
  ('attach a prediction to an ended generation', 'ignored', $$select backend.attach_prediction('00000000-0000-4000-8000-00000000000d', gen_random_uuid(), 'late')$$),
  ('record an event of an ended generation', 'ignored', $$select backend.record_prediction_event(gen_random_uuid(), null, '00000000-0000-4000-8000-00000000000c', null, 'prediction-succeeded', 'failed')$$),
  ('settle everything several times', 'allowed', $$select backend.release_lease('00000000-0000-4000-8000-00000000000a', '11111111-1111-4111-8111-111111111111'); select backend.settle_generations(gen_random_uuid()) from generate_series(1, 3)$$),
  ('give credits back, once per key', 'allowed', $$select backend.adjust_credits('a11ce000-0000-4000-8000-000000000001', 7, 'x', 'k') from generate_series(1, 3)$$);

create function pg_temp.books()
returns text
language sql
as $$
  select concat(
    (select array_agg(w order by w.id) from public.wallets as w),
    (select array_agg(e order by e.id) from public.credit_entries as e),
    (select array_agg(h order by h.id) from public.credit_holds as h),
    (select array_agg((g.id, g.state) order by g.id) from public.generations as g)
  )
$$;

-- Undoes each attempt, so that all of them start from the same state.
create function pg_temp.attempt(statement text)
returns text
language plpgsql
as $$
declare
  before constant text := pg_temp.books();
  differences text;
begin
  execute statement;
  select string_agg(a.difference, ', ') into differences from backend.audit_credits() as a;
  raise exception using errcode = 'TRIED', message = case
    when differences is not null then 'broken: ' || differences
    when pg_temp.books() = before then 'ignored'
    else 'allowed'
  end;
exception
  when sqlstate 'TRIED' then return sqlerrm;
  when others then return sqlstate;
end;
$$;
create temporary table outcomes (place integer, name text, expected text, outcome text);
grant execute on function pg_temp.books, pg_temp.attempt to service_role;
grant select on attempts to service_role;
grant insert on outcomes to service_role;
grant usage on schema tap to service_role;

select is_empty('select * from backend.audit_credits()', 'the books balance before the attempts');
set local role service_role;
insert into pg_temp.outcomes
select place, name, expected, pg_temp.attempt(statement) as outcome from pg_temp.attempts order by place;
reset role;
select is(outcome, expected, 'to ' || name) from outcomes order by place;
select is(pg_has_role('service_role', other, 'member'), false, 'service_role cannot become ' || other)
from unnest(array['postgres', 'supabase_admin', 'authenticator']) as other;
select is_empty('select * from backend.audit_credits()', 'the books balance after the attempts');

-- These changes run as the owner of the tables, with all triggers off.
create function pg_temp.finds(breakage text)
returns text
language plpgsql
as $$
declare
  found text;
begin
  execute breakage;
  select string_agg(
    concat_ws(' ', a.difference, coalesce(split_part(u.email, '@', 1), 'nobody'), g.name, a.expected, a.found),
    ', ' order by a.difference
  ) into found
  from backend.audit_credits() as a
  left join public.wallets as w on w.id = a.wallet_id
  left join auth.users as u on u.id = w.person_id
  left join pg_temp.given as g on g.id = a.generation_id;
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
  ('a balance that is not the sum of its entries', 'balance alice 4 9',
    $$update wallets set balance = 9 where person_id = 'a11ce000-0000-4000-8000-000000000001'$$),
  ('held credits without a hold', 'held alice 2 3',
    $$update wallets set held = 3 where person_id = 'a11ce000-0000-4000-8000-000000000001'$$),
  ('a captured hold without an entry', 'balance alice 5 4, capture alice succeeded -1',
    $$delete from credit_entries where hold_id = (select id from credit_holds where generation_id = '00000000-0000-4000-8000-00000000000c')$$),
  ('a captured hold that was charged twice its amount', 'balance alice 3 4, capture alice succeeded -1 -2',
    $$update credit_entries set amount = -2 where hold_id = (select id from credit_holds where generation_id = '00000000-0000-4000-8000-00000000000c')$$),
  ('a released hold that was charged', 'balance alice 3 4, capture alice -1',
    $$insert into credit_entries (wallet_id, kind, amount, hold_id, reason)
      select wallet_id, 'capture', -1, id, 'x' from credit_holds where generation_id = '00000000-0000-4000-8000-00000000000d'$$),
  ('credits held for an ended generation', 'open_hold alice open 0 1, settlement alice open 0 0',
    $$update generations set state = 'canceled', finished_at = now() where idempotency_key = 'open'$$),
  ('credits held for a deleted generation', 'open_hold alice open 0 1',
    $$delete from generations where idempotency_key = 'open'$$),
  ('a running generation without a hold', 'held alice 1 2, missing_hold alice open 1 0',
    $$update credit_holds set state = 'released', settled_at = now() where generation_id = '00000000-0000-4000-8000-00000000000a'$$),
  ('a failed generation that was charged', 'settlement alice succeeded 0 1',
    $$update generations set state = 'failed', reason = 'lost', artwork_path = null, artwork_content_type = null, artwork_bytes = null, artwork_sha256 = null
      where idempotency_key = 'succeeded'$$),
  ('a succeeded generation that was not charged', 'settlement alice failed 1 0',
    $$update generations set state = 'succeeded', reason = null, artwork_path = person_id || '/y.png', artwork_content_type = 'image/png', artwork_bytes = 1, artwork_sha256 = repeat('a', 64)
      where idempotency_key = 'failed'$$),
  ('no difference if the books are correct', 'nothing', 'select')
) as broken (name, found, breakage);

select * from finish();
rollback;
