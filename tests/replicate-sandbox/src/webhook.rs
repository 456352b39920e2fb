//! Sends webhook events: signed, in no guaranteed order. The last event is retried for about a minute.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::faults::Fault;
use crate::prediction::{Event, Prediction};
use crate::sandbox::Shared;

/// Seconds between attempts to send a last event. After these attempts the event is lost.
const PAUSES: [i64; 5] = [1, 3, 8, 18, 30];

/// The result of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delivery {
    Accepted,
    /// Worth a retry: no connection, or a 4xx or 5xx.
    Refused,
    /// A redirect is neither followed nor retried, so the event is lost.
    Lost,
}

/// Sends a webhook event of a prediction, if its webhook wants this kind.
pub(crate) async fn send(sandbox: Shared, prediction: Prediction, event: Event) {
    let is_wanted = prediction.events.contains(&event) && !prediction.fate.is_silent;
    let Some(address) = prediction.webhook.clone().filter(|_| is_wanted) else { return };
    if let Some(milliseconds) = sandbox.faults.strikes(Fault::WebhookDelay) {
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    }
    let id = format!("msg_{}", Uuid::new_v4().simple());
    let body = prediction.to_event(&sandbox.base()).to_string();
    let is_last = event == Event::Completed;
    for _ in 0..if is_last { prediction.fate.duplicates } else { 0 } {
        deliver(&sandbox, &address, &id, &body).await;
    }

    let mut delivery = deliver(&sandbox, &address, &id, &body).await;
    for &pause in if is_last { &PAUSES[..] } else { &[] } {
        if delivery != Delivery::Refused {
            break;
        }
        let next_try = sandbox.clock.now() + time::Duration::seconds(pause);
        sandbox.clock.wait_until(next_try).await;
        delivery = deliver(&sandbox, &address, &id, &body).await;
    }
    tracing::info!(prediction = prediction.id, event = event.as_str(), ?delivery, "event sent");
}

async fn deliver(sandbox: &Shared, address: &str, id: &str, body: &str) -> Delivery {
    // The time is not from the sandbox's clock, because moving that clock does not move the receiver's.
    let behind = sandbox.faults.strikes(Fault::WebhookClock).unwrap_or(0);
    let sent_at = OffsetDateTime::now_utc() - Duration::from_secs(behind);
    let timestamp = sent_at.unix_timestamp().to_string();
    let mut signature = sign(&sandbox.config.webhook_key, id, &timestamp, body);
    if sandbox.faults.strikes(Fault::WebhookBadSignature).is_some() {
        signature = sign(b"another key, not that of the account", id, &timestamp, body);
    }
    let answered = sandbox
        .http
        .post(address)
        .header("content-type", "application/json")
        .header("webhook-id", id)
        .header("webhook-timestamp", timestamp)
        .header("webhook-signature", signature)
        .body(body.to_owned())
        .send()
        .await;
    match answered.map(|answer| answer.status()) {
        Ok(status) if status.is_success() => Delivery::Accepted,
        Ok(status) if status.is_redirection() => Delivery::Lost,
        _ => Delivery::Refused,
    }
}

fn sign(key: &[u8], id: &str, timestamp: &str, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_matches_the_example_of_the_specification() {
        let key = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("base64");
        let signature =
            sign(&key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", r#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }
}
