-- Tries every pair of states. Moves that are not allowed are refused, and an end has all its consequences.
begin;
set local search_path = public, tap;
select plan(63);

-- This test is not about the number of free late cancels. late-cancels.sql is.
update private.quotas set most = 1000 where scope = 'late_cancels';
insert into credit_entries (wallet_id, kind, amount, reason) select id, 'grant', 995, 'a test' from wallets;

-- A generation of Alice that is moved to the requested state by the shortest way.
create function pg_temp.bring_to(wanted text)
returns uuid
language plpgsql
as $$
declare
  made uuid := gen_random_uuid();
  alice constant uuid := 'a11ce000-0000-4000-8000-000000000001';
begin
  insert into generations (id, person_id, idempotency_key, style, style_version, model, prompt, settings, credits, input_path, deadline_at)
  values (made, alice, made::text, 'mosaic', 1, 'kontext-pro', 'a prompt', '{}', 3, alice || '/' || made || '.jpg', now());
  if wanted in ('dispatched', 'processing', 'storing', 'succeeded') then
    perform pg_temp.move(made, case wanted when 'succeeded' then 'storing' else wanted end);
  end if;
  if wanted in ('succeeded', 'failed', 'canceled') then
    perform pg_temp.move(made, wanted);
  end if;
  return made;
end;
$$;

create function pg_temp.move(generation uuid, wanted text)
returns void
language sql
as $$
  update generations
  set state = wanted,
    reason = case wanted when 'failed' then 'lost' end,
    artwork_path = case wanted when 'succeeded' then person_id || '/' || id || '.png' end,
    artwork_content_type = case wanted when 'succeeded' then 'image/png' end,
    artwork_bytes = case wanted when 'succeeded' then 1 end,
    artwork_sha256 = case wanted when 'succeeded' then repeat('a', 64) end
  where id = generation
$$;

create function pg_temp.attempt(came_from text, wanted text)
returns text
language plpgsql
as $$
declare
  generation constant uuid := pg_temp.bring_to(came_from);
begin
  perform pg_temp.move(generation, wanted);
  return case when (select state from generations where id = generation) = wanted then 'allowed' else 'ignored' end;
exception
  when check_violation then
    return 'refused';
end;
$$;

create temporary table pairs as
select a.state as came_from, b.state as wanted, case
  when a.place is null then 'refused'
  when b.place is null then 'allowed'
  when b.state = 'succeeded' then case a.state when 'storing' then 'allowed' else 'refused' end
  when b.place > a.place then 'allowed'
  else 'refused'
end as expected
from (values ('reserved', 1), ('dispatched', 2), ('processing', 3), ('storing', 4), ('succeeded', null), ('failed', null), ('canceled', null)) as a (state, place)
cross join (values ('reserved', 1), ('dispatched', 2), ('processing', 3), ('storing', 4), ('succeeded', 5), ('failed', null), ('canceled', null)) as b (state, place)
where a.state <> b.state;

select is(pg_temp.attempt(came_from, wanted), expected, format('from %s to %s', came_from, wanted)) from pairs;

select throws_ok(
  $$insert into generations (person_id, idempotency_key, style, style_version, model, prompt, settings, credits, input_path, deadline_at, state)
    values ('a11ce000-0000-4000-8000-000000000001', 'k', 'mosaic', 1, 'kontext-pro', 'p', '{}', 1, 'a11ce000-0000-4000-8000-000000000001/x.jpg', now(), 'dispatched')$$,
  '23514', null, 'a generation must begin as reserved'
);

create temporary table fixed (change text);
insert into fixed values
  ('credits = 1'), ($$prompt = 'another'$$), ($$settings = '{"seed": 1}'$$), ($$idempotency_key = 'other'$$),
  ($$input_path = person_id || '/other.jpg'$$), ($$reserved_at = now() - interval '1 day'$$);
select throws_ok(
  format('update generations set %s where id = %L', change, pg_temp.bring_to('reserved')), '42501', null,
  format('what was asked for does not change, not even for its owner: %s', change)
) from fixed;

create temporary table ended as
select state, pg_temp.bring_to(state) as id, case state when 'succeeded' then 'captured' else 'released' end as settled
from unnest(array['succeeded', 'failed', 'canceled']) as state;

select is(
  (select h.state from credit_holds as h where h.generation_id = ended.id), settled,
  format('when it has %s, its credits are %s', state, settled)
) from ended;
select is(
  (select count(*)::integer from deletions as d where d.generation_id = ended.id and d.bucket = 'inputs' and d.reason = ended.state), 1,
  format('when it has %s, its photo is ordered deleted', state)
) from ended;
select is(
  (select array_agg(l.state order by l.id) from processing_log as l where l.generation_id = ended.id),
  case state when 'succeeded' then array['reserved', 'storing', 'succeeded'] else array['reserved', state] end,
  format('when it has %s, its log says how', state)
) from ended;
select is(
  (select balance - 1000 from wallets where person_id = 'a11ce000-0000-4000-8000-000000000001'),
  (select sum(amount)::integer from credit_entries as e join wallets as w on w.id = e.wallet_id
    where w.person_id = 'a11ce000-0000-4000-8000-000000000001' and e.kind = 'capture'),
  'only succeeded generations were charged'
);
select is_empty(
  $$select from generations as g join credit_holds as h on h.generation_id = g.id
    where private.is_terminal(g.state) and h.state = 'open'$$,
  'no terminal generation has an open hold'
);

create temporary table gone as select pg_temp.bring_to(state) as id from unnest(array['reserved', 'storing']) as state;
delete from generations where id in (select id from gone);
select results_eq(
  'select h.state from credit_holds as h join gone on gone.id = h.generation_id',
  $$values ('released'), ('released')$$,
  'if a generation is deleted, its held credits are returned'
);
create temporary table left_behind as select pg_temp.bring_to('processing') as id;
delete from auth.users where id = 'a11ce000-0000-4000-8000-000000000001';
select results_eq(
  'select h.state, w.person_id, w.held from credit_holds as h join left_behind as l on l.id = h.generation_id join wallets as w on w.id = h.wallet_id',
  $$values ('released', null::uuid, 0)$$,
  'if its user is deleted, its held credits are returned'
);
select is_empty('select * from backend.audit_credits()', 'the books balance');

select * from finish();
rollback;
