//! The login of IPMI 1.5: a challenge, and an answer that the password signs.

use super::line::{Line, MD5, NONE, PASSWORD, Seal, Talk};
use super::wire::{APP, Request};
use super::words::completion;
use super::{Account, IpmiError, busy, random, strange};
use crate::transport::exchange::{Silence, Unanswered};
use crate::transport::{Deadline, Timed, TransportErrorKind};
use std::time::Duration;

/// A BMC says nothing to what a wrong password has signed. It has so much time to be slow, and so
/// many copies may be lost.
const PATIENCE: Duration = Duration::from_secs(7);
const ENOUGH: u32 = 3;

/// The best way of authentication among those that the BMC offers, each a bit.
fn best(offered: u8) -> Option<u8> {
    let ways = [MD5, PASSWORD, NONE];
    ways.into_iter().find(|kind| offered & (1 << kind) != 0)
}

/// Opens a session; `offered` are the BMC's ways of authentication.
pub(super) fn login(
    line: &mut Line,
    account: &Account,
    offered: u8,
    deadline: Deadline,
) -> Result<Talk, IpmiError> {
    let Some(kind) = best(offered) else {
        return Err(super::incompatible(format!(
            "the BMC speaks only IPMI 1.5, and of its ways to log in (bits {offered:02x}) none is \
             spoken here: MD5, password, none"
        )));
    };
    if kind == PASSWORD {
        log::debug!("the BMC takes nothing better than the password in clear");
    }
    let (name, password) = (account.name_16(), account.password_16());
    let (Some(name), Some(password)) = (name, password) else {
        return Err(IpmiError::Login(
            "the BMC speaks only IPMI 1.5, where a password has at most 16 bytes".into(),
        ));
    };
    let (temporary, challenge) = challenge(line, account, kind, name, deadline)?;
    let mut talk = Talk {
        seal: Seal::Old { kind, password },
        session: temporary,
        sequence: 0,
    };
    activate(line, account, &mut talk, challenge, deadline)?;
    Ok(talk)
}

fn challenge(
    line: &mut Line,
    account: &Account,
    kind: u8,
    name: [u8; 16],
    deadline: Deadline,
) -> Result<(u32, [u8; 16]), IpmiError> {
    let request = Request {
        function: APP,
        command: 0x39,
        data: [&[kind], name.as_slice()].concat(),
    };
    let asked = "Get Session Challenge";
    let answer = line.ask(&mut Talk::plain(), &request, deadline);
    let answer =
        answer.map_err(|silence| line.error(silence, TransportErrorKind::Timeout, asked))?;
    let unknown = match answer.completion {
        0 => None,
        0x81 => Some(account.unknown()),
        0x82 => Some("the BMC lets nobody in without a user name".to_owned()),
        other => Some(format!("{asked}: {}", completion(other))),
    };
    if let Some(why) = unknown {
        return Err(IpmiError::Login(why));
    }
    let taken = answer.data.split_first_chunk();
    let challenge =
        taken.and_then(|(id, rest)| Some((u32::from_le_bytes(*id), rest.first_chunk()?)));
    match challenge {
        Some((id, challenge)) => Ok((id, *challenge)),
        None => Err(strange(asked, "a session and a challenge", &answer.data)),
    }
}

fn activate(
    line: &mut Line,
    account: &Account,
    talk: &mut Talk,
    challenge: [u8; 16],
    deadline: Deadline,
) -> Result<(), IpmiError> {
    let role = account.privilege.number();
    let [a, b, c, d, ..] = random()?;
    // From where the BMC is to count; 0 would mean that there is no session.
    let first = [a | 1, b, c, d];
    let Seal::Old { kind, .. } = talk.seal else {
        return Ok(());
    };
    let request = Request {
        function: APP,
        command: 0x3a,
        data: [&[kind, role], challenge.as_slice(), first.as_slice()].concat(),
    };
    let asked = "Activate Session";
    let answer = line.ask(talk, &request, deadline.until(deadline.within(PATIENCE)));
    let answer = match answer {
        Err(Unanswered::Silent(Silence {
            tried: ENOUGH..,
            garbled: None,
            ..
        })) => {
            return Err(IpmiError::Login(format!(
                "the BMC knows {}, but is silent to what the password signs, as it is to a wrong one",
                account.user()
            )));
        }
        answer => answer.map_err(|silence| line.error(silence, TransportErrorKind::Timeout, asked)),
    }?;
    match answer.completion {
        0 => {}
        0x81..=0x83 => return Err(busy("the BMC has no session left to give")),
        0x86 => return Err(IpmiError::Login(account.no_privilege())),
        other => return Err(IpmiError::Login(format!("{asked}: {}", completion(other)))),
    }
    let taken = answer.data.first_chunk::<9>();
    let Some([way, s0, s1, s2, s3, n0, n1, n2, n3]) = taken.copied() else {
        return Err(strange(asked, "the session's numbers", &answer.data));
    };
    match (way & 0x0f, &mut talk.seal) {
        // From now on, nothing is signed any more.
        (NONE, Seal::Old { kind, .. }) => *kind = NONE,
        (way, Seal::Old { kind, .. }) if way == *kind => {}
        _ => return Err(strange(asked, "the way of authentication", &answer.data)),
    }
    talk.session = u32::from_le_bytes([s0, s1, s2, s3]);
    talk.sequence = u32::from_le_bytes([n0, n1, n2, n3]).max(1);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_way_that_the_bmc_offers_is_taken() {
        assert_eq!(best(0b1_0111), Some(MD5));
        assert_eq!(best(0b1_0011), Some(PASSWORD));
        assert_eq!(best(0b0_0011), Some(NONE));
        // MD2 and the makers' own.
        assert_eq!(best(0b10_0010), None);
    }
}
