-- Which features are used, and on what kind of device. The columns are typed, and no finer than the reports need (C9,
-- C10).

create table public.usage_events (
  id bigint generated always as identity,
  person_id uuid not null default auth.uid(),
  at timestamptz not null default now(),
  feature text not null,
  browser text,
  browser_version smallint,
  viewport_width smallint,
  viewport_height smallint,
  pixel_ratio numeric(2, 1),
  image_formats text[],
  constraint usage_events_pkey primary key (id),
  constraint usage_events_person_exists foreign key (person_id) references auth.users (id) on delete cascade,
  constraint usage_events_feature_form check (feature ~ '^[a-z]+(_[a-z]+){0,4}$' and char_length(feature) <= 40),
  constraint usage_events_browser_known
    check (browser in ('chrome', 'edge', 'firefox', 'opera', 'safari', 'samsung', 'other')),
  constraint usage_events_browser_version_plausible check (browser_version between 1 and 999),
  constraint usage_events_viewport_plausible
    check (viewport_width between 1 and 10000 and viewport_height between 1 and 10000),
  constraint usage_events_pixel_ratio_plausible check (pixel_ratio between 0.1 and 9.9),
  constraint usage_events_image_formats_known
    check (image_formats <@ array['avif', 'jpeg', 'jxl', 'png', 'webp'] and cardinality(image_formats) <= 5)
);

create index usage_events_person_id_idx on public.usage_events (person_id, at desc);
create index usage_events_at_idx on public.usage_events (at);

alter table public.usage_events enable row level security;
revoke all on public.usage_events from public, anon, authenticated, service_role;
revoke all on sequence public.usage_events_id_seq from public, anon, authenticated, service_role;

create policy "People see what was recorded of them"
on public.usage_events
for select
to authenticated
using (person_id = (select private.person()));

create policy "People record their own use"
on public.usage_events
for insert
to authenticated
with check (person_id = (select private.person()));

grant select on public.usage_events to authenticated, service_role;
grant insert (
  person_id, feature, browser, browser_version, viewport_width, viewport_height, pixel_ratio, image_formats
) on public.usage_events to authenticated;

comment on table public.usage_events is 'Which feature was used, when, and on what kind of device (C9, C10). No address, no user agent, no free text.';
comment on column public.usage_events.browser_version is 'The major version.';
comment on column public.usage_events.viewport_width is 'In CSS pixels.';

-- G7: refuses events, for every role, unless the user has allowed analytics. It also keeps clients from flooding the
-- table. It counts once per statement, under a lock, however many rows the statement inserts.
create function private.check_usage()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  quota constant private.quotas := private.quota('usage_events', 'per_day');
  person uuid;
  free_at timestamptz;
begin
  for person in select distinct n.person_id from recorded as n order by 1 loop
    perform private.lock_person(person);
    if not private.allows(person, 'analytics') then
      perform private.refuse(403, 'analytics_not_allowed', 'You have not allowed analytics, so nothing is recorded.');
    end if;
    -- The event just beyond the limit, if there is one. There is room again when it leaves the period.
    select e.at + quota.span into free_at
    from public.usage_events as e
    where e.person_id = person and e.at > now() - quota.span
    order by e.at desc
    offset quota.most
    limit 1;
    if found then
      perform private.refuse(429, 'too_many_events', format('At most %s events a day are recorded.', quota.most),
        private.retry_at(free_at));
    end if;
  end loop;
  return null;
end;
$$;

create trigger usage_events_check
after insert on public.usage_events
referencing new table as recorded
for each statement
execute function private.check_usage();

create trigger usage_events_follow_activity
after insert on public.usage_events
for each row
execute function private.follow_activity();

-- Reports, only for the operator. They cover users who allow them, in groups of at least five users (U3, U6).
create view backend.processing_report
with (security_invoker = true)
as
select g.model,
  g.style,
  count(*) as generations,
  count(distinct g.person_id) as people,
  round(avg((g.state = 'failed')::integer), 3) as failed_share,
  percentile_cont(0.5) within group (order by extract(epoch from g.finished_at - g.reserved_at)) as median_seconds,
  percentile_cont(0.95) within group (order by extract(epoch from g.finished_at - g.reserved_at)) as p95_seconds,
  percentile_cont(0.5) within group (order by g.predict_seconds) as median_predict_seconds
from public.generations as g
where g.state in ('succeeded', 'failed')
  and not exists (select from private.refusals as r where r.person_id = g.person_id and r.purpose = 'improvement')
group by g.model, g.style
having count(distinct g.person_id) >= 5;

create view backend.usage_report
with (security_invoker = true)
as
select e.feature, count(*) as events, count(distinct e.person_id) as people
from public.usage_events as e
where not exists (
  select from private.refusals as r where r.person_id = e.person_id and r.purpose in ('improvement', 'analytics')
)
group by e.feature
having count(distinct e.person_id) >= 5;

create view backend.device_report
with (security_invoker = true)
as
select e.browser,
  count(distinct e.person_id) as people,
  round(avg(e.pixel_ratio), 1) as pixel_ratio,
  percentile_disc(0.5) within group (order by e.viewport_width) as median_viewport_width,
  round(avg(('webp' = any (e.image_formats))::integer), 3) as webp_share,
  round(avg(('avif' = any (e.image_formats))::integer), 3) as avif_share
from public.usage_events as e
where e.browser is not null
  and not exists (
    select from private.refusals as r where r.person_id = e.person_id and r.purpose in ('improvement', 'analytics')
  )
group by e.browser
having count(distinct e.person_id) >= 5;

comment on view backend.processing_report is 'Times in seconds and failures, by model and style (U3). Groups of at least five users. Users who do not allow it are left out.';
comment on view backend.usage_report is 'Which features are used (U6). Groups of at least five users. Users who do not allow it are left out.';
comment on view backend.device_report is 'What devices can do, by browser (U6). Groups of at least five users. Users who do not allow it are left out.';

revoke all on backend.processing_report, backend.usage_report, backend.device_report from public, anon, authenticated, service_role;
grant select on backend.processing_report, backend.usage_report, backend.device_report to service_role;
