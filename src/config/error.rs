//! The errors in a config file, for the person who wrote it: with file, line, column, key, and the
//! expected value.

use crate::settings::{Position, SettingsError};
use std::fmt;

/// An error or a warning: one line, `file:line:column: key: message`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    file: String,
    at: Option<Position>,
    message: String,
}

impl ConfigError {
    pub(super) fn new(file: &str, at: Option<Position>, message: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            at,
            message: message.into(),
        }
    }

    /// Where in the file it stands: the order of complaints.
    pub(super) fn place(&self) -> Option<Position> {
        self.at
    }

    /// A settings error under the key path `path` (`pdus.pdu1`).
    pub(super) fn of_settings(file: &str, path: &str, error: &SettingsError) -> Self {
        let message = match &error.key {
            Some(key) => format!("{path}.{key}: {}", error.message),
            None => format!("{path}: {}", error.message),
        };
        Self::new(file, Some(error.at), message)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            Some(at) => write!(
                f,
                "{}:{}:{}: {}",
                self.file, at.line, at.column, self.message
            ),
            None => write!(f, "{}: {}", self.file, self.message),
        }
    }
}

impl std::error::Error for ConfigError {}

/// All errors and warnings about a config file, each list in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Values that cannot work.
    pub errors: Vec<ConfigError>,
    /// Values that are foolish but can work.
    pub warnings: Vec<ConfigError>,
}

impl Findings {
    pub(super) fn sorted(mut self) -> Self {
        for list in [&mut self.errors, &mut self.warnings] {
            list.sort_by_key(ConfigError::place);
        }
        self
    }
}

impl From<ConfigError> for Findings {
    fn from(error: ConfigError) -> Self {
        Self {
            errors: vec![error],
            warnings: Vec::new(),
        }
    }
}

impl fmt::Display for Findings {
    /// The errors, one a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Findings {}
