-- R10: when a user last did something here. `inactivity.sql` reads it.

-- Records that the user was active, at most once an hour, to limit the writes for a busy user.
create function private.note_activity(person uuid)
returns void
language sql
set search_path = pg_catalog, pg_temp
begin atomic
  update public.profiles as p
  set active_at = now()
  where p.id = person and p.active_at < now() - interval '1 hour';
end;

create function private.follow_activity()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.note_activity(new.person_id);
  return null;
end;
$$;

create trigger generations_follow_activity
after insert on public.generations
for each row
execute function private.follow_activity();
