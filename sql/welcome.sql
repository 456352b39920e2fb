-- Welcome credits are granted once for each confirmed address, even after an erasure. We keep only a keyed hash of the
-- address, and only this database can compare it.

-- Which addresses lead to one mailbox, by provider. An address of any other provider counts as written, in lower case.
create table private.address_rules (
  domain text not null,
  same_as text not null,
  ignores_dots boolean not null,
  ignores_tags boolean not null,
  constraint address_rules_pkey primary key (domain),
  constraint address_rules_domain_lower_case check (domain = lower(domain))
);

alter table private.address_rules enable row level security;
revoke all on private.address_rules from public, anon, authenticated, service_role;

comment on table private.address_rules is 'How providers read addresses: which domains are the same, and whether dots and plus tags count.';

insert into private.address_rules (domain, same_as, ignores_dots, ignores_tags) values
  ('gmail.com', 'gmail.com', true, true),
  ('googlemail.com', 'gmail.com', true, true),
  ('outlook.com', 'outlook.com', false, true),
  ('hotmail.com', 'hotmail.com', false, true),
  ('live.com', 'live.com', false, true),
  ('icloud.com', 'icloud.com', false, true),
  ('me.com', 'icloud.com', false, true),
  ('mac.com', 'icloud.com', false, true),
  ('proton.me', 'proton.me', true, true),
  ('protonmail.com', 'proton.me', true, true),
  ('pm.me', 'proton.me', true, true),
  ('fastmail.com', 'fastmail.com', false, true);

create function private.normalise_address(address text)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
return (
  select case when coalesce(r.ignores_dots, false) then replace(t.mailbox, '.', '') else t.mailbox end
    || '@' || coalesce(r.same_as, w.domain)
  from (
    select regexp_replace(lower(btrim(address)), '@[^@]*$', '') as mailbox,
      regexp_replace(lower(btrim(address)), '^.*@', '') as domain
  ) as w
  left join private.address_rules as r on r.domain = w.domain
  cross join lateral (
    select case when coalesce(r.ignores_tags, false) then split_part(w.mailbox, '+', 1) else w.mailbox end as mailbox
  ) as t
);

create table private.keys (
  id text not null,
  key bytea not null,
  constraint keys_pkey primary key (id),
  constraint keys_length check (octet_length(key) >= 32)
);

alter table private.keys enable row level security;
revoke all on private.keys from public, anon, authenticated, service_role;

comment on table private.keys is 'Random keys that only this database uses, created with it. No API exposes them.';

insert into private.keys (id, key) values ('addresses', extensions.gen_random_bytes(32));

-- HMAC-SHA-256 of the normalised address, in hex.
create function private.hash_address(address text)
returns text
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
return (
  select encode(extensions.hmac(convert_to(private.normalise_address(address), 'utf8'), k.key, 'sha256'), 'hex')
  from private.keys as k
  where k.id = 'addresses'
);

create table private.welcomed_addresses (
  address_hash text not null,
  at timestamptz not null default now(),
  constraint welcomed_addresses_pkey primary key (address_hash),
  constraint welcomed_addresses_hash_form check (address_hash ~ '^[0-9a-f]{64}$')
);

create index welcomed_addresses_at_idx on private.welcomed_addresses (at);

alter table private.welcomed_addresses enable row level security;
revoke all on private.welcomed_addresses from public, anon, authenticated, service_role;

comment on table private.welcomed_addresses is 'Keyed hashes of addresses that have received welcome credits. They outlive the account, so that signing up again gives no credits.';

-- Grants the welcome credits if the account has a confirmed address that never had them. An anonymous account gets
-- none. An account gets them once, even if its address changes later.
create function private.grant_welcome_credits(account auth.users)
returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  credits constant bigint := (private.quota('welcome_credits', 'per_address')).most;
  wallet constant uuid := (select w.id from public.wallets as w where w.person_id = account.id);
  welcome_key constant text := 'welcome:' || wallet;
begin
  if account.email_confirmed_at is null or coalesce(account.email, '') = '' or account.is_anonymous
    or wallet is null or credits = 0
    or exists (select from public.credit_entries as e where e.key = welcome_key)
  then
    return;
  end if;
  insert into private.welcomed_addresses (address_hash)
  values (private.hash_address(account.email))
  on conflict do nothing;
  if found then
    insert into public.credit_entries (wallet_id, kind, amount, reason, key)
    values (wallet, 'grant', credits, 'welcome', welcome_key);
  end if;
end;
$$;

-- Most users confirm their address after the sign-up. The function compares the columns itself, because a trigger that
-- named them would keep Auth from changing their types.
create function private.follow_confirmation()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if (new.email, new.email_confirmed_at, new.is_anonymous)
    is distinct from (old.email, old.email_confirmed_at, old.is_anonymous)
  then
    perform private.grant_welcome_credits(new);
  end if;
  return null;
end;
$$;

create trigger welcome_confirmed
after update on auth.users
for each row
execute function private.follow_confirmation();
