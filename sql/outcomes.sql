-- How generations and exports ended, without whose they were. So the operator's numbers do not change if a user
-- deletes an artwork or their account.

create table private.outcomes (
  id bigint generated always as identity,
  subject text not null,
  outcome text not null,
  at timestamptz not null default now(),
  constraint outcomes_pkey primary key (id),
  constraint outcomes_subject_known check (subject in ('generation', 'artwork', 'export'))
);

create index outcomes_at_idx on private.outcomes (at);

alter table private.outcomes enable row level security;
revoke all on private.outcomes from public, anon, authenticated, service_role;

comment on table private.outcomes is 'How generations and exports of the last day ended, with a row for each missing artwork, too. A row is a word and a time, and does not say whose it was (R5).';
comment on column private.outcomes.outcome is 'For a generation: its state, or its reason if it failed. For an artwork: `missing`. For an export: `failed`.';
