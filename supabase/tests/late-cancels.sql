-- A cancel after the model has begun costs us the prediction. A few a day are free, and then the hold is captured.
begin;
set local search_path = public, tap;
select plan(14);

insert into credit_entries (wallet_id, kind, amount, reason) select id, 'grant', 100, 'a test' from wallets;
insert into auth.sessions (id, user_id, created_at, updated_at)
values ('5e551000-0000-4000-8000-000000000001', 'a11ce000-0000-4000-8000-000000000001', now(), now());
set local request.jwt.claims = '{"sub": "a11ce000-0000-4000-8000-000000000001", "session_id": "5e551000-0000-4000-8000-000000000001", "role": "authenticated"}';

-- A generation of Alice in the requested state.
create function pg_temp.running(wanted text)
returns uuid
language plpgsql
as $$
declare
  made uuid := gen_random_uuid();
  alice constant uuid := 'a11ce000-0000-4000-8000-000000000001';
begin
  insert into generations (id, person_id, idempotency_key, style, style_version, model, prompt, settings, credits, input_path, deadline_at)
  values (made, alice, made::text, 'mosaic', 1, 'kontext-pro', 'a prompt', '{}', 2, alice || '/' || made || '.jpg', now());
  insert into private.generation_work (generation_id, request_digest) values (made, sha256('r'));
  if wanted <> 'reserved' then
    update generations set state = wanted where id = made;
  end if;
  return made;
end;
$$;
create function pg_temp.cancel(wanted text)
returns text
language sql
as $$
  select concat(a ->> 'charged', ' charged, ', a ->> 'free_cancels_left', ' left')
  from private.cancel_generation(pg_temp.running(wanted)) as a
$$;

select is(pg_temp.cancel('reserved'), '0 charged, 3 left', 'a cancel before the model has begun is free');
select is(pg_temp.cancel('dispatched'), '0 charged, 3 left', 'a cancel of a dispatched generation is free');
select is(pg_temp.cancel('processing'), '0 charged, 2 left', 'the first late cancel is free');
create temporary table deleted as select pg_temp.running('processing') as id;
select lives_ok('select private.delete_generation(id) from deleted', 'a late delete counts as a late cancel');
select is(pg_temp.cancel('processing'), '0 charged, 0 left', 'the third late cancel is free');
select is(pg_temp.cancel('processing'), '2 charged, 0 left', 'the fourth late cancel is charged');
select is(
  (select array_agg(distinct e.reason) from credit_entries as e join wallets as w on w.id = e.wallet_id
    where e.kind = 'capture' and w.person_id = 'a11ce000-0000-4000-8000-000000000001'), array['late cancel'],
  'the ledger says that it was a late cancel'
);
select throws_ok(
  $$select private.cancel_generation(pg_temp.running('storing'))$$, 'PT409',
  'The model has finished this artwork, so it cannot be canceled any more. You can delete it.',
  'once the model has delivered, a cancel is too late'
);
create temporary table delivered as select pg_temp.running('storing') as id;
select lives_ok('select private.delete_generation(id) from delivered', 'a delete never is');
select is(
  (select state from credit_holds as h join delivered as d on d.id = h.generation_id), 'captured', 'a delete after the model has delivered is charged'
);
create temporary table restricted as select pg_temp.running('processing') as id;
insert into privacy_choices (person_id, purpose, allowed) values ('a11ce000-0000-4000-8000-000000000001', 'generation', false);
select is(
  (select state from credit_holds as h join restricted as r on r.id = h.generation_id), 'captured',
  'to refuse the purpose is no cheaper way to cancel'
);
insert into privacy_choices (person_id, purpose, allowed) values ('a11ce000-0000-4000-8000-000000000001', 'generation', true);
update private.quotas set most = 4 where scope = 'late_cancels';
select is(pg_temp.cancel('processing'), '0 charged, 0 left', 'a row says how many late cancels are free');
alter table credit_holds disable trigger credit_holds_settle;
update credit_holds set settled_at = settled_at - interval '2 days' where state <> 'open';
alter table credit_holds enable trigger credit_holds_settle;
select is(pg_temp.cancel('processing'), '0 charged, 3 left', 'a day later, late cancels are free again');
select is_empty('select * from backend.audit_credits()', 'the books balance');

select * from finish();
rollback;
