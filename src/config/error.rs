//! All that is to be said of a config file.

use crate::settings::FileError;
use std::fmt;

/// All errors and warnings about a config file, each list in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Values that cannot work.
    pub errors: Vec<FileError>,
    /// Values that are foolish but can work.
    pub warnings: Vec<FileError>,
}

impl Findings {
    pub(super) fn sorted(mut self) -> Self {
        for list in [&mut self.errors, &mut self.warnings] {
            list.sort_by_key(|error| error.at);
        }
        self
    }
}

impl From<FileError> for Findings {
    fn from(error: FileError) -> Self {
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
