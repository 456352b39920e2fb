//! Interprets error responses of the Data API. The cause is a refusal by our SQL, the person's token, our
//! key, an outage, or an internal error.

use http::StatusCode;
use serde::Deserialize;

use super::SERVICE;
use crate::Error;
use crate::cause::Cause;
use crate::config::{PUBLISHABLE_KEY, SECRET_KEY};
use crate::error::Refusal;

/// Prefixes of the `PostgreSQL` (SQLSTATE) and `PostgREST` error codes that mean an outage, with the reason
/// for the log. Such a call may be retried, and the caller is told to try again later. Any other code is an
/// internal error. The HTTP status is not enough. A read-only project is answered with 405. A function that
/// the schema cache does not know yet is answered with 404.
const OUTAGES: [(&str, &str); 21] = [
    ("08", "the connection to the database broke off"),
    ("25006", "the project is read-only: look at its disk"),
    ("40001", "two transactions met"),
    ("40P01", "two transactions waited for each other"),
    ("53100", "the disk is full"),
    ("53200", "the database is out of memory"),
    ("53300", "the database has no connection left"),
    ("55P03", "a row was locked for too long"),
    ("57014", "the statement took too long"),
    ("57P01", "the database is shutting down"),
    ("57P02", "the database has crashed"),
    ("57P03", "the database is starting"),
    ("58", "the database's machine has a fault"),
    ("PGRST000", "the Data API does not reach the database"),
    ("PGRST001", "the Data API lost its connection to the database"),
    ("PGRST002", "the Data API has not read the schema yet"),
    ("PGRST003", "the Data API has no connection free"),
    ("PGRST106", "the Data API does not expose our schema"),
    ("PGRST202", "the Data API does not know the function yet"),
    ("PGRST205", "the Data API does not know the table yet"),
    ("PGRST300", "the Data API has no key to check tokens with"),
];

/// Whose credentials a call uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum As {
    /// Our own secret key.
    Service,
    /// A person's token, together with the publishable key.
    Person,
}

/// An error as `PostgREST` writes it. `private.refuse` puts the machine-readable code into `hint` and further
/// members into `details`.
#[derive(Deserialize)]
struct Problem {
    /// Every error of `PostgREST` and of the database has a code. Errors of the gateway in front of them have
    /// none.
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    details: Option<String>,
    #[serde(default)]
    hint: Option<String>,
}

/// Returns whether `hint` is a code of one of our refusals, which are lowercase words. Any other hint was not
/// written by us, so it must not be logged.
fn is_word(hint: &str) -> bool {
    (1..=40).contains(&hint.len())
        && hint.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

/// Interprets an error response. The message may quote what was sent, so only its code is kept.
pub(super) fn interpret_error(asked: As, status: StatusCode, body: &[u8]) -> Error {
    let cause = |words| Cause::status(words, status.as_u16());
    let Ok(problem) = serde_json::from_slice::<Problem>(body) else {
        return Error::unavailable(SERVICE, cause(""));
    };
    let code = problem.code.as_str();
    if code.starts_with("PT") {
        return Error::Refused(Box::new(refusal(status, problem)));
    }
    if status == StatusCode::UNAUTHORIZED {
        return match (asked, code) {
            (As::Service, _) => Error::key_refused(SERVICE, SECRET_KEY, cause("").with_code(code)),
            (As::Person, "") => Error::key_refused(SERVICE, PUBLISHABLE_KEY, cause("")),
            (As::Person, _) => Error::NotSignedIn,
        };
    }
    if let Some((_, reason)) = OUTAGES.iter().find(|(begins, _)| code.starts_with(begins)) {
        return Error::unavailable(SERVICE, cause(reason).with_code(code));
    }
    match code {
        "" => Error::unavailable(SERVICE, cause("")),
        // A PostgreSQL text holds any character except NUL.
        "22P05" | "22021" => Error::invalid(
            "body",
            "holds the character NUL, which is not allowed. Please remove it.",
        ),
        _ => Error::fault(cause("the database answered").with_code(code)),
    }
}

fn refusal(status: StatusCode, problem: Problem) -> Refusal {
    let members = problem.details.and_then(|details| serde_json::from_str(&details).ok());
    Refusal {
        status,
        code: problem.hint.filter(|hint| is_word(hint)).unwrap_or_else(|| "refused".to_owned()),
        sentence: problem.message,
        members: members.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interpret(asked: As, status: u16, body: &str) -> Error {
        interpret_error(asked, StatusCode::from_u16(status).expect("a status"), body.as_bytes())
    }

    #[test]
    fn a_refusal_keeps_its_status_code_sentence_and_members() {
        let body = r#"{"code":"PT402","message":"This costs 2.","details":"{\"price\": 2}","hint":"insufficient_credits"}"#;
        let error = interpret(As::Person, 402, body);
        assert_eq!(error.status(), StatusCode::PAYMENT_REQUIRED);
        assert_eq!(error.code(), "insufficient_credits");
        assert_eq!(error.detail(), "This costs 2.");
        assert_eq!(error.members()["price"], 2);
    }

    #[test]
    fn a_refusal_by_our_sql_is_never_an_outage() {
        for status in [401, 429, 503] {
            let body = format!(
                r#"{{"code":"PT{status}","message":"Too many.","details":"{{\"retry_after\": 60}}","hint":"too_many"}}"#
            );
            for asked in [As::Person, As::Service] {
                let error = interpret(asked, status, &body);
                assert!(matches!(error, Error::Refused(_)), "{error}");
            }
        }
    }

    #[test]
    fn other_database_errors_reveal_nothing_to_the_caller() {
        let body = r#"{"code":"23503","message":"Key (secret)=(x)","details":null,"hint":null}"#;
        let error = interpret(As::Person, 409, body);
        assert_eq!(error.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert!(!format!("{error} {}", error.detail()).contains("secret"));
    }

    #[test]
    fn a_character_that_postgresql_cannot_store_is_the_callers_fault() {
        let body = r#"{"code":"22P05","message":"unsupported Unicode escape sequence"}"#;
        assert_eq!(interpret(As::Person, 400, body).status(), StatusCode::UNPROCESSABLE_ENTITY);
    }

    #[track_caller]
    fn expect_outage(status: u16, body: &str, says: &str) {
        for asked in [As::Service, As::Person] {
            let error = interpret(asked, status, body);
            assert!(matches!(error, Error::Unavailable { .. }), "{error:?} of {body}");
            assert_eq!(error.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert!(error.to_string().contains(says), "{error} of {body}");
        }
    }

    /// Bodies as `PostgREST` 14 and `PostgreSQL` 17 write them.
    #[test]
    fn an_outage_is_recognised_by_its_code_and_never_answered_with_500() {
        for (status, body, says) in [
            (
                405,
                r#"{"code":"25006","details":null,"hint":null,"message":"cannot execute INSERT in a read-only transaction"}"#,
                "read-only",
            ),
            (
                404,
                r#"{"code":"PGRST202","details":"Searched for the function backend.read_status without parameters or with a single unnamed json/jsonb parameter, but no matches were found in the schema cache.","hint":null,"message":"Could not find the function backend.read_status without parameters in the schema cache"}"#,
                "does not know the function",
            ),
            (
                404,
                r#"{"code":"PGRST205","details":null,"hint":"Perhaps you meant the table 'public.wallets'","message":"Could not find the table 'public.wallet' in the schema cache"}"#,
                "does not know the table",
            ),
            (
                406,
                r#"{"code":"PGRST106","details":null,"hint":"Only the following schemas are exposed: public, graphql_public","message":"Invalid schema: backend"}"#,
                "does not expose",
            ),
            (
                503,
                r#"{"code":"PGRST000","details":"connection to server at \"localhost\" (127.0.0.1), port 5432 failed: Connection refused","hint":null,"message":"Database connection error. Retrying the connection."}"#,
                "does not reach",
            ),
            (
                503,
                r#"{"code":"PGRST001","details":"no connection to the server\n","hint":null,"message":"Database client error. Retrying the connection."}"#,
                "lost its connection",
            ),
            (
                503,
                r#"{"code":"PGRST002","details":null,"hint":null,"message":"Could not query the database for the schema cache. Retrying."}"#,
                "has not read the schema",
            ),
            (
                504,
                r#"{"code":"PGRST003","details":null,"hint":null,"message":"Timed out acquiring connection from connection pool."}"#,
                "no connection free",
            ),
            (
                500,
                r#"{"code":"PGRST300","details":null,"hint":null,"message":"Server lacks JWT secret"}"#,
                "no key to check",
            ),
            (
                500,
                r#"{"code":"57014","details":null,"hint":null,"message":"canceling statement due to statement timeout"}"#,
                "took too long",
            ),
            (
                503,
                r#"{"code":"53300","details":null,"hint":null,"message":"sorry, too many clients already"}"#,
                "no connection left",
            ),
            (
                503,
                r#"{"code":"53100","details":null,"hint":null,"message":"could not extend file \"base/5/16384\": No space left on device"}"#,
                "disk is full",
            ),
            (
                500,
                r#"{"code":"40001","details":null,"hint":null,"message":"could not serialize access due to concurrent update"}"#,
                "two transactions met",
            ),
            (
                500,
                r#"{"code":"40P01","details":"Process 1 waits for ShareLock.","hint":"See server log for query details.","message":"deadlock detected"}"#,
                "waited for each other",
            ),
            (
                500,
                r#"{"code":"55P03","details":null,"hint":null,"message":"canceling statement due to lock timeout"}"#,
                "locked for too long",
            ),
            (
                503,
                r#"{"code":"57P01","details":null,"hint":null,"message":"terminating connection due to administrator command"}"#,
                "shutting down",
            ),
            (
                500,
                r#"{"code":"57P03","details":null,"hint":null,"message":"the database system is starting up"}"#,
                "is starting",
            ),
            (
                503,
                r#"{"code":"08006","details":null,"hint":null,"message":"server closed the connection unexpectedly"}"#,
                "broke off",
            ),
        ] {
            expect_outage(status, body, says);
        }
    }

    /// Bodies as Cloudflare and Kong write them.
    #[test]
    fn a_response_without_a_code_comes_from_a_gateway_and_is_an_outage() {
        for (status, body, says) in [
            (
                502,
                "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>cloudflare</body></html>",
                "status 502",
            ),
            (
                522,
                "<!DOCTYPE html><title>project.supabase.co | 522: Connection timed out</title>",
                "status 522",
            ),
            (525, "error code: 525", "status 525"),
            (403, "<!DOCTYPE html><title>Attention Required! | Cloudflare</title>", "status 403"),
            (404, r#"{"message":"no Route matched with those values"}"#, "status 404"),
            (503, r#"{"message":"name resolution failed"}"#, "status 503"),
            (429, r#"{"message":"API rate limit exceeded"}"#, "status 429"),
        ] {
            expect_outage(status, body, says);
        }
    }

    #[test]
    fn any_other_code_is_an_internal_error() {
        for (status, code) in [
            (500, "P0004"),
            (500, "21000"),
            (400, "23514"),
            (403, "42501"),
            (404, "42883"),
            (300, "PGRST203"),
        ] {
            let error =
                interpret(As::Service, status, &format!(r#"{{"code":"{code}","message":"x"}}"#));
            assert!(matches!(error, Error::Fault(_)), "{error:?} of {code}");
        }
    }

    /// Bodies as the gateway of hosted projects, the Kong of self-hosted ones, and `PostgREST` write them.
    #[test]
    fn a_refused_key_is_an_outage_that_names_its_variable() {
        for body in [
            r#"{"message":"Invalid API key","hint":"Double check your Supabase `anon` or `service_role` API key."}"#,
            r#"{"message":"Unregistered API key","hint":"Double check the provided API key as it is not registered for this project."}"#,
            r#"{"message":"Legacy API keys are disabled","hint":"Your legacy API keys (anon, service_role) were disabled."}"#,
            r#"{"message":"No API key found in request","hint":"No `apikey` request header or url param was found."}"#,
            r#"{"message":"Unauthorized"}"#,
        ] {
            for (asked, variable) in [(As::Service, SECRET_KEY), (As::Person, PUBLISHABLE_KEY)] {
                let error = interpret(asked, 401, body);
                assert_eq!(error.status(), StatusCode::SERVICE_UNAVAILABLE);
                assert!(error.to_string().contains(variable), "{error}");
                assert!(!error.detail().contains("SUPABASE"), "people cannot change it");
            }
        }
    }

    #[test]
    fn a_refused_token_is_the_persons_problem_and_a_refused_key_is_ours() {
        for body in [
            r#"{"code":"PGRST301","details":null,"hint":null,"message":"JWSError JWSInvalidSignature"}"#,
            r#"{"code":"PGRST301","details":"None of the keys was able to decode the JWT","hint":null,"message":"No suitable key or wrong key type"}"#,
            r#"{"code":"PGRST302","details":null,"hint":null,"message":"Anonymous access is disabled"}"#,
            r#"{"code":"PGRST303","details":null,"hint":null,"message":"JWT expired"}"#,
            r#"{"code":"42501","details":null,"hint":null,"message":"permission denied for function begin_generation"}"#,
        ] {
            assert!(matches!(interpret(As::Person, 401, body), Error::NotSignedIn), "{body}");
            let error = interpret(As::Service, 401, body);
            assert!(
                error.to_string().contains("check SUPABASE_SECRET_KEY (status 401, code "),
                "{error}"
            );
        }
    }
}
