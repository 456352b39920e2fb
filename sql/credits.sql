-- Credits. The ledger is append-only, and the wallet is its running sum. Triggers change both in one statement, so no
-- caller can change one without the other (C7).

-- A wallet stays when its user is gone, as a number without a name. So the books stay balanced.
create table public.wallets (
  id uuid not null default gen_random_uuid(),
  person_id uuid,
  balance integer not null default 0,
  held integer not null default 0,
  opened_at timestamptz not null default now(),
  closed_at timestamptz,
  pseudonym text,
  constraint wallets_pkey primary key (id),
  constraint wallets_person_exists foreign key (person_id) references auth.users (id) on delete set null,
  constraint wallets_one_a_person unique (person_id),
  constraint wallets_balance_not_negative check (balance >= 0),
  constraint wallets_held_not_negative check (held >= 0),
  constraint wallets_held_within_balance check (held <= balance),
  constraint wallets_closed_without_person check ((person_id is null) = (closed_at is not null)),
  constraint wallets_pseudonym_is_a_digest check (pseudonym ~ '^[0-9a-f]{64}$'),
  constraint wallets_pseudonym_without_person check (pseudonym is null or person_id is null)
);

create index wallets_closed_at_idx on public.wallets (closed_at);

alter table public.wallets enable row level security;
revoke all on public.wallets from public, anon, authenticated, service_role;

create policy "People see their own wallet"
on public.wallets
for select
to authenticated
using (person_id = (select private.person()));

grant select on public.wallets to authenticated, service_role;

comment on table public.wallets is 'Balance and holds of one account, in credits. balance = sum of its entries; held = sum of its open holds.';

comment on column public.wallets.pseudonym is 'For a deleted account: the user''s ID under a keyed hash (HMAC-SHA-256). Only the holder of the key can match these books with a claim (G3).';

-- A hold sets credits aside while a generation runs. It is captured if the generation succeeds, or for a late cancel
-- that is charged. Otherwise it is released.
create table public.credit_holds (
  id uuid not null default gen_random_uuid(),
  wallet_id uuid not null,
  -- Not a foreign key, because the bookkeeping stays when the generation is deleted.
  generation_id uuid not null,
  amount integer not null,
  state text not null default 'open',
  is_late_cancel boolean not null default false,
  opened_at timestamptz not null default now(),
  settled_at timestamptz,
  constraint credit_holds_pkey primary key (id),
  constraint credit_holds_wallet_exists foreign key (wallet_id)
    references public.wallets (id) on delete cascade,
  constraint credit_holds_one_a_generation unique (generation_id),
  constraint credit_holds_amount_positive check (amount > 0),
  constraint credit_holds_state_known check (state in ('open', 'captured', 'released')),
  constraint credit_holds_settled_when_not_open check ((state = 'open') = (settled_at is null)),
  constraint credit_holds_late_cancel_settled check (not is_late_cancel or state <> 'open')
);

create index credit_holds_wallet_id_newest_idx on public.credit_holds (wallet_id, opened_at desc);
create index credit_holds_open_idx on public.credit_holds (wallet_id, opened_at desc) where state = 'open';

alter table public.credit_holds enable row level security;
revoke all on public.credit_holds from public, anon, authenticated, service_role;

create policy "People see the holds on their own wallet"
on public.credit_holds
for select
to authenticated
using (wallet_id in (select id from public.wallets where person_id = (select private.person())));

grant select on public.credit_holds to authenticated, service_role;

comment on table public.credit_holds is 'Credits set aside for one generation. A hold is settled exactly once.';
comment on column public.credit_holds.is_late_cancel is 'The user ended the generation after the model had started. A few of these a day are released; further ones are captured (private.quotas).';

create table public.credit_entries (
  id bigint generated always as identity,
  wallet_id uuid not null,
  kind text not null,
  amount integer not null,
  hold_id uuid,
  reason text not null,
  key text,
  created_at timestamptz not null default now(),
  constraint credit_entries_pkey primary key (id),
  constraint credit_entries_wallet_exists foreign key (wallet_id)
    references public.wallets (id) on delete cascade,
  constraint credit_entries_hold_exists foreign key (hold_id)
    references public.credit_holds (id) on delete cascade,
  constraint credit_entries_one_a_hold unique (hold_id),
  constraint credit_entries_key_unique unique (key),
  constraint credit_entries_kind_known
    check (kind in ('grant', 'purchase', 'capture', 'refund', 'adjustment', 'expiry')),
  constraint credit_entries_sign_fits_kind check (
    case
      when kind in ('grant', 'purchase', 'refund') then amount > 0
      when kind in ('capture', 'expiry') then amount < 0
      else amount <> 0
    end
  ),
  constraint credit_entries_capture_has_hold check ((kind = 'capture') = (hold_id is not null)),
  constraint credit_entries_reason_length check (char_length(reason) between 1 and 200)
);

create index credit_entries_wallet_id_id_idx on public.credit_entries (wallet_id, id);

alter table public.credit_entries enable row level security;
revoke all on public.credit_entries from public, anon, authenticated, service_role;
revoke all on sequence public.credit_entries_id_seq from public, anon, authenticated, service_role;

create policy "People see the entries of their own wallet"
on public.credit_entries
for select
to authenticated
using (wallet_id in (select id from public.wallets where person_id = (select private.person())));

grant select on public.credit_entries to authenticated, service_role;

comment on table public.credit_entries is 'The ledger, in credits. Append-only: to correct an entry, add a compensating entry with its reason.';
comment on column public.credit_entries.key is 'Idempotency key: the same key used twice makes one entry.';

-- Closes a wallet when its user is gone. No role can delete the wallet before the time of the rule `closed_books` is
-- over. Then it is deleted with all its entries.
create function private.close_wallet()
returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op = 'UPDATE' then
    new.closed_at := clock_timestamp();
    return new;
  end if;
  if old.closed_at is null or old.closed_at > now() - private.retention('closed_books') then
    raise exception 'the books of a wallet are kept' using errcode = '42501';
  end if;
  return old;
end;
$$;

create trigger wallets_close
before update of person_id on public.wallets
for each row
when (new.person_id is null and old.person_id is not null)
execute function private.close_wallet();

create trigger wallets_kept
before delete on public.wallets
for each row
execute function private.close_wallet();

-- Whether a wallet still exists. Its holds and entries may be deleted only after it is gone: then the retention rule
-- has just deleted the wallet, and the deletion cascades.
create function private.has_wallet(id uuid)
returns boolean
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
return exists (select from public.wallets as w where w.id = has_wallet.id);

create function private.refuse_change()
returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op = 'DELETE' and not private.has_wallet(old.wallet_id) then
    return old;
  end if;
  raise exception '% is append-only', tg_table_name
    using errcode = '42501', hint = 'Correct it with a compensating entry.';
end;
$$;

create trigger credit_entries_append_only
before update or delete on public.credit_entries
for each row
execute function private.refuse_change();

create trigger credit_entries_not_truncated
before truncate on public.credit_entries
for each statement
execute function private.refuse_change();

create function private.apply_entry()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  update public.wallets set balance = balance + new.amount where id = new.wallet_id;
  return null;
end;
$$;

create trigger credit_entries_apply
after insert on public.credit_entries
for each row
execute function private.apply_entry();

create function private.refuse_restricted(person uuid)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if not private.allows(person, 'generation') then
    perform private.refuse(403, 'generation_restricted',
      'You have refused the making of artworks. Allow it again in your privacy choices to go on.');
  end if;
end;
$$;

create function private.refuse_restricted()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  person uuid;
begin
  if tg_table_name = 'generations' then
    person := new.person_id;
  else
    select w.person_id into person from public.wallets as w where w.id = new.wallet_id;
  end if;
  perform private.refuse_restricted(person);
  return new;
end;
$$;

create function private.open_hold()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if new.state <> 'open' then
    raise exception 'a hold begins open' using errcode = '42501';
  end if;
  update public.wallets set held = held + new.amount where id = new.wallet_id;
  return null;
end;
$$;

-- G6: a user who refuses generation is charged nothing new, whichever role makes the call.
create trigger credit_holds_unrestricted
before insert on public.credit_holds
for each row
execute function private.refuse_restricted();

create trigger credit_holds_open
after insert on public.credit_holds
for each row
execute function private.open_hold();

-- A hold changes only once, when it is settled. The wallet and the ledger change in the same statement.
create function private.settle_hold()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op = 'DELETE' and not private.has_wallet(old.wallet_id) then
    return old;
  end if;
  if tg_op = 'DELETE' or old.state <> 'open' or new.state = 'open'
    or (new.id, new.wallet_id, new.generation_id, new.amount)
      is distinct from (old.id, old.wallet_id, old.generation_id, old.amount)
  then
    raise exception 'a hold is settled once and never changed' using errcode = '42501';
  end if;

  update public.wallets set held = held - old.amount where id = old.wallet_id;
  if new.state = 'captured' then
    insert into public.credit_entries (wallet_id, kind, amount, hold_id, reason)
    values (old.wallet_id, 'capture', -old.amount, old.id,
      case when new.is_late_cancel then 'late cancel' else 'generation' end);
  end if;
  return new;
end;
$$;

create trigger credit_holds_settle
before update or delete on public.credit_holds
for each row
execute function private.settle_hold();

create function private.open_wallet(person uuid)
returns void
language sql
security definer
set search_path = pg_catalog, pg_temp
begin atomic
  insert into public.wallets (person_id) values (person);
end;

-- Settles the hold of a generation that its user ends. Before the model has started, this is free. Afterwards we pay
-- for the prediction: a few ends a day are free, and then the hold is captured. Every way to end a generation counts
-- (cancel, delete, a refused purpose, erasure), so none of them is cheaper than another.
create function private.settle_ended_by_person(generation_id uuid, has_begun boolean)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  wallet constant uuid := (
    select h.wallet_id from public.credit_holds as h where h.generation_id = settle_ended_by_person.generation_id
  );
  is_free boolean := true;
begin
  if has_begun then
    -- `private.lock_generations` locks the wallet with the generation, so simultaneous ends are counted one after the
    -- other.
    is_free := private.free_late_cancels(wallet) > 0;
  end if;
  update public.credit_holds as h
  set state = case when is_free then 'released' else 'captured' end,
    is_late_cancel = has_begun,
    settled_at = clock_timestamp()
  where h.generation_id = settle_ended_by_person.generation_id and h.state = 'open';
end;
$$;

-- How many free late cancels a wallet has left.
create function private.free_late_cancels(wallet uuid)
returns bigint
language sql
stable
set search_path = pg_catalog, pg_temp
return (
  select greatest(0, q.most - (
    select count(*)
    from public.credit_holds as h
    where h.wallet_id = wallet and h.is_late_cancel and h.state = 'released' and h.settled_at > now() - q.span
  ))
  from private.quotas as q
  where q.scope = 'late_cancels' and q.id = 'per_day'
);

-- Corrects a balance. The ledger never changes, so the correction is a compensating entry. Returns {outcome, balance}.
-- The outcome is `adjusted`, or `replayed` if the key was used before for the same entry. Refuses with 404, 409 or
-- 422.
create function backend.adjust_credits(person_id uuid, amount integer, reason text, key text)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  wallet public.wallets;
  known public.credit_entries;
begin
  if coalesce(amount, 0) = 0 or coalesce(char_length(reason), 0) not between 1 and 200
    or coalesce(char_length(key), 0) not between 1 and 200
  then
    perform private.refuse(422, 'invalid_adjustment',
      'amount must not be 0; reason and key must have 1 to 200 characters.');
  end if;

  select * into wallet from public.wallets as w where w.person_id = adjust_credits.person_id for update;
  if not found then
    perform private.refuse(404, 'wallet_not_found', 'No account with this id has a wallet.');
  end if;

  select * into known from public.credit_entries as e where e.key = adjust_credits.key;
  if found then
    if (known.wallet_id, known.amount, known.reason) is distinct from (wallet.id, amount, reason) then
      perform private.refuse(409, 'key_reused', 'This key was used for another entry. Use a new one.');
    end if;
    return jsonb_build_object('outcome', 'replayed', 'balance', wallet.balance);
  end if;

  if wallet.balance + amount::bigint not between wallet.held and 2147483647 then
    perform private.refuse(409, 'balance_out_of_range',
      format('The balance is %s, of which %s are on hold. Choose an amount after which the holds are still covered.',
        wallet.balance, wallet.held));
  end if;
  insert into public.credit_entries (wallet_id, kind, amount, reason, key)
  values (wallet.id, 'adjustment', amount, reason, key);
  return jsonb_build_object('outcome', 'adjusted', 'balance', wallet.balance + amount);
end;
$$;

comment on function backend.adjust_credits is 'Corrects a wallet with a compensating entry, in credits.';

revoke all on function backend.adjust_credits from public, anon, authenticated, service_role;
grant execute on function backend.adjust_credits to service_role;
