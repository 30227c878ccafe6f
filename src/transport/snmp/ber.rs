//! The outside of a message, read before a decoder sees it: both decoders here trust the nesting,
//! and one of them recurses.

use simple_asn1::{ASN1Block, ASN1Class};

/// The deepest nesting an SNMP message needs: message, PDU, list, binding, value; v3 has one more.
const DEEPEST: usize = 8;

/// The blocks of `bytes`; an error text when they are nested deeper than SNMP needs, or no BER.
pub(super) fn blocks(bytes: &[u8]) -> Result<Vec<ASN1Block>, String> {
    if !is_shallow(bytes) {
        return Err("its parts are nested too deeply or cut off".into());
    }
    simple_asn1::from_der(bytes).map_err(|error| error.to_string().to_lowercase())
}

/// Are the constructed parts of `bytes` nested no deeper than [`DEEPEST`]? Without recursion.
pub(super) fn is_shallow(bytes: &[u8]) -> bool {
    // The ends of the constructed parts that are open where we stand.
    let mut ends: Vec<usize> = Vec::with_capacity(DEEPEST);
    let mut at = 0;
    while at < bytes.len() {
        while ends.last().is_some_and(|end| *end <= at) {
            ends.pop();
        }
        let Some((constructed, start, end)) = header(bytes, at) else {
            return false;
        };
        if end > ends.last().copied().unwrap_or(bytes.len()) {
            return false;
        }
        if constructed {
            if ends.len() == DEEPEST {
                return false;
            }
            ends.push(end);
            at = start;
        } else {
            at = end;
        }
    }
    true
}

/// Whether the part at `at` is constructed, and where its content begins and ends.
fn header(bytes: &[u8], at: usize) -> Option<(bool, usize, usize)> {
    let tag = *bytes.get(at)?;
    // SNMP has no tag beyond 30, so none that goes on in further bytes.
    if tag & 0x1f == 0x1f {
        return None;
    }
    let first = *bytes.get(at + 1)?;
    let (start, length) = if first < 0x80 {
        (at + 2, usize::from(first))
    } else {
        let count = usize::from(first & 0x7f);
        let digits = bytes.get(at + 2..at + 2 + count).filter(|_| count <= 4)?;
        let length = digits
            .iter()
            .fold(0usize, |length, digit| (length << 8) | usize::from(*digit));
        (at + 2 + count, length)
    };
    let end = start.checked_add(length)?;
    (end <= bytes.len()).then_some((tag & 0x20 != 0, start, end))
}

/// The parts of a sequence.
pub(super) fn sequence(block: &ASN1Block) -> Option<&[ASN1Block]> {
    match block {
        ASN1Block::Sequence(_, parts) => Some(parts),
        _ => None,
    }
}

/// An integer.
pub(super) fn integer(block: &ASN1Block) -> Option<i64> {
    match block {
        ASN1Block::Integer(_, number) => i64::try_from(number).ok(),
        _ => None,
    }
}

/// The bytes of an octet string.
pub(super) fn octets(block: &ASN1Block) -> Option<&[u8]> {
    match block {
        ASN1Block::OctetString(_, bytes) => Some(bytes),
        _ => None,
    }
}

/// A PDU's number (its context-specific tag) and content.
pub(super) fn pdu(block: &ASN1Block) -> Option<(u32, &[u8])> {
    match block {
        ASN1Block::Unknown(ASN1Class::ContextSpecific, true, _, tag, content) => {
            Some((u32::try_from(tag).ok()?, content))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_shallow_messages_reach_a_decoder() {
        let nested = |depth: usize| {
            let mut bytes = vec![0x05, 0x00];
            for _ in 0..depth {
                let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes();
                let mut outer = vec![0x30, 0x82, length[0], length[1]];
                outer.extend(bytes);
                bytes = outer;
            }
            bytes
        };
        assert!(blocks(&nested(DEEPEST)).is_ok());
        assert!(blocks(&nested(DEEPEST + 1)).is_err());
        assert!(blocks(&nested(2000)).is_err());
        for cut in [
            &[0x30][..],
            &[0x30, 0x02, 0x05],
            &[0x30, 0x89, 1, 1, 1, 1, 1, 1, 1, 1, 1],
            &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff],
            &[0x30, 0x80, 0, 0],
            &[0xff, 0xff, 0xff],
        ] {
            assert!(blocks(cut).map_or(true, |parts| parts.is_empty() || cut[1] == 0x80));
        }
    }
}
