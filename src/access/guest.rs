//! Who stands at the door: the other end of a connection or, behind proxies of the config, the
//! client that they name.
//!
//! Anybody can write the headers of a proxy. So they count only where the config names the proxy.
//! Elsewhere they only show that the address is not the client's own.

use super::{Access, Network};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A Unix socket: we trust everybody who may write to the file.
    Unix,
    /// An address.
    Ip(IpAddr),
}

impl fmt::Display for Origin {
    /// The client's name in the log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix => f.write_str("unix"),
            Self::Ip(ip) => ip.fmt(f),
        }
    }
}

/// The other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Where it comes from.
    pub origin: Origin,
    /// It came to a listener on a loopback address.
    pub to_loopback: bool,
    /// The name in its certificate, when it has shown one that our authority vouches for.
    pub certified: Option<Arc<str>>,
}

/// One of `access.proxies`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proxy {
    /// Every connection by a Unix socket.
    Unix,
    /// Addresses of proxies.
    Network(Network),
}

impl FromStr for Proxy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "unix" => Ok(Self::Unix),
            _ => text
                .parse()
                .map(Self::Network)
                .map_err(|why| format!("{why} (\"unix\" stands for Unix sockets)")),
        }
    }
}

/// Whose request it is, as far as we can know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guest {
    /// Where the client is, or the proxy beyond which we know nothing.
    pub origin: Origin,
    /// How the request came.
    pub came: Came,
    /// It came to a listener on a loopback address.
    pub to_loopback: bool,
    /// The name in its own certificate.
    pub certified: Option<Arc<str>>,
}

/// How a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came {
    /// Straight from the client.
    Alone,
    /// Through a proxy of the config, which names the client's address.
    Introduced,
    /// From a proxy of the config, without an address that we can read.
    Untold,
    /// With headers of a proxy that is not in the config.
    ByStranger,
}

impl Guest {
    /// Is the client really there? Only then may we trust it for its address.
    pub fn is_known(&self) -> bool {
        matches!(self.came, Came::Alone | Came::Introduced)
    }

    /// Why its certificate is of no use, for whoever expected that.
    pub(super) fn why_not_certified(&self) -> String {
        self.certified.as_ref().map_or_else(String::new, |name| {
            format!("; the client's certificate is {name:?}'s, and no token has that name")
        })
    }

    /// Why we do not trust its address, for a person who expected that.
    pub(super) fn why_unknown(&self) -> &'static str {
        match self.came {
            Came::Alone | Came::Introduced => "",
            Came::Untold => {
                "; its proxy did not tell the client's address in one of Forwarded, \
                 X-Forwarded-For and X-Real-IP"
            }
            Came::ByStranger => {
                "; it came through a proxy (Forwarded, X-Forwarded-*, X-Real-IP or Via) that \
                 daemon.access.proxies does not name"
            }
        }
    }
}

impl Access {
    /// Whose request came over this connection with these headers of proxies.
    pub fn guest(&self, peer: &Peer, hops: &Hops<'_>) -> Guest {
        let Peer {
            origin,
            to_loopback,
            ..
        } = *peer;
        let told = || hops.client(|ip| self.is_proxy(Origin::Ip(ip)));
        let (origin, came) = match self.is_proxy(origin) {
            false if hops.is_proxied => (origin, Came::ByStranger),
            false => (origin, Came::Alone),
            true => told().map_or((origin, Came::Untold), |ip| {
                (Origin::Ip(ip), Came::Introduced)
            }),
        };
        // A proxy's certificate says nothing of those who come through it.
        let certified = peer.certified.clone().filter(|_| came == Came::Alone);
        Guest {
            origin,
            came,
            to_loopback,
            certified,
        }
    }

    /// Is it one of the proxies of the config?
    pub fn is_proxy(&self, origin: Origin) -> bool {
        self.proxies.iter().any(|proxy| match (proxy, origin) {
            (Proxy::Unix, Origin::Unix) => true,
            (Proxy::Network(network), Origin::Ip(ip)) => network.contains(ip),
            (Proxy::Unix, Origin::Ip(_)) | (Proxy::Network(_), Origin::Unix) => false,
        })
    }
}

/// The headers that proxies on the way have written into a request's head.
#[derive(Clone, Debug, Default)]
pub struct Hops<'a> {
    is_proxied: bool,
    /// The values of these headers, in their order.
    forwarded: Vec<&'a str>,
    x_forwarded_for: Vec<&'a str>,
    x_real_ip: Vec<&'a str>,
}

impl<'a> Hops<'a> {
    /// Takes note of a header if it is a proxy's; false when it is not.
    pub fn note(&mut self, name: &str, value: &'a str) -> bool {
        const PREFIX: &str = "x-forwarded-";
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted);
        if is("Forwarded") {
            self.forwarded.push(value);
        } else if is("X-Forwarded-For") {
            self.x_forwarded_for.push(value);
        } else if is("X-Real-IP") {
            self.x_real_ip.push(value);
        } else {
            let begin = name.get(..PREFIX.len());
            let is_other = begin.is_some_and(|begin| begin.eq_ignore_ascii_case(PREFIX));
            if !is_other && !is("Via") {
                return false;
            }
        }
        self.is_proxied = true;
        true
    }

    /// The last address that is not a proxy's. A proxy writes one of the headers, and hands on the
    /// others as a client may have written them: so all that name an address must name the same.
    fn client(&self, is_proxy: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
        let forwarded: Option<Vec<_>> = self.forwarded.iter().map(|line| elements(line)).collect();
        let forwarded = forwarded?.into_iter().flatten().collect();
        let listed = self.x_forwarded_for.iter();
        let listed = listed.flat_map(|line| line.split(',')).map(address);
        let real = self.x_real_ip.iter().map(|ip| address(ip));
        let mut client = None;
        for hops in [forwarded, listed.collect(), real.collect::<Vec<_>>()] {
            for hop in hops.into_iter().rev() {
                let ip = hop?;
                if is_proxy(ip) {
                    continue;
                }
                if client.is_some_and(|other| other != ip) {
                    return None;
                }
                client = Some(ip);
                break;
            }
        }
        client
    }
}

/// An address as proxies write it: maybe with a port, IPv6 maybe in brackets.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim_matches([' ', '\t']);
    let bare = || text.strip_prefix('[')?.strip_suffix(']');
    let ip: Option<IpAddr> = match bare() {
        Some(inner) => inner.parse().ok().filter(IpAddr::is_ipv6),
        None => text.parse().ok(),
    };
    let with_port = || text.parse().ok().map(|socket: SocketAddr| socket.ip());
    ip.or_else(with_port).map(|ip| ip.to_canonical())
}

/// The `for=` of each element of a `Forwarded` header (RFC 7239), `None` where it is no address;
/// `None` for a header that does not keep to the RFC.
fn elements(line: &str) -> Option<Vec<Option<IpAddr>>> {
    let (mut found, mut rest) = (Vec::new(), line);
    // The `for=` of the element at hand.
    let mut node: Option<String> = None;
    loop {
        let (name, behind) = rest.split_once('=')?;
        let (value, behind) = value(behind)?;
        let name = name.trim_matches([' ', '\t']);
        if name.is_empty() || !name.bytes().all(is_token) {
            return None;
        }
        if name.eq_ignore_ascii_case("for") && node.replace(value).is_some() {
            return None;
        }
        let behind = behind.trim_start_matches([' ', '\t']);
        let ends = behind.is_empty() || behind.starts_with(',');
        if ends {
            found.push(node.take().and_then(|node| address(&node)));
        } else if !behind.starts_with(';') {
            return None;
        }
        if behind.is_empty() {
            return Some(found);
        }
        rest = behind.get(1..)?;
    }
}

/// A token or a quoted text, and the rest behind it.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.bytes().position(|byte| !is_token(byte));
        let (token, behind) = text.split_at(end.unwrap_or(text.len()));
        return (!token.is_empty()).then(|| (token.to_owned(), behind));
    };
    let mut value = String::new();
    let mut signs = quoted.chars();
    loop {
        match signs.next()? {
            '"' => return Some((value, signs.as_str())),
            '\\' => value.push(signs.next()?),
            sign => value.push(sign),
        }
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
