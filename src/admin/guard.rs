//! Who is let through: the checks that come before every call.
//!
//! A browser is the dangerous client of a loopback listener: any page the operator looks at may send
//! requests there. So `Host` must be a loopback name (rebinding, T5), a foreign `Origin` or
//! `Sec-Fetch-Site` is refused (T4), and whatever changes something needs a header that no form and no
//! simple request can carry. The unix socket is out of a browser's reach and needs none of this.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Extension;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, Method, Version, header};

use super::app::App;
use super::body::pass_over;
use super::caller::Caller;
use super::failure::Failure;

/// Before everything, on TCP: the right host, and no foreign page behind the request.
pub(super) async fn origin(
    Extension(caller): Extension<Caller>,
    request: Request,
    next: Next,
) -> Result<Response, Failure> {
    if caller.is_tcp()
        && let Err(failure) = checked_host(&request).and_then(|host| checked_origin(&request, host))
    {
        pass_over(request).await;
        return Err(failure);
    }
    Ok(next.run(request).await)
}

/// Before a protected call, on TCP: the token.
pub(super) async fn token(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    request: Request,
    next: Next,
) -> Result<Response, Failure> {
    if caller.is_tcp()
        && let Err(failure) = checked_token(&app, request.headers())
    {
        pass_over(request).await;
        return Err(failure);
    }
    Ok(next.run(request).await)
}

/// Before a change: a JSON content type. On the unix socket a missing one is forgiven, for `curl`.
pub(super) async fn json(
    Extension(caller): Extension<Caller>,
    request: Request,
    next: Next,
) -> Result<Response, Failure> {
    let missing = !request.headers().contains_key(header::CONTENT_TYPE);
    if request.method() == Method::POST
        && !(is_json(request.headers()) || missing && !caller.is_tcp())
    {
        pass_over(request).await;
        return Err(Failure::not_json());
    }
    Ok(next.run(request).await)
}

fn checked_host(request: &Request) -> Result<Option<&str>, Failure> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host
            .to_str()
            .map_err(|_| Failure::bad_request("`Host` is not text"))?,
        (Some(_), Some(_)) => return Err(Failure::bad_request("there is more than one `Host`")),
        // Load balancers' health checks come so; a browser never does.
        (None, _) if request.version() < Version::HTTP_11 => return Ok(None),
        (None, _) => return Err(Failure::bad_request("`Host` is missing")),
    };
    if !is_loopback(host) {
        return Err(Failure::misdirected(host));
    }
    if let Some(authority) = request.uri().authority()
        && !is_loopback(authority.as_str())
    {
        return Err(Failure::misdirected(authority.as_str()));
    }
    Ok(Some(host))
}

/// `localhost` or a loopback address, with a port or without. An address cannot be rebound.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) if is_port(port) => address,
            _ => return false,
        },
        None => match host.split_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            Some(_) => return false,
            None => host,
        },
    };
    if host.starts_with('[') {
        return name
            .parse::<std::net::Ipv6Addr>()
            .is_ok_and(|address| address.is_loopback());
    }
    let is_v4 = |address: IpAddr| address.is_ipv4() && address.is_loopback();
    name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(is_v4)
}

fn is_port(rest: &str) -> bool {
    rest.is_empty()
        || rest
            .strip_prefix(':')
            .is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
}

fn checked_origin(request: &Request, host: Option<&str>) -> Result<(), Failure> {
    let headers = request.headers();
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    if let Some(origin) = text("origin") {
        let own = origin
            .strip_prefix("http://")
            .is_some_and(|origin| host.is_some_and(|host| origin.eq_ignore_ascii_case(host)));
        if !own {
            return Err(Failure::forbidden("requests from other pages are refused"));
        }
    }
    // A link to the page may be followed from anywhere.
    let is_link = *request.method() == Method::GET
        && request.uri().path() == "/"
        && text("sec-fetch-mode") == Some("navigate");
    match text("sec-fetch-site") {
        None | Some("same-origin" | "none") => Ok(()),
        Some(_) if is_link => Ok(()),
        Some(_) => Err(Failure::forbidden("requests from other pages are refused")),
    }
}

/// The right token always passes, however many wrong ones came before: any local user could lock the
/// operator out otherwise. With 256 bit, guessing is hopeless at any rate; the limit keeps it cheap.
fn checked_token(app: &App, headers: &HeaderMap) -> Result<(), Failure> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(given), None) = (all.next(), all.next()) else {
        return Err(Failure::unauthorized());
    };
    if bearer(given.as_bytes()).is_some_and(|given| app.token.is(given)) {
        return Ok(());
    }
    if app.wrong_tokens.take() {
        Err(Failure::unauthorized())
    } else {
        Err(Failure::too_many("too many wrong tokens"))
    }
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"bearer ")
        .then(|| token.trim_ascii())
}

fn is_json(headers: &HeaderMap) -> bool {
    let mut all = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(given), None) = (all.next(), all.next()) else {
        return false;
    };
    let Ok(given) = given.to_str() else {
        return false;
    };
    let essence = given.split(';').next().unwrap_or("").trim();
    essence.eq_ignore_ascii_case("application/json")
}

/// So many at once, and one more each interval.
#[derive(Debug)]
pub(super) struct Bucket {
    size: u32,
    interval: Duration,
    state: Mutex<(u32, Instant)>,
}

impl Bucket {
    pub(super) fn new(size: u32, interval: Duration) -> Self {
        Self {
            size,
            interval,
            state: Mutex::new((size, Instant::now())),
        }
    }

    /// Takes one, if there is one.
    pub(super) fn take(&self) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (left, since) = &mut *state;
        let passed = since.elapsed().as_nanos() / self.interval.as_nanos().max(1);
        let back = u32::try_from(passed).unwrap_or(u32::MAX);
        if back > 0 {
            *left = left.saturating_add(back).min(self.size);
            *since = Instant::now();
        }
        if *left == 0 {
            return false;
        }
        *left -= 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{bearer, is_loopback};

    #[test]
    fn t5_only_loopback_names_are_ours() {
        for ours in [
            "localhost",
            "LOCALHOST:9900",
            "127.0.0.1",
            "127.0.0.1:80",
            "127.1.2.3:1",
            "[::1]",
            "[::1]:9900",
        ] {
            assert!(is_loopback(ours), "{ours}");
        }
        for foreign in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example:9900",
            "localhost:9900@evil.example",
            "localhost@evil.example",
            "10.0.0.1",
            "[::2]",
            "[::1",
            "[::1]x",
            "[127.0.0.1]",
            "::1",
            "0.0.0.0",
            "localhost:x",
        ] {
            assert!(!is_loopback(foreign), "{foreign}");
        }
    }

    #[test]
    fn a_bearer_token_is_found_whatever_the_case_of_its_scheme() {
        assert_eq!(bearer(b"Bearer abc"), Some(&b"abc"[..]));
        assert_eq!(bearer(b"bEARER  abc "), Some(&b"abc"[..]));
        for other in [&b"Basic abc"[..], b"Bearer", b"", b"Bearerabc"] {
            assert_eq!(bearer(other), None);
        }
    }
}
