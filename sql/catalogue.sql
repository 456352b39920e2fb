-- What users can make: models and styles. To add one, add a row; the code does not change (policy U1, U2).

create table public.models (
  id text not null,
  name text not null,
  replicate_model text not null,
  credits integer not null,
  deadline interval not null default '10 minutes',
  settings_schema jsonb not null,
  default_settings jsonb not null default '{}',
  position smallint not null,
  available boolean not null default true,
  constraint models_pkey primary key (id),
  constraint models_id_is_a_slug check (id ~ '^[a-z0-9]+(-[a-z0-9]+)*$'),
  constraint models_replicate_model_is_owner_and_name check (replicate_model ~ '^[a-z0-9-]+/[a-z0-9.-]+$'),
  constraint models_credits_positive check (credits > 0),
  -- Replicate stops any run after 30 minutes and accepts no deadline under 5 seconds.
  constraint models_deadline_within_replicate check (deadline between '1 minute' and '30 minutes'),
  constraint models_settings_schema_is_an_object check (jsonb_typeof(settings_schema) = 'object'),
  constraint models_default_settings_is_an_object check (jsonb_typeof(default_settings) = 'object'),
  constraint models_position_unique unique (position)
);

alter table public.models enable row level security;
revoke all on public.models from public, anon, authenticated, service_role;

create policy "Anyone sees the models that are available"
on public.models
for select
to anon, authenticated
using (available);

grant select on public.models to anon, authenticated, service_role;

comment on table public.models is 'The Replicate models that users may choose (U1).';
comment on column public.models.credits is 'Price of one generation, in credits.';
comment on column public.models.deadline is 'A generation is ended this long after its reservation, whatever its state. Also the lifetime of the signed input URL (T4).';
comment on column public.models.settings_schema is 'The settings that a user may choose: a map of name to {type, enum, minimum, maximum}, taken from the model''s own input schema (C3).';

-- Old versions stay, because a generation keeps the version it was made with (U2).
create table private.style_versions (
  style text not null,
  version integer not null,
  prompt text not null,
  created_at timestamptz not null default now(),
  constraint style_versions_pkey primary key (style, version),
  constraint style_versions_version_positive check (version > 0),
  constraint style_versions_prompt_length check (char_length(prompt) between 10 and 2000)
);

alter table private.style_versions enable row level security;
revoke all on private.style_versions from public, anon, authenticated, service_role;

comment on table private.style_versions is 'Prompt templates. To change the wording, add a version. Never update one.';

create table public.styles (
  id text not null,
  version integer not null default 1,
  name text not null,
  description text not null,
  model text not null,
  extra_credits integer not null default 0,
  position smallint not null,
  available boolean not null default true,
  constraint styles_pkey primary key (id),
  constraint styles_id_is_a_slug check (id ~ '^[a-z0-9]+(-[a-z0-9]+)*$'),
  constraint styles_version_exists foreign key (id, version)
    references private.style_versions (style, version),
  constraint styles_model_exists foreign key (model) references public.models (id),
  constraint styles_extra_credits_not_negative check (extra_credits >= 0),
  constraint styles_position_unique unique (position)
);

create index styles_id_version_idx on public.styles (id, version);
create index styles_model_idx on public.styles (model);

alter table public.styles enable row level security;
revoke all on public.styles from public, anon, authenticated, service_role;

create policy "Anyone sees the styles that are available"
on public.styles
for select
to anon, authenticated
using (available);

grant select on public.styles to anon, authenticated, service_role;

comment on table public.styles is 'The styles that users choose from. The prompt behind each style is in private.style_versions (U2).';
comment on column public.styles.extra_credits is 'Added to the price of the model, in credits.';

-- Refuses the first setting that the model does not know or whose value is out of range (C3).
create function private.check_settings(settings_schema jsonb, settings jsonb)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  setting record;
  rule jsonb;
  fault text;
begin
  if jsonb_typeof(settings) is distinct from 'object' then
    perform private.refuse(422, 'invalid_settings', 'settings must be an object.', '{"field": "settings"}');
  end if;

  for setting in select key, value from jsonb_each(settings) order by key loop
    rule := settings_schema -> setting.key;
    if rule is null then
      -- The message does not repeat the name: users may have written anything there, and a refusal may reach a log
      -- (R5).
      perform private.refuse(422, 'invalid_settings',
        'settings has a member that this model does not know. The model knows '
          || (select string_agg(name, ', ' order by name) from jsonb_object_keys(settings_schema) as name) || '.',
        '{"field": "settings"}');
    end if;
    fault := case
      when rule ? 'enum' and not (rule -> 'enum') @> jsonb_build_array(setting.value) then
        'must be one of ' || (select string_agg(choice, ', ') from jsonb_array_elements_text(rule -> 'enum') as choice)
      when rule ->> 'type' = 'integer' and not private.is_integer_between(
          setting.value, (rule ->> 'minimum')::numeric, (rule ->> 'maximum')::numeric) then
        format('must be a whole number from %s to %s', rule ->> 'minimum', rule ->> 'maximum')
      when rule ->> 'type' = 'number' and not private.is_number_between(
          setting.value, (rule ->> 'minimum')::numeric, (rule ->> 'maximum')::numeric) then
        format('must be a number from %s to %s', rule ->> 'minimum', rule ->> 'maximum')
      when rule ->> 'type' = 'boolean' and jsonb_typeof(setting.value) <> 'boolean' then
        'must be true or false'
    end;
    if fault is not null then
      perform private.refuse(422, 'invalid_settings',
        format('settings.%s %s.', setting.key, fault),
        jsonb_build_object('field', 'settings.' || setting.key));
    end if;
  end loop;
end;
$$;

create function private.is_number_between(value jsonb, minimum numeric, maximum numeric)
returns boolean
language sql
immutable
set search_path = pg_catalog, pg_temp
return case when jsonb_typeof(value) = 'number' then (value)::numeric between minimum and maximum else false end;

create function private.is_integer_between(value jsonb, minimum numeric, maximum numeric)
returns boolean
language sql
immutable
set search_path = pg_catalog, pg_temp
return case
  when private.is_number_between(value, minimum, maximum) then (value)::numeric = trunc((value)::numeric)
  else false
end;
