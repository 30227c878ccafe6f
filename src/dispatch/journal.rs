//! The journal: which outlets a reboot has switched off and not yet confirmed on again, where a
//! crash does not reach it.
//!
//! One empty file per such outlet in `journal/` of the state directory; its name says which. It is
//! made, and the folder synced, before the off is sent, and removed when the outlet is on again.
//! There is nothing in it that could be torn. The process that made it holds a lock on it, so
//! that a starting daemon takes over what a dead process left and leaves alone what another one
//! (`--drive`) is still at. A removal that a power cut undoes costs one more on.

use super::plan::Ledger;
use crate::request::{Outlet, PduName};
use log::{error, warn};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The folder, shared by all workers.
#[derive(Clone, Debug)]
pub(super) struct Journal {
    folder: Arc<Path>,
}

/// One outlet that is owed its on.
#[derive(Debug)]
struct Record {
    path: PathBuf,
    /// Holds the lock.
    _file: File,
}

/// What a process that is gone has left: PDU, outlet, and the record to take over.
#[derive(Debug)]
pub(super) struct Left {
    pub(super) pdu: PduName,
    pub(super) outlet: Outlet,
    record: Record,
}

impl Journal {
    /// The journal under `state_directory`; made if it is not there.
    pub(super) fn open(state_directory: &Path) -> io::Result<Self> {
        let folder = state_directory.join("journal");
        fs::create_dir_all(&folder)?;
        Ok(Self {
            folder: folder.into(),
        })
    }

    /// What dead processes left. What cannot be read is told and left where it is.
    pub(super) fn left(&self) -> Vec<Left> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) => {
                error!(
                    "journal {}: {error}; unfinished reboots of an earlier run are not known",
                    self.folder.display()
                );
                return Vec::new();
            }
        };
        let mut left: Vec<Left> = entries
            .filter_map(|entry| {
                let entry = entry.ok()?;
                // A folder or a FIFO is none of ours, whatever its name; opening it could wait.
                let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
                Self::take_over(&entry.path(), is_file)
            })
            .collect();
        left.sort_by(|a, b| (&a.pdu, &a.outlet).cmp(&(&b.pdu, &b.outlet)));
        left
    }

    fn take_over(path: &Path, is_file: bool) -> Option<Left> {
        let name = path.file_name()?.to_str().filter(|_| is_file);
        let Some((pdu, outlet)) = name.and_then(read_name) else {
            warn!(
                "journal: {} is not one of our files; left alone",
                path.display()
            );
            return None;
        };
        // A record of another user or a read-only place can still be read and acted on.
        let file = match OpenOptions::new()
            .write(true)
            .open(path)
            .or_else(|_| File::open(path))
        {
            Ok(file) => file,
            Err(error) => {
                error!(
                    "journal: {}: {error}; an unfinished reboot may be forgotten",
                    path.display()
                );
                return None;
            }
        };
        match file.try_lock() {
            Ok(()) => Some(Left {
                pdu,
                outlet,
                record: Record {
                    path: path.to_owned(),
                    _file: file,
                },
            }),
            // Its process is alive and will see to it.
            Err(TryLockError::WouldBlock) => None,
            Err(TryLockError::Error(error)) => {
                error!(
                    "journal: {}: it cannot be locked: {error}; an unfinished reboot may be forgotten",
                    path.display()
                );
                None
            }
        }
    }

    /// The ledger of one PDU, with what was left of it.
    pub(super) fn ledger(&self, pdu: PduName, left: Vec<Left>) -> PduLedger {
        let mut ledger = PduLedger {
            journal: self.clone(),
            pdu,
            records: HashMap::new(),
        };
        for Left { outlet, record, .. } in left {
            if let Some(doubled) = ledger.records.insert(outlet, record) {
                ledger.remove(&doubled);
            }
        }
        ledger
    }
}

/// A record's name: PDU, outlet and a number, percent-encoded so that the dots part them.
pub(super) fn name(pdu: &PduName, outlet: &Outlet, number: u32) -> String {
    let encode = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
    format!(
        "{}.{}.{number}",
        encode(pdu.as_str()),
        encode(outlet.as_str())
    )
}

pub(super) fn read_name(name: &str) -> Option<(PduName, Outlet)> {
    let parts: Vec<&str> = name.split('.').collect();
    let [pdu, outlet, number] = parts.as_slice() else {
        return None;
    };
    number.parse::<u32>().ok()?;
    let decode = |text| {
        percent_decode_str(text)
            .decode_utf8()
            .ok()
            .map(String::from)
    };
    Some((PduName::new(decode(pdu)?), Outlet::new(decode(outlet)?)))
}

/// One PDU's part of the journal.
#[derive(Debug)]
pub(super) struct PduLedger {
    journal: Journal,
    pdu: PduName,
    records: HashMap<Outlet, Record>,
}

impl PduLedger {
    /// Makes the record. Once its file is there it is ours to remove, even if it may not survive a
    /// crash, or cannot be locked: that is the second thing returned.
    fn make(&self, outlet: &Outlet) -> io::Result<(Record, io::Result<()>)> {
        let mut is_missing = false;
        let mut number = 0;
        loop {
            let path = self.journal.folder.join(name(&self.pdu, outlet, number));
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => {
                    let safe = self.make_safe(&file);
                    return Ok((Record { path, _file: file }, safe));
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    number = u32::checked_add(number, 1).ok_or(error)?;
                }
                // Somebody has removed the folder.
                Err(error) if error.kind() == io::ErrorKind::NotFound && !is_missing => {
                    is_missing = true;
                    fs::create_dir_all(&self.journal.folder)?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn make_safe(&self, file: &File) -> io::Result<()> {
        file.try_lock()?;
        // The name is the record: what must survive is the folder.
        File::open(&self.journal.folder)?.sync_all()
    }

    fn remove(&self, record: &Record) {
        if let Err(error) = fs::remove_file(&record.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            warn!(
                "journal: {}: {error}; the next start will switch this outlet on",
                record.path.display()
            );
        }
    }
}

impl Ledger for PduLedger {
    fn owe(&mut self, outlet: &Outlet) {
        if self.records.contains_key(outlet) {
            return;
        }
        match self.make(outlet) {
            Ok((record, safe)) => {
                self.records.insert(outlet.clone(), record);
                if let Err(error) = safe {
                    error!(
                        "PDU {}, outlet {outlet}: the journal {} is not safe: {error}; a crash during this reboot could leave the outlet off",
                        self.pdu,
                        self.journal.folder.display()
                    );
                }
            }
            // Not serving would help nobody.
            Err(error) => error!(
                "PDU {}, outlet {outlet}: the journal {} cannot be written: {error}; a crash during this reboot would leave the outlet off",
                self.pdu,
                self.journal.folder.display()
            ),
        }
    }

    fn settle(&mut self, outlet: &Outlet) {
        if let Some(record) = self.records.remove(outlet) {
            self.remove(&record);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(left: &[Left]) -> Vec<String> {
        left.iter()
            .map(|left| format!("{} {}", left.pdu, left.outlet))
            .collect()
    }

    #[test]
    fn what_is_owed_survives_and_what_is_settled_does_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = Journal::open(folder.path()).expect("opened");
        let mut ledger = journal.ledger(PduName::new("pdu.5/x"), Vec::new());
        for outlet in ["3", "04", "a.b"] {
            ledger.owe(&Outlet::new(outlet));
        }
        ledger.settle(&Outlet::new("4"));
        assert!(
            journal.left().is_empty(),
            "a living process sees to it itself"
        );
        drop(ledger);
        fs::write(folder.path().join("journal/README"), "x").expect("written");
        let left = journal.left();
        assert_eq!(names(&left), ["pdu.5/x 3", "pdu.5/x a.b"]);
        let mut ledger = journal.ledger(PduName::new("pdu.5/x"), left);
        ledger.settle(&Outlet::new("3"));
        ledger.settle(&Outlet::new("a.b"));
        drop(ledger);
        assert!(journal.left().is_empty());
        assert!(folder.path().join("journal/README").exists());
    }
}
