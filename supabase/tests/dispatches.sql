-- One rule decides what is due, what the operator sees as due, and what a worker leases.
begin;
set local search_path = public, tap;
select plan(12);

update private.generation_work set dispatch_at = null;
insert into generations (id, person_id, idempotency_key, style, style_version, model, prompt, settings, credits, input_path, deadline_at)
select '00000000-0000-4000-8000-0000000000d0', person, 'due', 'mosaic', 1, 'kontext-pro', 'a prompt', '{}', 2, person || '/due.jpg',
  now() + interval '10 minutes'
from (values ('a11ce000-0000-4000-8000-000000000001'::uuid)) as alice (person);
insert into private.generation_work (generation_id, request_digest, dispatch_at)
values ('00000000-0000-4000-8000-0000000000d0', sha256('r'), now());
delete from private.account_refusals;
insert into private.account_refusals (status, probe_at) values (402, now());

create temporary table seen (what text, due boolean, counted integer, leased integer, is_account_accepted boolean);

-- Looks at the job after a change, and then undoes everything.
create function pg_temp.look(what text, change text)
returns void
language plpgsql
as $$
declare
  found seen;
begin
  begin
    execute change;
    found := row(
      what, (backend.list_due_work() ->> 'dispatches')::boolean, (backend.read_status() #>> '{dispatches,due}')::integer, 0,
      private.is_account_accepted());
    found.leased := jsonb_array_length(backend.lease_dispatches(gen_random_uuid()));
    raise exception using errcode = 'UNDO1';
  exception
    when sqlstate 'UNDO1' then
      insert into seen select found.*;
  end;
end;
$$;

select pg_temp.look(what, change)
from (values
  ('a job that waits', 'select'),
  ('a job that is not due yet', $$update private.generation_work set dispatch_at = now() + interval '1 second' where dispatch_at is not null$$),
  ('a job that another worker has', $$update private.generation_work set lease = gen_random_uuid(), leased_until = now() + interval '1 minute' where dispatch_at is not null$$),
  ('a job in its last 30 seconds', $$update generations set deadline_at = now() + interval '30 seconds' where idempotency_key = 'due'$$),
  ('a job whose workers were lost six times', 'update private.generation_work set unreported = 6 where dispatch_at is not null'),
  ('a job that is over', $$update generations set state = 'canceled' where idempotency_key = 'due';
    update private.generation_work set dispatch_at = now() where generation_id = '00000000-0000-4000-8000-0000000000d0'$$)
) as given (what, change);

select is(
  s.due::integer || ' ' || s.counted || ' ' || s.leased, case when s.what = 'a job that waits' then '1 1 1' else '0 0 0' end,
  s.what || ': due, counted and leased agree'
)
from seen as s;
-- While Replicate refuses the account, a waiting job is the one that tries. So no other photo is accepted.
select is(
  s.is_account_accepted, s.what ~ 'last 30|six times|over', s.what || ': whether it keeps other photos out'
)
from seen as s;

select * from finish();
rollback;
