//! The journal: the outlets that a reboot has switched off and not yet confirmed on again, in a place
//! that a crash does not reach.
//!
//! One empty file per such outlet in `journal/` of the state directory; its name says which. We make
//! it, and sync the folder, before we send the off, and remove it when the outlet is on again. There
//! is nothing in it that could be torn; but names too long for a file stand in it, and its own is
//! their hash. A record that we cannot make we try to make again while its reboot lasts; one that we
//! cannot remove we mark as settled, and remove as soon as we can. The process that has made it holds
//! a lock on it. So a daemon takes over the records of dead processes, when it starts and while it
//! runs, and leaves alone those of another live one (`--drive`). A removal that a power cut undoes
//! costs one more on. A record that is [`OLD`] switches nothing on any more: by then somebody may have
//! switched the outlet off on purpose, by hand or under another name. The daemon reports it until
//! somebody switches the outlet.
//!
//! Only the worker of its PDU takes over a record: nobody else's older finding can overtake a switch
//! of this worker.

use super::file_name::{HASHED, short};
use super::held::held;
use super::plan::Ledger;
use crate::request::{Outlet, PduName};
use log::{error, info, warn};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::fs::{self, DirEntry, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

/// The folder, shared by all workers.
#[derive(Debug)]
pub(super) struct Journal {
    folder: PathBuf,
    /// This process's records, those included that it took over; true for those that owe no on, and
    /// that we could not remove.
    ours: Mutex<HashMap<PathBuf, bool>>,
    /// The records about which the log has a complaint.
    told: Mutex<HashSet<PathBuf>>,
    /// The time of the folder's last change, at a look that found no record of another process.
    clean: Mutex<Option<SystemTime>>,
}

/// Changes of a folder that come closer together may bear the same time: more than the coarsest
/// clock of a file system (2 s).
const TICK: Duration = Duration::from_secs(3);

/// From this age on we report a record, and switch nothing by it: after a week nobody still waits.
pub(super) const OLD: Duration = Duration::from_secs(7 * 86_400);
/// Times before this (2020) come from a machine that does not know the time, and give no age.
const CLOCK_IS_SET: Duration = Duration::from_secs(1_577_836_800);
/// The end of the name of a record that we could not remove. No encoded name ends so.
const SETTLED: &str = "\nsettled\n";
/// The most bytes that we read of a record: more than names ever take.
const MOST_READ: u64 = 1 << 20;

/// One outlet that is owed its on.
#[derive(Debug)]
struct Record {
    path: PathBuf,
    /// Holds the lock.
    file: File,
    /// It is locked, and survives a crash.
    is_safe: bool,
}

/// A record that is not this process's.
#[derive(Debug)]
pub(super) struct LeftRecord {
    pub(super) pdu: PduName,
    pub(super) outlet: Outlet,
    pub(super) path: PathBuf,
    entry: DirEntry,
}

impl LeftRecord {
    fn made(&self) -> Option<SystemTime> {
        self.entry.metadata().and_then(|meta| meta.modified()).ok()
    }

    /// Is it that old? Yes, if somebody has set the clock back since.
    fn is_older_than(&self, age: Duration) -> bool {
        self.made()
            .is_some_and(|made| made.elapsed().map_or(true, |elapsed| elapsed >= age))
    }

    /// May somebody have switched the outlet off on purpose since? A clock that nobody has set
    /// proves nothing.
    pub(super) fn is_old(&self) -> bool {
        let is_set = |made: &SystemTime| *made >= SystemTime::UNIX_EPOCH + CLOCK_IS_SET;
        let elapsed = self
            .made()
            .filter(is_set)
            .and_then(|made| made.elapsed().ok());
        elapsed.is_some_and(|elapsed| elapsed >= OLD)
    }
}

impl Journal {
    /// The journal under `state_directory`; made if it is not there.
    pub(super) fn open(state_directory: &Path) -> io::Result<Self> {
        let folder = state_directory.join("journal");
        fs::create_dir_all(&folder)?;
        Ok(Self {
            folder,
            ours: Mutex::default(),
            told: Mutex::default(),
            clean: Mutex::default(),
        })
    }

    /// The records of other processes, dead or alive, that are at least of this age. A file that is
    /// no record, or that we cannot read, gets one line in the log and stays where it is.
    pub(super) fn found(&self, age: Duration) -> Vec<LeftRecord> {
        let mut found = self.look().unwrap_or_default();
        if !found.is_empty() {
            *held(&self.clean) = None;
        }
        found.retain(|found| found.is_older_than(age));
        found.sort_by(|a, b| (&a.pdu, &a.outlet).cmp(&(&b.pdu, &b.outlet)));
        found
    }

    /// The process that made it is gone, and nobody else has taken it over.
    pub(super) fn is_left(&self, found: &LeftRecord) -> bool {
        self.take_over(&found.path).is_some()
    }

    /// `None` when we cannot read all of the folder.
    fn look(&self) -> Option<Vec<LeftRecord>> {
        self.remove_settled();
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
            if held(&self.ours).contains_key(&path) {
                return None;
            }
            // A folder or a FIFO is none of ours, whatever its name; opening it could wait.
            let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
            let name = entry.file_name();
            let of = name.to_str().filter(|_| is_file);
            let Some((pdu, outlet)) = of.and_then(|name| read_record(name, &path)) else {
                if self.tell(&path) {
                    warn!(
                        "journal: {} is not one of our files; left alone",
                        path.display()
                    );
                }
                return None;
            };
            Some(LeftRecord {
                pdu,
                outlet,
                path,
                entry,
            })
        });
        Some(found.collect())
    }

    /// Tries again to remove records that we could not remove.
    fn remove_settled(&self) {
        let stays = |path: &Path| matches!(fs::remove_file(path), Err(error) if error.kind() != io::ErrorKind::NotFound);
        held(&self.ours).retain(|path, is_settled| !*is_settled || stays(path));
    }

    /// The same, for every on and off: reads the folder only where its time has changed, because only
    /// then it can have a new record of another process.
    fn look_for_news(&self) -> Vec<LeftRecord> {
        let changed = fs::metadata(&self.folder).and_then(|meta| meta.modified());
        let changed = changed.ok();
        if changed.is_some() && changed == *held(&self.clean) {
            return Vec::new();
        }
        let is_past = |at: &SystemTime| at.elapsed().is_ok_and(|age| age > TICK);
        let past = changed.filter(is_past);
        let found = self.look();
        let is_clean = found.as_ref().is_some_and(Vec::is_empty);
        *held(&self.clean) = past.filter(|_| is_clean);
        found.unwrap_or_default()
    }

    fn take_over(&self, path: &Path) -> Option<Record> {
        // We can still read a record of another user or in a read-only place, and act on it.
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
        // In this order: we remove one of ours before we forget it. And a record that went
        // between our finding and locking it owes nothing any more.
        if held(&self.ours).contains_key(path) || !is_still(path, &file) {
            return None;
        }
        if text_of(path).ends_with(SETTLED) {
            let _ = fs::remove_file(path);
            return None;
        }
        Some(Record {
            path: path.to_owned(),
            file,
            is_safe: true,
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
        held(&self.told).insert(path.to_owned())
    }

    /// Makes a record.
    fn make(&self, pdu: &PduName, outlet: &Outlet) -> io::Result<Record> {
        let whose = encoded(pdu, outlet);
        let name = short(&whose);
        let mut is_missing = false;
        let mut number = 0;
        loop {
            let path = self.folder.join(format!("{name}.{number}"));
            // Before it is there, so that nobody takes it for one that a dead process left.
            let is_new = match held(&self.ours).entry(path.clone()) {
                Entry::Vacant(entry) => !*entry.insert(false),
                Entry::Occupied(_) => false,
            };
            let made = OpenOptions::new().write(true).create_new(true).open(&path);
            let made = made.and_then(|mut file| {
                if name != whose {
                    let written = file.write_all(whose.as_bytes());
                    written.and_then(|()| file.sync_all()).inspect_err(|_| {
                        let _ = fs::remove_file(&path);
                    })?;
                }
                Ok(file)
            });
            if made.is_err() && is_new {
                held(&self.ours).remove(&path);
            }
            match made {
                Ok(file) => {
                    return Ok(Record {
                        path,
                        file,
                        is_safe: false,
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    number = u32::checked_add(number, 1).ok_or(error)?;
                }
                // Somebody has removed the folder.
                Err(error) if error.kind() == io::ErrorKind::NotFound && !is_missing => {
                    is_missing = true;
                    fs::create_dir_all(&self.folder)?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn make_safe(&self, record: &File) -> io::Result<()> {
        record.try_lock()?;
        // The name is the record, so the folder must survive.
        File::open(&self.folder)?.sync_all()
    }

    /// The ledger of one PDU.
    pub(super) fn ledger(self: &Arc<Self>, pdu: PduName) -> PduLedger {
        PduLedger {
            journal: Arc::clone(self),
            pdu,
            records: HashMap::new(),
            failing: HashSet::new(),
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

/// A record's name without its number: PDU and outlet, percent-encoded so that the dots part them.
/// Where the outlet's key is not its id, it follows the id after a `=`.
pub(super) fn encoded(pdu: &PduName, outlet: &Outlet) -> String {
    let (pdu, id) = (encode(pdu.as_str()), encode(outlet.as_str()));
    match outlet.other_key() {
        None => format!("{pdu}.{id}"),
        Some(key) => format!("{pdu}.{id}={}", encode(key)),
    }
}

/// The outlet of a record: from its name or, where that is a hash, from its text.
fn read_record(name: &str, path: &Path) -> Option<(PduName, Outlet)> {
    let Some((hash, number)) = name.split_once('.').filter(|_| name.starts_with(HASHED)) else {
        return read_name(name);
    };
    let text = text_of(path);
    let text = text.lines().next().unwrap_or_default();
    (short(text) == hash)
        .then(|| read_name(&format!("{text}.{number}")))
        .flatten()
}

/// The text of a record.
fn text_of(path: &Path) -> String {
    let mut text = String::new();
    let file = File::open(path);
    let read = file.and_then(|file| file.take(MOST_READ).read_to_string(&mut text));
    // Bytes that are no text say nothing.
    read.map(|_| text).unwrap_or_default()
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
    let outlet = match outlet.split_once('=') {
        None => Outlet::new(decode(outlet)?),
        Some((id, key)) => Outlet::new(decode(id)?).known_as(decode(key)?),
    };
    Some((PduName::new(decode(pdu)?), outlet))
}

/// One PDU's part of the journal.
#[derive(Debug)]
pub(super) struct PduLedger {
    journal: Arc<Journal>,
    pdu: PduName,
    records: HashMap<Outlet, Record>,
    /// Outlets whose record we could not make, and for which the log says so.
    failing: HashSet<Outlet>,
}

impl PduLedger {
    /// Makes the record, or makes it safe. Once its file is there it is ours to remove, even if it
    /// may not survive a crash, or cannot be locked.
    fn record(&mut self, outlet: &Outlet) -> Result<(), String> {
        let record = match self.records.entry(outlet.clone()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let made = self.journal.make(&self.pdu, outlet);
                entry.insert(made.map_err(|error| format!("cannot be written: {error}"))?)
            }
        };
        if !record.is_safe {
            let safe = self.journal.make_safe(&record.file);
            safe.map_err(|error| format!("is not safe: {error}"))?;
            record.is_safe = true;
        }
        Ok(())
    }

    fn remove(&self, mut record: Record) {
        match fs::remove_file(&record.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                // The process that finds it shall know.
                let marked = record
                    .file
                    .seek(SeekFrom::End(0))
                    .and_then(|_| record.file.write_all(SETTLED.as_bytes()))
                    .and_then(|()| record.file.sync_all());
                let path = record.path.display();
                match marked {
                    Ok(()) => warn!("journal: {path} is settled and cannot be removed: {error}"),
                    Err(_) => {
                        warn!("journal: {path}: {error}; the next start will switch this outlet on")
                    }
                }
                held(&self.journal.ours).insert(record.path, true);
            }
            Ok(()) | Err(_) => {
                held(&self.journal.ours).remove(&record.path);
            }
        }
    }

    /// Takes over those of the records `found` that dead processes have left for an outlet.
    fn take_over<'f>(
        &self,
        outlet: &Outlet,
        found: impl IntoIterator<Item = &'f LeftRecord>,
    ) -> Vec<Record> {
        let left: Vec<Record> = found
            .into_iter()
            .filter(|found| found.pdu == self.pdu && is_same(&found.outlet, outlet))
            .filter_map(|found| self.journal.take_over(&found.path))
            .collect();
        let paths = left.iter().map(|record| (record.path.clone(), false));
        held(&self.journal.ours).extend(paths);
        left
    }
}

/// A record may be of other settings, with which the outlet had another key.
fn is_same(found: &Outlet, outlet: &Outlet) -> bool {
    found == outlet || found.as_str() == outlet.as_str()
}

impl Ledger for PduLedger {
    fn owe(&mut self, outlet: &Outlet) -> bool {
        match self.record(outlet) {
            Ok(()) => {
                if self.failing.remove(outlet) {
                    info!(
                        "PDU {}, outlet {outlet}: the reboot under way is in the journal after all",
                        self.pdu
                    );
                }
                true
            }
            // Not serving would help nobody.
            Err(why) => {
                if self.failing.insert(outlet.clone()) {
                    error!(
                        "PDU {}, outlet {outlet}: the journal {} {why}; a crash during this reboot would leave the outlet off; trying again while it lasts",
                        self.pdu,
                        self.journal.folder.display()
                    );
                }
                false
            }
        }
    }

    fn adopt(&mut self, outlet: &Outlet) -> bool {
        // A reboot that is under way may still leave the outlet as it is: then we look again.
        if self.records.contains_key(outlet) {
            return false;
        }
        let found = self.journal.look().unwrap_or_default();
        let of_it = found.iter().filter(|found| is_same(&found.outlet, outlet));
        let recent = of_it.filter(|found| !found.is_old());
        let mut left = self.take_over(outlet, recent).into_iter();
        let Some(first) = left.next() else {
            return false;
        };
        self.records.insert(outlet.clone(), first);
        left.for_each(|doubled| self.remove(doubled));
        true
    }

    fn withdraw(&mut self, outlet: &Outlet) {
        self.failing.remove(outlet);
        if let Some(record) = self.records.remove(outlet) {
            self.remove(record);
        }
    }

    fn settle(&mut self, outlet: &Outlet) {
        self.withdraw(outlet);
        let found = self.journal.look_for_news();
        for left in self.take_over(outlet, &found) {
            self.remove(left);
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
        let open = || Arc::new(Journal::open(folder.path()).expect("opened"));
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
    fn names_too_long_for_a_file_are_recorded_too() {
        let folder = tempfile::tempdir().expect("a folder");
        let open = || Arc::new(Journal::open(folder.path()).expect("opened"));
        let (long, longer) = ("電源".repeat(60), "電源".repeat(61));
        let pdu = || PduName::new("x".repeat(300));
        let mut ledger = open().ledger(pdu());
        for outlet in [&*long, &*longer, "1"] {
            assert!(ledger.owe(&Outlet::new(outlet)), "{outlet}");
        }
        ledger.settle(&Outlet::new("1"));
        drop(ledger);
        let journal = open();
        let name = pdu();
        assert_eq!(
            names(&journal),
            [format!("{name} {long}"), format!("{name} {longer}")]
        );
        let mut next = journal.ledger(pdu());
        assert!(next.adopt(&Outlet::new(&*longer)));
        next.settle(&Outlet::new(&*longer));
        next.settle(&Outlet::new(&*long));
        assert_eq!(
            fs::read_dir(folder.path().join("journal"))
                .expect("it")
                .count(),
            0
        );
        // One whose names do not fit its hash is nobody's.
        let torn = folder
            .path()
            .join(format!("journal/sha256-{}.0", "0".repeat(64)));
        fs::write(torn, "pdu.1").expect("written");
        assert!(names(&journal).is_empty());
    }

    #[test]
    fn an_old_record_is_told_and_switches_nothing_on() {
        let folder = tempfile::tempdir().expect("a folder");
        let (pdu, outlet) = (|| PduName::new("pdu"), Outlet::new("1"));
        let path = folder.path().join("journal/pdu.1.0");
        let journal = Arc::new(Journal::open(folder.path()).expect("opened"));
        let made = |at: SystemTime| {
            let file = File::create(&path).expect("a record");
            file.set_modified(at).expect("its time");
        };
        let now = SystemTime::now();
        let day = Duration::from_secs(86_400);
        for (at, is_old) in [
            (now - OLD + day, false),
            (now - OLD - day, true),
            (now + day, false),
            // A clock that was not set yet.
            (SystemTime::UNIX_EPOCH + day, false),
        ] {
            made(at);
            let found = journal.found(Duration::ZERO);
            assert_eq!(
                found.iter().map(LeftRecord::is_old).collect::<Vec<_>>(),
                [is_old]
            );
            let mut ledger = journal.ledger(pdu());
            assert_eq!(ledger.adopt(&outlet), !is_old);
            // Whatever its age, it goes when somebody switches the outlet.
            ledger.settle(&outlet);
            assert!(!path.exists());
        }
    }

    #[test]
    fn what_cannot_be_removed_is_marked_and_goes_as_soon_as_it_can() {
        let folder = tempfile::tempdir().expect("a folder");
        let open = || Arc::new(Journal::open(folder.path()).expect("opened"));
        let (pdu, outlet) = (|| PduName::new("pdu"), Outlet::new("x".repeat(300)));
        let name = encoded(&pdu(), &outlet);
        let path = folder.path().join(format!("journal/{}.0", short(&name)));
        let journal = open();
        let mut ledger = journal.ledger(pdu());
        assert!(ledger.owe(&outlet));
        // A folder in its place cannot be removed so; what the open file says is in the other.
        let aside = folder.path().join("aside");
        fs::rename(&path, &aside).expect("renamed");
        fs::create_dir(&path).expect("in its place");
        ledger.settle(&outlet);
        let says = fs::read_to_string(&aside).expect("there");
        assert_eq!(says, format!("{}{SETTLED}", encoded(&pdu(), &outlet)));
        fs::remove_dir(&path).expect("removed");
        fs::rename(&aside, &path).expect("back");
        assert!(names(&open()).is_empty(), "it says so to others");
        assert!(!path.exists());
        fs::write(&path, "").expect("back again");
        assert!(
            journal.found(Duration::ZERO).is_empty(),
            "not ours to act on"
        );
        assert!(!path.exists(), "and removed");
        assert!(held(&journal.ours).is_empty());
    }

    #[test]
    fn what_another_process_leaves_is_settled_however_long_there_was_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let open = || Arc::new(Journal::open(folder.path()).expect("opened"));
        let (pdu, outlet) = (|| PduName::new("pdu"), Outlet::new("1"));
        let journal = open();
        let mut ours = journal.ledger(pdu());
        let old = SystemTime::now() - Duration::from_secs(60);
        let handle = File::open(folder.path().join("journal")).expect("the folder");
        handle.set_modified(old).expect("an old folder");
        ours.settle(&outlet);
        assert!(held(&journal.clean).is_some(), "the folder is read once");
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
        // Not even if the folder's time does not show it: then we find it within the next round.
        let mut theirs = open().ledger(pdu());
        theirs.owe(&outlet);
        drop(theirs);
        handle.set_modified(old).expect("an old folder");
        *held(&journal.clean) = Some(old);
        assert_eq!(names(&journal), ["pdu 1"]);
        ours.settle(&outlet);
        assert!(names(&open()).is_empty());
    }
}
