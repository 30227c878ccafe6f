//! The key `outlets` of a PDU: its outlets, as people write them.

use crate::driver::Outlets;
use crate::request::Outlet;
use crate::request::ranges;
use crate::settings;
use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};
use std::fmt;

/// The outlets of a PDU, as written.
#[derive(Debug)]
pub(super) enum Written {
    /// This many, from the first that its driver counts.
    Number(u64),
    /// A range, as `1-8,12`.
    Range(String),
    /// Each by its id.
    Ids(Vec<String>),
}

impl Written {
    /// Those of the driver's outlets that this leaves; the error says what is wrong.
    pub(super) fn narrow(&self, outlets: &Outlets) -> Result<Outlets, String> {
        match self {
            Self::Number(number) => {
                let most = ranges::MAX_TARGETS;
                let count = usize::try_from(*number)
                    .ok()
                    .filter(|count| (1..=most).contains(count))
                    .ok_or_else(|| format!("expected 1 to {most} outlets, got {number}"))?;
                let numbers = (outlets.first()..).take(count);
                outlets.narrowed(numbers.map(|number| Outlet::new(number.to_string())))
            }
            Self::Range(text) => {
                let ids = ranges::outlets(text).map_err(|error| error.to_string())?;
                outlets.narrowed(ids.into_iter().map(Outlet::new))
            }
            Self::Ids(ids) => outlets.narrowed(ids.iter().map(|id| Outlet::new(id.as_str()))),
        }
    }
}

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AsWritten)
    }
}

struct AsWritten;

impl<'de> Visitor<'de> for AsWritten {
    type Value = Written;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, a range such as \"1-8,12\", or a list of outlets")
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Written, E> {
        Ok(Written::Number(number))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Written, E> {
        // Old config files write numbers as texts.
        let number = text.trim().parse();
        Ok(number.map_or_else(|_| Written::Range(text.to_owned()), Written::Number))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Written, A::Error> {
        /// A number or a text.
        #[derive(serde::Deserialize)]
        struct Id(#[serde(deserialize_with = "settings::text")] String);
        let mut ids = Vec::new();
        while let Some(Id(id)) = list.next_element()? {
            if ids.len() == ranges::MAX_TARGETS {
                return Err(de::Error::invalid_length(ids.len() + 1, &self));
            }
            ids.push(id);
        }
        Ok(Written::Ids(ids))
    }
}
