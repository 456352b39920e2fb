-- What a sweep has to do, so that it makes no needless calls. Each answer reads one index. The next sweep sees what
-- becomes due a moment later.

create function backend.list_due_work()
returns jsonb
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
return jsonb_build_object(
  'deletions', exists (
    select from public.deletions as d where d.verified_at is null and d.due_at <= now()
  ),
  'settling', exists (
    select
    from public.generations as g
    join private.generation_work as w on w.generation_id = g.id
    where g.state in ('reserved', 'dispatched', 'processing', 'storing')
      and (g.deadline_at < now() or (g.prediction_id is not null and w.checked_at < now() - interval '1 minute'))
  ),
  'dispatches', exists (
    select
    from private.generation_work as w
    join public.generations as g on g.id = w.generation_id
    where w.dispatch_at <= now() and private.is_to_be_dispatched(g, w)
  ),
  'outbox', exists (select from private.outbox as o where o.due_at <= now()),
  'expired_exports', exists (select from public.exports as e where e.state = 'ready' and e.expires_at <= now()),
  'erasures', exists (
    select
    from private.erasures as e
    where e.stage <> 'done' and e.begins_at <= now() and coalesce(e.leased_until, '-infinity') <= now()
  ),
  'removals', exists (
    select from public.replicate_removals as r where r.removed_at is null and r.due_at <= now()
  ),
  'inactivity', private.is_walk_due('people'),
  'unconfirmed', private.is_walk_due('unconfirmed'),
  'emails', exists (select from private.emails as e where e.sent_at is null and e.due_at <= now()),
  'requests', exists (
    select from public.privacy_requests as r where r.closed_at is null and r.due_at < now() + interval '1 day'
  ),
  'rows', private.has_expired_rows(),
  'exports', exists (
    select
    from private.export_work as w
    where w.due_at <= now() and (w.lease is null or w.leased_until <= now())
  ),
  'walks', jsonb_build_object(
    -- Limits for photos are in hours, so each sweep walks the photos, if there are any.
    'audit_inputs', exists (select from storage.objects as o where o.bucket_id = 'inputs'),
    'audit_artworks', private.is_walk_due('artworks'),
    'audit_exports', private.is_walk_due('exports'),
    'audit_generations', private.is_walk_due('generations'),
    'audit_ledger', private.is_walk_due('ledger')
  )
);

comment on function backend.list_due_work is 'Which steps of a sweep have something to do.';

revoke all on function backend.list_due_work from public, anon, authenticated, service_role;
grant execute on function backend.list_due_work to service_role;
