//! A profile as it is written: the one set of types for TOML files and for a profile that stands in
//! the config. [`super::check`] makes a [`super::Profile`] of it.

use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{self, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroU16;

/// Any key of a map, in the order of their names.
pub(super) type Map<T> = BTreeMap<String, T>;

/// A whole profile.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) id: String,
    #[serde(default)]
    pub(super) aliases: Vec<String>,
    pub(super) vendor: String,
    pub(super) models: String,
    pub(super) transport: Transport,
    pub(super) evidence: Evidence,
    #[serde(default)]
    pub(super) keys: Map<Key>,
    pub(super) outlets: Outlets,
    #[serde(default)]
    pub(super) http: Http,
    #[serde(default)]
    pub(super) line: Line,
    #[serde(default)]
    pub(super) bytes: Bytes,
    #[serde(default)]
    pub(super) mqtt: Mqtt,
    pub(super) login: Option<Action>,
    pub(super) logout: Option<Action>,
    pub(super) on: Action,
    pub(super) off: Action,
    pub(super) state: Option<Action>,
    pub(super) proof: Option<Proof>,
    #[serde(default)]
    pub(super) errors: Map<Failure>,
    #[serde(default)]
    pub(super) meter: Meters,
    pub(super) detect: Option<Detect>,
    #[serde(default)]
    pub(super) limits: Limits,
    #[serde(default)]
    pub(super) test: Vec<Test>,
}

/// An OID in its whole form: one that begins with neither `1.3.6.1.` nor a dot stands below the
/// enterprises.
pub(crate) fn whole_oid(oid: &str) -> String {
    match oid.strip_prefix('.') {
        Some(whole) => whole.to_owned(),
        None if oid.starts_with("1.3.6.1.") => oid.to_owned(),
        None => format!("1.3.6.1.4.1.{oid}"),
    }
}

/// How the bytes travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Transport {
    Snmp,
    Http,
    Line,
    Bytes,
    Mqtt,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Snmp => "snmp",
            Self::Http => "http",
            Self::Line => "line",
            Self::Bytes => "bytes",
            Self::Mqtt => "mqtt",
        })
    }
}

/// Where the facts are from.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Evidence {
    pub(super) maturity: Maturity,
    pub(super) sources: Vec<String>,
    #[serde(default)]
    pub(super) doubts: Vec<String>,
}

/// How well a profile is known to be right, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Maturity {
    Hardware,
    Walk,
    Mib,
    VendorDoc,
    Peer,
    Unverified,
}

impl Maturity {
    /// In words, for people who choose a PDU.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Hardware => "used on hardware",
            Self::Walk => "checked against a recorded walk of a real PDU",
            Self::Mib => "objects and values checked against the maker's MIB",
            Self::VendorDoc => "from the maker's documents",
            Self::Peer => "as another program does it, whose users have the PDU",
            Self::Unverified => "UNVERIFIED",
        }
    }
}

/// A key that the config may have for PDUs of this kind.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Key {
    #[serde(rename = "type")]
    pub(super) kind: Option<Kind>,
    pub(super) default: Option<Scalar>,
    pub(super) secret: bool,
    pub(super) range: Option<String>,
    pub(super) choices: Vec<String>,
    pub(super) help: Option<String>,
}

/// What a key's value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Integer,
    Text,
}

/// An integer or a text.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "expected an integer or a text")]
pub(super) enum Scalar {
    Integer(i64),
    Text(String),
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(number) => number.fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// One or a list.
#[derive(Clone, Debug)]
pub(super) enum OneOrMore<T> {
    One(T),
    Several(Vec<T>),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMore<T> {
    /// By hand, so that what is wrong inside of it keeps its own words and place.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Either<T> {
            type Value = OneOrMore<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one, or a list of them")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                T::deserialize(text.into_deserializer()).map(OneOrMore::One)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(OneOrMore::One)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(OneOrMore::Several)
            }
        }
        deserializer.deserialize_any(Either(PhantomData))
    }
}

/// All that stand there.
pub(super) fn each<T>(of: Option<&OneOrMore<T>>) -> &[T] {
    match of {
        None => &[],
        Some(OneOrMore::One(one)) => std::slice::from_ref(one),
        Some(OneOrMore::Several(list)) => list,
    }
}

/// Which outlets there can be.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Outlets {
    pub(super) range: Option<String>,
    pub(super) list: Vec<String>,
    pub(super) parts: Vec<IdPart>,
    /// Does every PDU of this kind have all of them?
    pub(super) all: bool,
    pub(super) count: Option<String>,
    pub(super) names: Option<String>,
    pub(super) vars: Map<String>,
    pub(super) lists: Map<Vec<i64>>,
    pub(super) about: Option<String>,
}

/// One of the numbers that an id such as `2.7` is made of.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct IdPart {
    pub(super) name: String,
    pub(super) range: String,
    pub(super) default: Option<i64>,
}

/// What is done to switch, to read, to log in: the transport decides which keys it has.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Action {
    // SNMP
    pub(super) set: Option<Vec<Set>>,
    pub(super) edit: Option<Edit>,
    pub(super) get: Option<OneOrMore<String>>,
    // HTTP
    pub(super) request: Option<Request>,
    pub(super) requests: Vec<Request>,
    // Lines
    pub(super) steps: Option<Vec<Step>>,
    // Bytes
    pub(super) write: Option<String>,
    pub(super) read: Option<Read>,
    // MQTT
    pub(super) publish: Option<Publish>,
    #[serde(rename = "await")]
    pub(super) awaits: Option<String>,
    // What an answer means
    pub(super) take: Option<OneOrMore<Take>>,
    pub(super) test: Option<String>,
    pub(super) map: Map<Meaning>,
}

impl Action {
    /// The keys that it has.
    pub(super) fn keys(&self) -> Vec<&'static str> {
        let keys = [
            ("set", self.set.is_some()),
            ("edit", self.edit.is_some()),
            ("get", self.get.is_some()),
            ("request", self.request.is_some()),
            ("requests", !self.requests.is_empty()),
            ("steps", self.steps.is_some()),
            ("write", self.write.is_some()),
            ("read", self.read.is_some()),
            ("publish", self.publish.is_some()),
            ("await", self.awaits.is_some()),
            ("take", self.take.is_some()),
            ("test", self.test.is_some()),
            ("map", !self.map.is_empty()),
        ];
        let keys = keys.into_iter().filter(|(_, is_there)| *is_there);
        keys.map(|(key, _)| key).collect()
    }
}

/// One SET of one object.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Set {
    pub(super) oid: String,
    /// INTEGER.
    pub(super) i: Option<Scalar>,
    /// Gauge32 or Unsigned32.
    pub(super) u: Option<Scalar>,
    /// OCTET STRING.
    pub(super) s: Option<String>,
}

/// An object that holds a list of all outlets: it is read, one element is changed, and it is
/// written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Edit {
    pub(super) oid: String,
    pub(super) split: String,
    pub(super) field: String,
    pub(super) value: String,
}

/// One request of HTTP.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Request {
    pub(super) get: Option<String>,
    pub(super) post: Option<String>,
    pub(super) put: Option<String>,
    pub(super) patch: Option<String>,
    pub(super) delete: Option<String>,
    pub(super) headers: Map<String>,
    pub(super) form: Option<String>,
    pub(super) json: Option<String>,
    pub(super) body: Option<String>,
    pub(super) status: Vec<u16>,
    pub(super) expect: Option<String>,
    #[serde(rename = "else")]
    pub(super) other: Map<Failure>,
}

/// One step of a dialogue.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Step {
    pub(super) send: Option<String>,
    /// Sent as it is, without the end of a line.
    pub(super) key: Option<String>,
    pub(super) expect: Option<String>,
    pub(super) answer: Map<Typed>,
    /// Only over these; over all where none is named.
    pub(super) over: Vec<Over>,
    #[serde(rename = "else")]
    pub(super) other: Map<Failure>,
}

/// A message for the PDU.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Publish {
    pub(super) topic: String,
    pub(super) text: Option<String>,
    pub(super) json: Option<String>,
}

/// The keys of an MQTT profile as a whole.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Mqtt {
    pub(super) offline: Option<OneOrMore<Offline>>,
}

/// What tells that the PDU is not connected to its broker.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Offline {
    pub(super) topic: String,
    /// A pattern.
    pub(super) says: String,
}

/// What is typed to a question.
#[derive(Clone, Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a text, or { key = \"y\" } for one without the end of a line"
)]
pub(super) enum Typed {
    Line(String),
    Key(Unended),
}

/// A text that no end of a line follows.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Unended {
    pub(super) key: String,
}

/// How an answer in bytes ends.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Read {
    pub(super) bytes: Option<usize>,
    pub(super) until: Option<String>,
    /// What it must be, in hexadecimal digits: for an answer that proves the switch.
    pub(super) is: Option<String>,
}

/// How the value is found in an answer. Of several, each works on what the one before has found.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Take {
    pub(super) regex: Option<String>,
    pub(super) all: Option<String>,
    pub(super) json: Option<String>,
    pub(super) xml: Option<String>,
    /// Of a login: the header of the answer, or the cookie, that is the token.
    pub(super) header: Option<String>,
    pub(super) cookie: Option<String>,
    pub(super) split: Option<String>,
    pub(super) field: Option<String>,
    pub(super) byte: Option<String>,
    #[serde(rename = "as")]
    pub(super) number: Option<Number>,
}

/// What digits a number has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Number {
    Hex,
    Decimal,
    Binary,
}

/// What a value says of an outlet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Meaning {
    On,
    Off,
    /// On its way to another state.
    Switching,
    /// The PDU has no such outlet.
    Absent,
    Locked,
    Fault,
}

impl fmt::Display for Meaning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::On => "on",
            Self::Off => "off",
            Self::Switching => "switching",
            Self::Absent => "absent",
            Self::Locked => "locked",
            Self::Fault => "fault",
        })
    }
}

/// What an answer says of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Failure {
    /// The PDU refuses it.
    Refused,
    /// The PDU does not accept user or password.
    Login,
    /// Somebody else is logged in.
    Busy,
    /// The PDU has no such outlet.
    Absent,
}

/// What proves a switch where no state can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Proof {
    Reply,
    None,
}

/// The keys of an HTTP profile as a whole.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Http {
    pub(super) auth: Auth,
    pub(super) port: Option<NonZeroU16>,
    /// Of every request.
    pub(super) headers: Map<String>,
}

/// How a request proves who sends it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Auth {
    #[default]
    None,
    Basic,
    Digest,
    /// As the PDU asks.
    Asked,
    Bearer,
}

/// The keys of a dialogue as a whole.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Line {
    pub(super) over: Vec<Over>,
    pub(super) port: Option<u16>,
    pub(super) baud: Option<u32>,
    pub(super) eol: Option<String>,
    pub(super) prompt: Option<String>,
}

/// The keys of a byte protocol as a whole.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Bytes {
    pub(super) over: Vec<Over>,
    pub(super) port: Option<u16>,
    pub(super) baud: Option<u32>,
}

/// What a stream travels over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Over {
    Telnet,
    Ssh,
    Tcp,
    Serial,
}

impl fmt::Display for Over {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Telnet => "telnet",
            Self::Ssh => "ssh",
            Self::Tcp => "tcp",
            Self::Serial => "serial",
        })
    }
}

/// Measurements of outlets, banks and the whole PDU.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Meters {
    pub(super) outlet: Quantities,
    pub(super) bank: Quantities,
    pub(super) pdu: Quantities,
}

/// What is measured.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Quantities {
    /// Of banks: their numbers.
    pub(super) range: Option<String>,
    pub(super) watts: Option<Quantity>,
    pub(super) amps: Option<Quantity>,
    pub(super) volts: Option<Quantity>,
    pub(super) va: Option<Quantity>,
    pub(super) wh: Option<Quantity>,
    pub(super) hertz: Option<Quantity>,
    pub(super) factor: Option<Quantity>,
}

/// Where one measured value is, and what to multiply it with.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Quantity {
    pub(super) get: Option<String>,
    pub(super) take: Option<OneOrMore<Take>>,
    pub(super) scale: Option<f64>,
    /// The object that tells how many decimals the value has.
    pub(super) decimals: Option<String>,
}

/// How a PDU of this kind shows itself.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Detect {
    pub(super) sysobjectid: Vec<String>,
    pub(super) except: Vec<String>,
    pub(super) has: Option<String>,
    /// A page that everybody may read, and a pattern that only this kind of PDU shows on it.
    pub(super) page: Option<String>,
    pub(super) shows: Option<String>,
}

/// What such a PDU can bear.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Limits {
    pub(super) varbinds: Option<u32>,
    pub(super) timeout: Option<u64>,
    pub(super) shows_within: Option<u64>,
    /// Seconds between two commands, at least.
    pub(super) gap: Option<f64>,
}

/// A proof that the profile says what it should.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Test {
    /// Settings of the PDU.
    pub(super) keys: Map<Scalar>,
    // One action, as a dialogue.
    pub(super) outlet: Option<Scalar>,
    #[serde(rename = "do")]
    pub(super) action: Option<Do>,
    pub(super) wire: Option<String>,
    // Many readings, of a recorded walk.
    pub(super) walk: Option<String>,
    pub(super) states: Map<Meaning>,
    pub(super) names: Map<String>,
    pub(super) count: Option<u32>,
    pub(super) meters: Map<f64>,
}

/// What a test does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Do {
    On,
    Off,
    State,
}
