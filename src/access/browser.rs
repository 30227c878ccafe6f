//! Requests that another site made a browser send: by a page, or by a name of its own that its DNS
//! leads here.

use super::{Access, Came, Denied, DeniedKind, Door, Facts, Guest};
use std::net::{IpAddr, Ipv6Addr};

impl Access {
    /// Turns away a request that another site made a browser send.
    pub(super) fn same_site(
        &self,
        guest: &Guest,
        door: Door,
        facts: &Facts<'_>,
    ) -> Result<(), Denied> {
        let forbidden = |reason: String| Err(Denied::new(DeniedKind::Forbidden, reason));
        // A name that another site's DNS leads here makes that site's page one of ours.
        if let Some(host) = facts.host
            && self.asks_for_host(guest, door)
            && !self.is_ours(host)
        {
            return forbidden(format!(
                "the Host header {host:?} is not this daemon's: expected an IP address, localhost, \
                 a name listened on, or one of daemon.access.hosts"
            ));
        }
        // A link to the page may be anywhere; the page in somebody's frame may not.
        if door == Door::Page
            && facts.is_safe
            && facts.fetch_mode == Some("navigate")
            && facts.fetch_dest == Some("document")
        {
            return Ok(());
        }
        let hint = match door {
            Door::Legacy if self.is_of_a_named_site(facts) => return Ok(()),
            Door::Legacy => "; daemon.access.sites names those that may",
            Door::Api | Door::Page | Door::Health => "",
        };
        if let Some(site) = facts.fetch_site
            && !matches!(site, "same-origin" | "none")
        {
            return forbidden(format!(
                "a page of another site has sent this request{hint}"
            ));
        }
        if let Some(origin) = facts.origin
            && !self.is_own_origin(origin, facts.host)
        {
            return forbidden(format!(
                "a page of another site ({origin:?}) has sent this request{hint}"
            ));
        }
        Ok(())
    }

    /// Does the Host count here? Old programs call the legacy paths by any name. On loopback only a
    /// browser that somebody led astray uses a foreign one. A proxy of the config has checked it.
    fn asks_for_host(&self, guest: &Guest, door: Door) -> bool {
        match guest.came {
            Came::Introduced | Came::Untold => false,
            Came::Alone | Came::ByStranger => {
                door != Door::Legacy || self.is_on() || guest.to_loopback
            }
        }
    }

    /// Did a page of one of `access.sites` send it?
    pub(super) fn is_of_a_named_site(&self, facts: &Facts<'_>) -> bool {
        let page = facts.origin.or(facts.referer).and_then(authority);
        page.and_then(host_of).is_some_and(|host| {
            let mut sites = self.sites.iter();
            sites.any(|site| site.eq_ignore_ascii_case(host))
        })
    }

    /// Did the page that sent it come from the host that gets it? Or from a name of ours without a
    /// port: a proxy in front of us may hand on another Host.
    fn is_own_origin(&self, origin: &str, host: Option<&str>) -> bool {
        authority(origin).is_some_and(|authority| {
            host.is_some_and(|host| host.eq_ignore_ascii_case(authority))
                || self
                    .hosts
                    .iter()
                    .any(|ours| ours.eq_ignore_ascii_case(authority))
        })
    }

    /// Does that Host header, with or without a port, name us?
    fn is_ours(&self, host: &str) -> bool {
        host_of(host).is_some_and(|name| {
            name.parse::<IpAddr>().is_ok()
                || name.eq_ignore_ascii_case("localhost")
                || self
                    .hosts
                    .iter()
                    .any(|ours| ours.eq_ignore_ascii_case(name))
        })
    }
}

/// The part of a page's URL between the scheme and the path.
fn authority(url: &str) -> Option<&str> {
    let mut schemes = ["http://", "https://"].iter();
    let rest = schemes.find_map(|scheme| url.strip_prefix(scheme))?;
    rest.split(['/', '?', '#']).next()
}

/// The host of an authority, without its port, brackets and final dot.
fn host_of(authority: &str) -> Option<&str> {
    let is_port = |port: &str| port.bytes().all(|b| b.is_ascii_digit());
    if let Some(rest) = authority.strip_prefix('[') {
        let (address, tail) = rest.split_once(']')?;
        let is_one = address.parse::<Ipv6Addr>().is_ok()
            && (tail.is_empty() || tail.strip_prefix(':').is_some_and(is_port));
        return is_one.then_some(address);
    }
    let name = match authority.rsplit_once(':') {
        Some((name, port)) if is_port(port) => name,
        Some(_) => return None,
        None => authority,
    };
    Some(name.strip_suffix('.').unwrap_or(name))
}
