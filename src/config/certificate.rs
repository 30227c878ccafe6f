//! What the program wants to know of a certificate: until when it is valid, and whose it is.
//!
//! Invariant: decides nothing. Whether a certificate can be trusted is `rustls`'s business.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// The parts of a certificate (RFC 5280) that are read here.
struct Parts<'a> {
    /// From when and until when it is valid.
    validity: &'a [u8],
    /// Distinguished name of its owner.
    subject: &'a [u8],
    /// What stands behind the subject.
    rest: &'a [u8],
}

/// Takes one element off the front of `der`: its tag and its content.
fn element<'a>(der: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (tag, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match usize::from(*first) {
        short @ 0..=0x7f => (short, rest),
        long => {
            let (bytes, rest) = rest.split_at_checked(long & 0x7f)?;
            // No certificate is longer than three bytes can say.
            let is_sane = (1..=3).contains(&bytes.len());
            let length = bytes
                .iter()
                .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
            (Some(length).filter(|_| is_sane)?, rest)
        }
    };
    let (content, rest) = rest.split_at_checked(length)?;
    *der = rest;
    Some((*tag, content))
}

/// Takes the element that must have this tag off the front of `der`.
fn expect<'a>(der: &mut &'a [u8], wanted: u8) -> Option<&'a [u8]> {
    element(der)
        .filter(|(tag, _)| *tag == wanted)
        .map(|(_, content)| content)
}

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_ID: u8 = 0x06;
const OCTETS: u8 = 0x04;
const UTC_TIME: u8 = 0x17;
const LONG_TIME: u8 = 0x18;
/// The version, and the extensions, of a certificate.
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
/// Strings of ASCII or UTF-8: UTF8String, PrintableString, IA5String.
const STRINGS: [u8; 3] = [0x0c, 0x13, 0x16];
/// Alternative names that are text: mail address, host name, URI.
const TEXT_NAMES: [u8; 3] = [0x81, 0x82, 0x86];
/// 2.5.4.3
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
/// 2.5.29.17
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1d, 0x11];

fn parts(mut der: &[u8]) -> Option<Parts<'_>> {
    let mut certificate = expect(&mut der, SEQUENCE)?;
    let mut signed = expect(&mut certificate, SEQUENCE)?;
    if signed.first() == Some(&VERSION) {
        element(&mut signed)?;
    }
    // Serial number, algorithm, issuer.
    for _ in 0..3 {
        element(&mut signed)?;
    }
    let validity = expect(&mut signed, SEQUENCE)?;
    let subject = expect(&mut signed, SEQUENCE)?;
    Some(Parts {
        validity,
        subject,
        rest: signed,
    })
}

/// `YYMMDDhhmmssZ` or `YYYYMMDDhhmmssZ`.
fn time((tag, text): (u8, &[u8])) -> Option<Timestamp> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let text = match tag {
        // RFC 5280: 50 and above are of the last century.
        UTC_TIME if text.get(..2)? < "50" => format!("20{text}"),
        UTC_TIME => format!("19{text}"),
        LONG_TIME => text.to_owned(),
        _ => return None,
    };
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<i8>().ok();
    let year = text.get(..4)?.parse().ok()?;
    let [month, day] = [number(4, 6)?, number(6, 8)?];
    let [hour, minute, second] = [number(8, 10)?, number(10, 12)?, number(12, 14)?];
    let time = DateTime::new(year, month, day, hour, minute, second, 0).ok()?;
    Some(time.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

/// From when and until when a certificate is valid; nothing when it cannot be read.
pub(super) fn validity(der: &[u8]) -> Option<(Timestamp, Timestamp)> {
    let mut validity = parts(der)?.validity;
    Some((
        time(element(&mut validity)?)?,
        time(element(&mut validity)?)?,
    ))
}

/// The name of a certificate's owner: its common name, or else its first alternative name.
pub fn name_of(der: &[u8]) -> Option<String> {
    let parts = parts(der)?;
    common_name(parts.subject).or_else(|| alternative_name(parts.rest))
}

fn text(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    Some(text.to_owned()).filter(|text| !text.is_empty())
}

fn common_name(mut subject: &[u8]) -> Option<String> {
    while let Some(mut set) = expect(&mut subject, SET) {
        while let Some(mut attribute) = expect(&mut set, SEQUENCE) {
            if expect(&mut attribute, OBJECT_ID)? == COMMON_NAME {
                let (tag, value) = element(&mut attribute)?;
                return text(value).filter(|_| STRINGS.contains(&tag));
            }
        }
    }
    None
}

fn alternative_name(mut rest: &[u8]) -> Option<String> {
    let mut outer = loop {
        match element(&mut rest)? {
            (EXTENSIONS, content) => break content,
            _ => continue,
        }
    };
    let mut extensions = expect(&mut outer, SEQUENCE)?;
    while let Some(mut extension) = expect(&mut extensions, SEQUENCE) {
        if expect(&mut extension, OBJECT_ID)? != ALTERNATIVE_NAMES {
            continue;
        }
        // A flag may stand before the content: is the extension critical?
        let mut content = loop {
            match element(&mut extension)? {
                (OCTETS, content) => break content,
                _ => continue,
            }
        };
        let mut names = expect(&mut content, SEQUENCE)?;
        while let Some((tag, name)) = element(&mut names) {
            if TEXT_NAMES.contains(&tag) {
                return text(name);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};

    fn der(params: CertificateParams) -> Vec<u8> {
        let key = KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("signed").der().to_vec()
    }

    #[test]
    fn names_and_times_are_read() {
        let mut params = CertificateParams::new(vec!["rack.lab".to_owned()]).expect("params");
        params.not_before = date_time_ymd(2001, 2, 3);
        params.not_after = date_time_ymd(2061, 7, 8);
        params.distinguished_name.remove(DnType::CommonName);
        params
            .distinguished_name
            .push(DnType::OrganizationName, "the lab");
        let nameless = der(params.clone());
        assert_eq!(name_of(&nameless).as_deref(), Some("rack.lab"));
        params.distinguished_name.push(DnType::CommonName, "lava");
        let named = der(params);
        assert_eq!(name_of(&named).as_deref(), Some("lava"));
        let (from, until) = validity(&named).expect("times");
        assert_eq!(from.to_string(), "2001-02-03T00:00:00Z");
        assert_eq!(until.to_string(), "2061-07-08T00:00:00Z");
        // However it is cut, nothing is read beyond its end.
        for length in 0..named.len() {
            let cut = named.get(..length).expect("a part");
            assert!(validity(cut).is_none() && name_of(cut).is_none());
        }
    }
}
