//! What is wrong in a file, for the person who wrote it: with file, line, column, key, and the expected
//! value.

use super::{Position, SettingsError};
use std::fmt;

/// An error or a warning: one line, `file:line:column: key: message`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileError {
    /// The file's name.
    pub file: String,
    /// Where in it: the order of complaints.
    pub at: Option<Position>,
    /// The key's path, what was expected and what was found.
    pub message: String,
}

impl FileError {
    pub(crate) fn new(file: &str, at: Option<Position>, message: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            at,
            message: message.into(),
        }
    }

    /// A settings error under the key path `path` (`pdus.pdu1`).
    pub(crate) fn of_settings(file: &str, path: &str, error: &SettingsError) -> Self {
        let message = match &error.key {
            Some(key) => format!("{path}.{key}: {}", error.message),
            None => format!("{path}: {}", error.message),
        };
        Self::new(file, Some(error.at), message)
    }
}

impl fmt::Display for FileError {
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

impl std::error::Error for FileError {}
