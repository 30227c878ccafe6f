//! Logging: the Python program's line format on standard output, or in a file that follows its name
//! after a rotation; or native journal fields.
//!
//! No thread that logs waits for the log's reader: the thread `log` writes the lines, see [`queue`].

mod file;
mod queue;

use file::LogFile;
use log::kv::{Key, Value, VisitSource};
use log::{Level, LevelFilter, Log, Metadata, Record, error, warn};
use queue::{Kind, Numbered, Queue};
use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use systemd_journal_logger::JournalLog;

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

/// How long the end of the process waits for the last lines.
const LAST_LINES: Duration = Duration::from_secs(1);

/// The log that [`start`] has started.
#[derive(Clone)]
pub struct Logging {
    queue: Arc<Queue<Line>>,
    reopen: Arc<AtomicBool>,
}

impl std::fmt::Debug for Logging {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Logging").finish_non_exhaustive()
    }
}

impl Logging {
    /// Opens the log file again before the next line, for SIGHUP.
    pub fn reopen(&self) {
        self.reopen.store(true, Ordering::Release);
    }

    /// How many lines about requests are lost and how many others, and what is wrong.
    pub fn health(&self) -> ([u64; 2], Option<String>) {
        self.queue.health()
    }
}

/// Starts logging; once per process. `log::logger().flush()` waits for the last lines, for a second
/// at most. Fails when the log file cannot be opened, the journal is not there, or the system gives
/// no thread.
pub fn start(output: &Output, level: LevelFilter) -> io::Result<Logging> {
    let reopen = Arc::new(AtomicBool::new(false));
    let sink = match output {
        Output::Journal => Sink::Journal(Box::new(
            JournalLog::new()
                .map_err(|error| {
                    io::Error::new(error.kind(), format!("cannot log to the journal: {error}"))
                })?
                .with_syslog_identifier("pdudaemon".to_owned()),
        )),
        Output::File(path) => Sink::stream(LogFile::open(path, Arc::clone(&reopen))?),
        Output::Stdout => Sink::stream(io::stdout()),
    };
    // A file that may not grow any more is an error of the write instead of the process's end.
    signal_hook::flag::register(
        signal_hook::consts::SIGXFSZ,
        Arc::new(AtomicBool::new(false)),
    )?;
    let queue = Arc::new(Queue::default());
    let format = |kind| {
        env_logger::Builder::new()
            // Lines of the libraries may hold secrets: we take only their warnings.
            .filter_level(level.min(LevelFilter::Warn))
            .filter_module("pdudaemon", level)
            .filter_module("pdud", level)
            .format(line)
            .target(env_logger::Target::Pipe(Box::new(Pen {
                queue: Arc::clone(&queue),
                kind,
            })))
            .build()
    };
    let front = Front {
        requests: format(Kind::Request),
        others: format(Kind::Other),
        to_journal: matches!(sink, Sink::Journal(_)),
        queue: Arc::clone(&queue),
    };
    let most = front.others.filter();
    let lines = Arc::clone(&queue);
    std::thread::Builder::new()
        .name("log".into())
        .spawn(move || write_lines(&lines, sink))?;
    log::set_boxed_logger(Box::new(front)).map_err(io::Error::other)?;
    log::set_max_level(most);
    // The usual place, standard error, may have a reader that makes the writer wait.
    std::panic::set_hook(Box::new(|panic| {
        let what = panic.payload_as_str().unwrap_or("no message");
        match panic.location() {
            Some(place) => error!("panic at {place}: {what}"),
            None => error!("panic: {what}"),
        }
    }));
    Ok(Logging { queue, reopen })
}

/// The logger of every thread: it makes the line and queues it.
struct Front {
    requests: env_logger::Logger,
    others: env_logger::Logger,
    /// The journal takes fields in place of a text.
    to_journal: bool,
    queue: Arc<Queue<Line>>,
}

impl Log for Front {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.others.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        // The lines about requests name their client.
        let kind = match record.key_values().get(Key::from_str("CLIENT")) {
            Some(_) => Kind::Request,
            None => Kind::Other,
        };
        match (self.to_journal, kind) {
            (true, _) if self.others.matches(record) => {
                let fields = Fields::of(record);
                let bytes = fields.bytes();
                self.queue.push(kind, Line::Fields(fields), bytes);
            }
            (true, _) => {}
            (false, Kind::Request) => self.requests.log(record),
            (false, Kind::Other) => self.others.log(record),
        }
    }

    fn flush(&self) {
        self.queue.drain(LAST_LINES);
    }
}

/// Queues the finished lines of one kind.
struct Pen {
    queue: Arc<Queue<Line>>,
    kind: Kind,
}

impl Write for Pen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.queue
            .push(self.kind, Line::Text(bytes.into()), bytes.len());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

enum Line {
    /// For a stream, with its newline.
    Text(Box<[u8]>),
    /// For the journal.
    Fields(Fields),
}

/// A record that outlives its call.
struct Fields {
    level: Level,
    target: String,
    text: String,
    module: Option<&'static str>,
    more: Vec<(String, String)>,
}

impl Fields {
    fn of(record: &Record<'_>) -> Self {
        struct Collect(Vec<(String, String)>);
        impl<'kvs> VisitSource<'kvs> for Collect {
            fn visit_pair(
                &mut self,
                key: Key<'kvs>,
                value: Value<'kvs>,
            ) -> Result<(), log::kv::Error> {
                self.0.push((key.to_string(), value.to_string()));
                Ok(())
            }
        }
        let mut more = Collect(Vec::new());
        // Collecting cannot fail.
        let _ = record.key_values().visit(&mut more);
        Self {
            level: record.level(),
            target: record.target().to_owned(),
            text: shown(record.args()),
            module: record.module_path_static(),
            more: more.0,
        }
    }

    fn bytes(&self) -> usize {
        let more = self.more.iter().map(|(key, value)| key.len() + value.len());
        self.target.len() + self.text.len() + more.sum::<usize>() + size_of::<Self>()
    }

    fn send(&self, journal: &JournalLog) -> io::Result<()> {
        let more: Vec<(&str, &str)> = self
            .more
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        journal.journal_send(
            &Record::builder()
                .level(self.level)
                .target(&self.target)
                .module_path_static(self.module)
                .key_values(&more.as_slice())
                .args(format_args!("{}", self.text))
                .build(),
        )
    }
}

/// Where the lines end up.
enum Sink {
    Stream {
        stream: Box<dyn Write + Send>,
        /// The last write ended within a line.
        is_torn: bool,
    },
    Journal(Box<JournalLog>),
}

impl Sink {
    fn stream(stream: impl Write + Send + 'static) -> Self {
        Self::Stream {
            stream: Box::new(stream),
            is_torn: false,
        }
    }

    /// Writes the lines; returns how many of them it has written whole, and why not the others.
    fn write(&mut self, batch: &[Numbered<Line>]) -> (usize, Option<String>) {
        match self {
            Self::Journal(journal) => {
                for (index, numbered) in batch.iter().enumerate() {
                    if let Line::Fields(fields) = &numbered.line
                        && let Err(error) = fields.send(journal)
                    {
                        return (index, Some(error.to_string()));
                    }
                }
                (batch.len(), None)
            }
            Self::Stream { stream, is_torn } => {
                let mut bytes = Vec::new();
                if *is_torn {
                    bytes.push(b'\n');
                }
                let mut ends = Vec::with_capacity(batch.len());
                for numbered in batch {
                    if let Line::Text(text) = &numbered.line {
                        bytes.extend_from_slice(text);
                    }
                    ends.push(bytes.len());
                }
                let (written, error) = write_all(stream, &bytes);
                if written > 0 {
                    *is_torn = written < bytes.len() && !ends.contains(&written);
                }
                let whole = ends.iter().filter(|end| **end <= written).count();
                (whole, error.map(|error| error.to_string()))
            }
        }
    }
}

/// Writes as much as the output takes; returns how much that is, and why not all of it.
fn write_all(stream: &mut dyn Write, bytes: &[u8]) -> (usize, Option<io::Error>) {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        match stream.write(rest) {
            Ok(0) => return (written, Some(ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // The process that started the daemon may have made its standard output so.
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(UNREADY),
            Err(error) => return (written, Some(error)),
        }
    }
    (written, stream.flush().err())
}

/// How long we wait for an output that never waits to become ready.
const UNREADY: Duration = Duration::from_millis(10);

/// The life of the thread `log`.
fn write_lines(queue: &Queue<Line>, mut sink: Sink) {
    loop {
        let batch = queue.take();
        let (written, failure) = sink.write(&batch);
        if let Some(lost) = queue.done(&batch, written, failure) {
            warn!(
                "the log goes on; {lost} lines were lost because nobody took them, or they could not be written"
            );
        }
    }
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
        shown(record.args())
    )
}

/// The text of a line without the characters that forge one: somebody else's text may break lines,
/// steer a terminal, or turn the direction of the text behind it.
fn shown(text: &fmt::Arguments<'_>) -> String {
    let mut shown = String::new();
    for c in text.to_string().chars() {
        match c {
            '\u{061c}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}' => shown.extend(c.escape_unicode()),
            c if c.is_control() => shown.extend(c.escape_default()),
            c => shown.push(c),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_forges_a_line_or_turns_its_direction() {
        assert_eq!(
            shown(&format_args!(
                "a\nb\x1b[2J \u{202e}no\u{2066} \u{e9}\u{5d0} \"q\" \\"
            )),
            "a\\nb\\u{1b}[2J \\u{202e}no\\u{2066} \u{e9}\u{5d0} \"q\" \\"
        );
    }

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
}
