//! The keys that every PDU may have, whatever its driver.

use super::value::shown;
use super::{Seconds, TextOrNumber, Value, Within, keys};
use crate::request::{Proof, ranges};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

keys! {
    /// The keys of every PDU, as the config has them.
    #[derive(Debug)]
    pub struct PduKeys {
        pub driver: Option<String> => "required", "how to speak to the PDU";
        pub retries: i64 = 5, "attempts per command; only errors that may pass get another attempt";
        pub retrydelay: Seconds<0> = 5, "seconds between attempts";
        pub timeout: Option<Seconds<1>> => "30, commands 300", "seconds that one attempt may take";
        pub queue_limit: Within<1> = 1024, "requests that may wait for the PDU";
        pub client_limit: Option<Within<1>> => "three quarters of `queue_limit`",
            "how many of these one client may have: one token, or else one address (of IPv6: one /64). \
             Raise it where a whole lab asks from one address";
        pub delayed_limit: Option<Within<1>> => "a quarter of `queue_limit`",
            "how many of these may wait for their `delay` to pass";
        pub refresh: Option<Pace> => "5; serial and commands 60; telnet and ssh 900",
            "the seconds between two background reads of its states for lists and the page, or \
             `\"never\"`. A read costs a telnet or ssh PDU a login, and many have one to give";
        pub confirm: Option<Proof> => "the strongest that the driver has",
            "what counts as switched: `state` (the PDU shows the new state; the daemon waits up to \
             10 s for it), `reply` (the PDU has answered the command), `none` (the daemon has sent \
             it, as the Python program did)";
        pub bus: Option<String>,
            "PDUs that share a wire name the same bus; the daemon then serves one at a time";
        pub about: Option<String>, "a comment for people";
        pub outlets: Option<OutletList> => "all that the driver can have",
            "the outlets that the daemon lists and switches: a number (1 to 8, or 0 to 7 where the \
             driver counts from 0), a range such as `\"1-8,12\"`, or a list of ids";
        pub outlet_names: BTreeMap<String, String>,
            "names for outlets in lists and on the page: `{\"3\": \"board 3\"}`";
    }
}

/// The time between two background reads; `None`: there are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace(pub Option<Duration>);

impl Value for Pace {
    const KIND: &'static str = "number or text";

    fn range() -> Cow<'static, str> {
        "1 to 86400 seconds or \"never\"".into()
    }

    fn read(json: &serde_json::Value) -> Result<Self, String> {
        if json.as_str() == Some("never") {
            return Ok(Self(None));
        }
        let wait = Seconds::<1000>::read(json).map(|wait| Self(Some(wait.0)));
        wait.map_err(|_| format!("expected {}, got {}", Self::range(), shown(json)))
    }
}

impl Value for Proof {
    const KIND: &'static str = "text";

    fn read(json: &serde_json::Value) -> Result<Self, String> {
        String::read(json)?.parse()
    }
}

/// Outlets, as people write them.
#[derive(Debug)]
pub enum OutletList {
    /// This many, from the first that the driver counts.
    Number(u64),
    /// A range, as `1-8,12`.
    Range(String),
    /// Each by its id, at most [`ranges::MAX_TARGETS`].
    Ids(Vec<String>),
}

impl Value for OutletList {
    const KIND: &'static str = "number, text or list";

    fn read(json: &serde_json::Value) -> Result<Self, String> {
        use serde_json::Value as Json;
        match json {
            Json::Number(number) if number.is_u64() => u64::read(json).map(Self::Number),
            // Old config files write numbers as texts.
            Json::String(text) => Ok(text
                .trim()
                .parse()
                .map_or_else(|_| Self::Range(text.clone()), Self::Number)),
            Json::Array(ids) if ids.len() > ranges::MAX_TARGETS => {
                let (most, got) = (ranges::MAX_TARGETS, ids.len());
                Err(format!("expected at most {most} outlets, got {got}"))
            }
            Json::Array(ids) => {
                let ids = ids.iter().map(|id| TextOrNumber::read(id).map(|id| id.0));
                ids.collect::<Result<_, _>>().map(Self::Ids)
            }
            _ => Err(format!(
                "expected a number, a range such as \"1-8,12\", or a list of outlets, got {}",
                shown(json)
            )),
        }
    }
}

/// Texts by their names.
impl Value for BTreeMap<String, String> {
    const KIND: &'static str = "object";

    fn absent() -> Option<Self> {
        Some(Self::new())
    }

    fn read(json: &serde_json::Value) -> Result<Self, String> {
        let entries = json.as_object();
        let entries = entries.ok_or_else(|| format!("expected an object, got {}", shown(json)))?;
        let entries = entries.iter();
        let read = |(name, text)| Ok((String::clone(name), String::read(text)?));
        entries.map(read).collect()
    }
}
