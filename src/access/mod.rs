//! The rights of clients: tokens, trusted networks, and requests that another site made a browser
//! send. Pure: facts about a request and the time go in, a [`Caller`] or a [`Denied`] comes out.
//!
//! Without tokens in the config everybody who can connect may do everything, as with the Python
//! program. With tokens every request needs one, or a client whose address we trust ([`Guest`]).
//!
//! Invariant: knows `request` alone; no sockets, no HTTP server, no config file.

mod browser;
mod buckets;
mod guest;
mod network;

pub use buckets::Buckets;
pub use guest::{Came, Guest, Hops, Origin, Peer, Proxy};
pub use network::{Network, counted_as};

use crate::request::{Action, Outlet};
use sha2::{Digest, Sha256};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// The `daemon.access` section, resolved: with the tokens of the files, and host names in lower
/// case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// The tokens; without any, everybody may do everything.
    pub tokens: Vec<Token>,
    /// Clients that need no token on the legacy paths and for the line protocol.
    pub trusted: Vec<Network>,
    /// Names of this daemon, beside IP addresses and `localhost`.
    pub hosts: Vec<String>,
    /// Proxies that we believe when they name a client's address.
    pub proxies: Vec<Proxy>,
    /// Hosts whose pages may send requests to the legacy paths.
    pub sites: Vec<String>,
}

/// One token: its name for the log, its hash, and its rights.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// Who has it: the name in the log.
    pub name: Arc<str>,
    /// SHA-256 of the token.
    pub hash: [u8; 32],
    /// Its rights; `None`: it may do everything.
    pub allow: Option<Vec<Rule>>,
}

impl Token {
    /// The hash by which we know a token.
    pub fn hash_of(token: &str) -> [u8; 32] {
        Sha256::digest(token.as_bytes()).into()
    }

    /// Its owner, calling from there.
    fn caller(&self, origin: Origin) -> Caller {
        Caller {
            client: format!("{}@{origin}", self.name).into(),
            origin,
            rights: self.allow.clone().map_or(Rights::All, Rights::Some),
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("name", &self.name)
            .field("allow", &self.allow)
            .finish_non_exhaustive()
    }
}

/// One entry of a token's `allow`: these commands for these outlets of these PDUs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// PDUs by name; empty: all.
    pub pdus: Vec<Glob>,
    /// OutletPattern; empty: all.
    pub outlets: Vec<OutletPattern>,
    /// Commands; empty: all.
    pub commands: Vec<Action>,
}

impl Rule {
    fn covers(&self, pdu: &str) -> bool {
        self.pdus.is_empty() || self.pdus.iter().any(|glob| glob.matches(pdu))
    }

    fn allows(&self, pdu: &str, outlet: &Outlet, action: Action) -> bool {
        self.covers(pdu)
            && (self.outlets.is_empty() || self.outlets.iter().any(|some| some.contain(outlet)))
            && (self.commands.is_empty() || self.commands.contains(&action))
    }
}

/// A name with `*` for any text and `?` for one character.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob(String);

impl Glob {
    /// Any text is one.
    pub fn new(pattern: impl Into<String>) -> Self {
        Self(pattern.into())
    }

    /// Does the whole of `text` match? Takes at most pattern times text steps.
    pub fn matches(&self, text: &str) -> bool {
        let (mut pattern, mut rest) = (self.0.chars(), text.chars());
        // The place behind the last star, and the place in the text where we try it.
        let mut star = None;
        loop {
            let (mut next_pattern, mut next_rest) = (pattern.clone(), rest.clone());
            match (next_pattern.next(), next_rest.next()) {
                (Some('*'), _) => {
                    star = Some((next_pattern.clone(), rest.clone()));
                    pattern = next_pattern;
                    continue;
                }
                (Some('?'), Some(_)) => {
                    (pattern, rest) = (next_pattern, next_rest);
                    continue;
                }
                (Some(wanted), Some(found)) if wanted == found => {
                    (pattern, rest) = (next_pattern, next_rest);
                    continue;
                }
                (None, None) => return true,
                _ => {}
            }
            // A mismatch: the last star takes one character more.
            let Some((behind, mut at)) = star.take() else {
                return false;
            };
            if at.next().is_none() {
                return false;
            }
            pattern = behind.clone();
            rest = at.clone();
            star = Some((behind, at));
        }
    }
}

/// Some outlets: a number, a range of numbers, or names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutletPattern {
    /// From the first to the last.
    Numbers(u32, u32),
    /// Ids that are not numbers, or `*`.
    Named(Glob),
}

impl OutletPattern {
    fn contain(&self, outlet: &Outlet) -> bool {
        match self {
            Self::Numbers(first, last) => outlet
                .number()
                .is_some_and(|number| (*first..=*last).contains(&number)),
            Self::Named(glob) => glob.matches(outlet.key()),
        }
    }
}

impl FromStr for OutletPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| Outlet::new(text.trim()).number();
        if let Some(one) = number(text) {
            return Ok(Self::Numbers(one, one));
        }
        if let Some((first, last)) = text.split_once('-')
            && let (Some(first), Some(last)) = (number(first), number(last))
        {
            if first > last {
                return Err(format!(
                    "expected a range from low to high as \"1-8\", got {text:?}"
                ));
            }
            return Ok(Self::Numbers(first, last));
        }
        if text.is_empty() {
            return Err("expected an outlet or a range as \"1-8\", got an empty text".into());
        }
        Ok(Self::Named(Glob::new(text)))
    }
}

/// Which rules hold for a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// `/api`, and every path that is not one of the others: a token when there are any; never
    /// across sites.
    Api,
    /// The page: it does nothing by itself and needs no token; not within other sites' pages.
    Page,
    /// `/healthz`: for everybody; with tokens it names no PDUs.
    Health,
    /// `/power/control` and `/metrics`: as ever without tokens; with tokens, a token or a trusted
    /// network. Across sites only from those of the config.
    Legacy,
}

impl Door {
    /// The door of a path (without scheme, host and query).
    pub fn of(path: &str) -> Self {
        match path {
            "/" | "/page.js" | "/page.css" => Self::Page,
            "/healthz" => Self::Health,
            "/metrics" => Self::Legacy,
            path if path.starts_with("/power/") => Self::Legacy,
            _ => Self::Api,
        }
    }
}

/// The parts of an HTTP request's head that rights depend on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts<'a> {
    /// `GET` or `HEAD`.
    pub is_safe: bool,
    /// The `Host` header.
    pub host: Option<&'a str>,
    /// There is a header twice that must be there once.
    pub is_ambiguous: bool,
    /// The `Origin` header.
    pub origin: Option<&'a str>,
    /// The `Sec-Fetch-Site` header.
    pub fetch_site: Option<&'a str>,
    /// The `Sec-Fetch-Mode` header.
    pub fetch_mode: Option<&'a str>,
    /// The `Sec-Fetch-Dest` header.
    pub fetch_dest: Option<&'a str>,
    /// The `User-Agent` header.
    pub user_agent: Option<&'a str>,
    /// The `Referer` header.
    pub referer: Option<&'a str>,
    /// The `Authorization` header.
    pub authorization: Option<&'a str>,
}

impl<'a> Facts<'a> {
    fn bearer(&self) -> Option<&'a str> {
        let (scheme, token) = self.authorization?.trim().split_once(' ')?;
        scheme
            .eq_ignore_ascii_case("bearer")
            .then(|| token.trim_start())
    }

    /// Programs do not call themselves Mozilla; every browser does.
    fn is_of_a_browser(&self) -> bool {
        self.user_agent
            .is_some_and(|agent| agent.starts_with("Mozilla/"))
            || self.referer.is_some()
            || self.origin.is_some()
            || self.fetch_site.is_some()
    }
}

/// The kind of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeniedKind {
    /// No token, or not one of ours.
    Unauthorized,
    /// This client, token or site must not do that.
    Forbidden,
    /// Too many wrong tokens from this client's address.
    TooMany,
}

/// A refused request, with a sentence for the person who reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// The kind.
    pub kind: DeniedKind,
    /// The sentence: what the request needed.
    pub reason: String,
}

impl Denied {
    /// A refusal of this kind.
    pub fn new(kind: DeniedKind, reason: impl Into<String>) -> Self {
        Self {
            kind,
            reason: reason.into(),
        }
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        match self.kind {
            DeniedKind::Unauthorized => 401,
            DeniedKind::Forbidden => 403,
            DeniedKind::TooMany => 429,
        }
    }

    /// The status in words.
    pub fn title(&self) -> &'static str {
        match self.kind {
            DeniedKind::Unauthorized => "Unauthorized",
            DeniedKind::Forbidden => "Forbidden",
            DeniedKind::TooMany => "Too Many Requests",
        }
    }
}

/// Who sent a request, with their rights.
#[derive(Clone, Debug)]
pub struct Caller {
    client: Arc<str>,
    origin: Origin,
    rights: Rights,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Rights {
    All,
    Some(Vec<Rule>),
    None,
}

impl Caller {
    /// Who it is, for the log and [`crate::request::Request::client`]: an address, with
    /// `<token's name>@` before it when the request has a token.
    pub fn client(&self) -> &Arc<str> {
        &self.client
    }

    /// Where it is.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// Has it the same rights as the other? Then both see the same.
    pub fn sees_as(&self, other: &Self) -> bool {
        self.rights == other.rights
    }

    /// May it give this command for this outlet?
    pub fn may(&self, pdu: &str, outlet: &Outlet, action: Action) -> bool {
        match &self.rights {
            Rights::All => true,
            Rights::Some(rules) => rules.iter().any(|rule| rule.allows(pdu, outlet, action)),
            Rights::None => false,
        }
    }

    /// May it give this command for all of these outlets (an alias, a group)? Of none: no, unless
    /// it may do everything.
    pub fn may_all<'o>(
        &self,
        outlets: impl IntoIterator<Item = (&'o str, &'o Outlet)>,
        action: Action,
    ) -> bool {
        if matches!(self.rights, Rights::All) {
            return true;
        }
        let mut outlets = outlets.into_iter().peekable();
        outlets.peek().is_some() && outlets.all(|(pdu, outlet)| self.may(pdu, outlet, action))
    }

    /// May it know of this PDU, its outlets and their last known states?
    pub fn may_see(&self, pdu: &str) -> bool {
        match &self.rights {
            Rights::All => true,
            Rights::Some(rules) => rules.iter().any(|rule| rule.covers(pdu)),
            Rights::None => false,
        }
    }

    /// May it do everything? Then it may also learn which names the config has.
    pub fn may_everything(&self) -> bool {
        matches!(self.rights, Rights::All)
    }
}

impl Access {
    /// Does the config have tokens at all?
    pub fn is_on(&self) -> bool {
        !self.tokens.is_empty()
    }

    /// Do we trust the client's address?
    pub fn trusts(&self, guest: &Guest) -> bool {
        guest.is_known()
            && match guest.origin {
                Origin::Unix => true,
                Origin::Ip(ip) => self.trusts_address(ip),
            }
    }

    /// Is it in one of the trusted networks?
    pub fn trusts_address(&self, ip: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(ip))
    }

    /// The entry of this token. The search takes the same time for each, and when there is none.
    fn token(&self, shown: &str) -> Option<&Token> {
        let hash = Token::hash_of(shown);
        let mut found = None;
        for token in &self.tokens {
            if bool::from(token.hash.ct_eq(&hash)) {
                found = Some(token);
            }
        }
        found
    }

    /// The token whose name stands in the client's certificate.
    fn certified(&self, guest: &Guest) -> Option<&Token> {
        let name = guest.certified.as_ref()?;
        self.tokens.iter().find(|token| token.name == *name)
    }

    /// The line protocol has no tokens: when the config has any, only trusted clients may use it,
    /// and those with a certificate.
    pub fn admit_line(&self, guest: &Guest) -> Result<Caller, Denied> {
        if let Some(token) = self.certified(guest) {
            return Ok(token.caller(guest.origin));
        }
        if self.is_on() && !self.trusts(guest) {
            return Err(Denied::new(
                DeniedKind::Forbidden,
                "the line protocol is for daemon.access.trusted_networks and for client \
                 certificates only",
            ));
        }
        Ok(Caller {
            client: guest.origin.to_string().into(),
            origin: guest.origin,
            rights: Rights::All,
        })
    }

    /// Who sends this HTTP request, or why we refuse it.
    pub fn admit(&self, guest: &Guest, door: Door, facts: &Facts<'_>) -> Result<Caller, Denied> {
        let origin = guest.origin;
        let as_client = |rights| Caller {
            client: origin.to_string().into(),
            origin,
            rights,
        };
        if door == Door::Health {
            let rights = if self.is_on() {
                Rights::None
            } else {
                Rights::All
            };
            return Ok(as_client(rights));
        }
        let forbidden = |reason: &str| Err(Denied::new(DeniedKind::Forbidden, reason));
        if facts.is_ambiguous {
            return forbidden("a header that counts is there twice");
        }
        self.same_site(guest, door, facts)?;
        if !self.is_on() {
            return Ok(as_client(Rights::All));
        }
        if let Some(shown) = facts.bearer() {
            let token = self.token(shown).ok_or_else(|| {
                Denied::new(DeniedKind::Unauthorized, "this is not a token of ours")
            })?;
            return Ok(token.caller(origin));
        }
        let certified = self.certified(guest).filter(|_| door != Door::Page);
        if certified.is_some() || (door == Door::Legacy && self.trusts(guest)) {
            // Another site's page may have an address of ours in an <img>. Over plain HTTP the
            // browser does not say so, and it shows a certificate to whoever asks for one.
            if facts.is_of_a_browser()
                && !matches!(facts.fetch_site, Some("same-origin" | "none"))
                && !(door == Door::Legacy && self.is_of_a_named_site(facts))
            {
                return forbidden(
                    "a browser needs a token here: a page of another site could have sent it",
                );
            }
            return Ok(certified.map_or(as_client(Rights::All), |token| token.caller(origin)));
        }
        match door {
            Door::Page => Ok(as_client(Rights::None)),
            Door::Api if origin == Origin::Unix && guest.is_known() => Ok(as_client(Rights::All)),
            Door::Api | Door::Legacy | Door::Health => Err(Denied::new(
                DeniedKind::Unauthorized,
                format!(
                    "a token is needed, in the header Authorization: Bearer <token>{}{}",
                    guest.why_unknown(),
                    guest.why_not_certified(),
                ),
            )),
        }
    }
}

#[cfg(test)]
mod tests;
