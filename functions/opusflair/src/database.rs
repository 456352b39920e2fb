//! Calls the database through the Data API. One call runs one function in one transaction.

mod answer;

use std::cell::Cell;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::StatusCode;
use http::header::AUTHORIZATION;
use postgrest::Postgrest;
use reqwest::{Method, RequestBuilder};
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

use crate::caller::Caller;
use crate::config::Config;
use crate::egress::{Egress, Tries, read_limited, retry_after, unreachable};
use crate::pace::limit;
use crate::secret::Secret;
use crate::{App, Error};

use answer::{As, interpret_error};

const SERVICE: &str = "the database";
/// The time limit of one attempt. The database ends a statement after 8 s (`statement_timeout` in
/// `sql/schemas.sql`). So an abandoned attempt has ended in the database, too, before the retry begins. The
/// other 2 s are for the network.
const CALL_TIME: Duration = Duration::from_secs(10);
/// No retry begins later than this after the first attempt. If each attempt takes its whole time, there are
/// two. All of them end within the 29 s that the gateway in front of the functions allows.
const PATIENCE: Duration = Duration::from_secs(12);
/// The time limit of a call to a function that sets its own `statement_timeout` of a minute.
const SLOW_CALL_TIME: Duration = Duration::from_secs(62);
/// The largest response body that is read, in bytes.
const ANSWER_LIMIT: usize = 4 * 1024 * 1024;

/// Calls functions of the database.
pub struct Database {
    egress: Egress,
    backend: Postgrest,
    public: Postgrest,
    publishable_key: Secret,
    secret_key: Secret,
}

/// Whether a call without a response may be retried. Every function of `backend` is safe to retry. It depends
/// on a state, a lease or an id, so a second call finds the work done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// A second call changes nothing.
    Safe,
    /// A second call may do the work twice.
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

    /// Calls `backend.<function>` with the service's key.
    ///
    /// # Errors
    /// Returns [`Error::Refused`], [`Error::Unavailable`], [`Error::KeyRefused`] or [`Error::Fault`].
    pub async fn call<T: DeserializeOwned>(
        &self,
        function: &str,
        arguments: Value,
        retry: Retry,
    ) -> Result<T, Error> {
        let request = self.prepare(&self.backend, function, &arguments)?.timeout(limit(CALL_TIME));
        send(As::Service, with_key(request, &self.secret_key), retry).await
    }

    /// Calls a function of `backend` whose own `statement_timeout` allows a minute. There is no retry.
    ///
    /// # Errors
    /// Same as [`Database::call`].
    pub(crate) async fn call_slow<T: DeserializeOwned>(
        &self,
        function: &str,
        arguments: Value,
    ) -> Result<T, Error> {
        let request =
            self.prepare(&self.backend, function, &arguments)?.timeout(limit(SLOW_CALL_TIME));
        send(As::Service, with_key(request, &self.secret_key), Retry::Unsafe).await
    }

    /// Calls `public.<function>` as `caller`, under the caller's own token. `PostgREST` verifies the token,
    /// and the database decides what this person may do.
    ///
    /// # Errors
    /// Returns [`Error::NotSignedIn`] or an error of [`Database::call`].
    pub async fn call_as<T: DeserializeOwned>(
        &self,
        caller: &Caller,
        function: &str,
        arguments: Value,
        retry: Retry,
    ) -> Result<T, Error> {
        let request = self
            .prepare(&self.public, function, &arguments)?
            .timeout(limit(CALL_TIME))
            .header("apikey", self.publishable_key.reveal())
            .bearer_auth(caller.token.reveal());
        send(As::Person, request, retry).await
    }

    /// Builds the request with `postgrest`, but sends it with our own client, which enforces the time limits
    /// and the allow-list of hosts. The client inside `postgrest` never opens a connection.
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
        let mut request = self.egress.upload(Method::POST, url)?;
        for (name, value) in built.headers() {
            request = request.header(name.as_str(), value.as_bytes());
        }
        let body = built.body().and_then(|body| body.as_bytes()).unwrap_or_default();
        Ok(request.body(body.to_vec()))
    }
}

/// Adds the key to the request. A new key (`sb_…`) is sent only in `apikey`, because Supabase refuses it as a
/// bearer token. A legacy key is a JWT and is sent in both headers.
pub(crate) fn with_key(request: RequestBuilder, key: &Secret) -> RequestBuilder {
    let request = request.header("apikey", key.reveal());
    if key.reveal().starts_with("sb_") {
        request
    } else {
        request.header(AUTHORIZATION, format!("Bearer {}", key.reveal()))
    }
}

thread_local! {
    /// Set while a response is deserialized. Deserialization does not yield, so no other task sees it.
    static ANSWERED_AT: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Returns when the response that is being deserialized began to arrive. Its content was true by then,
/// however long it took to arrive and to be read.
pub(crate) fn answered_at() -> Instant {
    ANSWERED_AT.get().unwrap_or_else(Instant::now)
}

/// A complete response.
struct Answer {
    began: Instant,
    status: StatusCode,
    retry_after: Option<Duration>,
    body: Bytes,
}

impl Answer {
    fn read<T: DeserializeOwned>(&self) -> Result<T, Error> {
        let body = if self.body.is_empty() { b"null" } else { &self.body[..] };
        ANSWERED_AT.set(Some(self.began));
        let read = serde_json::from_slice(body);
        ANSWERED_AT.set(None);
        read.map_err(|_| Error::fault("the database's answer is unreadable"))
    }
}

/// Sends a request, and retries during an outage. A refusal by our own SQL is never retried, even with status
/// 429 or 503: it was decided under locks that other transactions wait for.
async fn send<T: DeserializeOwned>(
    asked: As,
    request: RequestBuilder,
    retry: Retry,
) -> Result<T, Error> {
    let mut tries = Tries::begin(limit(PATIENCE));
    loop {
        let copy = request.try_clone().ok_or_else(|| Error::fault("a JSON body"))?;
        let (error, wait) = match ask(copy).await {
            Ok(answer) if answer.status.is_success() => return answer.read(),
            Ok(answer) => (interpret_error(asked, answer.status, &answer.body), answer.retry_after),
            Err(error) => (error, None),
        };
        let is_outage = matches!(error, Error::Unavailable { .. });
        if retry == Retry::Unsafe || !is_outage || !tries.again(wait).await {
            return Err(error);
        }
    }
}

async fn ask(request: RequestBuilder) -> Result<Answer, Error> {
    let response = request.send().await.map_err(|fault| unreachable(SERVICE, &fault))?;
    let (began, status) = (Instant::now(), response.status());
    let retry_after = retry_after(response.headers());
    let body = read_limited(SERVICE, response, ANSWER_LIMIT)
        .await?
        .ok_or_else(|| Error::fault("the database's answer is too long"))?;
    Ok(Answer { began, status, retry_after, body })
}

impl App {
    /// Calls a function of `backend`. All of them are safe to retry.
    ///
    /// # Errors
    /// Same as [`Database::call`].
    pub async fn ask<T: DeserializeOwned>(
        &self,
        function: &str,
        arguments: Value,
    ) -> Result<T, Error> {
        self.database.call(function, arguments, Retry::Safe).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_counts_from_the_moment_at_which_it_began() {
        #[derive(serde::Deserialize)]
        struct Told {
            #[serde(skip, default = "answered_at")]
            at: Instant,
        }
        let began = Instant::now().checked_sub(Duration::from_secs(3)).expect("an earlier moment");
        let body = Bytes::from_static(b"[{}, {}]");
        let answer = Answer { began, status: StatusCode::OK, retry_after: None, body };
        let told: Vec<Told> = answer.read().expect("two");
        assert!(told.iter().all(|told| told.at == began), "not when it was read");
        assert!(answered_at() > began, "and only while it is read");
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
