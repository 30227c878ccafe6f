//! SNMP v3 (RFC 3412, 3414): snmp2's User-based Security Model over our own socket.
//!
//! snmp2's session sends once, waits for one time-out that is set when it is made, and takes
//! whatever comes for the answer; its codec alone does the security here, so that requests are
//! repeated, older answers dropped, deadlines kept, and the agent's reports read: a wrong
//! passphrase and an unknown user are told apart.

use super::community::{no_encoding, request};
use super::{
    Answer, Asked, Command, Heard, Hidden, Link, Oid, Pace, Paces, SnmpError, Stop, Unanswered,
    Value, ber, exchange,
};
use crate::transport::{Deadline, Timed, TransportError, printable};
use simple_asn1::{ASN1Block, BigInt, ToASN1, to_der};
use snmp2::v3::{Auth, AuthProtocol, Cipher, KeyExtension, Security};
use snmp2::{MessageType, Pdu};
use std::time::Instant;

/// The largest message we take, as announced in each of ours: that of snmp2.
const MAX_SIZE: i64 = 65_507;

/// msgFlags: a report is wanted when the message cannot be processed.
const REPORTABLE: u8 = 4;

/// msgFlags: the scoped PDU is encrypted.
const PRIVATE: u8 = 2;

/// The number of a Report-PDU.
const REPORT: u32 = 8;

/// A user of the User-based Security Model.
#[derive(Clone, Debug)]
pub struct User {
    name: String,
    auth: Option<(AuthProtocol, Hidden)>,
    privacy: Option<(Cipher, KeyExtension, Hidden)>,
}

impl User {
    /// A user without authentication (noAuthNoPriv).
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            auth: None,
            privacy: None,
        }
    }

    /// Signed messages (authNoPriv). The passphrase must not be empty.
    #[must_use]
    pub fn signed(mut self, protocol: AuthProtocol, passphrase: &str) -> Self {
        self.auth = Some((protocol, Hidden(passphrase.as_bytes().to_vec())));
        self
    }

    /// Signed messages that are also encrypted (authPriv); `extension` says how a key longer than
    /// the authentication protocol's digest is made.
    #[must_use]
    pub fn encrypted(mut self, cipher: Cipher, extension: KeyExtension, passphrase: &str) -> Self {
        self.privacy = Some((cipher, extension, Hidden(passphrase.as_bytes().to_vec())));
        self
    }

    fn security(&self) -> Security {
        let (protocol, passphrase) = match &self.auth {
            Some((protocol, passphrase)) => (*protocol, passphrase.0.as_slice()),
            None => (AuthProtocol::Md5, [].as_slice()),
        };
        let security = Security::new(self.name.as_bytes(), passphrase).with_auth_protocol(protocol);
        match (&self.auth, &self.privacy) {
            (None, _) => security.with_auth(Auth::NoAuthNoPriv),
            (Some(_), None) => security.with_auth(Auth::AuthNoPriv),
            (Some(_), Some((cipher, extension, passphrase))) => security
                .with_auth(Auth::AuthPriv {
                    cipher: *cipher,
                    privacy_password: passphrase.0.clone(),
                })
                .with_key_extension_method(*extension),
        }
    }
}

/// The agent's clock, as told by the agent at a moment of ours.
#[derive(Clone, Copy, Debug)]
struct Clock {
    boots: i64,
    time: i64,
    at: Instant,
}

impl Clock {
    /// The agent's time now.
    fn now(self) -> i64 {
        let since = i64::try_from(self.at.elapsed().as_secs()).unwrap_or(i64::MAX);
        self.time.saturating_add(since).min(i32::MAX.into())
    }
}

/// One user's security state with one agent.
pub(super) struct Usm {
    user: User,
    /// With the keys made for the engine id in it. Making them takes a megabyte of hashing, so they
    /// outlive [`Usm::rest`] and serve again when the same engine is discovered.
    security: Option<Security>,
    /// The discovered engine's clock; `None` before discovery.
    clock: Option<Clock>,
}

/// An agent's message as far as it can be read without a key.
struct Envelope {
    id: i64,
    engine: Vec<u8>,
    boots: i64,
    time: i64,
    /// The object that a Report-PDU names, when it is one.
    report: Option<Vec<u32>>,
}

impl Usm {
    pub(super) fn new(user: User) -> Self {
        Self {
            user,
            security: None,
            clock: None,
        }
    }

    pub(super) fn rest(&mut self) {
        self.clock = None;
    }

    pub(super) fn converse(
        &mut self,
        link: &mut Link,
        paces: &mut Paces,
        id: i32,
        command: &Command<'_>,
        timed: impl Timed,
    ) -> Result<Answer, Unanswered> {
        if self.clock.is_none() {
            self.discover(link, &mut paces.reading, id, timed.deadline())?;
        }
        let id = id.saturating_add(1);
        let asked = match &self.user.privacy {
            Some(_) => Asked::Encrypted,
            None => Asked::Signed,
        };
        exchange(
            link,
            paces.of(command),
            timed,
            asked,
            self,
            |usm, _| usm.encode(id, command),
            |usm, datagram| usm.decode(datagram, id, command),
        )
    }

    /// RFC 3414, section 4: a message without engine and user is answered by a report with both
    /// the engine's id and its clock.
    fn discover(
        &mut self,
        link: &mut Link,
        pace: &mut Pace,
        id: i32,
        deadline: Deadline,
    ) -> Result<(), Unanswered> {
        let envelope = exchange(
            link,
            pace,
            deadline,
            Asked::ForEngine,
            &mut (),
            |(), _| discovery(id),
            |(), datagram| match envelope(datagram) {
                Ok(envelope) if envelope.id != i64::from(id) => Heard::NotOurs,
                Ok(envelope) if envelope.report.is_some() && !envelope.engine.is_empty() => {
                    Heard::Answer(envelope)
                }
                Ok(_) => Heard::Garbled("the answer to the engine discovery is no report".into()),
                Err(what) => Heard::Garbled(format!("{} came: {what}", printable(datagram))),
            },
        )?;
        let security = match self.security.take() {
            Some(security) if security.engine_id() == envelope.engine => security,
            _ => self
                .user
                .security()
                .with_engine_id(&envelope.engine)
                .map_err(|error| no_encoding(&error.to_string()))?,
        };
        self.security = Some(security);
        self.set_clock(&envelope);
        Ok(())
    }

    fn set_clock(&mut self, envelope: &Envelope) {
        self.clock = Some(Clock {
            boots: envelope.boots,
            time: envelope.time,
            at: Instant::now(),
        });
    }

    fn encode(&mut self, id: i32, command: &Command<'_>) -> Result<Vec<u8>, TransportError> {
        let (Some(security), Some(clock)) = (self.security.take(), self.clock) else {
            return Err(no_encoding("the engine is not discovered"));
        };
        // snmp2 does not let its copy of the agent's clock run.
        let security = security.with_engine_boots_and_time(clock.boots, clock.now());
        let message = sign(id, command, &security);
        self.security = Some(security);
        message
    }

    fn decode(&mut self, datagram: &[u8], id: i32, command: &Command<'_>) -> Heard<Answer> {
        let envelope = match envelope(datagram) {
            Err(what) => {
                return Heard::Garbled(format!("{} came: {what}", printable(datagram)));
            }
            Ok(envelope) if envelope.id != i64::from(id) => return Heard::NotOurs,
            Ok(envelope) => envelope,
        };
        if let Some(object) = &envelope.report {
            return self.report(object, &envelope);
        }
        let Some(security) = &mut self.security else {
            return Heard::NotOurs;
        };
        match Pdu::from_bytes_with_security(datagram, Some(security)) {
            Ok(pdu) if pdu.message_type != MessageType::Response => {
                Heard::Garbled("the answer is no response".into())
            }
            Ok(pdu) if pdu.req_id != id => Heard::NotOurs,
            Ok(pdu) => Heard::Answer(answer(&pdu, command)),
            // The agent's clock was ahead of ours. An agent that does not check clocks, as of a
            // user without authentication, has done what it was asked.
            Err(snmp2::Error::AuthUpdated) => {
                self.set_clock(&envelope);
                again(false)
            }
            Err(error) => Heard::Garbled(format!("an answer was wrong: {error}")),
        }
    }

    /// What a report says: usmStats counters, RFC 3414, section 5.
    fn report(&mut self, object: &[u32], envelope: &Envelope) -> Heard<Answer> {
        let Some([counter, ..]) = object.strip_prefix(&[1, 3, 6, 1, 6, 3, 15, 1, 1]) else {
            let object: Vec<String> = object.iter().map(u32::to_string).collect();
            let strange = SnmpError::Strange(format!("the agent reported {}", object.join(".")));
            return Heard::Failed {
                error: Stop::Error(strange),
                is_refused: false,
            };
        };
        let refused = |error| Heard::Failed {
            error,
            is_refused: true,
        };
        refused(Stop::Error(SnmpError::Login(match counter {
            1 => "the agent does not offer this user this security level, or not these protocols \
                  (usmStatsUnsupportedSecLevels)"
                .into(),
            2 => {
                self.set_clock(envelope);
                return again(true);
            }
            3 => "the agent does not know this user (usmStatsUnknownUserNames)".into(),
            4 => return refused(Stop::OtherEngine),
            5 => "wrong authentication passphrase or protocol (usmStatsWrongDigests)".into(),
            6 => "wrong privacy passphrase or protocol (usmStatsDecryptionErrors)".into(),
            other => format!("the agent reported usmStats {other}"),
        })))
    }
}

/// The agent's clock is another than we took it for.
fn again<T>(is_refused: bool) -> Heard<T> {
    Heard::Again {
        is_refused,
        endless: "it tells another clock of its engine each time",
    }
}

fn answer(pdu: &Pdu<'_>, command: &Command<'_>) -> Answer {
    let told = |oid: &Oid| {
        let asked = content_of(oid)?;
        let mut bindings = pdu.varbinds.clone();
        let (_, found) = bindings.find(|(name, _)| asked == name.as_bytes())?;
        Some(value(&found))
    };
    let next = || {
        let (name, found) = pdu.varbinds.clone().next()?;
        Some(match value(&found) {
            missing @ Value::Missing(_) => missing,
            _ => Value::Other(name.to_string()),
        })
    };
    Answer {
        status: pdu.error_status,
        values: match command {
            Command::Next(_) => vec![next()],
            Command::Get(_) | Command::Set(_) => command.oids().into_iter().map(told).collect(),
        },
    }
}

/// An object's name as on the wire, without tag and length.
fn content_of(oid: &Oid) -> Option<Vec<u8>> {
    let arcs: Vec<u64> = oid.as_slice().iter().copied().map(u64::from).collect();
    snmp2::Oid::from(&arcs)
        .ok()
        .map(|oid| oid.as_bytes().to_vec())
}

fn value(value: &snmp2::Value<'_>) -> Value {
    use snmp2::Value as V;
    match value {
        V::Integer(number) => Value::Integer(*number),
        V::Counter32(number) | V::Unsigned32(number) | V::Timeticks(number) => {
            Value::Integer((*number).into())
        }
        V::OctetString(text) | V::Opaque(text) => Value::Text(text.to_vec()),
        V::NoSuchObject => Value::Missing("noSuchObject"),
        V::NoSuchInstance => Value::Missing("noSuchInstance"),
        V::EndOfMibView => Value::Missing("endOfMibView"),
        V::ObjectIdentifier(oid) => Value::Other(oid.to_string()),
        V::IpAddress(ip) => Value::Other(std::net::Ipv4Addr::from(*ip).to_string()),
        V::Counter64(number) => Value::Other(number.to_string()),
        V::Null => Value::Other("NULL".into()),
        _ => Value::Other("a value of an unknown type".into()),
    }
}

fn int(number: i64) -> ASN1Block {
    ASN1Block::Integer(0, BigInt::from(number))
}

fn text(bytes: &[u8]) -> ASN1Block {
    ASN1Block::OctetString(0, bytes.to_vec())
}

/// A message without security around `pdu`, from the engine `engine` to itself.
fn plain(id: i32, engine: &[u8], pdu: ASN1Block) -> Result<Vec<u8>, TransportError> {
    let failed = |error: simple_asn1::ASN1EncodeErr| no_encoding(&error.to_string());
    let security = ASN1Block::Sequence(
        0,
        vec![
            text(engine),
            int(0),
            int(0),
            text(b""),
            text(b""),
            text(b""),
        ],
    );
    to_der(&ASN1Block::Sequence(
        0,
        vec![
            int(3),
            ASN1Block::Sequence(
                0,
                vec![int(id.into()), int(MAX_SIZE), text(&[REPORTABLE]), int(3)],
            ),
            text(&to_der(&security).map_err(failed)?),
            ASN1Block::Sequence(0, vec![text(engine), text(b""), pdu]),
        ],
    ))
    .map_err(failed)
}

/// The engine discovery: a GET of nothing, from nobody to nobody.
fn discovery(id: i32) -> Result<Vec<u8>, TransportError> {
    use csnmp::message::{ErrorStatus, InnerPdu, Snmp2cPdu};
    let get = Snmp2cPdu::GetRequest(InnerPdu {
        request_id: id,
        error_status: ErrorStatus::NoError,
        error_index: 0,
        variable_bindings: Vec::new(),
    });
    plain(id, b"", block(&get)?)
}

fn block(pdu: &csnmp::message::Snmp2cPdu) -> Result<ASN1Block, TransportError> {
    pdu.to_asn1()
        .ok()
        .and_then(|blocks| blocks.into_iter().next())
        .ok_or_else(|| no_encoding("the object's name is no OID"))
}

/// The request as the user's message. snmp2 makes a `Pdu` only by reading one, so it is given the
/// plain message to read, and writes it again with the user's security.
fn sign(id: i32, command: &Command<'_>, security: &Security) -> Result<Vec<u8>, TransportError> {
    const ANY_ENGINE: &[u8] = &[1];
    let failed = |error: snmp2::Error| no_encoding(&error.to_string());
    let message = plain(id, ANY_ENGINE, block(&request(id, command)?)?)?;
    let mut nobody = Security::new(b"", b"")
        .with_auth(Auth::NoAuthNoPriv)
        .with_engine_id(ANY_ENGINE)
        .map_err(failed)?;
    Pdu::from_bytes_with_security(&message, Some(&mut nobody))
        .and_then(|pdu| pdu.to_bytes_with_security(Some(security)))
        .map_err(failed)
}

/// Reads what needs no key.
fn envelope(datagram: &[u8]) -> Result<Envelope, String> {
    let blocks = ber::blocks(datagram)?;
    let no_message = || "not an SNMPv3 message".to_owned();
    let Some([version, head, security, scoped]) = blocks.first().and_then(ber::sequence) else {
        return Err(no_message());
    };
    if ber::integer(version) != Some(3) {
        return Err(no_message());
    }
    let (Some([id, _size, flags, _model]), Some(security)) =
        (ber::sequence(head), ber::octets(security))
    else {
        return Err(no_message());
    };
    let security = ber::blocks(security)?;
    let Some([engine, boots, time, ..]) = security.first().and_then(ber::sequence) else {
        return Err(no_message());
    };
    let (Some(id), Some(&[flags]), Some(engine), Some(boots), Some(time)) = (
        ber::integer(id),
        ber::octets(flags),
        ber::octets(engine),
        ber::integer(boots),
        ber::integer(time),
    ) else {
        return Err(no_message());
    };
    // RFC 3412, section 6. What is beyond could not be sent back.
    let in_range = |number: i64| (0..=i64::from(i32::MAX)).contains(&number);
    if ![id, boots, time].into_iter().all(in_range) {
        return Err("an SNMPv3 message with an impossible id or clock".into());
    }
    Ok(Envelope {
        id,
        engine: engine.to_vec(),
        boots,
        time,
        report: if flags & PRIVATE == 0 {
            report(scoped)
        } else {
            None
        },
    })
}

/// The object that a Report-PDU names; `None` when the scoped PDU is another.
fn report(scoped: &ASN1Block) -> Option<Vec<u32>> {
    let [_engine, _name, pdu] = ber::sequence(scoped)? else {
        return None;
    };
    let (REPORT, content) = ber::pdu(pdu)? else {
        return None;
    };
    let parts = ber::blocks(content).ok()?;
    let [_id, _status, _index, list] = parts.as_slice() else {
        return None;
    };
    let object = match ber::sequence(list)?.first().and_then(ber::sequence) {
        Some([ASN1Block::ObjectIdentifier(_, oid), _value]) => oid.as_vec::<u32>().ok()?,
        // A report without an object is one all the same.
        _ => Vec::new(),
    };
    Some(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Found by the fuzzer: such a clock could not be encoded, and no request was sent any more.
    #[test]
    fn an_impossible_clock_is_not_taken_over() {
        let message = |boots: i64, time: i64| {
            let security = vec![
                text(b"engine"),
                int(boots),
                int(time),
                text(b""),
                text(b""),
                text(b""),
            ];
            let security = to_der(&ASN1Block::Sequence(0, security)).expect("encoded");
            let head = vec![int(7), int(MAX_SIZE), text(&[0]), int(3)];
            let scoped = vec![text(b"engine"), text(b""), text(b"")];
            to_der(&ASN1Block::Sequence(
                0,
                vec![
                    int(3),
                    ASN1Block::Sequence(0, head),
                    text(&security),
                    ASN1Block::Sequence(0, scoped),
                ],
            ))
            .expect("encoded")
        };
        assert!(envelope(&message(1, i32::MAX.into())).is_ok());
        for (boots, time) in [(-7, 2), (1, -1), (1 << 31, 2), (1, i64::MAX)] {
            assert!(envelope(&message(boots, time)).is_err(), "{boots} {time}");
        }
    }
}

/// A datagram, taken for the answer to the request it names, by users of every kind.
#[cfg(fuzzing)]
pub(super) fn fuzz(datagram: &[u8]) {
    const ENGINE: &[u8] = &[0x80, 0, 0x1f, 0x88, 4, b'f'];
    thread_local! {
        static USERS: std::cell::RefCell<Vec<Usm>> = {
            let user = User::new("user");
            let signed = user.clone().signed(AuthProtocol::Sha256, "passphrase");
            let private = signed.clone().encrypted(Cipher::Aes128, KeyExtension::Blumenthal, "passphrase");
            let usms = [user, signed, private].map(|user| {
                let mut usm = Usm::new(user);
                usm.security = usm.user.security().with_engine_id(ENGINE).ok();
                usm
            });
            usms.into_iter().collect::<Vec<_>>().into()
        };
    }
    let (Ok(envelope), Ok(oid)) = (envelope(datagram), "1.3.6.1.2.1.1.1.0".parse::<Oid>()) else {
        return;
    };
    let Ok(id) = i32::try_from(envelope.id) else {
        return;
    };
    let oids = [oid];
    let command = Command::Get(&oids);
    USERS.with_borrow_mut(|users| {
        for usm in users {
            let _ = usm.decode(datagram, id, &command);
            if usm.security.is_some() {
                usm.set_clock(&envelope);
                assert!(usm.encode(1, &command).is_ok());
            }
        }
    });
}
