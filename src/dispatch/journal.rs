//! The journal: which outlets a reboot has switched off and not yet confirmed on again, where a
//! crash does not reach it.
//!
//! One empty file per such outlet in `journal/` of the state directory; its name says which. It is
//! made, and the folder synced, before the off is sent, and removed when the outlet is on again.
//! There is nothing in it that could be torn. The process that made it holds a lock on it, so
//! that a daemon takes over what a dead process left, when it starts and while it runs, and leaves
//! alone what another one (`--drive`) is still at. A removal that a power cut undoes costs one
//! more on.
//!
//! Only the worker of its PDU takes over a record: what it switches meanwhile cannot be overtaken
//! by what somebody else found before.

use super::plan::Ledger;
use crate::request::{Outlet, PduName};
use log::{error, warn};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use std::collections::{HashMap, HashSet};
use std::fs::{self, DirEntry, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

/// The folder, shared by all workers.
#[derive(Clone, Debug)]
pub(super) struct Journal {
    folder: Arc<Path>,
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    /// This process's records, those included that it took over or cannot remove.
    ours: HashSet<PathBuf>,
    /// What has been complained of.
    told: HashSet<PathBuf>,
    /// When the folder had changed last, at a look that found no record of another process.
    clean: Option<SystemTime>,
}

/// Changes of a folder that come closer together may bear the same time: more than the coarsest
/// clock of a file system (2 s).
const TICK: Duration = Duration::from_secs(3);

/// One outlet that is owed its on.
#[derive(Debug)]
struct Record {
    path: PathBuf,
    /// Holds the lock.
    _file: File,
}

/// A record that is not this process's.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) pdu: PduName,
    pub(super) outlet: Outlet,
    path: PathBuf,
    entry: DirEntry,
}

impl Found {
    /// Was it made so long ago? If the clock has been set back since, it was.
    fn is_older_than(&self, age: Duration) -> bool {
        let made = self.entry.metadata().and_then(|meta| meta.modified());
        made.is_ok_and(|made| made.elapsed().map_or(true, |elapsed| elapsed >= age))
    }
}

impl Journal {
    /// The journal under `state_directory`; made if it is not there.
    pub(super) fn open(state_directory: &Path) -> io::Result<Self> {
        let folder = state_directory.join("journal");
        fs::create_dir_all(&folder)?;
        Ok(Self {
            folder: folder.into(),
            known: Arc::default(),
        })
    }

    /// The records of other processes, dead or alive, that are at least of this age. What is none
    /// or cannot be read is told, once, and left where it is.
    pub(super) fn found(&self, age: Duration) -> Vec<Found> {
        let mut found = self.look().unwrap_or_default();
        if !found.is_empty() {
            self.known().clean = None;
        }
        found.retain(|found| found.is_older_than(age));
        found.sort_by(|a, b| (&a.pdu, &a.outlet).cmp(&(&b.pdu, &b.outlet)));
        found
    }

    /// The process that made it is gone, and nobody else has taken it over.
    pub(super) fn is_left(&self, found: &Found) -> bool {
        self.take_over(&found.path).is_some()
    }

    /// `None` when not all of the folder can be read.
    fn look(&self) -> Option<Vec<Found>> {
        let read = fs::read_dir(&self.folder).and_then(|entries| entries.collect());
        let entries: Vec<DirEntry> = match read {
            Ok(entries) => entries,
            Err(error) => {
                if self.tell(&self.folder) {
                    error!(
                        "journal {}: {error}; unfinished reboots of an earlier run are not known",
                        self.folder.display()
                    );
                }
                return None;
            }
        };
        let found = entries.into_iter().filter_map(|entry| {
            let path = entry.path();
            if self.known().ours.contains(&path) {
                return None;
            }
            // A folder or a FIFO is none of ours, whatever its name; opening it could wait.
            let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
            let name = entry.file_name();
            let Some((pdu, outlet)) = name.to_str().filter(|_| is_file).and_then(read_name) else {
                if self.tell(&path) {
                    warn!(
                        "journal: {} is not one of our files; left alone",
                        path.display()
                    );
                }
                return None;
            };
            Some(Found {
                pdu,
                outlet,
                path,
                entry,
            })
        });
        Some(found.collect())
    }

    /// The same, for every on and off: the folder's time tells whether there can be any record of
    /// another process, and the folder is read only where it has changed.
    fn look_for_news(&self) -> Vec<Found> {
        let changed = fs::metadata(&self.folder).and_then(|meta| meta.modified());
        let changed = changed.ok();
        if changed.is_some() && changed == self.known().clean {
            return Vec::new();
        }
        let is_past = |at: &SystemTime| at.elapsed().is_ok_and(|age| age > TICK);
        let past = changed.filter(is_past);
        let found = self.look();
        let is_clean = found.as_ref().is_some_and(Vec::is_empty);
        self.known().clean = past.filter(|_| is_clean);
        found.unwrap_or_default()
    }

    fn take_over(&self, path: &Path) -> Option<Record> {
        // A record of another user or a read-only place can still be read and acted on.
        let opened = OpenOptions::new()
            .write(true)
            .open(path)
            .or_else(|_| File::open(path));
        let file = match opened {
            Ok(file) => file,
            // Its process has just removed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                self.complain(path, &error.to_string());
                return None;
            }
        };
        match file.try_lock() {
            Ok(()) => {}
            // Its process is alive and will see to it.
            Err(TryLockError::WouldBlock) => return None,
            Err(TryLockError::Error(error)) => {
                self.complain(path, &format!("it cannot be locked: {error}"));
                return None;
            }
        }
        // In this order: one of ours is removed before it is forgotten. And what was removed
        // between being found and being locked is not owed any more.
        if self.known().ours.contains(path) || !is_still(path, &file) {
            return None;
        }
        Some(Record {
            path: path.to_owned(),
            _file: file,
        })
    }

    fn complain(&self, path: &Path, why: &str) {
        if self.tell(path) {
            error!(
                "journal: {}: {why}; an unfinished reboot may be forgotten",
                path.display()
            );
        }
    }

    /// Is this the first complaint of it?
    fn tell(&self, path: &Path) -> bool {
        self.known().told.insert(path.to_owned())
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The ledger of one PDU.
    pub(super) fn ledger(&self, pdu: PduName) -> PduLedger {
        PduLedger {
            journal: self.clone(),
            pdu,
            records: HashMap::new(),
        }
    }
}

/// Is the open file still the one of that name?
fn is_still(path: &Path, file: &File) -> bool {
    let Ok((named, open)) =
        fs::symlink_metadata(path).and_then(|named| Ok((named, file.metadata()?)))
    else {
        return false;
    };
    (named.dev(), named.ino()) == (open.dev(), open.ino())
}

fn encode(text: &str) -> impl std::fmt::Display + '_ {
    utf8_percent_encode(text, NON_ALPHANUMERIC)
}

/// A record's name: PDU, outlet and a number, percent-encoded so that the dots part them.
pub(super) fn name(pdu: &PduName, outlet: &Outlet, number: u32) -> String {
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
            // Before it is there: nobody shall find it and take it for a left one.
            let is_new = self.journal.known().ours.insert(path.clone());
            let opened = OpenOptions::new().write(true).create_new(true).open(&path);
            if opened.is_err() && is_new {
                self.journal.known().ours.remove(&path);
            }
            match opened {
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
        match fs::remove_file(&record.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => warn!(
                "journal: {}: {error}; the next start will switch this outlet on",
                record.path.display()
            ),
            Ok(()) | Err(_) => {
                self.journal.known().ours.remove(&record.path);
            }
        }
    }

    /// Takes over what dead processes left of an outlet, of what was `found`.
    fn take_over(&self, outlet: &Outlet, found: &[Found]) -> Vec<Record> {
        let left: Vec<Record> = found
            .iter()
            .filter(|found| found.pdu == self.pdu && found.outlet == *outlet)
            .filter_map(|found| self.journal.take_over(&found.path))
            .collect();
        let paths = left.iter().map(|record| record.path.clone());
        self.journal.known().ours.extend(paths);
        left
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

    fn adopt(&mut self, outlet: &Outlet) -> bool {
        // A reboot is under way that may still leave the outlet as it is: then it is looked again.
        if self.records.contains_key(outlet) {
            return false;
        }
        let found = self.journal.look().unwrap_or_default();
        let mut left = self.take_over(outlet, &found).into_iter();
        let Some(first) = left.next() else {
            return false;
        };
        self.records.insert(outlet.clone(), first);
        left.for_each(|doubled| self.remove(&doubled));
        true
    }

    fn withdraw(&mut self, outlet: &Outlet) {
        if let Some(record) = self.records.remove(outlet) {
            self.remove(&record);
        }
    }

    fn settle(&mut self, outlet: &Outlet) {
        self.withdraw(outlet);
        let found = self.journal.look_for_news();
        for left in self.take_over(outlet, &found) {
            self.remove(&left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(journal: &Journal) -> Vec<String> {
        let mut found = journal.found(Duration::ZERO);
        found.retain(|found| journal.is_left(found));
        found
            .iter()
            .map(|found| format!("{} {}", found.pdu, found.outlet))
            .collect()
    }

    #[test]
    fn what_is_owed_survives_and_what_is_settled_does_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let open = || Journal::open(folder.path()).expect("opened");
        let pdu = || PduName::new("pdu.5/x");
        let mut ledger = open().ledger(pdu());
        for outlet in ["3", "04", "a.b", "5"] {
            ledger.owe(&Outlet::new(outlet));
        }
        ledger.settle(&Outlet::new("4"));
        let journal = open();
        assert!(
            names(&journal).is_empty(),
            "a living process sees to it itself"
        );
        let mut next = journal.ledger(pdu());
        assert!(!next.adopt(&Outlet::new("3")));
        drop(ledger);
        fs::write(folder.path().join("journal/README"), "x").expect("written");
        assert_eq!(names(&journal), ["pdu.5/x 3", "pdu.5/x 5", "pdu.5/x a.b"]);
        assert!(next.adopt(&Outlet::new("03")));
        assert!(!next.adopt(&Outlet::new("3")), "it is adopted already");
        assert_eq!(names(&journal), ["pdu.5/x 5", "pdu.5/x a.b"]);
        // Of a reboot that leaves its outlet alone, only its own record goes.
        next.owe(&Outlet::new("5"));
        next.withdraw(&Outlet::new("5"));
        next.settle(&Outlet::new("3"));
        next.settle(&Outlet::new("a.b"));
        drop(next);
        assert_eq!(names(&open()), ["pdu.5/x 5"]);
        assert!(folder.path().join("journal/README").exists());
    }

    #[test]
    fn what_another_process_leaves_is_settled_however_long_there_was_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let open = || Journal::open(folder.path()).expect("opened");
        let (pdu, outlet) = (|| PduName::new("pdu"), Outlet::new("1"));
        let journal = open();
        let mut ours = journal.ledger(pdu());
        let old = SystemTime::now() - Duration::from_secs(60);
        let handle = File::open(folder.path().join("journal")).expect("the folder");
        handle.set_modified(old).expect("an old folder");
        ours.settle(&outlet);
        assert!(journal.known().clean.is_some(), "the folder is read once");
        for _ in 0..2 {
            let mut theirs = open().ledger(pdu());
            theirs.owe(&outlet);
            ours.settle(&outlet);
            assert!(names(&open()).is_empty(), "a living process's own");
            drop(theirs);
            assert_eq!(names(&open()), ["pdu 1"]);
            ours.settle(&outlet);
            assert!(names(&open()).is_empty());
        }
        // Not even if the folder's time does not tell: then it is found within the next round.
        let mut theirs = open().ledger(pdu());
        theirs.owe(&outlet);
        drop(theirs);
        handle.set_modified(old).expect("an old folder");
        journal.known().clean = Some(old);
        assert_eq!(names(&journal), ["pdu 1"]);
        ours.settle(&outlet);
        assert!(names(&open()).is_empty());
    }
}
