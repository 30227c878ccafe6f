//! Where profiles are: the shipped ones in this program, the admin's own in folders.

use super::check::{self, MOST_BYTES, Rows};
use super::{Profile, Signs};
use crate::settings::FileError;
use crate::transport::regular;
use std::fs::Metadata;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Id, aliases and text of every shipped profile, in the order of their ids.
static SHIPPED: &[(&str, &[&str], &str)] = include!(concat!(env!("OUT_DIR"), "/profiles.rs"));

/// A profile's text, not read yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Source {
    /// Its file's name, for messages.
    pub(crate) file: String,
    /// Its id, as its file's name has it; none for one that stands in the config.
    pub(crate) id: Option<String>,
    pub(crate) text: String,
}

impl Source {
    /// The profile that stands in the config as JSON.
    pub(crate) fn inline(text: &str) -> Self {
        Self {
            file: "profile".to_owned(),
            id: None,
            text: text.to_owned(),
        }
    }

    /// The profile, or all its faults.
    pub(crate) fn read(&self, rows: Rows) -> Result<Profile, Vec<FileError>> {
        let Some(_) = self.id else {
            return check::read_json(&self.text, &self.file, rows);
        };
        let profile = check::read(&self.text, &self.file, rows)?;
        match &self.id {
            Some(id) if *id != profile.id => {
                let at = super::place::place(&self.text, "id");
                Err(vec![FileError {
                    file: self.file.clone(),
                    at: Some(at),
                    message: format!("id: the file's name says {id:?}, this {:?}", profile.id),
                }])
            }
            _ => Ok(profile),
        }
    }

    /// The profile in `text`, whatever its id.
    #[cfg(fuzzing)]
    pub(crate) fn read_text(text: &str, rows: Rows) -> Option<Profile> {
        check::read(text, "text", rows).ok()
    }

    /// The profile's signs, without a look at the rest of it.
    pub(crate) fn signs(&self, rows: Rows) -> Option<Signs> {
        // Most have none.
        let has_signs = self.text.contains("[detect]");
        has_signs.then(|| check::signs(&self.text, rows)).flatten()
    }

    fn shipped((id, _, text): &(&str, &[&str], &str)) -> Self {
        Self {
            file: format!("{id}.toml"),
            id: Some((*id).to_owned()),
            text: (*text).to_owned(),
        }
    }
}

/// Every shipped profile.
pub(crate) fn shipped() -> impl Iterator<Item = Source> {
    SHIPPED.iter().map(Source::shipped)
}

/// The names of every shipped profile, its id first.
pub(crate) fn shipped_names() -> impl Iterator<Item = &'static str> {
    let names = SHIPPED.iter().map(|(id, aliases, _)| (*id, *aliases));
    names.flat_map(|(id, aliases)| std::iter::once(id).chain(aliases.iter().copied()))
}

/// The shipped profile of this id, or else of this alias.
pub(crate) fn find_shipped(name: &str) -> Option<Source> {
    let by_id = SHIPPED.iter().find(|(id, ..)| *id == name);
    let found = by_id.or_else(|| {
        SHIPPED
            .iter()
            .find(|(_, aliases, _)| aliases.contains(&name))
    });
    found.map(Source::shipped)
}

/// The most files of a folder that are looked at.
const MOST_FILES: usize = 1000;

/// The names of the profiles in `folders`.
pub(crate) fn own_names(folders: &[PathBuf]) -> Vec<String> {
    let files = folders.iter().filter_map(|folder| folder.read_dir().ok());
    let files = files.flat_map(|files| files.take(MOST_FILES).filter_map(Result::ok));
    let names = files.filter_map(|file| {
        let name = file.file_name().into_string().ok()?;
        Some(name.strip_suffix(".toml")?.to_owned())
    });
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// The file `NAME.toml` of the first of `folders` that has one; a fault where it cannot be trusted or
/// read.
pub(crate) fn find_own(name: &str, folders: &[PathBuf]) -> Option<Result<Source, FileError>> {
    let is_file_name = !name.starts_with('.')
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    if name.is_empty() || !is_file_name {
        return None;
    }
    let found = folders.iter().find_map(|folder| {
        let path = folder.join(format!("{name}.toml"));
        match regular::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => None,
            opened => Some((folder, path, opened)),
        }
    });
    let (folder, path, opened) = found?;
    let fault = |file: &Path, message: String| FileError {
        file: file.display().to_string(),
        at: None,
        message,
    };
    let read = || {
        let cannot = |error: io::Error| fault(&path, format!("cannot be read: {error}"));
        let of_folder = folder.metadata().map_err(cannot)?;
        trust(&of_folder).map_err(|why| fault(folder, why))?;
        let file = opened.map_err(cannot)?;
        trust(&file.metadata().map_err(cannot)?).map_err(|why| fault(&path, why))?;
        let mut bytes = Vec::new();
        // One byte more than it may have: then the check says so.
        let most = u64::try_from(MOST_BYTES)
            .unwrap_or(u64::MAX)
            .saturating_add(1);
        file.take(most).read_to_end(&mut bytes).map_err(cannot)?;
        let text = String::from_utf8(bytes);
        let text =
            text.map_err(|_| fault(&path, "expected UTF-8 text, got other bytes".to_owned()));
        Ok(Source {
            file: path.display().to_string(),
            id: Some(name.to_owned()),
            text: text?,
        })
    };
    Some(read())
}

/// A profile says what is sent to PDUs, so nobody else may write it.
fn trust(metadata: &Metadata) -> Result<(), String> {
    if metadata.mode() & 0o022 != 0 {
        let what = "others may write it: take the write permission from group and others";
        return Err(what.to_owned());
    }
    let own = rustix::process::geteuid().as_raw();
    if metadata.uid() != 0 && metadata.uid() != own {
        return Err("it belongs to another user: expected root, or the daemon's user".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_is_not_waited_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let pipe = folder.path().join("own.toml");
        rustix::fs::mkfifoat(rustix::fs::CWD, pipe, 0o600.into()).expect("a pipe");
        let found = find_own("own", &[folder.path().to_owned()]).expect("a file of that name");
        let fault = found.expect_err("no profile");
        assert!(fault.to_string().ends_with("it is not a regular file"));
    }
}
