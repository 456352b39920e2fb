//! The database, through the Data API: one call is one verb is one transaction.

use http::StatusCode;
use http::header::AUTHORIZATION;
use postgrest::Postgrest;
use reqwest::{Method, RequestBuilder};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use url::Url;

use crate::caller::Caller;
use crate::cause::Cause;
use crate::config::Config;
use crate::egress::{Egress, read_limited, send_idempotent, unreachable};
use crate::error::Refusal;
use crate::secret::Secret;
use crate::{App, Error};

const SERVICE: &str = "the database";
/// The largest answer that is read, in bytes.
const ANSWER_LIMIT: usize = 4 * 1024 * 1024;

/// Calls of the database's functions.
pub struct Database {
    egress: Egress,
    backend: Postgrest,
    public: Postgrest,
    publishable_key: Secret,
    secret_key: Secret,
}

/// Whether a call that got no answer may be made again. Every verb of `backend` may: what it does is
/// tied to a state, a lease or an id, and a second time finds it done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// It changes nothing the second time.
    Safe,
    /// It may do something twice.
    Unsafe,
}

impl Database {
    pub(crate) fn new(config: &Config, egress: Egress) -> Self {
        let address = format!("{}/rest/v1", config.supabase_url.as_str().trim_end_matches('/'));
        Self {
            egress,
            backend: Postgrest::new(&address).schema("backend"),
            public: Postgrest::new(&address).schema("public"),
            publishable_key: config.publishable_key.clone(),
            secret_key: config.secret_key.clone(),
        }
    }

    /// Calls `backend.<function>` as the service.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Unavailable`], [`Error::Fault`].
    pub async fn call<T: DeserializeOwned>(
        &self,
        function: &str,
        arguments: Value,
        again: Again,
    ) -> Result<T, Error> {
        let request = self.prepare(&self.backend, function, &arguments)?;
        let request = with_key(request, &self.secret_key);
        receive(send(request, again).await?).await
    }

    /// Calls `public.<function>` as `caller`, under the caller's own token: who may do what is decided
    /// by who `PostgREST` finds it to be.
    ///
    /// # Errors
    /// [`Error::NotSignedIn`], [`Error::Refused`], [`Error::Unavailable`], [`Error::Fault`].
    pub async fn call_as<T: DeserializeOwned>(
        &self,
        caller: &Caller,
        function: &str,
        arguments: Value,
        again: Again,
    ) -> Result<T, Error> {
        let request = self
            .prepare(&self.public, function, &arguments)?
            .header("apikey", self.publishable_key.reveal())
            .bearer_auth(caller.token.reveal());
        receive(send(request, again).await?).await
    }

    /// `postgrest` builds the request; ours is the client that sends it, so that time-outs and the
    /// allow-list hold, and its own client never opens a connection.
    fn prepare(
        &self,
        schema: &Postgrest,
        function: &str,
        arguments: &Value,
    ) -> Result<RequestBuilder, Error> {
        let built = schema
            .rpc(function, arguments.to_string())
            .build()
            .build()
            .map_err(|_| Error::fault("a function could not be called"))?;
        let url = Url::parse(built.url().as_str())
            .map_err(|_| Error::fault("the address of the database"))?;
        let mut request = self.egress.request(Method::POST, url)?;
        for (name, value) in built.headers() {
            request = request.header(name.as_str(), value.as_bytes());
        }
        let body = built.body().and_then(|body| body.as_bytes()).unwrap_or_default();
        Ok(request.body(body.to_vec()))
    }
}

/// New keys (`sb_…`) go in `apikey` alone; as a bearer token they are refused. Legacy keys are tokens
/// and go in both.
pub(crate) fn with_key(request: RequestBuilder, key: &Secret) -> RequestBuilder {
    let request = request.header("apikey", key.reveal());
    if key.reveal().starts_with("sb_") {
        request
    } else {
        request.header(AUTHORIZATION, format!("Bearer {}", key.reveal()))
    }
}

async fn send(request: RequestBuilder, again: Again) -> Result<reqwest::Response, Error> {
    match again {
        Again::Safe => send_idempotent(SERVICE, request).await,
        Again::Unsafe => request.send().await.map_err(|fault| unreachable(SERVICE, &fault)),
    }
}

async fn receive<T: DeserializeOwned>(response: reqwest::Response) -> Result<T, Error> {
    let status = StatusCode::from_u16(response.status().as_u16()).unwrap_or_default();
    let body = read_limited(SERVICE, response, ANSWER_LIMIT)
        .await?
        .ok_or_else(|| Error::fault("the database's answer is too long"))?;
    if !status.is_success() {
        return Err(refusal(status, &body));
    }
    let body = if body.is_empty() { b"null" } else { &body[..] };
    serde_json::from_slice(body).map_err(|_| Error::fault("the database's answer is unreadable"))
}

/// The error of `PostgREST`: `private.refuse` puts a code for machines into `hint` and members into `details`.
#[derive(Deserialize)]
struct Refused {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    details: Option<String>,
    #[serde(default)]
    hint: Option<String>,
}

/// The codes of our refusals are words; what else stands there is not ours, and goes into no log.
fn is_word(hint: &str) -> bool {
    (1..=40).contains(&hint.len())
        && hint.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

fn refusal(status: StatusCode, body: &[u8]) -> Error {
    let Ok(refused) = serde_json::from_slice::<Refused>(body) else {
        return Error::unavailable(SERVICE, Cause::status("", status.as_u16()));
    };
    if refused.code.starts_with("PT") {
        let members = refused.details.and_then(|details| serde_json::from_str(&details).ok());
        return Error::Refused(Refusal {
            status,
            code: refused.hint.filter(|hint| is_word(hint)).unwrap_or_else(|| "refused".to_owned()),
            sentence: refused.message,
            members: members.unwrap_or_else(Map::new),
        });
    }
    match status {
        StatusCode::UNAUTHORIZED => Error::NotSignedIn,
        // PostgreSQL's text holds every character but NUL.
        _ if matches!(refused.code.as_str(), "22P05" | "22021") => {
            Error::invalid("body", "holds a character (NUL) that no text may hold.")
        }
        _ if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            Error::unavailable(SERVICE, Cause::status("", status.as_u16()).with_code(&refused.code))
        }
        // The message may quote what was sent, so only the code is kept.
        _ => Error::fault(
            Cause::status("the database answered", status.as_u16()).with_code(&refused.code),
        ),
    }
}

impl App {
    /// Shorthand for a verb of `backend`, all of which may be called again.
    ///
    /// # Errors
    /// As [`Database::call`].
    pub async fn ask<T: DeserializeOwned>(
        &self,
        function: &str,
        arguments: Value,
    ) -> Result<T, Error> {
        self.database.call(function, arguments, Again::Safe).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_keeps_its_status_code_sentence_and_members() {
        let body = br#"{"code":"PT402","message":"This costs 2.","details":"{\"price\": 2}","hint":"insufficient_credits"}"#;
        let error = refusal(StatusCode::PAYMENT_REQUIRED, body);
        assert_eq!(error.status(), StatusCode::PAYMENT_REQUIRED);
        assert_eq!(error.code(), "insufficient_credits");
        assert_eq!(error.detail(), "This costs 2.");
        assert_eq!(error.members()["price"], 2);
    }

    #[test]
    fn other_errors_of_the_database_tell_nothing_to_the_outside() {
        let body = br#"{"code":"23503","message":"Key (secret)=(x)","details":null,"hint":null}"#;
        let error = refusal(StatusCode::CONFLICT, body);
        assert_eq!(error.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert!(!format!("{error} {}", error.detail()).contains("secret"));
    }

    #[test]
    fn a_character_that_no_text_may_hold_is_the_callers_fault() {
        let body = br#"{"code":"22P05","message":"unsupported Unicode escape sequence"}"#;
        let error = refusal(StatusCode::BAD_REQUEST, body);
        assert_eq!(error.status(), StatusCode::UNPROCESSABLE_ENTITY);
    }

    #[test]
    fn a_token_that_postgrest_refuses_means_not_signed_in() {
        let body = br#"{"code":"PGRST301","message":"JWT expired","details":null,"hint":null}"#;
        assert!(matches!(refusal(StatusCode::UNAUTHORIZED, body), Error::NotSignedIn));
    }

    #[test]
    fn what_is_not_json_means_that_the_database_is_unavailable() {
        let error = refusal(StatusCode::BAD_GATEWAY, b"<html>bad gateway</html>");
        assert_eq!(error.status(), StatusCode::SERVICE_UNAVAILABLE);
    }

    #[test]
    fn keys_of_both_formats_go_where_they_belong() {
        let headers = |key: &str| {
            let request = reqwest::Client::new().get("https://project.supabase.co");
            let request = with_key(request, &Secret::new(key)).build().expect("a request");
            request.headers().clone()
        };
        assert!(!headers("sb_secret_x").contains_key(AUTHORIZATION.as_str()));
        assert_eq!(headers("eyJx")["authorization"], "Bearer eyJx");
        assert_eq!(headers("eyJx")["apikey"], "eyJx");
    }
}
