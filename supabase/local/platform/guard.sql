-- Hosted lets `postgres` make policies and triggers on Auth's and Storage's tables, and nothing else
-- there, by an extension of its own. PostgreSQL asks for ownership: so `postgres` has the rights of the
-- owners without being able to become them, and what hosted would refuse is refused here.

grant supabase_auth_admin, supabase_storage_admin to postgres with inherit true, set false, admin false;

create function extensions.guard_platform()
returns event_trigger
language plpgsql
set search_path = ''
as $$
declare
  touched text;
begin
  if (select rolsuper from pg_catalog.pg_roles where rolname = current_user) then
    return;
  end if;
  if tg_event = 'sql_drop' then
    select object_identity into touched
    from pg_catalog.pg_event_trigger_dropped_objects()
    where original and object_type not in ('policy', 'trigger')
      and (schema_name in ('auth', 'storage') or address_names[1] in ('auth', 'storage'))
    limit 1;
  else
    select object_identity into touched
    from pg_catalog.pg_event_trigger_ddl_commands()
    where schema_name in ('auth', 'storage') and object_type not in ('policy', 'trigger')
    limit 1;
  end if;
  if touched is not null then
    raise exception 'must be owner of %', touched using errcode = '42501';
  end if;
end;
$$;

create event trigger guard_platform_changes on ddl_command_end execute function extensions.guard_platform();
create event trigger guard_platform_drops on sql_drop execute function extensions.guard_platform();
