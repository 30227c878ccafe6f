//! Logging: the Python program's line format on standard output or in a file that is reopened
//! after rotation, or native journal fields.

use log::{LevelFilter, Record};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Where the log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Standard output.
    Stdout,
    /// A file.
    File(PathBuf),
    /// The systemd journal.
    Journal,
}

/// Asks for the log file to be opened again, for SIGHUP.
#[derive(Clone, Debug, Default)]
pub struct Reopen(Arc<AtomicBool>);

impl Reopen {
    /// Opens the file again before the next line.
    pub fn ask(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Starts logging; once per process. Fails when the log file cannot be opened, or the journal is
/// not there.
pub fn start(output: &Output, level: LevelFilter) -> io::Result<Reopen> {
    let reopen = Reopen::default();
    if *output == Output::Journal {
        systemd_journal_logger::JournalLog::new()
            .map_err(|error| {
                io::Error::new(error.kind(), format!("cannot log to the journal: {error}"))
            })?
            .with_syslog_identifier("pdudaemon".to_owned())
            .install()
            .map_err(io::Error::other)?;
        log::set_max_level(level);
        return Ok(reopen);
    }
    let mut builder = env_logger::Builder::new();
    builder
        // What the libraries have to say may hold secrets: only their warnings are wanted.
        .filter_level(level.min(LevelFilter::Warn))
        .filter_module("pdudaemon", level)
        .filter_module("pdud", level)
        .format(line);
    match output {
        Output::File(path) => {
            builder.target(env_logger::Target::Pipe(Box::new(LogFile::open(
                path,
                reopen.clone(),
            )?)));
        }
        Output::Stdout | Output::Journal => {
            builder.target(env_logger::Target::Stdout);
        }
    }
    builder.try_init().map_err(io::Error::other)?;
    Ok(reopen)
}

/// `2026-01-31 12:00:00,123 - pdud.http                      - INFO text`, local time.
fn line(out: &mut impl Write, record: &Record<'_>) -> io::Result<()> {
    let now = jiff::Zoned::now();
    let level = match record.level() {
        log::Level::Warn => "WARNING",
        log::Level::Trace => "DEBUG",
        level @ (log::Level::Error | log::Level::Info | log::Level::Debug) => level.as_str(),
    };
    let target = record.target();
    let name = match target.strip_prefix("pdudaemon") {
        Some(module) => format!("pdud{}", module.replace("::", ".")),
        None => target.to_owned(),
    };
    writeln!(
        out,
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02},{:03} - {name:<30} - {level} {}",
        now.year(),
        now.month(),
        now.day(),
        now.hour(),
        now.minute(),
        now.second(),
        now.millisecond(),
        record.args()
    )
}

/// A file that follows its name: when it was moved or removed, the next line opens a new one.
struct LogFile {
    path: PathBuf,
    file: File,
    identity: (u64, u64),
    looked: Instant,
    reopen: Reopen,
}

/// How often the name is looked at.
const LOOK: Duration = Duration::from_secs(1);

impl LogFile {
    fn open(path: &Path, reopen: Reopen) -> io::Result<Self> {
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
        let asked = self.reopen.0.swap(false, Ordering::AcqRel);
        if !asked && self.looked.elapsed() < LOOK {
            return;
        }
        self.looked = Instant::now();
        let same = std::fs::metadata(&self.path).is_ok_and(|file| identity(&file) == self.identity);
        if same && !asked {
            return;
        }
        // If it cannot be opened now, the old one is better than none.
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
    fn a_line_looks_as_it_always_did() {
        let mut out = Vec::new();
        let record = Record::builder()
            .args(format_args!("hello"))
            .level(log::Level::Warn)
            .target("pdudaemon::dispatch::worker")
            .build();
        line(&mut out, &record).expect("written");
        let text = String::from_utf8(out).expect("text");
        assert_eq!(
            text.get(23..),
            Some(" - pdud.dispatch.worker           - WARNING hello\n")
        );
        assert_eq!(text.as_bytes()[19], b',');
    }

    #[test]
    fn a_moved_file_is_opened_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, moved) = (folder.path().join("log"), folder.path().join("log.1"));
        let reopen = Reopen::default();
        let mut log = LogFile::open(&path, reopen.clone()).expect("opened");
        log.write_all(b"one\n").expect("written");
        std::fs::rename(&path, &moved).expect("moved");
        reopen.ask();
        log.write_all(b"two\n").expect("written");
        let read = |path: &Path| std::fs::read_to_string(path).expect("readable");
        assert_eq!(
            (read(&moved).as_str(), read(&path).as_str()),
            ("one\n", "two\n")
        );
    }
}
