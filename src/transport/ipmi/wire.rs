//! The bytes of IPMI over LAN, both ways: RMCP, the session headers of IPMI 1.5 and 2.0, and the
//! message within (IPMI 2.0 specification, chapter 13).

/// RMCP: version 1.0, no acknowledgement wanted, class IPMI.
const RMCP: [u8; 4] = [6, 0, 0xff, 7];

/// The authentication type that stands for the format of IPMI 2.0.
const IN_RMCP_PLUS: u8 = 6;

/// The BMC's address, and that of a program that asks it.
const BMC: u8 = 0x20;
const CONSOLE: u8 = 0x81;

/// Payload types of IPMI 2.0.
pub(super) const OPEN_SESSION: u8 = 0x10;
pub(super) const RAKP1: u8 = 0x12;
pub(super) const RAKP3: u8 = 0x14;

/// An IPMI message in a session: encrypted and signed.
pub(super) const SEALED: u8 = 0xc0;

/// The bits of a payload type that are no type.
const FLAGS: u8 = 0xc0;

/// Network functions.
pub(super) const CHASSIS: u8 = 0x00;
pub(super) const APP: u8 = 0x06;

/// What a BMC is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) function: u8,
    pub(super) command: u8,
    pub(super) data: Vec<u8>,
}

/// What it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Response {
    /// 0: it has done it.
    pub(super) completion: u8,
    pub(super) data: Vec<u8>,
}

/// How a 1.5 packet shows whose it is: the number of the way, and the code where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Authentication {
    pub(super) kind: u8,
    pub(super) code: [u8; 16],
}

/// One datagram, taken apart; nothing in it is believed yet.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Packet<'d> {
    /// In the format of IPMI 1.5.
    Old {
        authentication: Authentication,
        sequence: u32,
        session: u32,
        message: &'d [u8],
    },
    /// In that of IPMI 2.0; what is signed are all bytes behind RMCP but the signature at the end.
    New {
        kind: u8,
        session: u32,
        payload: &'d [u8],
        behind_rmcp: &'d [u8],
    },
}

/// Takes the next `N` bytes off.
fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*taken)
}

/// Takes a datagram apart.
pub(super) fn packet(datagram: &[u8]) -> Result<Packet<'_>, &'static str> {
    let Some(([6, _, _, class], behind_rmcp)) = datagram.split_first_chunk() else {
        return Err("no RMCP");
    };
    if *class != 7 {
        return Err("RMCP of another class");
    }
    let short = "it ends too soon";
    match behind_rmcp.first() {
        Some(&IN_RMCP_PLUS) => new_packet(behind_rmcp).ok_or(short),
        _ => old_packet(behind_rmcp).ok_or(short),
    }
}

fn old_packet(mut bytes: &[u8]) -> Option<Packet<'_>> {
    let rest = &mut bytes;
    let [kind] = take(rest)?;
    let sequence = u32::from_le_bytes(take(rest)?);
    let session = u32::from_le_bytes(take(rest)?);
    let code = match kind {
        0 => [0; 16],
        _ => take(rest)?,
    };
    let [length] = take(rest)?;
    Some(Packet::Old {
        authentication: Authentication { kind, code },
        sequence,
        session,
        message: rest.get(..usize::from(length))?,
    })
}

fn new_packet(behind_rmcp: &[u8]) -> Option<Packet<'_>> {
    let mut bytes = behind_rmcp;
    let rest = &mut bytes;
    let [_, kind] = take(rest)?;
    let session = u32::from_le_bytes(take(rest)?);
    let _sequence: [u8; 4] = take(rest)?;
    let length = u16::from_le_bytes(take(rest)?);
    Some(Packet::New {
        kind,
        session,
        payload: rest.get(..usize::from(length))?,
        behind_rmcp,
    })
}

/// Is it a payload type of an answer while a session is being opened?
pub(super) fn is_of_a_login(kind: u8) -> bool {
    matches!(kind & !FLAGS, 0x11 | 0x13 | 0x15)
}

/// A datagram in the format of IPMI 1.5.
pub(super) fn old_datagram(
    authentication: Authentication,
    sequence: u32,
    session: u32,
    message: &[u8],
) -> Vec<u8> {
    let mut bytes = RMCP.to_vec();
    bytes.push(authentication.kind);
    bytes.extend(sequence.to_le_bytes());
    bytes.extend(session.to_le_bytes());
    if authentication.kind != 0 {
        bytes.extend(authentication.code);
    }
    bytes.push(length_of(message));
    bytes.extend(message);
    bytes
}

/// A datagram in the format of IPMI 2.0, as yet without a signature.
pub(super) fn new_datagram(kind: u8, session: u32, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = RMCP.to_vec();
    bytes.extend([IN_RMCP_PLUS, kind]);
    bytes.extend(session.to_le_bytes());
    bytes.extend(sequence.to_le_bytes());
    let length = u16::try_from(payload.len()).unwrap_or(u16::MAX);
    bytes.extend(length.to_le_bytes());
    bytes.extend(payload);
    bytes
}

/// Puts a signature of everything behind RMCP at the end, with the padding before it.
pub(super) fn sign(datagram: &mut Vec<u8>, sign: impl FnOnce(&[u8]) -> Vec<u8>) {
    // The padding's length and the next header make it whole.
    let padding = (datagram.len() - RMCP.len() + 2).wrapping_neg() % 4;
    let padding = [0xff; 3].into_iter().take(padding);
    let before = datagram.len();
    datagram.extend(padding);
    let padded = u8::try_from(datagram.len() - before).unwrap_or(0);
    datagram.extend([padded, 7]);
    let code = sign(datagram.get(RMCP.len()..).unwrap_or_default());
    datagram.extend(code);
}

fn length_of(bytes: &[u8]) -> u8 {
    u8::try_from(bytes.len()).unwrap_or(u8::MAX)
}

/// The byte that makes the sum of all zero.
fn checksum(bytes: &[u8]) -> u8 {
    let sum = bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    sum.wrapping_neg()
}

/// The message of a request; `number` is its own among those of a session, 0 to 63.
pub(super) fn message(request: &Request, number: u8) -> Vec<u8> {
    let head = [BMC, request.function << 2];
    let mut body = vec![CONSOLE, number << 2, request.command];
    body.extend(&request.data);
    let sums = (checksum(&head), checksum(&body));
    let mut bytes = head.to_vec();
    bytes.push(sums.0);
    bytes.extend(body);
    bytes.push(sums.1);
    bytes
}

/// What a message turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// The answer to the request.
    Answer(Response),
    /// That to another one.
    Other,
    /// None; why.
    Garbled(&'static str),
}

/// Reads a message as the answer to `request`, which had this `number`.
pub(super) fn answer(message: &[u8], request: &Request, number: u8) -> Said {
    let [CONSOLE, function, sum, rest @ ..] = message else {
        return Said::Garbled("no message to us");
    };
    if checksum(&[CONSOLE, *function]) != *sum || checksum(rest) != 0 {
        return Said::Garbled("a checksum is wrong");
    }
    let [_, sequence, command, completion, data @ .., _] = rest else {
        return Said::Garbled("the message is too short");
    };
    if function >> 2 != request.function | 1
        || sequence >> 2 != number
        || *command != request.command
    {
        return Said::Other;
    }
    Said::Answer(Response {
        completion: *completion,
        data: data.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> Request {
        Request {
            function: CHASSIS,
            command: 1,
            data: Vec::new(),
        }
    }

    #[test]
    fn a_request_is_the_one_that_ipmitool_sends() {
        let capabilities = Request {
            function: APP,
            command: 0x38,
            data: vec![0x8e, 4],
        };
        let none = Authentication {
            kind: 0,
            code: [0; 16],
        };
        assert_eq!(
            old_datagram(none, 0, 0, &message(&capabilities, 0)),
            [
                6, 0, 0xff, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0x20, 0x18, 0xc8, 0x81, 0, 0x38, 0x8e,
                4, 0xb5
            ]
        );
    }

    #[test]
    fn an_answer_is_told_from_what_is_none() {
        let said = |message: &[u8]| answer(message, &status(), 5);
        let good = [
            0x81, 0x04, 0x7b, 0x20, 0x14, 0x01, 0x00, 0x21, 0x10, 0x40, 0x5a,
        ];
        let response = Response {
            completion: 0,
            data: vec![0x21, 0x10, 0x40],
        };
        assert_eq!(said(&good), Said::Answer(response));
        assert_eq!(answer(&good, &status(), 6), Said::Other);
        // The request itself, which comes back.
        let echo = message(&status(), 5);
        assert_eq!(said(&echo), Said::Garbled("no message to us"));
        for at in 0..good.len() {
            let mut bad = good;
            bad[at] ^= 1;
            assert!(matches!(said(&bad), Said::Garbled(_)), "byte {at}");
            assert!(matches!(said(&good[..at]), Said::Garbled(_)), "{at} bytes");
        }
    }

    #[test]
    fn packets_of_both_formats_are_taken_apart() {
        let md5 = Authentication {
            kind: 2,
            code: [7; 16],
        };
        let datagram = old_datagram(md5, 3, 0x0102_0304, b"message");
        let old = Packet::Old {
            authentication: md5,
            sequence: 3,
            session: 0x0102_0304,
            message: b"message",
        };
        assert_eq!(packet(&datagram), Ok(old));
        let mut datagram = new_datagram(SEALED, 9, 2, b"payload");
        sign(&mut datagram, |signed| {
            assert_eq!(signed.len() % 4, 0);
            vec![1; 12]
        });
        match packet(&datagram) {
            Ok(Packet::New { kind, payload, .. }) => {
                assert_eq!((kind, payload), (SEALED, &b"payload"[..]));
            }
            other => panic!("{other:?}"),
        }
        for length in 0..datagram.len() {
            let cut = packet(&datagram[..length]);
            assert_eq!(cut.is_ok(), length >= 4 + 12 + 7, "{length} bytes");
        }
    }
}
