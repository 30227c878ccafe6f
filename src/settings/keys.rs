//! The keys that a config may have, each told once: [`keys!`] makes the struct that holds their
//! values, the code that reads them and the rows of the documentation from one table.

use super::value::shown;
use super::{Settings, SettingsError};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

/// One key, for whoever documents it, looks for unknown ones, or keeps secrets.
#[derive(Clone, Debug)]
pub struct Key {
    /// As written in the config.
    pub name: Cow<'static, str>,
    /// What the value must be: `number`, `text`, `flag`, `list`, or two of them.
    pub kind: Cow<'static, str>,
    /// Which of them it may be, as `1 to 65535`; empty where all may.
    pub range: Cow<'static, str>,
    /// What counts without the key.
    pub absent: Absent,
    /// Must nobody see the value?
    pub is_secret: bool,
    /// What the key is for; lower case, no full stop.
    pub about: Cow<'static, str>,
}

/// What counts where the config does not have a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Absent {
    /// Nothing: the key is required.
    Refused,
    /// No value.
    Nothing,
    /// This value, as the config would have it.
    Json(Cow<'static, str>),
    /// What these words say.
    Words(Cow<'static, str>),
}

impl Absent {
    /// What counts without a key whose value is a `T`; at most one of `json` and `words` tells it.
    pub fn of<T: Value>(json: Option<&'static str>, words: Option<&'static str>) -> Self {
        match (json, words) {
            (Some(json), _) => Self::Json(json.into()),
            (None, Some(words)) => Self::Words(words.into()),
            (None, None) if T::absent().is_some() => Self::Nothing,
            (None, None) => Self::Refused,
        }
    }
}

impl fmt::Display for Absent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "required",
            Self::Nothing => "none",
            Self::Json(text) | Self::Words(text) => text,
        })
    }
}

impl Key {
    /// The row of a key whose value is a `T`; at most one of `json` and `words` tells what counts
    /// without it.
    pub fn of<T: Value>(
        name: &'static str,
        json: Option<&'static str>,
        words: Option<&'static str>,
        about: &'static str,
    ) -> Self {
        Self {
            name: name.into(),
            kind: T::KIND.into(),
            range: T::range(),
            absent: Absent::of::<T>(json, words),
            is_secret: T::IS_SECRET,
            about: about.into(),
        }
    }

    /// Kind and range, as a reader wants them.
    pub fn kind_and_range(&self) -> String {
        match &*self.range {
            "" => self.kind.to_string(),
            range => format!("{}, {range}", self.kind),
        }
    }
}

/// What the value of a key can be. Old config files write numbers as texts, serial numbers as
/// numbers and flags as either, and all of that must load.
pub trait Value: Sized {
    /// See [`Key::kind`].
    const KIND: &'static str;
    /// See [`Key::is_secret`].
    const IS_SECRET: bool = false;

    /// See [`Key::range`].
    fn range() -> Cow<'static, str> {
        Cow::Borrowed("")
    }

    /// What it is where the config has none; `None` where it must have one.
    fn absent() -> Option<Self> {
        None
    }

    /// Reads it; the error says what was expected.
    fn read(json: &serde_json::Value) -> Result<Self, String>;
}

/// A struct whose fields are the values of keys; [`keys!`] makes it.
pub trait Keys: Sized {
    /// Its keys, in the order of the documentation.
    fn rows() -> Vec<Key>;

    /// Their names.
    fn names() -> Vec<&'static str>;

    /// Is this one of them?
    fn has(name: &str) -> bool {
        Self::names().into_iter().any(|own| own == name)
    }

    /// Takes its keys out of `values`, and leaves others alone.
    fn read(values: &Values<'_>) -> Result<Self, SettingsError>;
}

/// No keys.
impl Keys for () {
    fn rows() -> Vec<Key> {
        Vec::new()
    }

    fn names() -> Vec<&'static str> {
        Vec::new()
    }

    fn read(_: &Values<'_>) -> Result<Self, SettingsError> {
        Ok(())
    }
}

/// The values that a PDU's settings have, by their keys.
#[derive(Debug)]
pub struct Values<'a> {
    settings: &'a Settings,
    values: HashMap<String, &'a RawValue>,
}

impl<'a> Values<'a> {
    pub(super) fn new(settings: &'a Settings) -> Result<Self, SettingsError> {
        let values = serde_json::from_str(settings.text());
        let values = values.map_err(|error| SettingsError {
            at: settings.start(),
            key: None,
            message: super::explain(&error),
        })?;
        Ok(Self { settings, values })
    }

    /// The value of the key `name`, which is for what `about` says. A null is none; neither is an empty
    /// text a value of a key that is required.
    pub fn get<T: Value>(
        &self,
        name: &str,
        absent: &Absent,
        about: &str,
    ) -> Result<T, SettingsError> {
        let wrong = |message| self.settings.error(name, message);
        let read = |json: &str| {
            let json = serde_json::from_str(json).map_err(|error| super::explain(&error));
            json.and_then(|json| T::read(&json)).map_err(wrong)
        };
        let is_required = *absent == Absent::Refused;
        let given = self.values.get(name).map(|value| value.get());
        let given = given.filter(|json| *json != "null" && !(is_required && *json == "\"\""));
        match (given, absent) {
            (Some(json), _) => read(json),
            (None, Absent::Json(json)) => read(json),
            (None, _) => T::absent().ok_or_else(|| wrong(format!("required: {about}"))),
        }
    }

    /// Tells the first of these errors: of a key that is there, before any of one that is not.
    pub fn refuse(&self, errors: &[Option<&SettingsError>]) -> Result<(), SettingsError> {
        let is_there = |error: &&&SettingsError| {
            let key = error.key.as_deref();
            key.is_some_and(|key| self.values.contains_key(key))
        };
        let errors = || errors.iter().flatten();
        match errors().find(is_there).or_else(|| errors().next()) {
            Some(error) => Err((*error).clone()),
            None => Ok(()),
        }
    }
}

/// Makes a struct of keys, and all that others know of them, from one table:
///
/// ```text
/// keys! {
///     /// What this driver reads.
///     struct Keys {
///         ..host: Host;
///         port: NonZeroU16 = 502, "TCP port";
///         ca_file: Option<PathBuf>, "PEM file";
///         url: Option<String> => "the PDU's name", "where it is";
///         password: Secret, "the PDU's password";
///         ..way: Way;
///     }
/// }
/// ```
///
/// A line with `..`, at the beginning or the end, takes in the keys of another such struct. Behind `=` stands,
/// in JSON, the value that counts without the key; behind `=>` words that tell it, where the driver
/// finds it elsewhere. A key with neither is optional if its type is an `Option`, and required
/// otherwise. The text is what the documentation says of the key.
macro_rules! keys {
    ($(#[$attribute:meta])* $visibility:vis struct $name:ident {
        $(..$part:ident: $of:ty;)*
        $($(#[$of_key:meta])* $of_visibility:vis $key:ident: $type:ty $(= $json:tt)? $(=> $words:expr)?, $about:expr;)+
        $(..$last:ident: $of_last:ty;)*
    }) => {
        $crate::settings::keys! {
            @make $(#[$attribute])* $visibility struct $name
            { $(..$part: $of;)* }
            { $($(#[$of_key])* $of_visibility $key: $type $(= $json)? $(=> $words)?, $about;)+ }
            { $(..$last: $of_last;)* }
        }
    };
    ($(#[$attribute:meta])* $visibility:vis struct $name:ident { $(..$part:ident: $of:ty;)+ }) => {
        $crate::settings::keys! {
            @make $(#[$attribute])* $visibility struct $name { $(..$part: $of;)+ } {} {}
        }
    };
    (@make $(#[$attribute:meta])* $visibility:vis struct $name:ident
        { $(..$part:ident: $of:ty;)* }
        { $($(#[$of_key:meta])* $of_visibility:vis $key:ident: $type:ty $(= $json:tt)? $(=> $words:expr)?, $about:expr;)* }
        { $(..$last:ident: $of_last:ty;)* }
    ) => {
        $(#[$attribute])*
        #[allow(missing_docs, reason = "the rows tell what each field is for")]
        $visibility struct $name {
            $($part: $of,)*
            $($(#[$of_key])* $of_visibility $key: $type,)*
            $($last: $of_last,)*
        }

        impl $crate::settings::Keys for $name {
            fn rows() -> Vec<$crate::settings::Key> {
                [
                    $(<$of as $crate::settings::Keys>::rows(),)*
                    vec![$($crate::settings::keys!(@row $key: $type $(= $json)? $(=> $words)?, $about),)*],
                    $(<$of_last as $crate::settings::Keys>::rows(),)*
                ]
                .concat()
            }

            fn names() -> Vec<&'static str> {
                [
                    $(<$of as $crate::settings::Keys>::names(),)*
                    vec![$(stringify!($key),)*],
                    $(<$of_last as $crate::settings::Keys>::names(),)*
                ]
                .concat()
            }

            fn read(
                values: &$crate::settings::Values<'_>,
            ) -> Result<Self, $crate::settings::SettingsError> {
                $(let $part = <$of as $crate::settings::Keys>::read(values);)*
                $(let $key = values.get::<$type>(
                    stringify!($key),
                    &$crate::settings::keys!(@absent $type $(= $json)? $(=> $words)?),
                    $about,
                );)*
                $(let $last = <$of_last as $crate::settings::Keys>::read(values);)*
                values.refuse(&[
                    $($part.as_ref().err(),)*
                    $($key.as_ref().err(),)*
                    $($last.as_ref().err(),)*
                ])?;
                Ok(Self {
                    $($part: $part?,)*
                    $($key: $key?,)*
                    $($last: $last?,)*
                })
            }
        }
    };
    (@absent $type:ty) => {
        $crate::settings::Absent::of::<$type>(None, None)
    };
    (@absent $type:ty = $json:tt) => {
        $crate::settings::Absent::of::<$type>(Some(stringify!($json)), None)
    };
    (@absent $type:ty => $words:expr) => {
        $crate::settings::Absent::of::<$type>(None, Some($words))
    };
    (@row $key:ident: $type:ty, $about:expr) => {
        $crate::settings::Key::of::<$type>(stringify!($key), None, None, $about)
    };
    (@row $key:ident: $type:ty = $json:tt, $about:expr) => {
        $crate::settings::Key::of::<$type>(stringify!($key), Some(stringify!($json)), None, $about)
    };
    (@row $key:ident: $type:ty => $words:expr, $about:expr) => {
        $crate::settings::Key::of::<$type>(stringify!($key), None, Some($words), $about)
    };
}

/// The complaint about a value that is none of `words`.
pub(crate) fn expected(words: &[&str], json: &serde_json::Value) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
    format!("expected {}, got {}", words.join(" or "), shown(json))
}

/// Tells which words of the config stand for which values of a type: `words! { Framing: "tcp" =
/// Framing::Tcp, "rtu" = Framing::Rtu }`.
macro_rules! words {
    ($type:ty: $($word:literal = $value:expr),+) => {
        impl $crate::settings::Value for $type {
            const KIND: &'static str = "text";

            fn range() -> std::borrow::Cow<'static, str> {
                [$($word),+].join(" or ").into()
            }

            fn read(json: &serde_json::Value) -> Result<Self, String> {
                match json.as_str() {
                    $(Some($word) => Ok($value),)+
                    _ => Err($crate::settings::expected(&[$($word),+], json)),
                }
            }
        }
    };
}

pub(crate) use {keys, words};
