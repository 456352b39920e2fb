//! Erases an account (G3, R10). The database decides what the next step is, and this module carries it out.

use std::time::Instant;

use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::cause::Cause;
use crate::config::SECRET_KEY;
use crate::database::with_key;
use crate::egress::send_idempotent;
use crate::pseudonym::Use;
use crate::{App, Error, crash};

/// An erasure in progress.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Erasure {
    /// Anyone who knows this id may see the state of the erasure, so it must not be logged.
    id: Uuid,
    person: Uuid,
}

#[derive(Deserialize)]
#[serde(tag = "next", rename_all = "snake_case")]
enum Next {
    Again,
    Wait,
    Leave { person: Uuid },
    Forget,
    Sign { statement: Map<String, Value> },
}

/// The receipt of an erasure: the database's statement, and the issuer who makes it.
#[derive(Serialize)]
struct Statement<'a> {
    iss: &'a str,
    iat: i64,
    rule: &'static str,
    #[serde(flatten)]
    erased: Map<String, Value>,
}

impl App {
    /// Continues an erasure until it is done, has to wait, or `deadline` has passed. Returns whether it is
    /// done.
    ///
    /// # Errors
    /// Returns an error if Auth or the database fails. A later sweep continues.
    pub async fn erase(&self, erasure: Erasure, deadline: Instant) -> Result<bool, Error> {
        let Erasure { id, person } = erasure;
        let arguments = json!({
            "id": id,
            "pseudonym": self.keyed_hash(Use::Pseudonym, person),
            "writes": self.mailer.is_some(),
        });
        while Instant::now() < deadline {
            match self.ask("advance_erasure", arguments.clone()).await? {
                Next::Again => crash::reached("erasure.advanced"),
                Next::Wait => return Ok(false),
                Next::Leave { person } => {
                    crash::reached("erasure.leaving");
                    self.delete_from_auth(person).await?;
                    crash::reached("erasure.left");
                }
                Next::Forget => {
                    let forgotten = json!({ "id": id });
                    self.database.call_slow::<Value>("forget_in_auth", forgotten).await?;
                }
                Next::Sign { statement } => {
                    let statement = Statement {
                        iss: self.config.webhook_url.as_str(),
                        iat: time::OffsetDateTime::now_utc().unix_timestamp(),
                        rule: "G3",
                        erased: statement,
                    };
                    let receipt = self.config.receipt_keys.sign(&statement);
                    let finished = json!({ "id": id, "receipt": receipt });
                    self.ask::<Value>("finish_erasure", finished).await?;
                    crash::reached("erasure.signed");
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Deletes a user from Auth. If Auth has no such user, this succeeds.
    async fn delete_from_auth(&self, person: Uuid) -> Result<(), Error> {
        let mut url = self.config.supabase_url.clone();
        url.path_segments_mut()
            .map_err(|()| Error::fault("the address of Auth"))?
            .pop_if_empty()
            .extend(["auth", "v1", "admin", "users", &person.to_string()]);
        let request = self.egress.request(Method::DELETE, url)?;
        let response = send_idempotent("Auth", with_key(request, &self.config.secret_key)).await?;
        match response.status().as_u16() {
            200..300 | 404 => Ok(()),
            status @ (401 | 403) => {
                Err(Error::key_refused("Auth", SECRET_KEY, Cause::status("delete", status)))
            }
            status => Err(Error::unavailable("Auth", Cause::status("delete", status))),
        }
    }
}
