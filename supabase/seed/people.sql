-- Alice, Bob and Carol, for development and tests. Never load them into a database that others can reach: the password
-- of all three is `opusflair`.

insert into auth.users (
  id, aud, role, email, encrypted_password, email_confirmed_at, raw_app_meta_data,
  raw_user_meta_data, created_at, updated_at
)
select id::uuid, 'authenticated', 'authenticated', name || '@example.com',
  '$2b$10$zEiIxOyFBRG5jAH2gpsdKORtKcJ.Sa8ojKhH79iVyxp6Ik.xseL.6', now(), '{"provider": "email", "providers": ["email"]}', '{}', now(), now()
from (values
  ('a11ce000-0000-4000-8000-000000000001', 'alice'),
  ('b0b00000-0000-4000-8000-000000000002', 'bob'),
  ('ca201000-0000-4000-8000-000000000003', 'carol')
) as person (id, name)
on conflict do nothing;
