//! The login of IPMI 2.0: both ends prove that they know the password, and make the keys of the
//! session (RAKP; IPMI 2.0 specification, sections 13.17 to 13.23).

use super::cipher::{Keys, Suite, is_same};
use super::line::{Line, Seal, Talk};
use super::wire::{OPEN_SESSION, RAKP1, RAKP3};
use super::words::status;
use super::{Account, IpmiError, busy, random, strange};
use crate::transport::exchange::Unanswered;
use crate::transport::{Deadline, TransportError, TransportErrorKind};
use std::convert::Infallible;

/// The user is looked for by the name alone, not by name and role.
const BY_NAME: u8 = 0x10;

/// A status that finds the key wrong.
const WRONG_KEY: u8 = 0x0f;

/// What both ends know once they have talked to each other.
struct Parties<'a> {
    suite: Suite,
    account: &'a Account,
    /// Our number of the session, and the BMC's.
    console: u32,
    bmc: u32,
    /// Our random number, and the BMC's.
    ours: [u8; 16],
    theirs: [u8; 16],
    guid: [u8; 16],
}

impl Parties<'_> {
    /// Our role, and the name's length and bytes.
    fn role(&self) -> Vec<u8> {
        let name = self.account.username.as_bytes();
        let length = u8::try_from(name.len()).unwrap_or(u8::MAX);
        let role = BY_NAME | self.account.privilege.number();
        [&[role, length], name].concat()
    }

    fn password(&self) -> &[u8] {
        self.account.password.reveal().as_bytes()
    }

    /// By what the BMC proves that it knows the password.
    fn bmcs_proof(&self) -> Vec<u8> {
        let (console, bmc) = (self.console.to_le_bytes(), self.bmc.to_le_bytes());
        let parts: [&[u8]; 6] = [
            &console,
            &bmc,
            &self.ours,
            &self.theirs,
            &self.guid,
            &self.role(),
        ];
        self.suite.hmac(self.password(), &parts)
    }

    /// By what we prove it.
    fn our_proof(&self) -> Vec<u8> {
        let console = self.console.to_le_bytes();
        let parts: [&[u8]; 3] = [&self.theirs, &console, &self.role()];
        self.suite.hmac(self.password(), &parts)
    }

    /// From which all keys of the session are made.
    fn session_key(&self) -> Vec<u8> {
        let key = match &self.account.kg {
            Some(kg) => kg.0.as_slice(),
            None => self.password(),
        };
        let parts: [&[u8]; 3] = [&self.ours, &self.theirs, &self.role()];
        self.suite.hmac(key, &parts)
    }

    /// By what the BMC proves that it has made the same key.
    fn last_proof(&self, session_key: &[u8]) -> Vec<u8> {
        let bmc = self.bmc.to_le_bytes();
        let parts: [&[u8]; 3] = [&self.ours, &bmc, &self.guid];
        let mut proof = self.suite.hmac(session_key, &parts);
        proof.truncate(self.suite.signature());
        proof
    }
}

/// What came of an attempt with one suite.
pub(super) enum Opened {
    Session(Talk),
    /// The BMC does not offer the suite: its words.
    NotOffered(String),
}

/// Opens a session with this suite; `has_kg`: the BMC says that it has a key of its own.
pub(super) fn login(
    line: &mut Line,
    account: &Account,
    suite: Suite,
    has_kg: bool,
    deadline: Deadline,
) -> Result<Opened, IpmiError> {
    let [tag, a, b, c, d, ..] = random()?;
    // 0 would mean that there is no session.
    let console = u32::from_le_bytes([a | 1, b, c, d]);
    let request = open_request(tag, console, suite);
    let answer = line.step(OPEN_SESSION, &request, deadline);
    let answer = answer.map_err(silence(line, "Open Session"))?;
    let bmc = match read_open(&answer, console, suite) {
        Ok(bmc) => bmc,
        Err(Wrong::Status(code @ (0x04..=0x07 | 0x10 | 0x11))) => {
            return Ok(Opened::NotOffered(status(code)));
        }
        Err(wrong) => return Err(wrong.error("Open Session", account, &answer)),
    };
    let mut parties = Parties {
        suite,
        account,
        console,
        bmc,
        ours: random()?,
        theirs: [0; 16],
        guid: [0; 16],
    };
    prove_bmc(line, &mut parties, tag.wrapping_add(1), deadline)?;
    let keys = prove_ourselves(line, &parties, tag.wrapping_add(2), has_kg, deadline)?;
    Ok(Opened::Session(Talk {
        seal: Seal::New { keys, console },
        session: bmc,
        sequence: 1,
    }))
}

/// RAKP 1 and 2: the BMC proves that it knows the password.
fn prove_bmc(
    line: &mut Line,
    parties: &mut Parties<'_>,
    tag: u8,
    deadline: Deadline,
) -> Result<(), IpmiError> {
    let account = parties.account;
    let bmc = parties.bmc.to_le_bytes();
    let role = parties.role();
    let (privilege, name) = role.split_first_chunk::<1>().unwrap_or((&[0], &[]));
    let request: [&[u8]; 6] = [
        &[tag, 0, 0, 0],
        &bmc,
        &parties.ours,
        privilege,
        &[0, 0],
        name,
    ];
    let answer = line.step(RAKP1, &request.concat(), deadline);
    let answer = answer.map_err(silence(line, "RAKP 1"))?;
    let wrong = |wrong: Wrong| wrong.error("RAKP 1", account, &answer);
    let rest = read_head(&answer, parties.console).map_err(wrong)?;
    let taken = rest.split_first_chunk();
    let taken = taken.and_then(|(theirs, rest)| Some((theirs, rest.split_first_chunk()?)));
    let Some((theirs, (guid, proof))) = taken else {
        return Err(wrong(Wrong::Short));
    };
    (parties.theirs, parties.guid) = (*theirs, *guid);
    if !is_same(proof, &parties.bmcs_proof()) {
        // So that the BMC need not keep the session for us.
        let farewell: [&[u8]; 2] = [&[tag.wrapping_add(1), WRONG_KEY, 0, 0], &bmc];
        line.tell_step(RAKP3, &farewell.concat());
        return Err(IpmiError::Login(format!(
            "wrong password of {} (the BMC's proof that it knows the password does not fit)",
            account.user()
        )));
    }
    Ok(())
}

/// RAKP 3 and 4: we prove it, and both have the same keys.
fn prove_ourselves(
    line: &mut Line,
    parties: &Parties<'_>,
    tag: u8,
    has_kg: bool,
    deadline: Deadline,
) -> Result<Keys, IpmiError> {
    let account = parties.account;
    let (bmc, proof) = (parties.bmc.to_le_bytes(), parties.our_proof());
    let request: [&[u8]; 3] = [&[tag, 0, 0, 0], &bmc, &proof];
    let answer = line.step(RAKP3, &request.concat(), deadline);
    let answer = answer.map_err(silence(line, "RAKP 3"))?;
    let rest = read_head(&answer, parties.console);
    let proof = rest.map_err(|wrong| wrong.error("RAKP 3", account, &answer))?;
    let session_key = parties.session_key();
    if !is_same(proof, &parties.last_proof(&session_key)) {
        return Err(IpmiError::Login(
            match (&account.kg, has_kg) {
                (Some(_), _) => "the password is right, but not the key kg",
                (None, true) => {
                    "the password is right, but the BMC has a key kg of its own: tell it by the key kg"
                }
                (None, false) => "the BMC made another session key of the right password",
            }
            .into(),
        ));
    }
    Ok(Keys::new(parties.suite, &session_key))
}

fn silence(line: &Line, asked: &'static str) -> impl FnOnce(Unanswered<Infallible>) -> IpmiError {
    move |silence| line.error(silence, TransportErrorKind::Timeout, asked)
}

/// What is wrong with an answer of the login.
#[derive(Debug, PartialEq, Eq)]
enum Wrong {
    Status(u8),
    /// It is too short, or of another session.
    Short,
    /// The BMC offers other algorithms than those that were asked for.
    Changed,
}

impl Wrong {
    fn error(self, asked: &str, account: &Account, answer: &[u8]) -> IpmiError {
        let code = match self {
            Self::Status(code) => code,
            Self::Short => return strange(asked, "the numbers of this login", answer),
            Self::Changed => return strange(asked, "the algorithms asked for", answer),
        };
        let words = format!("{asked}: {}", status(code));
        match code {
            0x01 | 0x0b => busy(&format!("the BMC has no session left to give ({words})")),
            0x02 | 0x08 => IpmiError::Transport(TransportError::new(
                TransportErrorKind::Closed,
                format!("the BMC has forgotten this login ({words})"),
            )),
            0x09 | 0x0a => IpmiError::Login(format!("{} ({words})", account.no_privilege())),
            0x0d => IpmiError::Login(format!("{} ({words})", account.unknown())),
            WRONG_KEY => {
                IpmiError::Login(format!("wrong password of {} ({words})", account.user()))
            }
            _ => IpmiError::Login(words),
        }
    }
}

/// Asks for a session with the highest privilege that there is: which of them counts is told later.
fn open_request(tag: u8, console: u32, suite: Suite) -> Vec<u8> {
    let mut request = vec![tag, 0, 0, 0];
    request.extend(console.to_le_bytes());
    for (place, algorithm) in (0..).zip(suite.algorithms()) {
        request.extend([place, 0, 0, 8, algorithm, 0, 0, 0]);
    }
    request
}

/// The BMC's number of the session.
fn read_open(answer: &[u8], console: u32, suite: Suite) -> Result<u32, Wrong> {
    let rest = read_head(answer, console)?;
    let (bmc, rest) = rest.split_first_chunk().ok_or(Wrong::Short)?;
    let offered = rest.chunks(8).map(|place| place.get(4).copied());
    let asked = suite.algorithms().map(Some);
    match offered.eq(asked) {
        true => Ok(u32::from_le_bytes(*bmc)),
        false if rest.len() < 24 => Err(Wrong::Short),
        false => Err(Wrong::Changed),
    }
}

/// What stands behind tag, status and our number of the session.
fn read_head(answer: &[u8], console: u32) -> Result<&[u8], Wrong> {
    match answer {
        [_, 0, _, _, id @ ..] => match id.split_first_chunk() {
            Some((id, rest)) if *id == console.to_le_bytes() => Ok(rest),
            _ => Err(Wrong::Short),
        },
        [_, code, ..] => Err(Wrong::Status(*code)),
        _ => Err(Wrong::Short),
    }
}

/// For the fuzzer: the bytes as the answer to every step.
#[cfg(fuzzing)]
pub(super) fn fuzz(bytes: &[u8]) {
    for suite in Suite::ALL {
        let _ = read_open(bytes, 1, suite);
    }
    let _ = read_head(bytes, 1);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(suite: Suite) -> Vec<u8> {
        let mut answer = open_request(7, 0x0403_0201, suite);
        let bmc = 0x0807_0605u32.to_le_bytes();
        answer.splice(8..8, bmc);
        answer
    }

    #[test]
    fn only_the_suite_that_was_asked_for_opens_a_session() {
        let console = 0x0403_0201;
        for suite in Suite::ALL {
            let answer = opened(suite);
            assert_eq!(read_open(&answer, console, suite), Ok(0x0807_0605));
            assert_eq!(read_open(&answer, 1, suite), Err(Wrong::Short));
            for length in 0..answer.len() - 3 {
                let cut = read_open(&answer[..length], console, suite);
                assert!(cut.is_err(), "{length} bytes");
            }
        }
        let other = opened(Suite::Three);
        assert_eq!(
            read_open(&other, console, Suite::Seventeen),
            Err(Wrong::Changed)
        );
        // An error is cut short.
        let refused = [7, 0x11, 0, 0, 1, 2, 3, 4];
        let wrong = read_open(&refused, console, Suite::Three);
        assert_eq!(wrong, Err(Wrong::Status(0x11)));
    }
}
