//! An outlet that a reboot switches off comes on again although the daemon is killed, and no reboot
//! is done twice. The test kills the daemon in the middle of reboots, over and over, and starts it
//! again.
//!
//! Two PDUs are local commands, two are network PDUs played by another process. All of them, and
//! the clients, write one line per event to one log (appended, so that its order is the order in
//! which things happened), and the log is judged at the end. Like the service manager, the test
//! starts the next daemon when every process of the last one is gone; or, every other time, at once,
//! with a command of the last one under way.
//!
//! `PDUD_KILLS` says how often; the default is what fits the whole suite.

use crate::daemon::Lab;
use crate::sim::port;
use serde_json::json;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

const DAEMON: &str = env!("CARGO_BIN_EXE_pdudaemon");
/// For what must happen, on a busy machine.
const LONG: Duration = Duration::from_secs(60);
const LOG: &str = "PDUD_TEST_PDU_LOG";
const NAME: &str = "PDUD_TEST_PDU_NAME";

/// A repeatable row of numbers (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % below
    }
}

/// Waits for something that must come.
fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + LONG;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// What has happened, in order.
struct Log(File);

impl Log {
    fn append(path: &Path) -> Self {
        let file = OpenOptions::new().create(true).append(true).open(path);
        Self(file.expect("the log"))
    }

    fn write(&mut self, line: &str) {
        self.0
            .write_all(format!("{line}\n").as_bytes())
            .expect("the log");
    }
}

/// A network PDU (Tasmota's web commands) in a process of its own: one request at a time, in the
/// order they come. Ends with its standard input. In the suite itself it does nothing.
#[test]
fn pdu_process() {
    let (Ok(log), Ok(name)) = (std::env::var(LOG), std::env::var(NAME)) else {
        return;
    };
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (part, whole) = (format!("{log}.{name}.new"), format!("{log}.{name}.port"));
    fs::write(&part, port.to_string()).expect("the port");
    fs::rename(part, whole).expect("the port");
    #[expect(clippy::exit, reason = "a process of its own")]
    thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let mut log = Log::append(Path::new(&log));
    let mut dice = Dice(u64::from(port));
    for client in listener.incoming().flatten() {
        let _ = serve(&client, &name, &mut log, &mut dice);
    }
}

fn serve(mut client: &TcpStream, name: &str, log: &mut Log, dice: &mut Dice) -> Option<()> {
    client.set_read_timeout(Some(LONG)).ok()?;
    let mut head = BufReader::new(client).lines().map_while(Result::ok);
    let line = head.next()?;
    // A request whose end has not come is none.
    head.find(String::is_empty)?;
    let command = line.split_once("cmnd=Power")?.1.split(' ').next()?;
    let (outlet, to) = command.split_once('+')?;
    thread::sleep(Duration::from_micros(dice.roll(4000)));
    log.write(&format!("{name} {outlet} {to}"));
    thread::sleep(Duration::from_micros(dice.roll(4000)));
    let body = format!("{{\"POWER{outlet}\":\"{}\"}}", to.to_uppercase());
    let length = body.len();
    write!(
        client,
        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
    .ok()
}

struct NetworkPdu {
    process: Child,
    port: u16,
}

impl NetworkPdu {
    fn start(log: &Path, name: &str) -> Self {
        let process = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "crash::pdu_process", "--nocapture"])
            .env(LOG, log)
            .env(NAME, name)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("a process");
        let told = format!("{}.{name}.port", log.display());
        let port = until("the simulator's port", || fs::read_to_string(&told).ok());
        Self {
            process,
            port: port.parse().expect("a port"),
        }
    }
}

impl Drop for NetworkPdu {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A running daemon, and a way to know when it and its commands are all gone.
struct Daemon {
    process: Child,
    alive: File,
    log: PathBuf,
}

impl Daemon {
    fn start(folder: &Path, number: u64) -> Self {
        Self::start_as(folder, number, None)
    }

    fn start_as(folder: &Path, number: u64, user: Option<u32>) -> Self {
        let log = folder.join(format!("daemon.{number}.log"));
        let fifo = folder.join("alive");
        if !fifo.exists() {
            rustix::fs::mknodat(
                rustix::fs::CWD,
                &fifo,
                rustix::fs::FileType::Fifo,
                0o600.into(),
                0,
            )
            .expect("a fifo");
            if user.is_some() {
                std::os::unix::fs::chown(&fifo, user, None).expect("given");
            }
        }
        let writing = fifo.clone();
        // Either end waits for the other.
        let alive = thread::spawn(move || File::open(writing));
        let mut command = Command::new("/bin/sh");
        if let Some(user) = user {
            command.uid(user);
        }
        let process = command
            .args(["-c", "exec \"$@\" 9>\"$0\""])
            .arg(&fifo)
            .args([DAEMON, "--conf"])
            .arg(folder.join("conf"))
            .arg("--logfile")
            .arg(&log)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the daemon");
        let alive = alive.join().expect("opened").expect("opened");
        Self {
            process,
            alive,
            log,
        }
    }

    fn address(&mut self) -> SocketAddr {
        let Self { process, log, .. } = self;
        until("the daemon's address", || {
            if let Ok(Some(status)) = process.try_wait() {
                panic!("the daemon ended: {status}: {}", read(log));
            }
            let text = read(log);
            let (_, rest) = text.split_once("listening on ")?;
            rest.split_once('\n')?.0.parse().ok()
        })
    }

    /// As the out-of-memory killer does it.
    fn kill(mut self) {
        self.process.kill().expect("killed");
        self.gone();
    }

    fn terminate(mut self) -> ExitStatus {
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("told");
        self.gone()
    }

    fn gone(&mut self) -> ExitStatus {
        let status = self.process.wait().expect("waited");
        self.alive
            .read_to_end(&mut Vec::new())
            .expect("the last process has gone");
        status
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// How a client asks.
#[derive(Clone, Copy)]
enum Way {
    Line,
    Http,
    Alias,
}

/// A client that reboots its own outlets, one reboot after the other, and notes what it is told.
struct Client {
    name: String,
    way: Way,
    outlets: Vec<(&'static str, u32)>,
    address: Arc<Mutex<Option<SocketAddr>>>,
    stop: Arc<AtomicBool>,
    log: Log,
    dice: Dice,
}

impl Client {
    fn run(mut self) {
        while !self.stop.load(Ordering::Acquire) {
            let address = *self.address.lock().expect("the address");
            match address.and_then(|to| TcpStream::connect(to).ok()) {
                Some(stream) => self.ask(&stream),
                None => thread::sleep(Duration::from_millis(2)),
            }
            thread::sleep(Duration::from_millis(self.dice.roll(15)));
        }
    }

    fn ask(&mut self, mut stream: &TcpStream) {
        let delay = ["0", "0.01", "0.05", "0.2"][self.dice.roll(4) as usize];
        let (pdu, outlet) = self.outlets[0];
        let request = match self.way {
            Way::Line => format!("{pdu} {outlet} reboot {delay}\n"),
            Way::Http => get(&format!("hostname={pdu}&port={outlet}&delay={delay}")),
            Way::Alias => get(&format!("alias={}&delay={delay}", self.name)),
        };
        self.log.write(&format!("client {} asks", self.name));
        let mut answer = String::new();
        let told = stream
            .write_all(request.as_bytes())
            .and_then(|()| stream.set_read_timeout(Some(LONG)))
            .and_then(|()| stream.read_to_string(&mut answer));
        let answer = match told {
            Ok(_) if answer == "ack\n" || answer.split(' ').nth(1) == Some("200") => "done",
            Ok(_) | Err(_) if answer.is_empty() => "nothing",
            Ok(_) | Err(_) => "refused",
        };
        self.log.write(&format!("client {} {answer}", self.name));
    }
}

fn get(query: &str) -> String {
    format!("GET /power/control/reboot?{query} HTTP/1.0\r\n\r\n")
}

/// What happened at one outlet, judged.
#[derive(Default)]
struct Book {
    is_off: bool,
    /// Offs and ons since its client last asked.
    offs: u32,
    ons_after: u32,
    asked: u32,
    done: u32,
    lost: u32,
    all_offs: u32,
    all_ons: u32,
}

impl Book {
    fn enter(&mut self, word: &str) -> Result<(), &'static str> {
        match word {
            "off" => {
                self.offs += 1;
                self.all_offs += 1;
                self.ons_after = 0;
                if self.offs > 1 {
                    return Err("a reboot was repeated");
                }
                self.is_off = true;
            }
            "on" => {
                self.ons_after += 1;
                self.all_ons += 1;
                self.is_off = false;
            }
            "asks" => {
                (self.offs, self.ons_after) = (0, 0);
                self.asked += 1;
            }
            "done" => {
                self.done += 1;
                if self.offs != 1 || self.ons_after == 0 {
                    return Err("a client was told of a reboot that was not done");
                }
            }
            "nothing" => self.lost += 1,
            "settled" if self.is_off => return Err("left off by an earlier daemon"),
            "settled" => {}
            _ => return Err("a client was refused"),
        }
        Ok(())
    }
}

#[test]
fn no_kill_leaves_an_outlet_off_or_repeats_a_reboot() {
    let kills = std::env::var("PDUD_KILLS")
        .map_or(Ok(20), |number| number.parse::<u64>())
        .expect("PDUD_KILLS: a number");
    let seed = std::env::var("PDUD_SEED")
        .map_or(Ok(0x9e37_79b9_7f4a_7c15), |number| number.parse::<u64>())
        .expect("PDUD_SEED: a number");
    let mut dice = Dice(seed);
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let log = folder.join("log");
    let (net1, net2) = (
        NetworkPdu::start(&log, "net1"),
        NetworkPdu::start(&log, "net2"),
    );
    let command = |name: &str, to: &str, wait: &str| {
        format!("{wait} echo {name} %s {to} >> {}; {wait}", log.display())
    };
    let pdu = |name: &str, wait: &str| {
        serde_json::json!({
            "driver": "localcmdline", "retrydelay": 1,
            "cmd_on": command(name, "on", wait), "cmd_off": command(name, "off", wait)
        })
    };
    // Away from its session, its group and its input.
    let detached = |name: &str, to: &str| {
        let line = format!(
            "exec <&-; sleep 0.01; echo {name} $0 {to} >> {}",
            log.display()
        );
        json!(["setsid", "-w", "sh", "-c", line, "%s"])
    };
    let shy = json!({
        "driver": "localcmdline", "retrydelay": 1,
        "cmd_on": detached("cmd2", "on"), "cmd_off": detached("cmd2", "off")
    });
    let network = |pdu: &NetworkPdu| {
        serde_json::json!({
            "driver": "tasmota", "port_count": 3, "retrydelay": 1,
            "ip": format!("127.0.0.1:{}", pdu.port)
        })
    };
    let mut conf = serde_json::json!({
        "daemon": {
            "hostname": "127.0.0.1", "port": 0, "state_directory": folder.join("state")
        },
        "pdus": {
            "cmd1": pdu("cmd1", "sleep 0.005;"), "cmd2": shy,
            "net1": network(&net1), "net2": network(&net2)
        },
        "aliases": {
            "group": {"outlets": [
                {"hostname": "net2", "port": "3"}, {"hostname": "cmd1", "port": "3"},
                {"hostname": "net1", "port": "3"}
            ]}
        }
    });
    // A port of its own for each daemon: clients go on asking at the last one's.
    let mut start = |number| {
        conf["daemon"]["port"] = port::free().into();
        fs::write(folder.join("conf"), conf.to_string()).expect("the config");
        Daemon::start(folder, number)
    };

    let address = Arc::new(Mutex::new(None));
    let stop = Arc::new(AtomicBool::new(false));
    let clients = [
        ("a", Way::Line, vec![("cmd1", 1)]),
        ("b", Way::Http, vec![("cmd1", 2)]),
        ("c", Way::Http, vec![("cmd2", 1)]),
        ("d", Way::Line, vec![("net1", 1)]),
        ("e", Way::Http, vec![("net1", 2)]),
        ("f", Way::Line, vec![("net2", 1)]),
        (
            "group",
            Way::Alias,
            vec![("net2", 3), ("cmd1", 3), ("net1", 3)],
        ),
    ];
    let threads: Vec<_> = clients
        .clone()
        .into_iter()
        .map(|(name, way, outlets)| {
            let client = Client {
                name: name.to_owned(),
                way,
                outlets,
                address: Arc::clone(&address),
                stop: Arc::clone(&stop),
                log: Log::append(&log),
                dice: Dice(dice.roll(u64::MAX) | 1),
            };
            thread::spawn(move || client.run())
        })
        .collect();

    let journal = folder.join("state/journal");
    let mut daemon_log = Log::append(&log);
    let owed = || fs::read_dir(&journal).map_or(0, Iterator::count);
    let settle = |log: &mut Log| {
        until("the outlets owed their on", || (owed() == 0).then_some(()));
        log.write("daemon all settled");
    };
    let (mut in_a_reboot, mut most_owed, mut owed_in_all) = (0, 0, 0);
    for number in 0..kills {
        let mut daemon = start(number);
        if dice.roll(6) == 0 {
            // While it starts, perhaps while it switches on what the last one left off.
            thread::sleep(Duration::from_millis(dice.roll(30)));
        } else {
            let listens = daemon.address();
            if dice.roll(3) == 0 {
                // Nobody asks for anything before every outlet must be on.
                settle(&mut daemon_log);
            }
            *address.lock().expect("the address") = Some(listens);
            thread::sleep(Duration::from_millis(dice.roll(150)));
        }
        // The last daemon has only its predecessor's outlets to see to.
        stop.store(number + 1 == kills, Ordering::Release);
        match dice.roll(2) {
            0 => daemon.kill(),
            // The daemon alone.
            _ => drop(daemon),
        }
        *address.lock().expect("the address") = None;
        let owed = owed();
        in_a_reboot += u32::from(owed > 0);
        owed_in_all += owed;
        most_owed = most_owed.max(owed);
    }
    for client in threads {
        client.join().expect("a client");
    }
    let mut daemon = start(kills);
    daemon.address();
    settle(&mut daemon_log);
    assert!(daemon.terminate().success());

    let mut books: BTreeMap<(&str, &str), Book> = BTreeMap::new();
    let outlets_of = |client: &str| {
        let (.., outlets) = clients
            .iter()
            .find(|(name, ..)| *name == client)
            .expect("a client");
        outlets
    };
    let text = read(&log);
    let mut wrong = Vec::new();
    let numbers: Vec<String> = (0..4).map(|number| number.to_string()).collect();
    for (line, event) in text.lines().enumerate() {
        let words: Vec<&str> = event.split(' ').collect();
        let [who, what, word] = words.as_slice() else {
            panic!("line {line} of the log: {event:?}");
        };
        let at: Vec<(&str, &str)> = match *who {
            "daemon" => books.keys().copied().collect(),
            "client" => outlets_of(what)
                .iter()
                .map(|(pdu, outlet)| (*pdu, numbers[*outlet as usize].as_str()))
                .collect(),
            _ => vec![(who, what)],
        };
        for (pdu, outlet) in at {
            if let Err(what) = books.entry((pdu, outlet)).or_default().enter(word) {
                wrong.push(format!("line {line}, {pdu} {outlet}: {what}"));
            }
        }
    }
    let sum = |of: fn(&Book) -> u32| books.values().map(of).sum::<u32>();
    let done = sum(|book| book.done);
    // Past the harness, which would swallow it.
    let _ = writeln!(
        std::io::stderr(),
        "crash: {kills} kills, {in_a_reboot} of them with outlets owed their on ({owed_in_all} in all, at most {most_owed} at once); \
         {} outlets, {} reboots asked for, {done} told done, {} cut off by a kill; {} offs, {} ons; {} wrong",
        books.len(),
        sum(|book| book.asked),
        sum(|book| book.lost),
        sum(|book| book.all_offs),
        sum(|book| book.all_ons),
        wrong.len(),
    );
    assert!(wrong.is_empty(), "seed {seed}: {wrong:#?}\n{text}");
    assert!(
        done > 0 && (kills < 20 || in_a_reboot > 0),
        "nothing was tried"
    );
}

/// Serves one reboot with `state` as the state directory; as `user`, if given.
fn serves(folder: &Path, state: &Path, user: Option<u32>) -> String {
    let log = folder.join("log");
    let to = |to: &str| format!("echo %s {to} >> {}", log.display());
    let conf = serde_json::json!({
        "daemon": {"hostname": "127.0.0.1", "port": 0, "state_directory": state},
        "pdus": {"pdu": {"driver": "localcmdline", "cmd_on": to("on"), "cmd_off": to("off")}}
    });
    fs::write(folder.join("conf"), conf.to_string()).expect("the config");
    let _ = fs::remove_file(folder.join("alive"));
    let _ = fs::remove_file(folder.join("daemon.0.log"));
    let mut daemon = Daemon::start_as(folder, 0, user);
    let mut client = TcpStream::connect(daemon.address()).expect("a connection");
    client
        .set_read_timeout(Some(LONG))
        .expect("a read time-out");
    client.write_all(b"pdu 7 reboot 0\n").expect("asked");
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("an answer");
    let said = daemon.log.clone();
    assert!(daemon.terminate().success());
    let said = read(&said);
    assert_eq!(answer, "ack\n", "{said}");
    said
}

#[test]
fn a_torn_or_foreign_journal_never_stops_serving() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let state = folder.join("state");
    let journal = state.join("journal");
    fs::create_dir_all(&journal).expect("a folder");
    for name in [
        "README",
        "pdu",
        "pdu.1",
        "pdu.1.x",
        "pdu.%ff.0",
        "pdu.1.0.0",
        "pdu.1.99999999999",
        "..x",
        "gone.1.0",
        "pdu.%3B%20exit%201.0",
    ] {
        fs::write(journal.join(name), "junk\0\u{ff}").expect("a file");
    }
    fs::create_dir(journal.join("pdu.2.0")).expect("a folder");
    std::os::unix::fs::symlink("/dev/zero", journal.join("pdu.3.0")).expect("a link");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        journal.join("pdu.4.0"),
        rustix::fs::FileType::Fifo,
        0o600.into(),
        0,
    )
    .expect("a fifo");
    // The one true record, with something in it that nobody asked for.
    fs::write(journal.join("pdu.5.3"), "torn").expect("a file");
    let said = serves(folder, &state, None);
    let switched = read(&folder.join("log"));
    assert!(switched.starts_with("5 on\n"), "{switched}\n{said}");
    assert!(switched.contains("7 off\n7 on\n"), "{switched}");
    assert_eq!(switched.lines().count(), 3, "{switched}");
    assert!(!journal.join("pdu.5.3").exists());
    for name in [
        "README",
        "pdu.1.0.0",
        "pdu.2.0",
        "pdu.3.0",
        "pdu.4.0",
        "gone.1.0",
    ] {
        assert!(journal.join(name).symlink_metadata().is_ok(), "{name}");
    }
    assert!(said.contains("pdu.4.0 is not one of our files"), "{said}");
    assert!(said.contains("PDU gone, outlet 1: LEFT OFF"), "{said}");
}

#[test]
fn no_state_directory_stops_serving() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let set = |path: &Path, mode: u32| {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
    };
    set(folder, 0o777);
    // A user who may do nothing; for those who run this as an ordinary one, they are that user.
    let user = rustix::process::geteuid().is_root().then_some(65534);
    let file = folder.join("file");
    fs::write(&file, "").expect("a file");
    let read_only = folder.join("read-only");
    fs::create_dir_all(read_only.join("journal")).expect("a folder");
    fs::create_dir_all(read_only.join("locks")).expect("a folder");
    fs::write(read_only.join("journal/pdu.5.0"), "").expect("a file");
    for path in ["journal", "locks", ""] {
        set(&read_only.join(path), 0o555);
    }
    let no_folder = folder.join("no-folder");
    fs::create_dir(&no_folder).expect("a folder");
    fs::write(no_folder.join("journal"), "").expect("a file");
    let said = serves(folder, &file, user);
    assert!(said.contains("going on without"), "{said}");
    let said = serves(folder, Path::new("/proc/nowhere"), user);
    assert!(said.contains("going on without"), "{said}");
    let said = serves(folder, &no_folder, None);
    assert!(said.contains("going on without"), "{said}");
    fs::remove_file(folder.join("log")).expect("removed");
    let said = serves(folder, &read_only, user);
    assert!(said.contains("cannot be written"), "{said}");
    assert!(said.contains("going on without it"), "{said}");
    let switched = read(&folder.join("log"));
    assert!(
        switched.starts_with("5 on\n") && switched.ends_with("7 off\n7 on\n"),
        "{switched}"
    );
    set(&read_only, 0o755);
    set(&read_only.join("journal"), 0o755);
    set(&read_only.join("locks"), 0o755);
}

/// What an off does to be forgotten; `OFF` stands for the work itself, as one word of a shell.
const DETACHED: [(&str, &[&str]); 8] = [
    ("reads its input", &["sh", "-c", "cat; sh -c OFF"]),
    ("a list", &["sh", "-c", "exec sh -c OFF"]),
    ("in the background", &["sh", "-c", "sh -c OFF & wait"]),
    ("a session", &["setsid", "-w", "sh", "-c", "sh -c OFF"]),
    (
        "no descriptor",
        &["sh", "-c", "exec <&- >&- 2>&-; sh -c OFF"],
    ),
    ("another input", &["sh", "-c", "exec </dev/null; sh -c OFF"]),
    ("a pipe", &["sh", "-c", "echo | sh -c OFF"]),
    ("no environment", &["env", "-i", "sh", "-c", "sh -c OFF"]),
];

#[test]
fn an_off_that_a_killed_daemon_leaves_behind_comes_before_the_on_of_the_next() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let (log, go, conf) = (folder.join("log"), folder.join("go"), folder.join("conf"));
    let mut pdus = serde_json::Map::new();
    for (what, off) in DETACHED {
        // Without the test it ends as well.
        let work = format!(
            "'echo {what} begun >> {log}; while [ -e {conf} ] && ! [ -e {go} ]; do sleep 0.02; done; echo {what} off >> {log}'",
            log = log.display(),
            conf = conf.display(),
            go = go.display()
        );
        let off: Vec<String> = off.iter().map(|word| word.replace("OFF", &work)).collect();
        let on = format!("echo {what} on >> {}", log.display());
        let pdu = json!({"driver": "localcmdline", "cmd_on": on, "cmd_off": off});
        pdus.insert(what.to_owned(), pdu);
    }
    let state = folder.join("state");
    let daemon = json!({"hostname": "127.0.0.1", "port": 0, "state_directory": state});
    let text = json!({"daemon": daemon, "pdus": pdus}).to_string();
    fs::write(&conf, text).expect("the config");
    let mut daemon = Daemon::start(folder, 0);
    let address = daemon.address();
    let clients: Vec<TcpStream> = DETACHED
        .iter()
        .map(|(what, _)| {
            let mut client = TcpStream::connect(address).expect("a connection");
            let what = what.replace(' ', "%20");
            let request = get(&format!("hostname={what}&port=7&delay=0"));
            client.write_all(request.as_bytes()).expect("asked");
            client
        })
        .collect();
    let count = |word: &str| {
        read(&log)
            .lines()
            .filter(|line| line.ends_with(word))
            .count()
    };
    until("the offs", || {
        (count(" begun") == DETACHED.len()).then_some(())
    });
    // The daemon alone.
    drop((daemon, clients));

    let mut next = Daemon::start(folder, 1);
    next.address();
    let waiting = "a command of a killed pdudaemon still runs";
    until("all to be found", || {
        let found = read(&next.log).matches(waiting).count();
        (found == DETACHED.len()).then_some(())
    });
    assert_eq!(count(" on"), 0, "{}", read(&log));
    fs::write(&go, "").expect("told");
    until("the ons", || (count(" on") == DETACHED.len()).then_some(()));
    let text = read(&log);
    for (what, _) in DETACHED {
        let of_it = text.lines().filter_map(|line| line.strip_prefix(what));
        assert_eq!(
            of_it.collect::<Vec<_>>(),
            [" begun", " off", " on"],
            "{text}"
        );
    }
    assert!(next.terminate().success());
    let locks = fs::read_dir(state.join("locks")).expect("a folder");
    for entry in locks {
        let entry = entry.expect("readable");
        let length = entry.metadata().expect("known").len();
        assert_eq!(length, 0, "{:?}", entry.file_name());
    }
}

#[test]
fn a_record_that_cannot_be_made_safe_does_not_outlive_its_reboot() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let state = folder.join("state");
    let journal = state.join("journal");
    fs::create_dir_all(&journal).expect("a folder");
    fs::create_dir(state.join("locks")).expect("a folder");
    let user = rustix::process::geteuid().is_root().then_some(65534);
    // Files can be made in it, but it cannot be opened to be synced.
    for (path, mode) in [(folder, 0o777), (&*state, 0o777), (&*journal, 0o333)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
    }
    let said = serves(folder, &state, user);
    fs::set_permissions(&journal, fs::Permissions::from_mode(0o777)).expect("a mode");
    assert!(said.contains("is not safe"), "{said}");
    let left: Vec<_> = fs::read_dir(&journal).expect("a folder").collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_reboot_is_recorded_as_soon_as_the_journal_can_be_written_again() {
    let lab = Lab::new();
    let on = "[ -e mended ] || exit 1; record $1 on";
    let pdus = json!({"p": lab.scripted(on, "record $1 off")});
    let state = json!({"daemon": {"state_directory": lab.path("state")}});
    let daemon = lab.start_with(pdus, state, &[]);
    let journal = lab.path("state/journal");
    fs::remove_dir(&journal).expect("removed");
    fs::write(&journal, "").expect("a file in its place");
    let (status, body) = daemon.get("reboot?hostname=p&port=1&delay=0");
    assert_eq!(status, 503, "{body}");
    daemon.wait_for_print("cannot be written");
    daemon.wait_for_print("trying again until it is on");

    fs::remove_file(&journal).expect("removed");
    // The outlet is owed its on already; the other one is not.
    let reboots = ["1", "2"]
        .map(|outlet| daemon.get_later(&format!("reboot?hostname=p&port={outlet}&delay=8")));
    until("both offs", || (lab.record().len() == 3).then_some(()));
    let mut names: Vec<_> = fs::read_dir(&journal)
        .expect("it is there again")
        .map(|entry| entry.expect("readable").file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["p.1.0", "p.2.0"]);
    lab.write("mended", "");
    for reboot in reboots {
        let (status, body) = reboot.join().expect("a client");
        assert_eq!(status, 200, "{body}");
    }
    assert_eq!(fs::read_dir(&journal).expect("a folder").count(), 0);
    daemon.stop();
}

/// A daemon that is killed in the pause of a reboot, and the next one.
struct Killed {
    folder: tempfile::TempDir,
    pdus: serde_json::Value,
}

impl Killed {
    /// With one PDU, `pdu`.
    fn in_a_pause_of(outlet: &str) -> Self {
        let killed = Self::new();
        let daemon = killed.start(0);
        killed.reboot(daemon, outlet);
        killed
    }

    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let to = |to: &str| {
            let line = format!("echo $0 {to} >> {}", folder.path().join("log").display());
            json!(["sh", "-c", line, "%s"])
        };
        let pdu = json!({"driver": "localcmdline", "cmd_on": to("on"), "cmd_off": to("off")});
        Self {
            pdus: json!({ "pdu": pdu }),
            folder,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn configure(&self) {
        let daemon =
            json!({"hostname": "127.0.0.1", "port": 0, "state_directory": self.path("state")});
        let text = json!({"daemon": daemon, "pdus": self.pdus}).to_string();
        fs::write(self.path("conf"), text).expect("the config");
    }

    fn start(&self, number: u64) -> Daemon {
        self.configure();
        Daemon::start(self.folder.path(), number)
    }

    /// Is killed once the outlet is off.
    fn reboot(&self, mut daemon: Daemon, outlet: &str) {
        let mut client = TcpStream::connect(daemon.address()).expect("a connection");
        let request = get(&format!("hostname=pdu&port={outlet}&delay=3600"));
        client.write_all(request.as_bytes()).expect("asked");
        until("the off", || self.log().ends_with(" off\n").then_some(()));
        daemon.kill();
    }

    fn log(&self) -> String {
        read(&self.path("log"))
    }

    fn records(&self) -> usize {
        fs::read_dir(self.path("state/journal")).map_or(0, Iterator::count)
    }

    fn until_on(&self) {
        until("the on", || self.log().ends_with(" on\n").then_some(()));
        until("the record to go", || (self.records() == 0).then_some(()));
    }
}

#[test]
fn a_name_too_long_for_a_file_is_recorded() {
    let outlet = "a".repeat(250);
    let killed = Killed::in_a_pause_of(&outlet);
    assert_eq!(killed.records(), 1);
    let next = killed.start(1);
    killed.until_on();
    assert_eq!(killed.log(), format!("{outlet} off\n{outlet} on\n"));
    assert!(next.terminate().success());
}

#[test]
fn a_reboot_is_recorded_while_it_lasts_once_there_is_room() {
    let killed = Killed::new();
    let daemon = killed.start(0);
    let journal = killed.path("state/journal");
    until("the journal", || journal.is_dir().then_some(()));
    fs::remove_dir(&journal).expect("removed");
    fs::write(&journal, "").expect("a file in its place");
    let (text, log) = (daemon.log.clone(), killed.path("log"));
    let mut daemon = daemon;
    let mut client = TcpStream::connect(daemon.address()).expect("a connection");
    let request = get("hostname=pdu&port=1&delay=3600");
    client.write_all(request.as_bytes()).expect("asked");
    until("the off", || (read(&log) == "1 off\n").then_some(()));
    assert!(read(&text).contains("cannot be written"), "{}", read(&text));
    fs::remove_file(&journal).expect("removed");
    until("the record", || (killed.records() == 1).then_some(()));
    until("to be told", || {
        read(&text)
            .contains("in the journal after all")
            .then_some(())
    });
    daemon.kill();
    let next = killed.start(1);
    killed.until_on();
    assert!(next.terminate().success());
}

#[test]
fn an_outlet_whose_pdu_is_gone_is_told_everywhere_and_switched_on_once_it_is_back() {
    let mut killed = Killed::in_a_pause_of("7");
    let pdus = std::mem::replace(&mut killed.pdus, json!({"other": {"driver": "simulated"}}));
    let mut next = killed.start(1);
    let address = next.address();
    let get = |path: &str| crate::daemon::http(address, "GET", path).1;
    let health = get("/healthz");
    for words in [
        "degraded",
        "outlet 7: LEFT OFF by an unfinished reboot",
        "journal/pdu.7.0",
    ] {
        assert!(health.contains(words), "{words}: {health}");
    }
    let metric = r#"pdudaemon_outlet_left_off{pdu="pdu",outlet="7"} 1"#;
    assert!(get("/metrics").contains(metric));
    let told = "PDU pdu, outlet 7: LEFT OFF by an unfinished reboot";
    assert_eq!(read(&next.log).matches(told).count(), 1);

    killed.pdus = pdus;
    killed.configure();
    let pid = rustix::process::Pid::from_child(&next.process);
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).expect("told");
    killed.until_on();
    until("health", || {
        (!get("/healthz").contains("LEFT OFF")).then_some(())
    });
    assert!(!get("/metrics").contains("outlet_left_off{"));
    assert!(next.terminate().success());
}

#[test]
fn an_old_record_is_told_and_goes_when_somebody_switches_its_outlet() {
    let killed = Killed::in_a_pause_of("7");
    let record = killed.path("state/journal/pdu.7.0");
    let month = Duration::from_secs(30 * 86_400);
    let file = File::options().write(true).open(&record).expect("a record");
    file.set_modified(std::time::SystemTime::now() - month)
        .expect("its time");
    let mut next = killed.start(1);
    let address = next.address();
    let get = |path: &str| crate::daemon::http(address, "GET", path).1;
    assert!(get("/healthz").contains("outlet 7: LEFT OFF by an unfinished reboot"));
    let (status, body) = crate::daemon::get(address, "off?hostname=pdu&port=7");
    assert_eq!(status, 200, "{body}");
    assert_eq!(killed.records(), 0);
    until("health", || {
        (!get("/healthz").contains("LEFT OFF")).then_some(())
    });
    assert_eq!(killed.log(), "7 off\n7 off\n", "nobody has switched it on");
    assert!(next.terminate().success());
}

/// `--drive` beside a daemon of the same config.
struct Drive(Child);

impl Drive {
    fn reboot(lab: &Lab, pdu: &str, outlet: &str, delay: &str) -> Self {
        let mut command = lab.command(DAEMON);
        command
            .arg("--conf")
            .arg(lab.path("pdudaemon.conf"))
            .args(["--drive", "--request", "reboot", "--delay", delay])
            .args(["--hostname", pdu, "--port", outlet])
            .stderr(Stdio::null());
        Self(command.spawn().expect("a process"))
    }

    fn kill(mut self) {
        self.0.kill().expect("killed");
        self.0.wait().expect("gone");
    }
}

/// Loads the config again, once records made until now are no news any more.
fn reload(daemon: &crate::daemon::Daemon) {
    const LOADED: &str = "the config is loaded again";
    thread::sleep(Duration::from_millis(1100));
    let before = daemon.printed().matches(LOADED).count();
    daemon.signal(rustix::process::Signal::HUP);
    until("the config to be loaded again", || {
        (daemon.printed().matches(LOADED).count() > before).then_some(())
    });
}

#[test]
fn a_reboot_whose_process_is_killed_is_finished_by_the_daemon_beside_it() {
    let lab = Lab::new();
    let state = json!({"daemon": {"state_directory": lab.path("state")}});
    let pdus = json!({"p": lab.recorder("p"), "q": lab.recorder("q")});
    let daemon = lab.start_with(pdus, state, &[]);
    let records = || fs::read_dir(lab.path("state/journal")).expect("it").count();

    let drive = Drive::reboot(&lab, "p", "1", "3600");
    lab.wait_for_record(&["p 1 off"]);
    drive.kill();
    // Without a word to it.
    lab.wait_for_record(&["p 1 off", "p 1 on"]);
    until("the record to go", || (records() == 0).then_some(()));

    // What is switched later counts, seen by then or not.
    for (way, before) in [("off", "p 2 off"), ("on", "p 2 on")] {
        lab.forget();
        let drive = Drive::reboot(&lab, "p", "2", "3600");
        lab.wait_for_record(&["p 2 off"]);
        drive.kill();
        assert_eq!(daemon.get(&format!("{way}?hostname=p&port=02")).0, 200);
        assert_eq!(records(), 0, "{way}");
        let before = before.replace('2', "02");
        reload(&daemon);
        assert_eq!(daemon.get("on?hostname=p&port=3").0, 200);
        assert_eq!(lab.record(), ["p 2 off", &before, "p 3 on"], "{way}");
    }
    daemon.stop();
}

#[test]
fn a_reboot_under_way_is_nobody_elses() {
    let lab = Lab::new();
    let state = json!({"daemon": {"state_directory": lab.path("state")}});
    let pdus = json!({"p": lab.recorder("p"), "q": lab.recorder("q")});
    let daemon = lab.start_with(pdus, state, &[]);
    let mut drive = Drive::reboot(&lab, "p", "1", "8");
    let own = daemon.get_later("reboot?hostname=q&port=1&delay=8");
    until("both offs", || (lab.record().len() == 2).then_some(()));
    reload(&daemon);
    reload(&daemon);
    assert_eq!(lab.record().len(), 2, "both wait");
    assert!(drive.0.wait().expect("its end").success());
    let (status, body) = own.join().expect("a client");
    assert_eq!(status, 200, "{body}");
    reload(&daemon);
    let mut record = lab.record();
    record.sort();
    assert_eq!(record, ["p 1 off", "p 1 on", "q 1 off", "q 1 on"]);
    daemon.stop();
}
