-- However many are past saving, each call ends its part, until none is left.
begin;
set local search_path = public, tap;
select plan(7);

insert into credit_entries (wallet_id, kind, amount, reason) select id, 'grant', 1000, 'a test' from wallets;
insert into generations (id, person_id, idempotency_key, style_id, style_version, model_id, prompt, settings, credits, input_path, deadline_at)
select ('00000000-0000-4000-8000-' || lpad(number::text, 12, '0'))::uuid, person, 'key-' || number, 'mosaic', 1, 'kontext-pro', 'a prompt', '{}', 2,
  person || '/' || number || '.jpg', now() - interval '1 second'
from generate_series(1, 12) as number
cross join (values ('a11ce000-0000-4000-8000-000000000001'::uuid)) as alice (person);
insert into private.generation_work (generation_id, request_digest, create_called_at)
select id, sha256('r'), case when idempotency_key in ('key-1', 'key-2') then now() end
from generations
where person_id = 'a11ce000-0000-4000-8000-000000000001';

select is(backend.generations_to_settle(gen_random_uuid(), 5) ->> 'ended', '5', 'a call ends its part');
select is(backend.generations_to_settle(gen_random_uuid(), 5) ->> 'ended', '5', 'the next ends the next');
select is(backend.generations_to_settle(gen_random_uuid(), 5) ->> 'ended', '2', 'the last ends the rest');
select is(
  backend.generations_to_settle(gen_random_uuid(), 5), '{"ended": 0, "silent": []}'::jsonb, 'and then there is none'
);
select results_eq(
  $$select reason, count(*)::integer from generations
    where idempotency_key ~ '^key-\d+$' and person_id = 'a11ce000-0000-4000-8000-000000000001'
    group by reason order by reason$$,
  $$values ('lost', 2), ('platform_error', 10)$$,
  'where a prediction may have been made it was lost; where none was, the service had a fault'
);
select is_empty('select * from backend.audit_credits()', 'and the books balance');

-- More is due than the caller asked for: a retry gets what was leased, and nothing else.
insert into deletions (bucket, path, reason) select 'inputs', 'somewhere/' || place, 'limit_reached' from generate_series(1, 3) as place;
create temporary table leased as
select d ->> 'id' as id from jsonb_array_elements(backend.lease_deletions('11111111-1111-4111-8111-111111111111', 2)) as d;
select set_eq(
  $$select d ->> 'id' from jsonb_array_elements(backend.lease_deletions('11111111-1111-4111-8111-111111111111', 2)) as d$$,
  'select id from leased',
  'deletions that are leased again under the same lease are the same ones'
);

select * from finish();
rollback;
