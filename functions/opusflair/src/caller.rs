//! Identifies the caller. A handler takes a [`Caller`] as an argument and does not read headers itself.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRequestParts;
use http::header::AUTHORIZATION;
use http::request::Parts;
use serde::Deserialize;
use serde_json::Value;
use supabase_auth::models::AuthClient;
use uuid::Uuid;

use crate::cause::Cause;
use crate::config::{Config, PUBLISHABLE_KEY};
use crate::secret::Secret;
use crate::{App, Error};

/// The time limit of a call to Auth. `supabase-auth` has no time limit of its own.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// The longest token that is passed on, in bytes. Tokens of Supabase have one or two thousand bytes.
const TOKEN_LIMIT: usize = 8 * 1024;

/// The token of a request, not yet verified. The database verifies it in the statement that it runs for the
/// caller. It determines whose token it is and whether the session is still open (`private.person` in
/// `sql/accounts.sql`).
#[derive(Clone, Debug)]
pub struct Caller {
    /// The user's own token.
    pub(crate) token: Secret,
}

/// A caller whose token Auth has confirmed during this request.
#[derive(Clone, Debug)]
pub struct ConfirmedCaller(pub Caller);

/// Asks Supabase Auth whether it accepts a token. Only an erasure does this. It cannot be undone, so both the
/// database and Auth must accept the token.
pub(crate) struct Identity(AuthClient);

impl Identity {
    pub(crate) fn new(config: &Config) -> Self {
        let project = config.supabase_url.as_str().trim_end_matches('/');
        Self(AuthClient::new(project, config.publishable_key.reveal(), ""))
    }

    async fn confirm(&self, token: &str) -> Result<Uuid, Error> {
        let asked = tokio::time::timeout(TIME_LIMIT, self.0.get_user(token))
            .await
            .map_err(|_| Error::unavailable("Auth", "no answer in time"))?;
        match asked {
            Ok(user) => Ok(user.id),
            Err(supabase_auth::error::Error::AuthError { status, message }) => {
                interpret_response(status.as_u16(), &message)
            }
            Err(_) => Err(Error::unavailable("Auth", "no answer")),
        }
    }
}

/// Interprets a response that `supabase-auth` treats as an error. The crate's type of a user is stricter than
/// Auth's, so this may be a response with status 200. `said` is the message of an error from Auth, or
/// otherwise the whole body.
fn interpret_response(status: u16, said: &str) -> Result<Uuid, Error> {
    #[derive(Deserialize)]
    struct Person {
        id: Uuid,
    }
    match (status, sender(said)) {
        (200, _) => serde_json::from_str::<Person>(said)
            .map(|person| person.id)
            .map_err(|_| Error::unavailable("Auth", "an answer without an id")),
        (401, Sender::Gateway) => {
            Err(Error::key_refused("Auth", PUBLISHABLE_KEY, Cause::status("", status)))
        }
        (400..=428 | 430..=499, Sender::Auth) => Err(Error::NotSignedIn),
        _ => Err(Error::unavailable("Auth", Cause::status("", status))),
    }
}

/// The system that wrote an error.
enum Sender {
    Auth,
    /// The gateway in front of Auth. It checks the publishable key.
    Gateway,
    /// A proxy, which writes HTML or a line of text.
    Other,
}

fn sender(said: &str) -> Sender {
    match serde_json::from_str::<Value>(said) {
        // Every JSON error of Auth has a code.
        Ok(Value::Object(body)) if body.contains_key("code") => Sender::Auth,
        Ok(Value::Object(body)) if body.contains_key("message") => Sender::Gateway,
        Ok(_) => Sender::Other,
        Err(_) if said.is_empty() || said.starts_with(['<', '\r', '\n']) => Sender::Other,
        Err(_) if said.starts_with("error code:") => Sender::Other,
        Err(_) => Sender::Auth,
    }
}

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self, Error> {
        let token = bearer(parts).filter(|token| is_jwt(token)).ok_or(Error::NotSignedIn)?;
        Ok(Self { token: Secret::new(token) })
    }
}

impl FromRequestParts<Arc<App>> for ConfirmedCaller {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Error> {
        let caller = Caller::from_request_parts(parts, app).await?;
        app.identity.confirm(caller.token.reveal()).await?;
        Ok(Self(caller))
    }
}

/// Returns whether `token` has the form of a JWT, as all access tokens of Auth have. A gateway may refuse any
/// other token with the same response as for a wrong publishable key.
fn is_jwt(token: &str) -> bool {
    let mut parts = token.split('.');
    parts.by_ref().take(3).filter(|part| !part.is_empty()).count() == 3 && parts.next().is_none()
}

/// Returns the bearer token of a request if it is plausible.
#[must_use]
pub(crate) fn bearer(parts: &Parts) -> Option<&str> {
    let header = parts.headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = header.split_once(' ')?;
    let plausible = token.len() <= TOKEN_LIMIT
        && token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte));
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && plausible).then_some(token)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn parts(authorization: &str) -> Parts {
        let request = Request::builder().header(AUTHORIZATION, authorization).body(());
        request.expect("a request").into_parts().0
    }

    #[test]
    fn only_a_plausible_bearer_token_is_passed_on() {
        assert_eq!(bearer(&parts("Bearer eyJ.a-b_c")), Some("eyJ.a-b_c"));
        assert_eq!(bearer(&parts("bearer eyJ")), Some("eyJ"));
        for refused in ["", "eyJ", "Basic eyJ", "Bearer ", "Bearer a b", "Bearer \"a\""] {
            assert_eq!(bearer(&parts(refused)), None, "{refused}");
        }
        assert_eq!(bearer(&parts(&format!("Bearer {}", "a".repeat(TOKEN_LIMIT + 1)))), None);
    }

    #[test]
    fn a_user_that_the_crate_cannot_read_still_has_an_id() {
        let id = "8d0fd2b3-9ca7-4d9e-a95f-9e13dded323e";
        assert_eq!(
            interpret_response(200, &format!(r#"{{"id": "{id}"}}"#)).expect("an id").to_string(),
            id
        );
    }

    #[test]
    fn only_a_jwt_is_an_access_token() {
        assert!(is_jwt("eyJ.a-b.c_"));
        for other in ["", "eyJ", "a.b", "a..c", "a.b.c.d", "sb_publishable_x", ".b.c", "a.b."] {
            assert!(!is_jwt(other), "{other}");
        }
    }

    /// Bodies as Auth 2.19x and the gateways in front of it write them.
    #[test]
    fn a_token_that_is_refused_a_key_that_is_refused_and_an_outage_are_told_apart() {
        for (status, body) in [
            (403, "invalid JWT: unable to parse or verify signature, signature is invalid"),
            (401, "This endpoint requires a Bearer token"),
            (404, "User not found"),
            (
                403,
                r#"{"code":"session_not_found","message":"Session from session_id claim in JWT does not exist"}"#,
            ),
        ] {
            assert!(matches!(interpret_response(status, body), Err(Error::NotSignedIn)), "{body}");
        }
        for body in [
            r#"{"message":"Invalid API key","hint":"Double check your Supabase `anon` or `service_role` API key."}"#,
            r#"{"message":"Unauthorized"}"#,
        ] {
            let error = interpret_response(401, body).expect_err("refused");
            assert!(error.to_string().contains("SUPABASE_PUBLISHABLE_KEY"), "{error}");
        }
        for (status, body) in [
            (429, "Request rate limit reached"),
            (403, "error code: 1020"),
            (404, r#"{"message":"no Route matched with those values"}"#),
            (403, "<!DOCTYPE html><title>Attention Required! | Cloudflare</title>"),
            (401, ""),
            (502, ""),
            (522, "error code: 522"),
            (200, "{}"),
        ] {
            assert!(
                matches!(interpret_response(status, body), Err(Error::Unavailable { .. })),
                "{body}"
            );
        }
    }
}
