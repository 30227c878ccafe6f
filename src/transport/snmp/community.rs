//! SNMP v1 (RFC 1157) and v2c (RFC 1901, 3416): csnmp's codec in a community's envelope.

use super::{Answer, Command, Heard, Hidden, Oid, TransportError, Value, ber};
use crate::transport::{TransportErrorKind, blotted, printable};
use csnmp::ObjectValue;
use csnmp::message::{
    BindingValue, ErrorStatus, InnerPdu, Snmp2cMessage, Snmp2cPdu, VariableBinding,
};
use simple_asn1::{ASN1Block, FromASN1};

/// A version with a community.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// SNMPv1.
    V1,
    /// SNMPv2c.
    V2c,
}

impl Version {
    /// The number on the wire.
    fn number(self) -> i64 {
        match self {
            Self::V1 => 0,
            Self::V2c => 1,
        }
    }
}

/// A community, and the versions to try with it.
#[derive(Clone, Debug)]
pub struct Community {
    name: Hidden,
    versions: Vec<Version>,
}

impl Community {
    /// Tries `versions` in turn, with a copy of the request each. From then on the version that has
    /// answered comes first.
    pub fn new(name: &str, versions: &[Version]) -> Self {
        Self {
            name: Hidden(name.as_bytes().to_vec()),
            versions: versions.to_vec(),
        }
    }

    /// The version for the `attempt`th copy of a request.
    pub(super) fn version(&self, attempt: u32) -> Version {
        usize::try_from(attempt)
            .ok()
            .and_then(|attempt| attempt.checked_rem(self.versions.len()))
            .and_then(|at| self.versions.get(at))
            .copied()
            .unwrap_or(Version::V2c)
    }

    /// From now on `version` comes first.
    pub(super) fn prefer(&mut self, version: i64) {
        if let Some(at) = self.versions.iter().position(|v| v.number() == version)
            && at > 0
        {
            self.versions.rotate_left(at);
        }
    }

    /// One request.
    pub(super) fn encode(
        &self,
        version: Version,
        id: i32,
        command: &Command<'_>,
    ) -> Result<Vec<u8>, TransportError> {
        Snmp2cMessage {
            version: version.number(),
            community: self.name.0.clone(),
            pdu: request(id, command)?,
        }
        .to_bytes()
        .map_err(|error| no_encoding(&error.to_string()))
    }

    /// Is `datagram` an answer to the request `id` about `command`'s object, and which?
    pub(super) fn decode(
        &mut self,
        datagram: &[u8],
        id: i32,
        command: &Command<'_>,
    ) -> Heard<Answer> {
        match read(datagram) {
            Err(what) => {
                // The community must not be in the error.
                let shown = printable(&blotted(datagram, &[&self.name.0]));
                Heard::Garbled(format!("{shown} came: {what}"))
            }
            Ok((_, pdu)) if pdu.request_id != id => Heard::NotOurs,
            Ok((version, pdu)) => {
                self.prefer(version);
                Heard::Answer(answer(&pdu, command))
            }
        }
    }
}

pub(super) fn no_encoding(why: &str) -> TransportError {
    TransportError::new(
        TransportErrorKind::Io,
        format!("the request cannot be encoded: {why}"),
    )
}

/// The PDU of a request, the same in every version.
pub(super) fn request(id: i32, command: &Command<'_>) -> Result<Snmp2cPdu, TransportError> {
    let binding = |name: &Oid, value| VariableBinding { name: *name, value };
    let variable_bindings = match command {
        Command::Get(oids) => {
            let bindings = oids.iter();
            bindings
                .map(|oid| binding(oid, BindingValue::Unspecified))
                .collect()
        }
        Command::Next(oid) => vec![binding(oid, BindingValue::Unspecified)],
        Command::Set(bindings) => {
            let bindings = bindings.iter();
            let written = bindings.map(|(oid, value)| Ok(binding(oid, written(value)?)));
            written.collect::<Result<_, TransportError>>()?
        }
    };
    let inner = InnerPdu {
        request_id: id,
        error_status: ErrorStatus::NoError,
        error_index: 0,
        variable_bindings,
    };
    Ok(match command {
        Command::Get(_) => Snmp2cPdu::GetRequest(inner),
        Command::Next(_) => Snmp2cPdu::GetNextRequest(inner),
        Command::Set(_) => Snmp2cPdu::SetRequest(inner),
    })
}

/// A value as it is written.
fn written(value: &Value) -> Result<BindingValue, TransportError> {
    Ok(BindingValue::Value(match value {
        Value::Integer(number) => {
            let number = i32::try_from(*number).map_err(|_| no_encoding("not an Integer32"))?;
            ObjectValue::Integer(number)
        }
        Value::Unsigned(number) => ObjectValue::Unsigned32(*number),
        Value::Text(text) => ObjectValue::String(text.clone()),
        Value::Missing(_) | Value::Other(_) => {
            return Err(no_encoding("only integers and texts are written"));
        }
    }))
}

/// An answer's version and PDU. csnmp refuses version 0, so we read the envelope here.
fn read(datagram: &[u8]) -> Result<(i64, InnerPdu), String> {
    let blocks = ber::blocks(datagram)?;
    let Some([version, _community, pdu]) = blocks.first().and_then(ber::sequence) else {
        return Err("not an SNMP message".into());
    };
    let version = ber::integer(version).ok_or("no version")?;
    if !(0..=1).contains(&version) {
        return Err(format!("SNMP version {version}, which was not asked"));
    }
    match Snmp2cPdu::from_asn1(std::slice::from_ref(pdu)) {
        Ok((Snmp2cPdu::Response(inner), _)) => Ok((version, inner)),
        Ok(_) => Err("not a response".into()),
        // csnmp's own text shows the whole block.
        Err(_) => match failure(pdu) {
            Some(inner) => Ok((version, inner)),
            None => Err("not a response PDU".into()),
        },
    }
}

/// A response that tells an error and no object, as RFC 3416 has it for tooBig: csnmp reads no list
/// that is empty.
fn failure(pdu: &ASN1Block) -> Option<InnerPdu> {
    let (2, content) = ber::pdu(pdu)? else {
        return None;
    };
    let parts = ber::blocks(content.strip_suffix(&[0x30, 0])?).ok()?;
    let [id, status, _index] = parts.as_slice() else {
        return None;
    };
    let status = u8::try_from(ber::integer(status)?).ok()?;
    Some(InnerPdu {
        request_id: i32::try_from(ber::integer(id)?).ok()?,
        error_status: ErrorStatus::try_from(status).ok().filter(|_| status != 0)?,
        error_index: 0,
        variable_bindings: Vec::new(),
    })
}

fn answer(pdu: &InnerPdu, command: &Command<'_>) -> Answer {
    let told = |oid: &&Oid| {
        let mut bindings = pdu.variable_bindings.iter();
        let binding = bindings.find(|binding| binding.name == **oid)?;
        Some(value(binding.value.clone()))
    };
    // The object behind the one that is asked about has another name: it is what is told.
    let next = || {
        let binding = pdu.variable_bindings.first()?;
        Some(match value(binding.value.clone()) {
            missing @ Value::Missing(_) => missing,
            _ => Value::Other(binding.name.to_string()),
        })
    };
    Answer {
        status: u32::from(u8::from(pdu.error_status)),
        values: match command {
            Command::Next(_) => vec![next()],
            Command::Get(_) | Command::Set(_) => command.oids().iter().map(told).collect(),
        },
    }
}

fn value(value: BindingValue) -> Value {
    use ObjectValue as O;
    match value {
        BindingValue::Unspecified => Value::Other("NULL".into()),
        BindingValue::NoSuchObject => Value::Missing("noSuchObject"),
        BindingValue::NoSuchInstance => Value::Missing("noSuchInstance"),
        BindingValue::EndOfMibView => Value::Missing("endOfMibView"),
        BindingValue::Value(O::Integer(number)) => Value::Integer(number.into()),
        BindingValue::Value(O::Counter32(n) | O::Unsigned32(n) | O::TimeTicks(n)) => {
            Value::Integer(n.into())
        }
        BindingValue::Value(O::String(text) | O::Opaque(text)) => Value::Text(text),
        BindingValue::Value(O::ObjectId(oid)) => Value::Other(oid.to_string()),
        BindingValue::Value(O::IpAddress(ip)) => Value::Other(ip.to_string()),
        BindingValue::Value(O::Counter64(number)) => Value::Other(number.to_string()),
    }
}

/// A datagram, taken for the answer to the request it names.
#[cfg(fuzzing)]
pub(super) fn fuzz(datagram: &[u8]) {
    let oid: csnmp::ObjectIdentifier = match "1.3.6.1.2.1.1.1.0".parse() {
        Ok(oid) => oid,
        Err(_) => return,
    };
    if let Ok((_, pdu)) = read(datagram) {
        let id = pdu.request_id;
        let oids = [oid];
        let command = Command::Get(&oids);
        let mut community = Community::new("public", &[Version::V2c, Version::V1]);
        assert!(matches!(
            community.decode(datagram, id, &command),
            Heard::Answer(_)
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::snmp::Oid;

    fn hex(text: &str) -> Vec<u8> {
        text.split_whitespace()
            .flat_map(|word| match word.strip_prefix('"') {
                Some(quoted) => quoted.trim_end_matches('"').as_bytes().to_vec(),
                None => u8::from_str_radix(word, 16).into_iter().collect(),
            })
            .collect()
    }

    fn set(version: Version, community: &str, oid: &str, value: i64) -> Vec<u8> {
        let oid: Oid = oid.parse().expect("an OID");
        Community::new(community, &[version])
            .encode(version, 1, &Command::Set(&[(oid, Value::Integer(value))]))
            .expect("encodes")
    }

    #[test]
    fn an_unsigned_value_has_a_type_of_its_own() {
        let oid: Oid = "1.3.6.1.4.1.21239.2.16.1.3.1".parse().expect("an OID");
        let value = Value::Unsigned(u32::MAX);
        for version in [Version::V1, Version::V2c] {
            let community = Community::new("private", &[version]);
            let frame = community.encode(version, 1, &Command::Set(&[(oid, value.clone())]));
            let frame = frame.expect("encodes");
            // Gauge32, with a zero before the highest bit.
            assert!(
                frame.ends_with(&hex("42 05 00 ff ff ff ff")),
                "{frame:02x?}"
            );
        }
    }

    #[test]
    fn requests_are_the_frames_of_the_python_program() {
        // CyberPower (v1), IP9258 (v1), Cisco CBS350 PoE port and APC MasterSwitch (v2c).
        for (version, community, oid, value, frame) in [
            (
                Version::V1,
                "private",
                "1.3.6.1.4.1.3808.1.1.3.3.3.1.1.4.1",
                1,
                r#"30 30 02 01 00 04 07 "private" a3 22 02 01 01 02 01 00 02 01 00 30 17 30 15
                   06 10 2b 06 01 04 01 9d 60 01 01 03 03 03 01 01 04 01 02 01 01"#,
            ),
            (
                Version::V1,
                "public",
                "1.3.6.1.4.1.92.58.2.1.0",
                0,
                r#"30 29 02 01 00 04 06 "public" a3 1c 02 01 01 02 01 00 02 01 00 30 11 30 0f
                   06 0a 2b 06 01 04 01 5c 3a 02 01 00 02 01 00"#,
            ),
            (
                Version::V2c,
                "private",
                "1.3.6.1.2.1.105.1.1.1.3.1.1",
                1,
                r#"30 2c 02 01 01 04 07 "private" a3 1e 02 01 01 02 01 00 02 01 00 30 13 30 11
                   06 0c 2b 06 01 02 01 69 01 01 01 03 01 01 02 01 01"#,
            ),
            (
                Version::V2c,
                "private",
                "1.3.6.1.4.1.318.1.1.4.4.2.1.3.1",
                1,
                r#"30 2f 02 01 01 04 07 "private" a3 21 02 01 01 02 01 00 02 01 00 30 16 30 14
                   06 0f 2b 06 01 04 01 82 3e 01 01 04 04 02 01 03 01 02 01 01"#,
            ),
        ] {
            assert_eq!(set(version, community, oid, value), hex(frame), "{oid}");
        }
    }

    #[test]
    fn answers_of_both_versions_are_read_and_others_told_apart() {
        let oid: Oid = "1.3.6.1.4.1.92.58.2.1.0".parse().expect("an OID");
        let heard = |text: &str| {
            let oids = [oid];
            let command = Command::Get(&oids);
            match Community::new("public", &[Version::V2c, Version::V1]).decode(
                &hex(text),
                1,
                &command,
            ) {
                Heard::Answer(answer) => format!("{answer:?}"),
                Heard::NotOurs => "not ours".into(),
                Heard::Garbled(_) => "garbled".into(),
                Heard::Again { .. } | Heard::Failed { .. } => "something else".into(),
            }
        };
        let v1 = r#"30 29 02 01 00 04 06 "public" a2 1c 02 01 01 02 01 00 02 01 00 30 11 30 0f
                    06 0a 2b 06 01 04 01 5c 3a 02 01 00 02 01 01"#;
        let one = "Answer { status: 0, values: [Some(Integer(1))] }";
        assert_eq!(heard(v1), one);
        assert_eq!(heard(&v1.replace("02 01 00 04 06", "02 01 01 04 06")), one);
        assert_eq!(
            heard(&v1.replace("a2 1c 02 01 01", "a2 1c 02 01 02")),
            "not ours"
        );
        assert_eq!(heard(&v1.replace("a2 1c", "a3 1c")), "garbled");
        assert_eq!(
            heard(&v1.replace("30 29 02 01 00", "30 29 02 01 03")),
            "garbled"
        );
        assert_eq!(
            heard(
                &v1.replace("02 01 00 02 01 01", "03 01 00 02 01 01")
                    .replace("3a 03", "3b 02")
            ),
            "Answer { status: 0, values: [None] }"
        );
        assert_eq!(
            heard(&v1.replace("1c 02 01 01 02 01 00", "1c 02 01 01 02 01 06")),
            "Answer { status: 6, values: [Some(Integer(1))] }"
        );
        let too_big = r#"30 18 02 01 01 04 06 "public" a2 0b 02 01 01 02 01 01 02 01 00 30 00"#;
        assert_eq!(heard(too_big), "Answer { status: 1, values: [None] }");
        assert_eq!(heard("30 03 02 01"), "garbled");
        assert_eq!(heard(r#""hello""#), "garbled");
    }

    #[test]
    fn an_answer_about_many_objects_tells_each_whatever_their_order() {
        let oids: Vec<Oid> = (1..=3)
            .map(|last| format!("1.3.6.1.4.1.92.58.2.{last}"))
            .map(|oid| oid.parse().expect("an OID"))
            .collect();
        let bindings: Vec<(Oid, Value)> = oids
            .iter()
            .zip(1..)
            .map(|(oid, number)| (*oid, Value::Integer(number)))
            .collect();
        // A SET of two of them as a response: the second is left out.
        let mut told = vec![bindings[2].clone(), bindings[0].clone()];
        told.push((
            "1.3.6.1.4.1.92.59.1".parse().expect("an OID"),
            Value::Integer(9),
        ));
        let mut community = Community::new("public", &[Version::V2c]);
        let mut datagram = community
            .encode(Version::V2c, 7, &Command::Set(&told))
            .expect("encodes");
        let tag = datagram.iter_mut().find(|byte| **byte == 0xa3);
        *tag.expect("a SET") = 0xa2;
        let Heard::Answer(answer) = community.decode(&datagram, 7, &Command::Get(&oids)) else {
            panic!("no answer");
        };
        let expected = [Some(Value::Integer(1)), None, Some(Value::Integer(3))];
        assert_eq!(answer.values, expected);
    }

    #[test]
    fn what_answered_is_tried_first() {
        let mut community = Community::new("public", &[Version::V2c, Version::V1]);
        let order = |community: &Community| [0, 1, 2, 3, 4].map(|n| community.version(n));
        use Version::{V1, V2c};
        assert_eq!(order(&community), [V2c, V1, V2c, V1, V2c]);
        community.prefer(0);
        assert_eq!(order(&community), [V1, V2c, V1, V2c, V1]);
        assert!(!format!("{community:?}").contains("public"));
    }
}
