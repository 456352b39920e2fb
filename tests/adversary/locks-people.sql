-- The few users on which all pairs of verbs run. Everything here is in pg_temp, so it disappears with the connection.

-- Storage allows a connection to delete its rows only with this setting.
set storage.allow_delete_query = 'true';

create temporary table people (slot text primary key, id uuid);
insert into people values ('active', null), ('idle', null), ('leaving', null);

create temporary table fixtures (slot text, kind text, id uuid, mark text, primary key (slot, kind));

create function pg_temp.remove_person(person uuid)
returns void
language plpgsql
as $$
begin
  delete from private.erasures as e where e.person_id = person;
  delete from auth.users as u where u.id = person;
  delete from public.deletions as d where starts_with(d.path, person || '/');
  delete from private.outbox as o where o.person_id is null and o.target ~ ('^locks-|^' || person);
  delete from public.replicate_removals as r where r.person_id is null and starts_with(r.prediction_id, 'locks-');
  delete from storage.objects as o where starts_with(o.name, person || '/');
end;
$$;

-- `active` was active today. `idle` has had all notices and can be erased. The erasure of `leaving` has begun.
create function pg_temp.open_person(slot text)
returns uuid
language plpgsql
as $$
#variable_conflict use_column
declare
  person constant uuid := gen_random_uuid();
  last_here constant timestamptz := now() - case open_person.slot when 'idle' then interval '3 years' else '2 hours' end;
begin
  insert into auth.users (id, aud, role, email, email_confirmed_at, is_sso_user, is_anonymous, created_at, updated_at, last_sign_in_at)
  values (person, 'authenticated', 'authenticated', person || '@locks.example.com', last_here, false, false, last_here, last_here, last_here);
  insert into auth.sessions (id, user_id, aal, created_at, updated_at) values (person, person, 'aal1', last_here, last_here);
  insert into public.credit_entries (wallet_id, kind, amount, reason)
  select w.id, 'adjustment', 1000000, 'locks' from public.wallets as w where w.person_id = person;
  if slot = 'idle' then
    insert into private.emails (person_id, kind, days, ordered_at, sent_at)
    select person, 'inactive', n.days, now() - interval '100 days', now() - interval '100 days' from private.notice_ladder as n;
  elsif slot = 'leaving' then
    update public.profiles as p set closed_at = now() where p.id = person;
    insert into private.erasures (person_id, reason, stage) values (person, 'asked', 'deleting');
  end if;
  return person;
end;
$$;

create function pg_temp.top_up_people()
returns void
language plpgsql
as $$
#variable_conflict use_column
declare
  known people;
begin
  delete from public.privacy_choices as c using people as p where c.person_id = p.id;
  for known in select * from people loop
    if not exists (
      select from public.profiles as p
      join public.wallets as w on w.person_id = p.id
      left join private.erasures as e on e.person_id = p.id
      where p.id = known.id and (p.closed_at is not null) = (known.slot = 'leaving') and (e.id is not null) = (known.slot = 'leaving')
    ) then
      perform pg_temp.remove_person(known.id);
      delete from fixtures as f where f.slot = known.slot;
      update people as p set id = pg_temp.open_person(known.slot) where p.slot = known.slot;
    end if;
  end loop;
end;
$$;
