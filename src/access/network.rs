//! IP networks, and the addresses that count as one client.

use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// An IP network, as `10.0.0.0/8`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// As 128 bits, IPv4 as IPv4-mapped, so that both forms of an address are one.
    bits: u128,
    prefix: u32,
}

/// An address as 128 bits, IPv4 as `::ffff:a.b.c.d`.
fn bits_of(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn mask(prefix: u32) -> u128 {
    u128::MAX
        .checked_shl(128_u32.saturating_sub(prefix))
        .unwrap_or(0)
}

impl Network {
    /// Is the address in it?
    pub fn contains(&self, ip: IpAddr) -> bool {
        bits_of(ip) & mask(self.prefix) == self.bits
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected a network as \"10.0.0.0/8\" or \"::1/128\", got {text:?}");
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let ip: IpAddr = address.parse().map_err(|_| wrong())?;
        let most: u32 = if ip.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => most,
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits
                .parse()
                .ok()
                .filter(|prefix| *prefix <= most)
                .ok_or_else(wrong)?,
            Some(_) => return Err(wrong()),
        };
        let prefix = prefix + 128 - most;
        let bits = bits_of(ip);
        if bits & !mask(prefix) != 0 {
            return Err(format!(
                "{text} has bits behind its prefix: expected the network's own address"
            ));
        }
        Ok(Self { bits, prefix })
    }
}

/// The address that stands for the client where we count clients: of IPv6 the whole /64, because
/// one client can choose among all of its addresses.
pub fn counted_as(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(v4) => v4.into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & mask(64)).into(),
    }
}
