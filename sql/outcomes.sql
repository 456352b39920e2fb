-- How things ended, and not whose they were. The operator's numbers stay as they are if a person deletes an artwork or
-- their account.

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

comment on table private.outcomes is 'How generations and exports of the last day ended, and which artworks were missing: a word and a time, nothing that says whose (R5).';
comment on column private.outcomes.outcome is 'Of a generation its state, or its reason if it failed; `missing` of an artwork; `failed` of an export.';
