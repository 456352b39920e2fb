//! All outgoing HTTP requests, except those of the crate `supabase-auth` (see `caller`). They leave through
//! pooled clients that enforce an allow-list: requests are encrypted (R3), go only to configured hosts, never
//! to a private address, and follow no redirects.

mod address;
mod retry;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::{Client, Method, RequestBuilder, Response, redirect};
use url::{Host, Url};

use self::address::{PublicAddresses, may_reach};
use crate::Error;
use crate::config::{Config, is_transport_allowed};
use crate::pace::limit;

pub(crate) use self::retry::{PATIENCE, Tries, is_busy};
pub(crate) use self::retry::{retry_after, seconds_to_wait, send_idempotent};

const CONNECT_TIME: Duration = Duration::from_secs(5);
/// The default time limit of a whole exchange. Downloads of outputs set their own.
const TOTAL_TIME: Duration = Duration::from_secs(30);
/// The longest pause between two pieces of a response. This detects a stalled service long before
/// `TOTAL_TIME` is over.
const SILENCE: Duration = Duration::from_secs(15);
/// The time limit of an exchange that uploads or downloads an object.
pub(crate) const UPLOAD_TIME: Duration = Duration::from_secs(100);

/// The HTTP clients of a process.
#[derive(Clone)]
pub struct Egress {
    client: Client,
    /// For uploads, without a limit on silence. `reqwest` counts the time in which it sends the body as
    /// silence of the response. So a slow line would look like a stalled service. Only the whole exchange has
    /// a time limit.
    uploads: Client,
    hosts: Arc<[String]>,
    allow_loopback: bool,
}

impl Egress {
    pub(crate) fn new(config: &Config) -> Result<Self, reqwest::Error> {
        let credentials = config.content_credentials.as_ref();
        let timestamps = credentials.and_then(|credentials| credentials.timestamp_url.as_ref());
        let hosts = [&config.supabase_url, &config.replicate_url]
            .into_iter()
            .chain(timestamps)
            .filter_map(|url| url.host_str().map(str::to_owned))
            .chain(config.output_hosts.iter().cloned())
            .collect();
        Self::with(hosts, config.allow_loopback, SILENCE)
    }

    fn with(
        hosts: Arc<[String]>,
        allow_loopback: bool,
        silence: Duration,
    ) -> Result<Self, reqwest::Error> {
        let builder = || {
            Client::builder()
                .connect_timeout(limit(CONNECT_TIME))
                .timeout(limit(TOTAL_TIME))
                .redirect(redirect::Policy::none())
                .no_proxy()
                .user_agent(concat!("opusflair/", env!("CARGO_PKG_VERSION")))
                .dns_resolver(Arc::new(PublicAddresses { allow_loopback }))
        };
        let client = builder().read_timeout(limit(silence)).build()?;
        let uploads = builder().timeout(limit(UPLOAD_TIME)).build()?;
        Ok(Self { client, uploads, hosts, allow_loopback })
    }

    /// Begins a request.
    ///
    /// # Errors
    /// Returns [`Error::Fault`] if `url` is not on the allow-list.
    pub fn request(&self, method: Method, url: Url) -> Result<RequestBuilder, Error> {
        self.begin(&self.client, method, url)
    }

    /// Begins a request that sends a long body, or whose response may begin late. Its time limit is
    /// `UPLOAD_TIME` unless the caller sets another one.
    ///
    /// # Errors
    /// Returns [`Error::Fault`] if `url` is not on the allow-list.
    pub(crate) fn upload(&self, method: Method, url: Url) -> Result<RequestBuilder, Error> {
        self.begin(&self.uploads, method, url)
    }

    fn begin(&self, client: &Client, method: Method, url: Url) -> Result<RequestBuilder, Error> {
        if self.allows(&url) {
            Ok(client.request(method, url))
        } else {
            Err(Error::fault("an address outside the allow-list"))
        }
    }

    /// Returns whether the allow-list permits requests to `url`.
    #[must_use]
    pub(crate) fn allows(&self, url: &Url) -> bool {
        let Some(host) = url.host() else { return false };
        let listed = self.hosts.iter().any(|allowed| match &host {
            Host::Domain(name) => name
                .strip_suffix(allowed.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.')),
            address => address.to_string() == *allowed,
        });
        let reachable = match host {
            Host::Domain(_) => true,
            Host::Ipv4(address) => may_reach(address.into(), self.allow_loopback),
            Host::Ipv6(address) => may_reach(address.into(), self.allow_loopback),
        };
        listed && reachable && is_transport_allowed(url, self.allow_loopback)
    }
}

/// Reports that a service could not be reached. The error does not contain the URL, which may hold a token.
#[must_use]
pub fn unreachable(service: &'static str, fault: &reqwest::Error) -> Error {
    let kind = if fault.is_timeout() {
        "no answer in time"
    } else if fault.is_connect() {
        "no connection"
    } else if fault.is_body() || fault.is_decode() {
        "the answer broke off"
    } else {
        "the exchange failed"
    };
    Error::unavailable(service, kind)
}

/// Reads a body of at most `limit` bytes. Returns `None` if it is longer.
///
/// # Errors
/// Returns [`Error::Unavailable`] if the connection breaks.
pub async fn read_limited(
    service: &'static str,
    mut response: Response,
    limit: usize,
) -> Result<Option<Bytes>, Error> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(|fault| unreachable(service, &fault))? {
        if body.len() + chunk.len() > limit {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body.freeze()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn egress(allow_loopback: bool) -> Egress {
        let hosts = ["project.supabase.co", "replicate.delivery", "127.0.0.1", "10.0.0.1"];
        let hosts = hosts.map(str::to_owned).into();
        Egress::with(hosts, allow_loopback, Duration::from_millis(100)).expect("a client")
    }

    fn allows(url: &str, allow_loopback: bool) -> bool {
        egress(allow_loopback).allows(&Url::parse(url).expect("an address"))
    }

    #[test]
    fn only_listed_hosts_and_their_subdomains_are_allowed() {
        assert!(allows("https://project.supabase.co/rest/v1", false));
        assert!(allows("https://pbxt.replicate.delivery/x/out.png", false));
        assert!(!allows("https://evilreplicate.delivery/x", false));
        assert!(!allows("https://replicate.delivery.evil.example/x", false));
        assert!(!allows("https://example.com", false));
    }

    #[test]
    fn plain_http_and_other_schemes_go_nowhere_r3() {
        assert!(!allows("http://replicate.delivery/x", false));
        assert!(!allows("http://replicate.delivery/x", true));
        assert!(!allows("file:///etc/passwd", true));
    }

    #[test]
    fn loopback_is_reached_only_where_it_is_configured() {
        assert!(allows("http://127.0.0.1:54321/rest/v1", true));
        assert!(!allows("http://127.0.0.1:54321/rest/v1", false));
        assert!(!allows("https://127.0.0.1/", false));
    }

    #[test]
    fn private_addresses_are_never_reached_even_when_listed() {
        assert!(!allows("https://10.0.0.1/", true));
        for address in [
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "fd00::1",
            "fe80::1",
            "::",
            "::ffff:10.0.0.1",
        ] {
            assert!(!may_reach(address.parse().expect("an address"), true), "{address}");
        }
        for address in ["1.1.1.1", "2606:4700:4700::1111"] {
            assert!(may_reach(address.parse().expect("an address"), false), "{address}");
        }
    }

    #[tokio::test]
    async fn an_upload_does_not_time_out_while_its_body_is_sent() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};

        const LENGTH: usize = 8 * 1024 * 1024;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/", listener.local_addr().expect("an address"));
        let url = Url::parse(&url).expect("an address");
        // Reads each body slowly, and responds as soon as it has all of it.
        let server = tokio::spawn(async move {
            loop {
                let (mut socket, _) = listener.accept().await.expect("a connection");
                tokio::spawn(async move {
                    let (mut read, mut piece) = (0, vec![0; 512 * 1024]);
                    while read < LENGTH {
                        match socket.read(&mut piece).await {
                            Ok(0) | Err(_) => return,
                            Ok(more) => read += more,
                        }
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    let answer =
                        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                    let _ = socket.write_all(answer.as_bytes()).await;
                });
            }
        });

        let egress = egress(true);
        let send = |request: RequestBuilder| request.body(vec![0_u8; LENGTH]).send();
        let given_up = send(egress.request(Method::PUT, url.clone()).expect("allowed")).await;
        assert!(given_up.expect_err("too slow for a call").is_timeout());
        let taken = send(egress.upload(Method::PUT, url).expect("allowed")).await;
        assert!(taken.expect("slow, and taken").status().is_success());
        server.abort();
    }
}
