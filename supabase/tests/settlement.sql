-- Each call ends at most one batch of generations that cannot succeed any more. Further calls end the rest.
begin;
set local search_path = public, tap;
select plan(7);

insert into credit_entries (wallet_id, kind, amount, reason) select id, 'grant', 1000, 'a test' from wallets;
insert into generations (id, person_id, idempotency_key, style, style_version, model, prompt, settings, credits, input_path, deadline_at)
select ('00000000-0000-4000-8000-' || lpad(number::text, 12, '0'))::uuid, person, 'key-' || number, 'mosaic', 1, 'kontext-pro', 'a prompt', '{}', 2,
  person || '/' || number || '.jpg', now() - interval '1 second'
from generate_series(1, 12) as number
cross join (values ('a11ce000-0000-4000-8000-000000000001'::uuid)) as alice (person);
insert into private.generation_work (generation_id, request_digest, create_called_at)
select id, sha256('r'), case when idempotency_key in ('key-1', 'key-2') then now() end
from generations
where person_id = 'a11ce000-0000-4000-8000-000000000001';

select is(backend.settle_generations(gen_random_uuid(), 5) ->> 'ended', '5', 'the first call ends its batch');
select is(backend.settle_generations(gen_random_uuid(), 5) ->> 'ended', '5', 'the second call ends the next batch');
select is(backend.settle_generations(gen_random_uuid(), 5) ->> 'ended', '2', 'the third call ends the rest');
select is(
  backend.settle_generations(gen_random_uuid(), 5), '{"ended": 0, "silent": []}'::jsonb, 'a further call has nothing to end'
);
select results_eq(
  $$select reason, count(*)::integer from generations
    where idempotency_key ~ '^key-\d+$' and person_id = 'a11ce000-0000-4000-8000-000000000001'
    group by reason order by reason$$,
  $$values ('lost', 2), ('platform_error', 10)$$,
  'the reason is lost if a prediction may exist, and platform_error if none does'
);
select is_empty('select * from backend.audit_credits()', 'the books balance');

-- More deletions are due than the caller wanted. A retry gets the leased ones again, and no others.
insert into deletions (bucket, path, reason) select 'inputs', 'somewhere/' || place, 'limit_reached' from generate_series(1, 3) as place;
create temporary table leased as
select d ->> 'id' as id from jsonb_array_elements(backend.lease_deletions('11111111-1111-4111-8111-111111111111', 2)) as d;
select set_eq(
  $$select d ->> 'id' from jsonb_array_elements(backend.lease_deletions('11111111-1111-4111-8111-111111111111', 2)) as d$$,
  'select id from leased',
  'a repeated lease call gets the same deletions'
);

select * from finish();
rollback;
