// If any call of the database hangs, the same sweep still does everything else.

import { type Column, type Row, everyRow, hangs, lab } from "./table.ts";

const call = (name: string) => new RegExp(`/rest/v1/rpc/${name}$`);

/** A sweep that does not learn what is due tries every step, so it makes each of these calls. */
function verb(name: string, ...itself: Column[]): Row {
  const { begin, ...row } = hangs(name, call(name), ...itself);
  return {
    ...row,
    begin() {
      // An error that is not retried.
      lab.supabase.misbehave({ fault: "status", status: 400, body: '{"code": "22000", "message": "no"}', when: call("list_due_work") });
      begin();
    },
    strikes: 2,
  };
}

everyRow([
  hangs("list_due_work", call("list_due_work")),
  verb("lease_deletions", "heartbeat", "deletion", "ceiling"),
  verb("record_deletions", "heartbeat", "deletion", "ceiling"),
  verb("record_heartbeat", "heartbeat"),
  verb("settle_generations", "refund", "last answer", "artwork"),
  verb("record_prediction_event", "artwork"),
  verb("complete_generation", "artwork"),
  verb("fail_generation", "last answer"),
  verb("lease_outbox"),
  verb("lease_dispatches", "dispatch"),
  verb("record_input", "dispatch"),
  verb("attach_prediction", "dispatch"),
  verb("expire_exports"),
  verb("lease_erasures", "erasure"),
  verb("advance_erasure", "erasure"),
  verb("forget_in_auth", "erasure"),
  verb("finish_erasure", "erasure"),
  verb("audit_inputs", "ceiling"),
  verb("audit_artworks"),
  verb("audit_exports"),
  verb("audit_generations"),
  verb("audit_ledger"),
  verb("lease_removals"),
  verb("follow_inactive"),
  verb("erase_inactive"),
  verb("lease_emails", "email"),
  verb("finish_email", "email"),
  verb("expire_rows"),
  verb("lease_export"),
]);
