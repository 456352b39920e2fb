-- Each constraint is tested with one statement that it must refuse. No constraint may lack a statement.
begin;
set local search_path = public, tap;

-- This trigger would refuse these rows first, with a sentence for users.
alter table profiles disable trigger profiles_check;

insert into generations (id, person_id, idempotency_key, style, style_version, model, prompt, settings, credits, input_path, deadline_at, prediction_id)
select number::text::uuid, person, 'key-' || place, 'mosaic', 1, 'kontext-pro', 'a prompt', '{}', 1, person || '/' || place || '.jpg', now(), 'prediction-' || place
from (values
  ('00000000-0000-4000-8000-00000000000a', 'a11ce000-0000-4000-8000-000000000001'::uuid, 'a'),
  ('00000000-0000-4000-8000-00000000000b', 'a11ce000-0000-4000-8000-000000000001'::uuid, 'b')
) as given (number, person, place);
insert into private.generation_work (generation_id, request_digest, capability_digest)
values ('00000000-0000-4000-8000-00000000000a', sha256('r'), sha256('c'));
insert into deletions (bucket, path, reason) values ('inputs', 'somewhere', 'limit_reached');
insert into replicate_removals (prediction_id, due_at) values ('prediction-c', now());
insert into exports (id, person_id, path)
values ('00000000-0000-4000-8000-0000000000e1', 'a11ce000-0000-4000-8000-000000000001', 'alice.zip');
insert into private.export_work (export_id) values ('00000000-0000-4000-8000-0000000000e1');
insert into privacy_requests (person_id, kind) values ('a11ce000-0000-4000-8000-000000000001', 'other');
update profiles set username = 'alice' where id::text like 'a11ce%';
update credit_holds set state = 'captured', settled_at = now()
where generation_id = '00000000-0000-4000-8000-00000000000b';

create temporary table attempts (refused_by text, statement text);
insert into attempts values
  ('models_credits_positive', $$update models set credits = 0$$),
  ('models_deadline_within_replicate', $$update models set deadline = '31 minutes'$$),
  ('models_default_settings_is_an_object', $$update models set default_settings = '[]'$$),
  ('models_id_is_a_slug', $$insert into models (id, name, replicate_model, credits, settings_schema, position) values ('A b', '', 'a/b', 1, '{}', 99)$$),
  ('models_position_unique', $$update models set position = 1$$),
  ('models_replicate_model_is_owner_and_name', $$update models set replicate_model = 'flux'$$),
  ('models_settings_schema_is_an_object', $$update models set settings_schema = '[]'$$),
  ('style_versions_prompt_length', $$insert into private.style_versions values ('x', 1, 'short')$$),
  ('style_versions_version_positive', $$insert into private.style_versions values ('x', 0, 'a prompt that is long enough')$$),
  ('styles_extra_credits_not_negative', $$update styles set extra_credits = -1$$),
  ('styles_id_is_a_slug', $$insert into styles (id, name, description, model, position) values ('A b', '', '', 'kontext-pro', 99)$$),
  ('styles_model_exists', $$update styles set model = 'none'$$),
  ('styles_position_unique', $$update styles set position = 1$$),
  ('styles_version_exists', $$update styles set version = 99$$),
  ('profiles_default_settings_is_small_object', $$update profiles set default_settings = '[]'$$),
  ('profiles_default_style_exists', $$update profiles set default_style = 'none'$$),
  ('profiles_person_exists', $$insert into profiles (id) values (gen_random_uuid())$$),
  ('profiles_username_form', $$update profiles set username = 'Al' where username = 'alice'$$),
  ('profiles_username_unique', $$update profiles set username = 'alice'$$),
  ('wallets_balance_not_negative', $$update wallets set balance = -1$$),
  ('wallets_held_not_negative', $$update wallets set held = -1$$),
  ('wallets_held_within_balance', $$update wallets set held = 100$$),
  ('wallets_one_a_person', $$insert into wallets (person_id) select id from profiles where username = 'alice'$$),
  ('wallets_pseudonym_is_a_digest', $$update wallets set pseudonym = 'alice'$$),
  ('wallets_pseudonym_without_person', $$update wallets set pseudonym = repeat('0', 64)$$),
  ('wallets_person_exists', $$insert into wallets (person_id) values (gen_random_uuid())$$),
  ('credit_holds_amount_positive', $$insert into credit_holds (wallet_id, generation_id, amount) select id, gen_random_uuid(), 0 from wallets limit 1$$),
  ('credit_holds_one_a_generation', $$insert into credit_holds (wallet_id, generation_id, amount) select wallet_id, generation_id, 1 from credit_holds limit 1$$),
  ('credit_holds_settled_when_not_open', $$insert into credit_holds (wallet_id, generation_id, amount, settled_at) select id, gen_random_uuid(), 1, now() from wallets limit 1$$),
  ('credit_holds_state_known', $$insert into credit_holds (wallet_id, generation_id, amount, state, settled_at) select id, gen_random_uuid(), 1, 'lost', now() from wallets limit 1$$),
  ('credit_holds_wallet_exists', $$insert into credit_holds (wallet_id, generation_id, amount) values (gen_random_uuid(), gen_random_uuid(), 1)$$),
  ('credit_entries_capture_has_hold', $$insert into credit_entries (wallet_id, kind, amount, reason) select id, 'capture', -1, 'x' from wallets limit 1$$),
  ('credit_entries_hold_exists', $$insert into credit_entries (wallet_id, kind, amount, hold_id, reason) select id, 'capture', -1, gen_random_uuid(), 'x' from wallets limit 1$$),
  ('credit_entries_key_unique', $$insert into credit_entries (wallet_id, kind, amount, reason, key) select id, 'grant', 1, 'x', 'k' from wallets limit 2$$),
  ('credit_entries_kind_known', $$insert into credit_entries (wallet_id, kind, amount, reason) select id, 'gift', 1, 'x' from wallets limit 1$$),
  ('credit_entries_one_a_hold', $$insert into credit_entries (wallet_id, kind, amount, hold_id, reason) select wallet_id, kind, amount, hold_id, 'again' from credit_entries where kind = 'capture' limit 1$$),
  ('credit_entries_reason_length', $$insert into credit_entries (wallet_id, kind, amount, reason) select id, 'grant', 1, '' from wallets limit 1$$),
  ('credit_entries_sign_fits_kind', $$insert into credit_entries (wallet_id, kind, amount, reason) select id, 'refund', -1, 'x' from wallets limit 1$$),
  ('credit_entries_wallet_exists', $$insert into credit_entries (wallet_id, kind, amount, reason) values (gen_random_uuid(), 'grant', 1, 'x')$$),
  ('generations_artwork_belongs_to_person', $$update generations set artwork_path = 'elsewhere/x.png'$$),
  ('generations_artwork_sha256_form', $$update generations set artwork_sha256 = 'none'$$),
  ('generations_credits_positive', $$update generations set credits = 0$$),
  ('generations_failed_has_reason', $$update generations set reason = 'lost'$$),
  ('generations_finished_when_terminal', $$update generations set finished_at = now()$$),
  ('generations_idempotency_key_form', $$update generations set idempotency_key = 'a b'$$),
  ('generations_idempotency_key_unique', $$update generations set idempotency_key = 'same'$$),
  ('generations_input_belongs_to_person', $$update generations set input_path = 'elsewhere/x.jpg'$$),
  ('generations_input_format_known', $$update generations set input_format = 'gif'$$),
  ('generations_input_unique', $$update generations set input_path = person_id || '/same.jpg'$$),
  ('generations_model_exists', $$update generations set model = 'none'$$),
  ('generations_person_exists', $$insert into generations (person_id, idempotency_key, style, style_version, model, prompt, settings, credits, input_path, deadline_at) values ('00000000-0000-4000-8000-0000000000ff', 'k', 'mosaic', 1, 'kontext-pro', 'p', '{}', 1, '00000000-0000-4000-8000-0000000000ff/x.jpg', now())$$),
  ('generations_prediction_unique', $$update generations set prediction_id = 'same'$$),
  ('generations_reason_known', $$update generations set state = 'failed', reason = 'bad_mood' where state = 'reserved'$$),
  ('generations_state_known', $$update generations set state = 'dreaming' where state = 'reserved'$$),
  ('generations_style_version_exists', $$update generations set style_version = 99$$),
  ('generations_succeeded_has_artwork', $$update generations set artwork_bytes = 1$$),
  ('quotas_most_positive', $$update private.quotas set most = 0 where scope = 'uploads'$$),
  ('quotas_span_positive', $$update private.quotas set span = '-1 day'$$),
  ('address_rules_domain_lower_case', $$insert into private.address_rules values ('Example.com', 'example.com', true, true)$$),
  ('keys_length', $$update private.keys set key = '\x00'$$),
  ('welcomed_addresses_hash_form', $$insert into private.welcomed_addresses values ('ada@example.com')$$),
  ('credit_holds_late_cancel_settled', $$insert into credit_holds (wallet_id, generation_id, amount, is_late_cancel) select id, gen_random_uuid(), 1, true from wallets where person_id is not null$$),
  ('generation_work_prepared_unique', $$insert into private.generation_work (generation_id, request_digest, prepared_path) select gen_random_uuid(), sha256('r'), 'x' from generate_series(1, 2)$$),
  ('generation_work_artwork_crc32_range', $$update private.generation_work set artwork_crc32 = 4294967296$$),
  ('generation_work_storing_attempts_not_negative', $$update private.generation_work set storing_attempts = -1$$),
  ('removal_leases_removal_exists', $$insert into private.removal_leases values ('none', gen_random_uuid())$$),
  ('removal_absences_removal_exists', $$insert into private.removal_absences values ('none', now())$$),
  ('account_refusals_is_one_row', $$insert into private.account_refusals (id, status, probe_at) values (false, 402, now())$$),
  ('account_refusals_status_known', $$insert into private.account_refusals (status, probe_at) values (503, now())$$),
  ('generation_work_input_sha256_is_hex', $$update private.generation_work set input_sha256 = 'a photo'$$),
  ('generation_work_dispatches_positive', $$update private.generation_work set dispatches = 0$$),
  ('generation_work_unreported_not_negative', $$update private.generation_work set unreported = -1$$),
  ('generation_work_platform_faults_not_negative', $$update private.generation_work set platform_faults = -1$$),
  ('generation_work_capability_is_sha256', $$update private.generation_work set capability_digest = 'short'$$),
  ('generation_work_generation_exists', $$insert into private.generation_work (generation_id, request_digest, capability_digest) values (gen_random_uuid(), 'r', sha256('c'))$$),
  ('generation_work_lease_has_end', $$update private.generation_work set lease = gen_random_uuid()$$),
  ('processing_log_generation_exists', $$update processing_log set generation_id = gen_random_uuid()$$),
  ('processing_log_person_exists', $$update processing_log set person_id = gen_random_uuid()$$),
  ('webhook_events_generation_exists', $$insert into private.webhook_events (id, generation_id, status) values ('m', gen_random_uuid(), 's')$$),
  ('webhook_events_id_length', $$insert into private.webhook_events (id, generation_id, status) values ('', '00000000-0000-4000-8000-00000000000a', 's')$$),
  ('retention_rules_keep_not_negative', $$update private.retention_rules set keep = '-1 second'$$),
  ('retention_rules_rows_have_age', $$update private.retention_rules set rows_of = null where since is not null$$),
  ('outcomes_subject_known', $$insert into private.outcomes (subject, outcome) values ('person', 'gone')$$),
  ('ledger_state_is_one', $$insert into private.ledger_state (id) values ('another')$$),
  ('wallets_closed_without_person', $$update wallets set closed_at = now()$$),
  ('generations_artwork_unique', $$update generations set state = 'storing' where id::text ~ '^0{8}-0{4}-4000-8000-0{11}[ab]$';
    update generations set state = 'succeeded', artwork_path = person_id || '/x.png', artwork_content_type = 'image/png', artwork_bytes = 1, artwork_sha256 = repeat('0', 64) where id::text ~ '^0{8}-0{4}-4000-8000-0{11}[ab]$'$$),
  ('replicate_removals_person_exists', $$insert into replicate_removals (prediction_id, person_id, due_at) values ('x', gen_random_uuid(), now())$$),
  ('replicate_removals_attempts_not_negative', $$update replicate_removals set attempts = -1$$),
  ('replicate_removals_evidence_known', $$update replicate_removals set removed_at = now(), evidence = 'a promise'$$),
  ('replicate_removals_removed_has_evidence', $$update replicate_removals set removed_at = now()$$),
  ('deletions_path_until_verified', $$update deletions set path = null, object_key = null$$),
  ('deletions_path_is_keyed', $$update deletions set object_key = null$$),
  ('deletions_verified_has_receipt', $$update deletions set receipt = 'a.b.c'$$),
  ('deletions_receipt_is_jws', $$update deletions set deleted_at = now(), verified_at = now(), receipt = 'a proof'$$),
  ('deletions_content_sha256_is_hex', $$update deletions set content_sha256 = 'a photo'$$),
  ('deletions_content_until_verified', $$update deletions set deleted_at = now(), verified_at = now(), receipt = 'a.b.c', content_sha256 = repeat('0', 64)$$),
  ('deletions_attempts_not_negative', $$update deletions set attempts = -1$$),
  ('deletions_bucket_known', $$update deletions set bucket = 'elsewhere'$$),
  ('deletions_person_exists', $$update deletions set person_id = gen_random_uuid()$$),
  ('deletions_reason_known', $$update deletions set reason = 'for_fun'$$),
  ('deletions_verified_after_deleted', $$update deletions set verified_at = now(), receipt = 'a.b.c'$$),
  ('deletion_leases_deletion_exists', $$insert into private.deletion_leases values (gen_random_uuid(), gen_random_uuid())$$),
  ('privacy_choices_person_exists', $$insert into privacy_choices (person_id, purpose, allowed) values (gen_random_uuid(), 'notices', true)$$),
  ('privacy_choices_pseudonym_without_person', $$insert into privacy_choices (person_id, purpose, allowed, pseudonym) select id, 'notices', true, 'p' from profiles$$),
  ('privacy_choices_purpose_known', $$insert into privacy_choices (person_id, purpose, allowed) select id, 'world_peace', true from profiles$$),
  ('policy_versions_id_form', $$insert into policy_versions values ('the new one', now(), repeat('0', 64))$$),
  ('policy_versions_digest_form', $$insert into policy_versions values ('2099', now(), 'the text')$$),
  ('policy_consents_person_exists', $$insert into policy_consents (person_id, version) select gen_random_uuid(), id from policy_versions$$),
  ('policy_consents_version_exists', $$insert into policy_consents (person_id, version) select id, 'none' from profiles$$),
  ('usage_events_browser_known', $$insert into usage_events (person_id, feature, browser) select id, 'x', 'netscape' from profiles$$),
  ('usage_events_browser_version_plausible', $$insert into usage_events (person_id, feature, browser_version) select id, 'x', 0 from profiles$$),
  ('usage_events_feature_form', $$insert into usage_events (person_id, feature) select id, 'wrote to ada' from profiles$$),
  ('usage_events_image_formats_known', $$insert into usage_events (person_id, feature, image_formats) select id, 'x', array['webp', 'a fingerprint'] from profiles$$),
  ('usage_events_person_exists', $$insert into usage_events (person_id, feature) values (gen_random_uuid(), 'x')$$),
  ('usage_events_pixel_ratio_plausible', $$insert into usage_events (person_id, feature, pixel_ratio) select id, 'x', 0 from profiles$$),
  ('usage_events_viewport_plausible', $$insert into usage_events (person_id, feature, viewport_width, viewport_height) select id, 'x', 100, 20000 from profiles$$),
  ('privacy_requests_channel_known', $$update privacy_requests set channel = 'pigeon'$$),
  ('privacy_requests_closed_has_evidence', $$update privacy_requests set closed_at = now()$$),
  ('privacy_requests_kind_known', $$update privacy_requests set kind = 'world_peace'$$),
  ('privacy_requests_mail_unique', $$insert into privacy_requests (person_id, kind, mail_digest) select id, 'other', 'the same' from profiles$$),
  ('privacy_requests_message_length', $$update privacy_requests set message = ''$$),
  ('privacy_requests_person_exists', $$insert into privacy_requests (person_id, kind) values (gen_random_uuid(), 'other')$$),
  ('privacy_requests_sender_length', $$insert into privacy_requests (kind, sender) values ('other', '@')$$),
  ('privacy_requests_one_subject', $$update privacy_requests set pseudonym = 'p'$$),
  ('policy_consents_once', $$insert into policy_consents (person_id, version) select p.id, v.id from profiles as p, policy_versions as v, generate_series(1, 2)$$),
  ('policy_consents_pseudonym_without_person', $$insert into policy_consents (person_id, version, pseudonym) select p.id, v.id, 'p' from profiles as p, policy_versions as v$$),
  ('privacy_requests_extended_has_reason', $$update privacy_requests set extension = 'We need longer.'$$),
  ('request_actions_action_known', $$insert into private.request_actions (request_id, action, operator) select id, 'forgotten', 'eve' from privacy_requests$$),
  ('request_actions_operator_length', $$insert into private.request_actions (request_id, action, operator) select id, 'answered', '' from privacy_requests$$),
  ('request_actions_request_exists', $$insert into private.request_actions (request_id, action, operator) values (gen_random_uuid(), 'answered', 'eve')$$),
  ('exports_path_unique', $$insert into exports (person_id, path, state) select person_id, path, 'canceled' from exports$$),
  ('exports_person_exists', $$insert into exports (person_id, path) values (gen_random_uuid(), 'x.zip')$$),
  ('exports_ready_expires', $$update exports set ready_at = now()$$),
  ('exports_ready_when_built', $$update exports set state = 'ready'$$),
  ('exports_state_known', $$update exports set state = 'lost'$$),
  ('export_work_export_exists', $$insert into private.export_work (export_id) values (gen_random_uuid())$$),
  ('export_work_lease_has_end', $$update private.export_work set lease = gen_random_uuid()$$),
  ('export_files_export_exists', $$insert into private.export_files (export_id, position, name, bytes) values (gen_random_uuid(), 1, 'x', 0)$$),
  ('export_files_object_has_bucket', $$insert into private.export_files (export_id, position, name, object, bytes) select id, 1, 'x', 'x', 0 from exports$$),
  ('export_parts_file_exists', $$insert into private.export_parts (export_id, position, part, bytes_before, content) select id, 1, 0, 0, 'x' from exports$$),
  ('emails_address_of_the_gone', $$insert into private.emails (kind) values ('erased')$$),
  ('emails_kind_known', $$insert into private.emails (person_id, kind) select id, 'advertisement' from profiles$$),
  ('emails_person_exists', $$insert into private.emails (person_id, kind) values (gen_random_uuid(), 'request_filed')$$),
  ('emails_days_of_notices', $$insert into private.emails (person_id, kind) select id, 'inactive' from profiles$$),
  ('notice_ladder_days_positive', $$insert into private.notice_ladder values (0)$$),
  ('erasures_done_forgets', $$insert into private.erasures (reason) values ('asked')$$),
  ('erasures_done_has_receipt', $$insert into private.erasures (stage, reason, finished_at) values ('done', 'asked', now())$$),
  ('erasures_one_a_person', $$insert into private.erasures (person_id, reason) select id, 'asked' from profiles cross join generate_series(1, 2)$$),
  ('erasures_reason_known', $$insert into private.erasures (person_id, reason) select id, 'for_fun' from profiles$$),
  ('erasures_stage_known', $$insert into private.erasures (person_id, reason, stage) select id, 'asked', 'dreaming' from profiles$$),
  ('outbox_kind_known', $$insert into private.outbox (kind, target) values ('buy_milk', 'x')$$),
  ('outbox_person_exists', $$insert into private.outbox (kind, target, person_id) values ('abandon_upload', 'x', gen_random_uuid())$$),
  ('personal_data_erasure_known', $$update private.personal_data set erasure = 'later'$$),
  ('personal_data_export_form', $$update private.personal_data set export_as = 'a file' where relation = 'public.exports'$$),
  ('personal_data_export_unique', $$update private.personal_data set export_as = 'profile' where relation = 'public.exports'$$),
  ('personal_data_names_are_erased', $$update private.personal_data set names = 't.path = $1' where relation = 'public.profiles'$$),
  ('personal_data_not_exported_has_reason', $$update private.personal_data set export_as = null, why = null$$),
  ('personal_buckets_not_exported_has_reason', $$update private.personal_buckets set export_as = null, why = null$$);

-- The constraint that refuses a statement, or what happened instead.
create function pg_temp.refused_by(statement text)
returns text
language plpgsql
as $$
declare
  refused text;
begin
  execute statement;
  raise sqlstate 'XX001';
exception
  when sqlstate 'XX001' then
    return 'nothing';
  when others then
    get stacked diagnostics refused = constraint_name;
    return coalesce(nullif(refused, ''), sqlerrm);
end;
$$;

select plan(count(*)::integer + 1) from attempts;

select is(pg_temp.refused_by(statement), refused_by, refused_by) from attempts;

select set_eq(
  $$select conname::text from pg_constraint
    where connamespace in ('public'::regnamespace, 'private'::regnamespace)
      and conrelid <> 0 and contype in ('c', 'f', 'u', 'x')$$,
  'select refused_by from attempts',
  'every constraint has a statement in this test'
);

select * from finish();
rollback;
