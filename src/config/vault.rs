//! Secrets that the config only refers to: `{"file": "name"}` and `{"env": "NAME"}`.
//!
//! A file's name without a slash means one of systemd's credentials first
//! (`$CREDENTIALS_DIRECTORY`), then, as every relative name, beside the config. Objects and not
//! marks within strings: a password may begin with anything.
//!
//! Invariant: no other place reads them, and a secret goes nowhere but into the answer, not even
//! into the environment of programs that we start.

use crate::transport::{children, regular};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The longest secret.
const MAX_SECRET: u64 = 64 * 1024;

/// Where secrets lie.
#[derive(Clone, Debug)]
pub(crate) struct Vault {
    /// The config's folder.
    folder: PathBuf,
    credentials: Option<PathBuf>,
}

/// A secret, and where it comes from.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// The secret.
    pub(crate) text: String,
    /// The file that it comes from, when every user of the machine can read that.
    pub(crate) open_file: Option<PathBuf>,
}

impl std::fmt::Debug for Found {
    /// Without the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Found");
        shown
            .field("open_file", &self.open_file)
            .finish_non_exhaustive()
    }
}

/// A reference in a secret's place.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Reference {
    /// The file's text without the line end behind it.
    File(String),
    /// The environment variable's text.
    Env(String),
}

impl Vault {
    /// The vault of the config at `path`.
    pub(crate) fn of_config(path: &Path) -> Self {
        Self {
            folder: path.parent().unwrap_or(Path::new("")).to_owned(),
            credentials: std::env::var_os("CREDENTIALS_DIRECTORY")
                .filter(|folder| !folder.is_empty())
                .map(PathBuf::from),
        }
    }

    /// Reads `{"file": ...}` or `{"env": ...}`, and the secret it stands for. Fails with a
    /// sentence that has nothing of the secret.
    pub(crate) fn resolve(&self, json: &str) -> Result<Found, String> {
        let reference: Reference = serde_json::from_str(json).map_err(|_| {
            "expected a string, {\"file\": \"name\"} or {\"env\": \"NAME\"}".to_owned()
        })?;
        match reference {
            Reference::File(name) => self.read(&name),
            Reference::Env(name) => {
                children::withhold(&name);
                let text = match std::env::var(&name) {
                    Ok(text) => text,
                    Err(std::env::VarError::NotPresent) => {
                        return Err(format!("the environment variable {name:?} is not set"));
                    }
                    Err(std::env::VarError::NotUnicode(_)) => {
                        return Err(format!("the environment variable {name:?} is not UTF-8"));
                    }
                };
                if text.is_empty() {
                    return Err(format!("the environment variable {name:?} is empty"));
                }
                Ok(Found {
                    text,
                    open_file: None,
                })
            }
        }
    }

    /// The text of a secret's file.
    pub(crate) fn read(&self, name: &str) -> Result<Found, String> {
        if name.is_empty() {
            return Err("file: expected a name, got an empty text".into());
        }
        let credential = self
            .credentials
            .as_deref()
            .filter(|_| !name.contains('/') && name != "." && name != "..")
            .map(|folder| folder.join(name))
            .filter(|path| path.exists());
        let path = credential.unwrap_or_else(|| self.folder.join(name));
        let fail = |what: String| format!("file {}: {what}", path.display());
        let (mut bytes, mut is_for_everybody) = (Vec::new(), false);
        regular::open(&path)
            .and_then(|file| {
                is_for_everybody = file.metadata()?.permissions().mode() & 0o004 != 0;
                file.take(MAX_SECRET + 1).read_to_end(&mut bytes)
            })
            .map_err(|error| fail(format!("cannot be read: {error}")))?;
        if bytes.len() as u64 > MAX_SECRET {
            return Err(fail("is longer than 64 KiB".into()));
        }
        let mut text = String::from_utf8(bytes)
            .map_err(|_| fail("expected UTF-8 text, got other bytes".into()))?;
        // The line end that every editor puts there is not part of the secret.
        if text.ends_with('\n') {
            text.pop();
            if text.ends_with('\r') {
                text.pop();
            }
        }
        if text.is_empty() {
            return Err(fail("is empty".into()));
        }
        Ok(Found {
            text,
            open_file: is_for_everybody.then_some(path),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_come_from_credentials_the_configs_folder_and_the_environment() {
        let folder = tempfile::tempdir().expect("a folder");
        let credentials = tempfile::tempdir().expect("a folder");
        let write = |folder: &Path, name: &str, text: &str| {
            std::fs::write(folder.join(name), text).expect("written");
        };
        write(folder.path(), "apc", "from the folder\n");
        write(folder.path(), "both", "from the folder");
        write(credentials.path(), "both", " with spaces \r\n");
        write(folder.path(), "empty", "\n");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mkfifoat(rustix::fs::CWD, folder.path().join("pipe"), mode).expect("a pipe");
        let vault = Vault {
            folder: folder.path().to_owned(),
            credentials: Some(credentials.path().to_owned()),
        };
        let read = |json: &str| vault.resolve(json).map(|found| found.text);
        assert_eq!(read(r#"{"file": "apc"}"#), Ok("from the folder".into()));
        assert_eq!(read(r#"{"file": "both"}"#), Ok(" with spaces ".into()));
        assert_eq!(read(r#"{"file": "./both"}"#), Ok("from the folder".into()));
        // Cargo sets this one for every test.
        assert_eq!(read(r#"{"env": "CARGO_PKG_NAME"}"#), Ok("pdudaemon".into()));
        for (json, expected) in [
            (r#"{"file": "empty"}"#, "is empty"),
            (r#"{"file": "none"}"#, "none: cannot be read: No such file"),
            (r#"{"file": "pipe"}"#, "it is not a regular file"),
            (r#"{"file": "."}"#, "it is not a regular file"),
            (r#"{"file": ""}"#, "expected a name"),
            (
                r#"{"env": "PDUDAEMON_NOT_SET"}"#,
                "\"PDUDAEMON_NOT_SET\" is not set",
            ),
            (r#"{"files": "apc"}"#, "expected a string, {\"file\""),
            (
                r#"{"file": "apc", "env": "X"}"#,
                "expected a string, {\"file\"",
            ),
            (r#"{}"#, "expected a string, {\"file\""),
        ] {
            let error = read(json).expect_err(json);
            assert!(error.contains(expected), "expected {expected} in {error}");
        }
    }
}
