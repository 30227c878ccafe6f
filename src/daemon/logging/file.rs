//! The log file: it follows its name after a rotation.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A file that follows its name: when somebody has moved or removed it, the next write opens a new
/// one.
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    identity: (u64, u64),
    looked: Instant,
    reopen: Arc<AtomicBool>,
}

/// How often we look at the name.
const LOOK: Duration = Duration::from_secs(1);

impl LogFile {
    /// Opens the file to append to it. A `true` in `reopen` opens it again before the next write.
    pub(super) fn open(path: &Path, reopen: Arc<AtomicBool>) -> io::Result<Self> {
        let file = open(path).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("cannot open the log file {}: {error}", path.display()),
            )
        })?;
        let identity = identity(&file.metadata()?);
        Ok(Self {
            path: path.to_owned(),
            file,
            identity,
            looked: Instant::now(),
            reopen,
        })
    }

    fn follow(&mut self) {
        let asked = self.reopen.swap(false, Ordering::AcqRel);
        if !asked && self.looked.elapsed() < LOOK {
            return;
        }
        self.looked = Instant::now();
        let same = std::fs::metadata(&self.path).is_ok_and(|file| identity(&file) == self.identity);
        if same && !asked {
            return;
        }
        // If we cannot open it now, the old one is better than none.
        if let Ok(file) = open(&self.path)
            && let Ok(metadata) = file.metadata()
        {
            self.identity = identity(&metadata);
            self.file = file;
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn identity(metadata: &std::fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.follow();
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moved_file_is_opened_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, moved) = (folder.path().join("log"), folder.path().join("log.1"));
        let reopen = Arc::new(AtomicBool::new(false));
        let mut log = LogFile::open(&path, Arc::clone(&reopen)).expect("opened");
        log.write_all(b"one\n").expect("written");
        std::fs::rename(&path, &moved).expect("moved");
        reopen.store(true, Ordering::Release);
        log.write_all(b"two\n").expect("written");
        let read = |path: &Path| std::fs::read_to_string(path).expect("readable");
        assert_eq!(
            (read(&moved).as_str(), read(&path).as_str()),
            ("one\n", "two\n")
        );
    }
}
