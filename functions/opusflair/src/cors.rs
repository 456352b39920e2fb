//! Lets web pages call the functions from another address (the CORS protocol of the Fetch standard).

use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, LOCATION, RETRY_AFTER};
use http::{HeaderValue, Method};
use tower_http::cors::{AllowOrigin, CorsLayer};
use url::Url;

use crate::problem::REQUEST_ID;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// How long a browser may remember the answer to a preflight request.
const REMEMBERED: Duration = Duration::from_hours(1);

/// Answers preflight requests, and adds to every response which pages may read it.
pub(crate) fn layer(origins: &AllowOrigin) -> CorsLayer {
    CorsLayer::new()
        .allow_origin(origins.clone())
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        .allow_headers([AUTHORIZATION, CONTENT_TYPE, IDEMPOTENCY_KEY])
        .expose_headers([LOCATION, RETRY_AFTER, REQUEST_ID])
        .max_age(REMEMBERED)
}

/// Reads `APP_ORIGINS`: `*`, or origins separated by commas or spaces. `None` if one of them is no origin.
pub(crate) fn read(value: &str) -> Option<AllowOrigin> {
    if value == "*" {
        return Some(AllowOrigin::any());
    }
    let names = value.split([',', ' ']).filter(|name| !name.is_empty());
    names.map(origin).collect::<Option<Vec<_>>>().map(AllowOrigin::list)
}

/// An origin as a browser writes it: scheme, host and, if it is not the usual one, port.
fn origin(name: &str) -> Option<HeaderValue> {
    let url = Url::parse(name).ok()?;
    let is_origin =
        ["http", "https"].contains(&url.scheme()) && url.origin().ascii_serialization() == name;
    if is_origin { name.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_read_as_browsers_write_them() {
        for good in [
            "",
            "*",
            "https://app.example",
            "https://a.example http://localhost:3000",
            "https://a.example, https://b.example",
        ] {
            assert!(read(good).is_some(), "{good}");
        }
        for bad in [
            "app.example",
            "https://app.example/",
            "https://app.example/page",
            "https://APP.example",
            "https://app.example:443",
            "* https://a.example",
            "file:///a",
            "null",
        ] {
            assert!(read(bad).is_none(), "{bad}");
        }
    }
}
