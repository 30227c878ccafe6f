//! What is wrong with a config file, for the person who wrote it: file, line, column, key, what
//! was expected.

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
