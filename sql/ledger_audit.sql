-- The audit of the books: it compares wallets, holds, ledger and generations (C7).

-- Recomputes wallets from their entries and holds, and returns the differences. There are none unless a rule was taken
-- away.
create function private.audit_wallets(wallets uuid[])
returns table (
  difference text,
  wallet_id uuid,
  hold_id uuid,
  generation_id uuid,
  expected bigint,
  found bigint
)
language sql
stable
set search_path = pg_catalog, pg_temp
begin atomic
  select 'balance', w.id, null::uuid, null::uuid, coalesce(e.total, 0), w.balance
  from public.wallets as w
  left join (
    select n.wallet_id, sum(n.amount) as total
    from public.credit_entries as n
    where n.wallet_id = any (wallets)
    group by n.wallet_id
  ) as e on e.wallet_id = w.id
  where w.id = any (wallets) and w.balance <> coalesce(e.total, 0)
  union all
  select 'held', w.id, null, null, coalesce(h.total, 0), w.held
  from public.wallets as w
  left join (
    select o.wallet_id, sum(o.amount) as total
    from public.credit_holds as o
    where o.wallet_id = any (wallets) and o.state = 'open'
    group by o.wallet_id
  ) as h on h.wallet_id = w.id
  where w.id = any (wallets) and w.held <> coalesce(h.total, 0)
  union all
  select 'capture', coalesce(h.wallet_id, e.wallet_id), coalesce(h.id, e.hold_id), h.generation_id, -h.amount, e.amount
  from (select * from public.credit_holds as o where o.wallet_id = any (wallets) and o.state = 'captured') as h
  full join (
    select * from public.credit_entries as n where n.wallet_id = any (wallets) and n.kind = 'capture'
  ) as e on e.hold_id = h.id
  where (h.wallet_id, -h.amount) is distinct from (e.wallet_id, e.amount)
  union all
  select 'open_hold', h.wallet_id, h.id, h.generation_id, 0, h.amount
  from public.credit_holds as h
  left join public.generations as g on g.id = h.generation_id
  where h.wallet_id = any (wallets) and h.state = 'open' and coalesce(private.is_terminal(g.state), true)
  union all
  select 'missing_hold', w.id, h.id, g.id, g.credits, 0
  from public.wallets as w
  join public.generations as g on g.person_id = w.person_id
  left join public.credit_holds as h on h.generation_id = g.id
  where w.id = any (wallets)
    and not private.is_terminal(g.state)
    and (h.state, h.amount, h.wallet_id) is distinct from ('open', g.credits, w.id)
  union all
  select 'settlement', w.id, h.id, g.id,
    case g.state when 'succeeded' then g.credits else 0 end,
    case h.state when 'captured' then h.amount else 0 end
  from public.wallets as w
  join public.generations as g on g.person_id = w.person_id
  left join public.credit_holds as h on h.generation_id = g.id
  where w.id = any (wallets)
    and private.is_terminal(g.state)
    and h.state is distinct from case g.state when 'succeeded' then 'captured' else 'released' end
    -- A late cancel may have been charged.
    and not (g.state = 'canceled' and coalesce(h.is_late_cancel and h.state = 'captured', false));
end;

-- The same for all wallets. It reads the whole ledger, so it is for tests and for repairs of the books.
create function backend.audit_credits()
returns table (
  difference text,
  wallet_id uuid,
  hold_id uuid,
  generation_id uuid,
  expected bigint,
  found bigint
)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
begin atomic
  select * from private.audit_wallets(array(select w.id from public.wallets as w));
end;

-- What the last walk over the ledger found. The status reads it here, because no request reads a whole table.
create table private.ledger_state (
  id text not null default 'ledger',
  counted bigint not null default 0,
  differences bigint,
  checked_at timestamptz,
  constraint ledger_state_pkey primary key (id),
  constraint ledger_state_is_one check (id = 'ledger')
);

alter table private.ledger_state enable row level security;
revoke all on private.ledger_state from public, anon, authenticated, service_role;

comment on table private.ledger_state is 'How many differences the last walk over the ledger found, and when it reached the end.';
comment on column private.ledger_state.counted is 'What the current walk has found so far.';

insert into private.ledger_state default values;

-- Audits the next `batch` wallets, like the other walks (`audit.sql`).
create function backend.audit_ledger(batch integer default 2000)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  after constant uuid := private.enter_audit_by_id('ledger');
  wallets constant uuid[] := array(
    select w.id from public.wallets as w where w.id > after order by w.id limit batch
  );
begin
  update private.ledger_state as s
  set counted = s.counted + (select count(*) from private.audit_wallets(wallets));
  if wallets = '{}' then
    update private.ledger_state as s set differences = s.counted, counted = 0, checked_at = now();
  end if;
  return private.leave_audit('ledger', wallets[cardinality(wallets)]::text, '{}');
end;
$$;

comment on function backend.audit_ledger is 'Counts differences in the ledger, one batch at a time, for the status (C7).';
comment on function backend.audit_credits is 'Differences between wallets, holds, ledger and generations. None if all is well (C7).';

revoke all on function backend.audit_credits, backend.audit_ledger from public, anon, authenticated, service_role;
grant execute on function backend.audit_credits, backend.audit_ledger to service_role;
