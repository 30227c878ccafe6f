//! The guard at every way in: makes a [`Caller`] of each request, turns others away, and writes
//! down whom. The rules are in the module `access`; here are the headers, the clock and the log.

use crate::access::{Access, Buckets, Caller, Denied, DeniedKind, Door, Facts, Hops, Origin, Peer};
use crate::config::Alias;
use crate::dispatch::Dispatcher;
use crate::request::{Action, Target};
use log::warn;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

/// Wrong tokens that an address may show per second, once it has shown as many as it may at once.
const GUESSES_PER_SECOND: f64 = 0.5;
/// Log lines about an address, likewise.
const LINES: (u32, f64) = (20, 1.0);
/// Addresses that are remembered; an attacker with more is slowed down all the same.
const ADDRESSES: usize = 4096;
/// A request's path in the log is cut here.
const LOGGED_PATH: usize = 200;

/// Shared by the front (lines) and `http` (requests).
pub(super) struct Guard {
    access: RwLock<Arc<Access>>,
    guesses: Mutex<Buckets>,
    lines: Mutex<Buckets>,
    /// Refusals that were not logged since the last that was.
    unlogged: AtomicU64,
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").finish_non_exhaustive()
    }
}

impl Guard {
    pub(super) fn new(access: &Access, wrong_tokens: u32) -> Self {
        let (burst, per_second) = LINES;
        Self {
            access: RwLock::new(Arc::new(with_own_name(access))),
            guesses: Mutex::new(guesses(wrong_tokens)),
            lines: Mutex::new(Buckets::new(burst, per_second, ADDRESSES)),
            unlogged: AtomicU64::new(0),
        }
    }

    /// Other rules from now on.
    pub(super) fn follow(&self, access: &Access) {
        *self.access.write().unwrap_or_else(PoisonError::into_inner) =
            Arc::new(with_own_name(access));
    }

    /// So many wrong tokens from now on; who has shown some begins anew.
    pub(super) fn allow_wrong_tokens(&self, most: u32) {
        *self.guesses.lock().unwrap_or_else(PoisonError::into_inner) = guesses(most);
    }

    fn access(&self) -> Arc<Access> {
        Arc::clone(&self.access.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// May this address have as many connections as it likes? Through a proxy come many clients.
    pub(super) fn may_crowd(&self, ip: IpAddr) -> bool {
        let (access, origin) = (self.access(), Origin::Ip(ip));
        access.trusts_address(ip) || access.is_proxy(origin)
    }

    /// Who sends this HTTP request to `path` (without scheme, host and query)? One that is turned
    /// away has been logged.
    pub(super) fn admit(
        &self,
        request: &tiny_http::Request,
        peer: &Peer,
        path: &str,
    ) -> Result<Caller, Denied> {
        let (facts, hops) = read(request);
        let access = self.access();
        let guest = access.guest(peer, &hops);
        let admitted = access.admit(&guest, Door::of(path), &facts);
        admitted.map_err(|mut denied| {
            // Who guesses is told less often; a token that is one of ours always passes.
            if denied.kind == DeniedKind::Unauthorized
                && facts.authorization.is_some()
                && !self.may_guess(guest.origin)
            {
                denied = Denied::new(
                    DeniedKind::TooMany,
                    "too many wrong tokens from this address; try again in a few seconds",
                );
            }
            let path: String = path.chars().take(LOGGED_PATH).collect();
            let (client, what) = (guest.origin.to_string(), request.method());
            self.log(guest.origin, &client, &format!("{what} {path}"), &denied);
            denied
        })
    }

    fn may_guess(&self, origin: Origin) -> bool {
        let mut guesses = self.guesses.lock().unwrap_or_else(PoisonError::into_inner);
        guesses.take(ip_of(origin), Instant::now())
    }

    /// Who sends a legacy line? No proxy can tell whose it is.
    pub(super) fn admit_line(&self, peer: &Peer) -> Result<Caller, Denied> {
        let access = self.access();
        let guest = access.guest(peer, &Hops::default());
        access.admit_line(&guest).inspect_err(|denied| {
            self.log(guest.origin, &guest.origin.to_string(), "a line", denied);
        })
    }

    /// May the caller do this? For an alias: to all of its outlets. One who may not do everything
    /// is not told which names there are.
    pub(super) fn permit(
        &self,
        caller: &Caller,
        dispatcher: &Dispatcher,
        target: &Target,
        action: Action,
    ) -> Result<(), Denied> {
        if caller.may_everything() {
            return Ok(());
        }
        let may = match target {
            Target::Outlet { pdu, outlet } => caller.may(pdu, outlet, action),
            Target::Alias(alias) => match dispatcher.alias(alias) {
                Some(Alias::Outlets(outlets)) => {
                    let outlets = outlets.iter().map(|(pdu, outlet)| (pdu.as_str(), outlet));
                    caller.may_all(outlets, action)
                }
                Some(Alias::Dead(_)) | None => false,
            },
        };
        if may {
            return Ok(());
        }
        let denied = Denied::new(
            DeniedKind::Forbidden,
            format!("the token's rights do not cover {target} {action}"),
        );
        let what = format!("{target} {action}");
        self.log(caller.origin(), caller.client(), &what, &denied);
        Err(denied)
    }

    /// One line for each refusal, as long as an address does not flood the log.
    fn log(&self, origin: Origin, client: &str, what: &str, denied: &Denied) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if !lines.take(ip_of(origin), Instant::now()) {
            self.unlogged.fetch_add(1, Ordering::Relaxed);
            return;
        }
        drop(lines);
        let more = match self.unlogged.swap(0, Ordering::Relaxed) {
            0 => String::new(),
            more => format!(" (before this, {more} refusals were not logged)"),
        };
        let Denied { kind, reason } = denied;
        let text = format!("{client}: {what}: denied, {kind:?}: {reason}{more}");
        warn!(target: "pdud.access", CLIENT = client; "{text}");
    }
}

fn guesses(most: u32) -> Buckets {
    Buckets::new(most, GUESSES_PER_SECOND, ADDRESSES)
}

/// This machine's own name leads here, too.
fn with_own_name(access: &Access) -> Access {
    let mut access = access.clone();
    if let Ok(name) = rustix::system::uname().nodename().to_str() {
        let short = name.split('.').next().unwrap_or(name);
        for name in [name, short].into_iter().filter(|name| !name.is_empty()) {
            access.hosts.push(name.to_ascii_lowercase());
        }
    }
    access
}

/// The address that is counted; Unix sockets, which have none, are counted together.
fn ip_of(origin: Origin) -> IpAddr {
    match origin {
        Origin::Ip(ip) => ip,
        Origin::Unix => Ipv4Addr::UNSPECIFIED.into(),
    }
}

/// What the request's headers tell, and what proxies have written there.
fn read(request: &tiny_http::Request) -> (Facts<'_>, Hops<'_>) {
    let mut hops = Hops::default();
    let mut facts = Facts {
        is_safe: matches!(
            request.method(),
            tiny_http::Method::Get | tiny_http::Method::Head
        ),
        ..Facts::default()
    };
    for header in request.headers() {
        let name = header.field.as_str().as_str();
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted);
        let place = if is("Host") {
            &mut facts.host
        } else if is("Origin") {
            &mut facts.origin
        } else if is("Sec-Fetch-Site") {
            &mut facts.fetch_site
        } else if is("Sec-Fetch-Mode") {
            &mut facts.fetch_mode
        } else if is("Sec-Fetch-Dest") {
            &mut facts.fetch_dest
        } else if is("User-Agent") {
            &mut facts.user_agent
        } else if is("Referer") {
            &mut facts.referer
        } else if is("Authorization") {
            &mut facts.authorization
        } else {
            hops.note(name, header.value.as_str());
            continue;
        };
        facts.is_ambiguous |= place.is_some();
        *place = Some(header.value.as_str());
    }
    (facts, hops)
}

/// The headers that go with a refusal.
pub(super) fn headers(denied: &Denied) -> Option<(&'static str, &'static str)> {
    match denied.kind {
        DeniedKind::Unauthorized => Some(("WWW-Authenticate", "Bearer realm=\"pdudaemon\"")),
        DeniedKind::TooMany => Some(("Retry-After", "2")),
        DeniedKind::Forbidden => None,
    }
}
