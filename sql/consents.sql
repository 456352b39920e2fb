-- Which versions of the privacy policy are published, and which of them a user has agreed to.

create table public.policy_versions (
  id text not null,
  published_at timestamptz not null,
  digest text not null,
  constraint policy_versions_pkey primary key (id),
  constraint policy_versions_digest_form check (digest ~ '^[0-9a-f]{64}$'),
  constraint policy_versions_id_form check (id ~ '^[0-9A-Za-z.-]{1,20}$')
);

create index policy_versions_published_at_idx on public.policy_versions (published_at);

alter table public.policy_versions enable row level security;
revoke all on public.policy_versions from public, anon, authenticated, service_role;

create policy "Anyone reads which versions of the policy are published"
on public.policy_versions
for select
to anon, authenticated
using (published_at <= now());

grant select on public.policy_versions to anon, authenticated, service_role;

comment on table public.policy_versions is 'Versions of the privacy policy. After a new version is published, every user is asked to agree again.';

comment on column public.policy_versions.digest is 'SHA-256 of its text (UTF-8), in hex. It proves later what users have agreed to.';

insert into public.policy_versions (id, published_at, digest)
values ('2026-11', '2026-11-01', '0eb0d1c46464475ba59da9504062351112627003e3e590354af6211791caff40');

create table public.policy_consents (
  id bigint generated always as identity,
  person_id uuid default auth.uid(),
  version text not null,
  at timestamptz not null default now(),
  pseudonym text,
  left_at timestamptz,
  constraint policy_consents_pkey primary key (id),
  constraint policy_consents_once unique (person_id, version),
  constraint policy_consents_person_exists foreign key (person_id) references auth.users (id) on delete set null,
  constraint policy_consents_version_exists foreign key (version) references public.policy_versions (id),
  constraint policy_consents_pseudonym_without_person check (pseudonym is null or person_id is null)
);

create index policy_consents_version_idx on public.policy_consents (version);
create index policy_consents_left_at_idx on public.policy_consents (left_at) where left_at is not null;

alter table public.policy_consents enable row level security;
revoke all on public.policy_consents from public, anon, authenticated, service_role;
revoke all on sequence public.policy_consents_id_seq from public, anon, authenticated, service_role;

create policy "People see what they have agreed to"
on public.policy_consents
for select
to authenticated
using (person_id = (select private.person()));

-- Users cannot see versions that are not published yet, so they cannot agree to them.
create policy "People agree for themselves, to what is published"
on public.policy_consents
for insert
to authenticated
with check (
  person_id = (select private.person())
  and version in (select v.id from public.policy_versions as v)
);

grant select on public.policy_consents to authenticated, service_role;
grant insert (person_id, version) on public.policy_consents to authenticated;

comment on table public.policy_consents is 'Which user has agreed to which version of the privacy policy, and when. The rows outlive the account as proof.';
comment on column public.policy_consents.pseudonym is 'For a deleted account: the user''s ID under a keyed hash, as in public.wallets.';
comment on column public.policy_consents.left_at is 'When the account was deleted. The retention rule counts from then.';

create trigger policy_consents_forget
before update of person_id on public.policy_consents
for each row
when (new.person_id is null)
execute function private.note_departure();

-- A sign-up can carry the version that the user agreed to (`options.data.policy_version`). An unknown version records
-- nothing.
create function private.record_consent_at_sign_up(person uuid, version text)
returns void
language sql
set search_path = pg_catalog, pg_temp
begin atomic
  insert into public.policy_consents (person_id, version)
  select person, v.id
  from public.policy_versions as v
  where v.id = record_consent_at_sign_up.version and v.published_at <= now();
end;

create function public.policy_to_agree_to()
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
return (
  select v.id
  from (select n.id from public.policy_versions as n where n.published_at <= now() order by n.published_at desc limit 1) as v
  where not exists (
    select from public.policy_consents as c where c.person_id = private.person() and c.version = v.id
  )
);

comment on function public.policy_to_agree_to is 'The version of the privacy policy that the caller has not agreed to yet, or null.';

revoke all on function public.policy_to_agree_to from public, anon, authenticated, service_role;
grant execute on function public.policy_to_agree_to to authenticated;
