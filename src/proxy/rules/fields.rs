//! Which fields are for the next hop only, which are ours, and how a field is written.

use bytes::{Bytes, BytesMut};
use http::HeaderMap;

use crate::proxy::head::{Fields, is_control, is_token};

/// The members of a comma-separated list, without white space and empty ones.
pub(crate) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value
        .split(|b| *b == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|member| !member.is_empty())
}

/// Whether any line of a field has `token` as a member.
pub(super) fn has_token(fields: &Fields, name: &[u8], token: &[u8]) -> bool {
    fields
        .all(name)
        .any(|value| list(value).any(|member| member.eq_ignore_ascii_case(token)))
}

/// Fields of one hop, whether named by Connection or not. What goes on of them is written anew.
/// The last five are no standard names; to a worker with CGI-like variables the last one would say by which
/// proxy it is to go out (`HTTP_PROXY`, CVE-2016-5385).
fn is_hop_by_hop(name: &[u8]) -> bool {
    matches!(
        name,
        b"connection"
            | b"te"
            | b"trailer"
            | b"transfer-encoding"
            | b"upgrade"
            | b"proxy-authenticate"
            | b"proxy-authorization"
            | b"keep-alive"
            | b"proxy-connection"
            | b"http2-settings"
            | b"proxy-authentication-info"
            | b"proxy"
    )
}

/// Fields that a service's config may not write or leave out: framing, this hop's, and those we write.
pub(crate) fn is_ours(name: &[u8]) -> bool {
    let others = matches!(name, b"host" | b"content-length" | b"expect" | b"date");
    others || is_hop_by_hop(name) || is_forwarding(name)
}

/// The fields that Connection names. Framing and Host cannot be named away.
pub(super) struct Named<'a>(Vec<&'a [u8]>);

impl<'a> Named<'a> {
    /// Reads every Connection line. Allocates only if something else than the usual is named.
    pub(super) fn of(fields: &'a Fields) -> Self {
        let named = fields.all(b"connection").flat_map(list);
        Self(named.filter(|name| !is_usual(name)).collect())
    }

    /// Whether the field must stay on this hop.
    pub(super) fn strips(&self, name: &[u8]) -> bool {
        if is_hop_by_hop(name) {
            return true;
        }
        if self.0.is_empty() || matches!(name, b"host" | b"content-length") {
            return false;
        }
        self.0.iter().any(|named| named.eq_ignore_ascii_case(name))
    }
}

/// Members of Connection that name no field, or one of the fixed list.
fn is_usual(member: &[u8]) -> bool {
    const USUAL: [&[u8]; 5] = [
        b"close",
        b"keep-alive",
        b"upgrade",
        b"te",
        b"http2-settings",
    ];
    USUAL.iter().any(|usual| member.eq_ignore_ascii_case(usual))
}

/// Fields that tell a worker who the client is and what it asked. Whoever may set them can pretend.
pub(super) fn is_forwarding(name: &[u8]) -> bool {
    name.starts_with(b"x-forwarded-")
        || matches!(
            name,
            b"forwarded"
                | b"x-real-ip"
                | b"x-client-ip"
                | b"true-client-ip"
                | b"front-end-https"
                | b"x-request-id"
                | b"client-cert"
                | b"client-cert-chain"
        )
}

/// Fields by which proxies, balancers and CDNs say what they know of a client, and which frameworks and their
/// middleware believe: from anybody else they are a pretence. Those that only some user's own setup knows
/// (`Remote-User`), and those that clients send by right (`X-HTTP-Method-Override`), are not among them.
#[inline]
pub(super) fn is_of_proxies(name: &[u8]) -> bool {
    begins_like_those_of_proxies(name) && is_one_of_proxies(name)
}

/// Quickly, because it is asked of every field: they all begin so.
#[inline]
fn begins_like_those_of_proxies(name: &[u8]) -> bool {
    matches!(
        name.first(),
        Some(b'c' | b'd' | b'f' | b'p' | b's' | b't' | b'w' | b'x')
    )
}

fn is_one_of_proxies(name: &[u8]) -> bool {
    is_forwarding(name) || is_address(name) || is_of_tls(name) || overrides_target(name)
}

/// Who the client is, or by what scheme it came.
fn is_address(name: &[u8]) -> bool {
    matches!(
        name,
        // Rails, PHP and Java read these.
        b"client-ip"
            | b"x-cluster-client-ip"
            | b"x-forwarded"
            | b"forwarded-for"
            | b"proxy-client-ip"
            | b"wl-proxy-client-ip"
            | b"x-remote-ip"
            | b"x-remote-addr"
            | b"x-originating-ip"
            // What ASP.NET and ingress controllers move the first proxy's word to.
            | b"x-original-for"
            | b"x-original-forwarded-for"
            | b"x-original-host"
            | b"x-original-proto"
            // Cloudflare, Fastly, Akamai, Azure, Google, Fly, DigitalOcean, Netlify, Envoy.
            | b"cf-connecting-ip"
            | b"cf-connecting-ipv6"
            | b"cf-pseudo-ipv4"
            | b"fastly-client-ip"
            | b"x-azure-clientip"
            | b"x-azure-socketip"
            | b"x-appengine-user-ip"
            | b"fly-client-ip"
            | b"do-connecting-ip"
            | b"x-nf-client-connection-ip"
            | b"x-envoy-external-address"
            | b"x-scheme"
            | b"x-url-scheme"
    )
}

/// What was seen of the client's TLS.
fn is_of_tls(name: &[u8]) -> bool {
    const FAMILIES: [&[u8]; 3] = [b"x-ssl-", b"ssl-client-", b"x-amzn-mtls-"];
    FAMILIES.iter().any(|family| name.starts_with(family))
        || matches!(
            name,
            b"x-client-cert"
                | b"x-client-verify"
                | b"x-client-dn"
                | b"x-arr-clientcert"
                | b"x-arr-ssl"
        )
}

/// Another target than the one that we have routed by: URL rewriters on IIS set the first two, some PHP frameworks
/// believe them; gunicorn takes the last two of whoever reaches it from this host, which is us.
fn overrides_target(name: &[u8]) -> bool {
    matches!(
        name,
        b"x-original-url" | b"x-rewrite-url" | b"x-original-uri" | b"script_name" | b"path_info"
    )
}

/// A name that a worker with CGI-like variables cannot tell from one of ours, or from framing:
/// `X_Forwarded_For` becomes `HTTP_X_FORWARDED_FOR` too. Such a field never goes on.
pub(super) fn is_disguised(name: &[u8]) -> bool {
    let may_be = begins_like_those_of_proxies(name) || name.first() == Some(&b'h');
    if !may_be || !name.contains(&b'_') {
        return false;
    }
    let dash = |b: &u8| if *b == b'_' { b'-' } else { *b };
    let plain: Vec<u8> = name.iter().map(dash).collect();
    is_of_proxies(&plain)
        || matches!(
            &plain[..],
            b"content-length" | b"transfer-encoding" | b"proxy-connection" | b"http2-settings"
        )
}

/// Whether a field, named in lower case, may stand in a trailer section: not framing, routing,
/// authentication, or one that steers how the message is read (RFC 9110 §6.5.1), nor one of ours.
pub(crate) fn trailer_allowed(name: &[u8]) -> bool {
    let forbidden = matches!(
        name,
        b"host"
            | b"content-length"
            | b"content-encoding"
            | b"content-type"
            | b"content-range"
            | b"authorization"
            | b"www-authenticate"
            | b"cookie"
            | b"set-cookie"
            | b"cache-control"
            | b"expect"
            | b"max-forwards"
            | b"range"
            | b"age"
            | b"date"
            | b"expires"
            | b"location"
            | b"retry-after"
            | b"vary"
            | b"warning"
            | b"pragma"
            | b"if-match"
            | b"if-none-match"
            | b"if-modified-since"
            | b"if-unmodified-since"
            | b"if-range"
    );
    !forbidden && !is_hop_by_hop(name) && !is_of_proxies(name) && !is_disguised(name)
}

/// Trailers without those that may not stand there.
pub(crate) fn allowed_trailers(mut trailers: HeaderMap) -> HeaderMap {
    let forbidden: Vec<_> = trailers
        .keys()
        .filter(|name| !trailer_allowed(name.as_str().as_bytes()))
        .cloned()
        .collect();
    for name in forbidden {
        trailers.remove(name);
    }
    trailers
}

/// The names of a `Trailer` field that may stand there, as one value; `None` if there are none.
pub(super) fn trailer_names(fields: &Fields) -> Option<Bytes> {
    let mut names = BytesMut::new();
    for member in fields.all(b"trailer").flat_map(list) {
        let name = member.to_ascii_lowercase();
        if name.iter().all(|b| is_token(*b)) && trailer_allowed(&name) {
            if !names.is_empty() {
                names.extend_from_slice(b", ");
            }
            names.extend_from_slice(&name);
        }
    }
    (!names.is_empty()).then(|| names.freeze())
}

/// The end of a chunked body with its trailers, those that are allowed.
pub(crate) fn last_chunk(trailers: &HeaderMap) -> Bytes {
    let mut out = BytesMut::from(&b"0\r\n"[..]);
    for (name, value) in trailers {
        if trailer_allowed(name.as_str().as_bytes()) && is_clean(value.as_bytes()) {
            write(&mut out, name.as_str().as_bytes(), value.as_bytes());
        }
    }
    out.extend_from_slice(b"\r\n");
    out.freeze()
}

/// No byte that could end a line early.
pub(super) fn is_clean(value: &[u8]) -> bool {
    !value.iter().fold(false, |any, b| any | is_control(*b))
}

/// Writes those of the fields that go on, by name. Lines that stand together as we would write them
/// ourselves are copied together; all bytes of them were checked one by one when they were read.
pub(super) fn write_all(out: &mut BytesMut, all: &Fields, goes_on: impl Fn(&[u8]) -> bool) {
    let mut same = 0..0;
    for (name, value, whole) in all.lines() {
        if !goes_on(name) {
            continue;
        }
        match whole {
            Some(whole) if whole.start == same.end => same.end = whole.end,
            Some(whole) => {
                out.extend_from_slice(all.text(same));
                same = whole;
            }
            None => {
                out.extend_from_slice(all.text(same));
                same = 0..0;
                write(out, name, value);
            }
        }
    }
    out.extend_from_slice(all.text(same));
}

/// Writes one line of a name that is known, given with the colon and the space behind it: one copy less. The
/// caller has seen to it that the value is clean.
pub(in crate::proxy) fn put(out: &mut BytesMut, label: &'static [u8], value: &[u8]) {
    // Room for all of it once, and no look at it for each part.
    let start = out.len();
    out.resize(start + label.len() + value.len() + 2, 0);
    let (named, rest) = out[start..].split_at_mut(label.len());
    let (valued, end) = rest.split_at_mut(value.len());
    named.copy_from_slice(label);
    valued.copy_from_slice(value);
    end.copy_from_slice(b"\r\n");
}

/// Writes one line. The caller has seen to it that the value is clean.
pub(in crate::proxy) fn write(out: &mut BytesMut, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    put(out, b": ", value);
}
