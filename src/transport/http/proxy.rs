//! Proxies of the environment, as curl understands it: `http_proxy`, `https_proxy`, `all_proxy` and
//! `no_proxy`, in lower or upper case.
//!
//! We ask a proxy for a plain page by its whole address, and for a tunnel only where TLS goes through
//! it: proxies allow no more.

use super::super::tls::Stream;
use super::super::{Deadline, TransportError, TransportErrorKind as K};
use super::{Origin, USER_AGENT, head};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use std::net::IpAddr;

/// A proxy.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Proxy {
    pub(super) origin: Origin,
    /// The value of `Proxy-Authorization`.
    login: Option<String>,
}

impl Proxy {
    /// The environment's proxy for `target`.
    pub(super) fn of(target: &Origin) -> Result<Option<Self>, TransportError> {
        let own = if target.tls {
            "https_proxy"
        } else {
            "http_proxy"
        };
        let variable = |name: &str| {
            [name.to_owned(), name.to_ascii_uppercase()]
                .iter()
                .find_map(|name| std::env::var(name).ok())
                .filter(|value| !value.is_empty())
        };
        let found = [own, "all_proxy"]
            .into_iter()
            .find_map(|name| Some((name, variable(name)?)));
        let Some((name, url)) = found else {
            return Ok(None);
        };
        if is_exempt(target, &variable("no_proxy").unwrap_or_default()) {
            return Ok(None);
        }
        // The URL may hold the proxy's password.
        Self::parse(&url).map(Some).ok_or_else(|| {
            TransportError::new(
                K::NoConnection,
                format!("{name} of the environment is not the URL of an HTTP proxy"),
            )
        })
    }

    fn parse(url: &str) -> Option<Self> {
        let proxy = ureq::Proxy::new(url).ok()?;
        let tls = match proxy.protocol() {
            ureq::ProxyProtocol::Http => false,
            ureq::ProxyProtocol::Https => true,
            _ => return None,
        };
        let login = proxy.username().is_some() || proxy.password().is_some();
        let pair = || {
            let user = proxy.username().unwrap_or_default();
            let password = proxy.password().unwrap_or_default();
            format!(
                "Basic {}",
                BASE64_STANDARD.encode(format!("{user}:{password}"))
            )
        };
        Some(Self {
            origin: Origin {
                tls,
                host: proxy.host().trim_matches(['[', ']']).to_owned(),
                port: proxy.port(),
            },
            login: login.then(pair),
        })
    }

    /// A request's head as a proxy wants it: with the whole address in its first line.
    pub(super) fn whole_address(&self, target: &Origin, head: &[u8]) -> Vec<u8> {
        let mut parts = head.splitn(2, |byte| *byte == b' ');
        let (method, rest) = (
            parts.next().unwrap_or_default(),
            parts.next().unwrap_or_default(),
        );
        let line_end = rest.iter().position(|byte| *byte == b'\n');
        let (line, fields) = rest
            .split_at_checked(line_end.map_or(0, |end| end + 1))
            .unwrap_or((rest, &[]));
        let begin = format!(" {target}");
        let login = self.login_field();
        [method, begin.as_bytes(), line, login.as_bytes(), fields].concat()
    }

    fn login_field(&self) -> String {
        match &self.login {
            Some(login) => format!("Proxy-Authorization: {login}\r\n"),
            None => String::new(),
        }
    }

    /// Asks on `stream` for a tunnel to `target`. Nothing has reached the PDU when this fails.
    pub(super) fn open_tunnel(
        &self,
        stream: &mut dyn Stream,
        target: &Origin,
        deadline: Deadline,
    ) -> Result<(), TransportError> {
        let failed = |detail: String| {
            let proxy = &self.origin;
            TransportError::new(
                K::NoConnection,
                format!("the proxy {proxy} opens no tunnel to {target}: {detail}"),
            )
        };
        let authority = Origin {
            // The request for a tunnel names the port in any case.
            tls: false,
            ..target.clone()
        };
        let authority = match authority.authority() {
            own if target.port == 80 => format!("{own}:80"),
            own => own,
        };
        let request = format!(
            "CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: {USER_AGENT}\r\n{}\r\n",
            self.login_field()
        );
        stream
            .send(request.as_bytes(), deadline)
            .map_err(|error| failed(error.detail))?;
        // One byte at a time: the bytes behind the head belong to the tunnel.
        let mut raw = Vec::new();
        loop {
            let mut byte = [0];
            match stream.receive(&mut byte, deadline) {
                Ok(0) => return Err(failed("it closed the connection".into())),
                Ok(_) => raw.extend(byte),
                Err(error) => return Err(failed(error.detail)),
            }
            match head::read(&raw) {
                Ok(None) => {}
                Ok(Some(head)) if head.is_provisional() => raw.clear(),
                Ok(Some(head)) if (200..300).contains(&head.status) => return Ok(()),
                Ok(Some(head)) => return Err(failed(format!("HTTP {}", head.status))),
                Err(unfit) => return Err(failed(unfit.words(&[]))),
            }
        }
    }
}

/// Does `target` need no proxy? `list` is `no_proxy`: names that stand for themselves and all below
/// them, addresses, networks (`192.0.2.0/24`), each maybe with a port, or `*`.
fn is_exempt(target: &Origin, list: &str) -> bool {
    let host = target.host.to_ascii_lowercase();
    let address = host.parse::<IpAddr>().ok();
    let own = host == "localhost" || address.is_some_and(|ip| ip.is_loopback());
    own || list
        .split([',', ' '])
        .filter(|entry| !entry.is_empty())
        .any(|entry| match port_apart(entry) {
            (_, Some(port)) if port != target.port => false,
            ("*", _) => true,
            (entry, _) => match address {
                Some(address) => is_within(address, entry),
                None => {
                    let entry = entry.trim_start_matches("*.").trim_start_matches('.');
                    let entry = entry.trim_end_matches('.').to_ascii_lowercase();
                    let below = host.strip_suffix(&entry);
                    let apart = |rest: &str| rest.is_empty() || rest.ends_with('.');
                    !entry.is_empty() && below.is_some_and(apart)
                }
            },
        })
}

/// `name:80`, `192.0.2.1:80` or `[2001:db8::1]:80`; without brackets an IPv6 address has no port.
fn port_apart(entry: &str) -> (&str, Option<u16>) {
    let (host, port) = match entry.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => match port.parse() {
            Ok(port) => (host, Some(port)),
            Err(_) => (entry, None),
        },
        _ => (entry, None),
    };
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    (bare.unwrap_or(host), port)
}

/// Is `address` this one, or of this network?
fn is_within(address: IpAddr, network: &str) -> bool {
    let (base, length) = match network.split_once('/') {
        Some((base, length)) => (base, length.parse().ok()),
        None => (network, Some(128)),
    };
    let (Ok(base), Some(length)) = (base.parse::<IpAddr>(), length) else {
        return false;
    };
    let differ = match (address, base) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return false,
    };
    let whole = if address.is_ipv4() { 32 } else { 128 };
    differ >= u32::min(length, whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_and_listed_hosts_need_no_proxy() {
        for (host, list, exempt) in [
            ("127.0.0.1", "", true),
            ("localhost", "", true),
            ("::1", "", true),
            ("pdu", "", false),
            ("pdu", "a, PDU", true),
            ("pdu", "a pdu", true),
            ("pdu.lab", "lab", true),
            ("pdu.lab", ".lab", true),
            ("pdu.lab", "*.lab", true),
            ("pdu.lab", "lab.", true),
            ("pdu.collab", "lab", false),
            ("pdu", "*", true),
            ("pdu", "pdu:81", true),
            ("pdu", "pdu:80", false),
            ("pdu", "*:80", false),
            ("192.0.2.5", "192.0.2.5", true),
            ("192.0.2.5", "192.0.2.5:81", true),
            ("192.0.2.5", "192.0.2.5:80", false),
            ("192.0.2.5", "192.0.2.0/24", true),
            ("192.0.2.5", "192.0.2.128/25", false),
            ("192.0.2.5", "0.0.0.0/0", true),
            ("192.0.2.5", "192.0.2.0/33", false),
            ("192.0.2.5", "192.0.2.0/x", false),
            ("192.0.2.5", "2.5", false),
            ("192.0.2.5", "::/0", false),
            ("2001:db8::5", "2001:db8::/32", true),
            ("2001:db8::5", "2001:db9::/32", false),
            ("2001:db8::5", "2001:DB8:0::5", true),
            ("2001:db8::5", "[2001:db8::5]:81", true),
            ("2001:db8::5", "[2001:db8::5]:80", false),
            ("2001:db8::5", "[2001:db8::5]", true),
        ] {
            let target = Origin {
                tls: false,
                host: host.into(),
                port: 81,
            };
            assert_eq!(is_exempt(&target, list), exempt, "{host} in {list:?}");
        }
    }

    #[test]
    fn a_proxy_may_have_a_login_and_no_scheme() {
        let proxy = |url: &str| {
            Proxy::parse(url)
                .map(|proxy| format!("{} {}", proxy.origin, proxy.login.unwrap_or_default()))
        };
        let check = |url: &str, expected: &str| {
            assert_eq!(proxy(url).as_deref(), Some(expected), "{url}");
        };
        check("http://proxy:3128/", "http://proxy:3128 ");
        check("proxy:3128", "http://proxy:3128 ");
        check("https://proxy", "https://proxy ");
        check("http://[2001:db8::1]:3128", "http://[2001:db8::1]:3128 ");
        check(
            "http://a:b%40@proxy:8080",
            "http://proxy:8080 Basic YTpiQA==",
        );
        assert_eq!(proxy("socks5://proxy:1080"), None);
        assert_eq!(proxy("gopher://proxy"), None);
    }

    #[test]
    fn a_request_names_the_whole_address() {
        let target = Origin {
            tls: false,
            host: "2001:db8::5".into(),
            port: 81,
        };
        let proxy = Proxy::parse("http://a:b@proxy").expect("a proxy");
        let head = b"GET /cm?x=1 HTTP/1.1\r\nHost: pdu\r\n\r\n";
        assert_eq!(
            String::from_utf8(proxy.whole_address(&target, head)).expect("text"),
            "GET http://[2001:db8::5]:81/cm?x=1 HTTP/1.1\r\n\
             Proxy-Authorization: Basic YTpi\r\nHost: pdu\r\n\r\n"
        );
    }
}
