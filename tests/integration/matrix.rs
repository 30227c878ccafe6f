//! The fault matrix: every transcript whose dialogue ends well is played again through a proxy
//! that spoils it. A new driver gets its matrix with its transcript.
//!
//! What is held: each call ends within its deadline, a fault is never taken for success where
//! there was no evidence, the error is of the right class, the next call over a sound line works,
//! and no thread or descriptor is left behind.

use crate::sim::{self, Simulator};
use crate::transcript::{self, Case, Line, bytes};
use pdudaemon::driver::{Driver, DriverError, registry};
use pdudaemon::request::{Outlet, State, Switch};
use pdudaemon::transport::{Deadline, TransportErrorKind};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What a call may take while the line is bad.
const DEADLINE: Duration = Duration::from_millis(600);
/// What a loaded machine may add.
const SLACK: Duration = Duration::from_secs(4);
/// What a call over a sound line may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Calls at a time: nearly all of them wait.
const AT_ONCE: usize = 32;

/// What is wrong with the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Nothing: the dialogue goes on as recorded.
    None,
    /// Nobody listens.
    Refuse,
    /// Connected, and then nothing.
    Silence,
    /// Reset once so many bytes have come back.
    ResetAt(usize),
    /// Closed politely once so many bytes have come back.
    EndAt(usize),
    /// Silent once so many bytes have come back.
    StopAt(usize),
    /// A byte now and then.
    Drip,
    /// Bytes of another protocol.
    Garbage,
    /// An answer that never ends.
    Endless,
}

const GARBAGE: &[u8] = b"\xfe\xff\x7f SSH-2.0-nonsense\r\n{]\x1b[2J\xf0\x9f\x92\xa9\r\n";

/// The transports whose devices are reached through a socket that a proxy can stand in front of.
const SPOILT_HERE: [&str; 6] = ["tcp", "telnet", "http", "serial", "snmp", "ssh"];

fn ends_well(case: &Case) -> bool {
    ["ok", "on", "off"].contains(&case.outcome.as_str())
}

fn is_spoilt_here(case: &Case) -> bool {
    SPOILT_HERE.contains(&case.transport.as_str()) && ends_well(case)
}

/// A line to a device: the address stays, what is behind it changes.
trait Proxy: Send {
    fn overrides(&self, case: &Case) -> serde_json::Value;
    fn set(&self, fault: Fault, device: SocketAddr);
    fn end(self: Box<Self>);
}

// ---- TCP ---------------------------------------------------------------------------------------

struct TcpProxy {
    address: SocketAddr,
    shared: Arc<TcpShared>,
    thread: JoinHandle<()>,
}

struct TcpShared {
    fault: Mutex<(Fault, SocketAddr)>,
    /// Bytes that have come back since the fault was set.
    back: AtomicUsize,
    stop: AtomicBool,
}

impl TcpProxy {
    fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a loopback port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(TcpShared {
            fault: Mutex::new((Fault::None, address)),
            back: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let mut pumps = Vec::new();
            for stream in listener.incoming() {
                if accepting.stop.load(Ordering::SeqCst) {
                    break;
                }
                let Ok(stream) = stream else { break };
                let shared = Arc::clone(&accepting);
                pumps.push(std::thread::spawn(move || serve(&stream, &shared)));
            }
            for pump in pumps {
                pump.join().expect("a pump that does not panic");
            }
        });
        Self {
            address,
            shared,
            thread,
        }
    }
}

/// Closes with a reset instead of a farewell.
fn reset(stream: &TcpStream) {
    let socket = socket2::SockRef::from(stream);
    let _ = socket.set_linger(Some(Duration::ZERO));
    // A shutdown would say farewell; the reset comes when the last handle is dropped, and both
    // pumps drop theirs at once.
}

fn serve(client: &TcpStream, shared: &Arc<TcpShared>) {
    let (fault, device) = *shared.fault.lock().expect("lock");
    let tick = Some(Duration::from_millis(20));
    client.set_read_timeout(tick).expect("a timeout can be set");
    let gone = |client: &TcpStream| {
        let mut rest = [0; 256];
        match (&*client).read(&mut rest) {
            Ok(0) => true,
            Ok(_) => false,
            Err(error) => !matches!(
                error.kind(),
                std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
            ),
        }
    };
    match fault {
        // Nothing is behind a refused line; a connection that slips in is reset.
        Fault::Refuse => return reset(client),
        Fault::Silence => {
            while !gone(client) && !shared.stop.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            return;
        }
        Fault::Garbage => {
            let _ = (&*client).write_all(GARBAGE);
            while !gone(client) && !shared.stop.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            return;
        }
        Fault::Endless => {
            client
                .set_write_timeout(tick)
                .expect("a timeout can be set");
            let flood = [b'A'; 4096];
            while !shared.stop.load(Ordering::SeqCst) {
                match (&*client).write(&flood) {
                    Ok(_) => {}
                    Err(error)
                        if matches!(
                            error.kind(),
                            std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                        ) => {}
                    Err(_) => return,
                }
            }
            return;
        }
        Fault::None | Fault::ResetAt(_) | Fault::EndAt(_) | Fault::StopAt(_) | Fault::Drip => {}
    }
    let Ok(device) = TcpStream::connect(device) else {
        return reset(client);
    };
    device.set_read_timeout(tick).expect("a timeout can be set");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            pump(client, &device, &over, shared, |_| true);
            let _ = device.shutdown(Shutdown::Write);
        });
        pump(&device, client, &over, shared, |byte_count| match fault {
            Fault::ResetAt(most) | Fault::EndAt(most) | Fault::StopAt(most) => byte_count < most,
            _ => true,
        });
        let cut = match fault {
            Fault::ResetAt(most) | Fault::EndAt(most) | Fault::StopAt(most) => {
                shared.back.load(Ordering::SeqCst) >= most
            }
            _ => false,
        };
        match fault {
            Fault::ResetAt(_) if cut => {
                over.store(true, Ordering::SeqCst);
                reset(client);
            }
            Fault::StopAt(_) if cut => {
                while !over.load(Ordering::SeqCst) && !shared.stop.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
            _ => {
                let _ = client.shutdown(Shutdown::Write);
                if cut {
                    over.store(true, Ordering::SeqCst);
                }
            }
        }
    });
}

/// Carries bytes one at a time while `more` says so; ends when either side has.
fn pump(
    mut from: &TcpStream,
    mut to: &TcpStream,
    over: &AtomicBool,
    shared: &TcpShared,
    more: impl Fn(usize) -> bool,
) {
    let is_back = shared.fault.lock().expect("lock").1
        == from
            .peer_addr()
            .unwrap_or_else(|_| ([0, 0, 0, 0], 0).into());
    let drips = is_back && shared.fault.lock().expect("lock").0 == Fault::Drip;
    let mut chunk = [0; 4096];
    while !over.load(Ordering::SeqCst) && !shared.stop.load(Ordering::SeqCst) {
        if is_back && !more(shared.back.load(Ordering::SeqCst)) {
            return;
        }
        let room = if is_back { 1 } else { chunk.len() };
        match from.read(&mut chunk[..room]) {
            Ok(0) => break,
            Ok(count) => {
                if drips {
                    std::thread::sleep(DEADLINE / 4);
                }
                if to.write_all(&chunk[..count]).is_err() {
                    break;
                }
                if is_back {
                    shared.back.fetch_add(count, Ordering::SeqCst);
                }
            }
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                ) => {}
            Err(_) => break,
        }
    }
    if !is_back {
        // The client has left; the device has nothing more to say.
        return;
    }
    over.store(true, Ordering::SeqCst);
}

impl Proxy for TcpProxy {
    fn overrides(&self, case: &Case) -> serde_json::Value {
        if case.transport == "serial" {
            serde_json::json!({ "device": format!("socket://{}", self.address) })
        } else {
            serde_json::json!({ "ip": self.address.to_string() })
        }
    }

    fn set(&self, fault: Fault, device: SocketAddr) {
        *self.shared.fault.lock().expect("lock") = (fault, device);
        self.shared.back.store(0, Ordering::SeqCst);
    }

    fn end(self: Box<Self>) {
        self.shared.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        self.thread.join().expect("a proxy that does not panic");
    }
}

// ---- UDP ---------------------------------------------------------------------------------------

struct UdpProxy {
    address: SocketAddr,
    shared: Arc<TcpShared>,
    thread: JoinHandle<()>,
}

impl UdpProxy {
    fn start() -> Self {
        let socket = UdpSocket::bind(("127.0.0.1", 0)).expect("a loopback port");
        let address = socket.local_addr().expect("an address");
        let shared = Arc::new(TcpShared {
            fault: Mutex::new((Fault::None, address)),
            back: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        });
        let serving = Arc::clone(&shared);
        let tick = Some(Duration::from_millis(10));
        socket.set_read_timeout(tick).expect("a timeout can be set");
        let thread = std::thread::spawn(move || {
            let device_end = UdpSocket::bind(("127.0.0.1", 0)).expect("a loopback port");
            device_end
                .set_read_timeout(tick)
                .expect("a timeout can be set");
            let (mut buffer, mut client) = ([0; 4096], address);
            while !serving.stop.load(Ordering::SeqCst) {
                let (fault, device) = *serving.fault.lock().expect("lock");
                if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                    client = from;
                    match fault {
                        Fault::Silence
                        | Fault::Refuse
                        | Fault::StopAt(_)
                        | Fault::ResetAt(_)
                        | Fault::EndAt(_) => continue,
                        Fault::Garbage => drop(socket.send_to(GARBAGE, from)),
                        Fault::Endless => drop(socket.send_to(&[0x30; 4000], from)),
                        // What was asked comes back as an answer: the right id, the wrong message.
                        Fault::Drip => drop(socket.send_to(&buffer[..length], from)),
                        Fault::None => drop(device_end.send_to(&buffer[..length], device)),
                    }
                }
                if fault == Fault::None
                    && let Ok((length, _)) = device_end.recv_from(&mut buffer)
                {
                    let _ = socket.send_to(&buffer[..length], client);
                }
            }
        });
        Self {
            address,
            shared,
            thread,
        }
    }
}

impl Proxy for UdpProxy {
    fn overrides(&self, _: &Case) -> serde_json::Value {
        serde_json::json!({ "ip": self.address.to_string() })
    }

    fn set(&self, fault: Fault, device: SocketAddr) {
        *self.shared.fault.lock().expect("lock") = (fault, device);
    }

    fn end(self: Box<Self>) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.thread.join().expect("a proxy that does not panic");
    }
}

// ---- the matrix --------------------------------------------------------------------------------

fn proxy(case: &Case) -> Box<dyn Proxy> {
    if case.transport == "snmp" {
        Box::new(UdpProxy::start())
    } else {
        Box::new(TcpProxy::start())
    }
}

/// A fresh device of the case, reached over a socket, serial ones included.
fn device(case: &Case) -> (Box<dyn Simulator>, SocketAddr) {
    let mut case = case.clone();
    if case.transport == "serial" {
        case.transport = "tcp".into();
    }
    let device = sim::start(&case);
    let overrides = device.overrides();
    let address = overrides["ip"]
        .as_str()
        .expect("an address")
        .parse()
        .expect("an address");
    (device, address)
}

fn call(driver: &mut dyn Driver, case: &Case, wait: Duration) -> Result<String, DriverError> {
    let (outlet, deadline) = (Outlet::new(case.outlet.as_str()), Deadline::after(wait));
    match case.action.as_str() {
        "on" => driver
            .switch(&outlet, Switch::On, deadline)
            .map(|()| "ok".to_owned()),
        "off" => driver
            .switch(&outlet, Switch::Off, deadline)
            .map(|()| "ok".to_owned()),
        _ => driver.state(&outlet, deadline).map(|state| match state {
            State::On => "on".into(),
            State::Off => "off".into(),
            State::Unknown(_) => "unknown".into(),
        }),
    }
}

/// How many bytes come back in the whole dialogue.
fn answer_length(case: &Case) -> usize {
    let answers = case.lines.iter().filter_map(|line| match line {
        Line::Answer(text) => Some(text),
        Line::Sent(_) => None,
    });
    match case.transport.as_str() {
        // Heads are made by the simulator; an estimate is enough, later positions change nothing.
        "http" => answers.map(|text| text.len() + 60).sum(),
        // Greeting, keys, login: about so much comes back before the command's own words.
        "ssh" => 3000,
        _ => answers.map(|text| bytes(text).len()).sum(),
    }
}

fn faults(case: &Case, is_first: bool) -> Vec<Fault> {
    let mut faults = vec![Fault::Silence, Fault::Garbage];
    if !is_first {
        // Further names are rows of the same dialect.
        return faults;
    }
    faults.extend([Fault::Endless, Fault::Drip]);
    if case.transport == "snmp" {
        return faults;
    }
    faults.push(Fault::Refuse);
    let length = answer_length(case);
    faults.extend(
        [Fault::StopAt(length / 2), Fault::EndAt(length / 2)]
            .into_iter()
            .filter(|_| length > 1),
    );
    // Every position of short dialogues; of long ones as many as there is time for.
    // A login over SSH costs too much time for many.
    let positions = match case.transport.as_str() {
        "ssh" => positions().min(5),
        _ => positions(),
    };
    let step = length.div_ceil(positions).max(1);
    faults.extend((0..length).step_by(step).map(Fault::ResetAt));
    faults
}

/// Reset positions per dialogue: all of them with `PDUD_MATRIX=all`.
fn positions() -> usize {
    if std::env::var("PDUD_MATRIX").is_ok_and(|much| much == "all") {
        usize::MAX
    } else {
        12
    }
}

/// The settings of a host of SSH, whose keys are then known under the proxy's address.
fn behind_proxy(host: &Value, address: &Value, folder: &Path) -> Value {
    let known = host["known_hosts"].as_str().expect("a path");
    let known = std::fs::read_to_string(known).expect("the host's key");
    let (_, key) = known.split_once(' ').expect("an address and a key");
    let (ip, port) = address
        .as_str()
        .and_then(|ip| ip.split_once(':'))
        .expect("an address");
    let file = folder.join("known_hosts");
    std::fs::write(&file, format!("[{ip}]:{port} {key}")).expect("written");
    let mut settings = host.clone();
    settings["ip"] = address.clone();
    settings["known_hosts"] = serde_json::json!(file);
    settings
}

/// One cell: the fault, then a sound line.
fn cell(case: &Case, name: &str, fault: Fault, worst: &Mutex<Duration>) -> Result<(), String> {
    let at = format!("{} ({name}), {fault:?}", case.at);
    let proxy = proxy(case);
    let (spoilt, address) = device(case);
    proxy.set(fault, address);
    let mut overrides = proxy.overrides(case);
    let folder = tempfile::tempdir().expect("a folder");
    if case.transport == "ssh" {
        overrides = behind_proxy(&spoilt.overrides(), &overrides["ip"], folder.path());
    }
    let mut driver = transcript::driver(case, name, overrides);
    let began = Instant::now();
    let result = call(driver.as_mut(), case, DEADLINE);
    let took = began.elapsed();
    drop(spoilt.finish());
    let mut worst_so_far = worst.lock().expect("lock");
    *worst_so_far = worst_so_far.max(took);
    drop(worst_so_far);
    if took > DEADLINE + SLACK {
        return Err(format!("{at}: took {took:?}"));
    }
    // A dialect whose answer is one byte takes any byte for a state; the boards on USB are believed
    // by their state alone.
    let any_byte_is_a_state = matches!(fault, Fault::Garbage | Fault::Endless)
        && (name.starts_with("devantech_USB")
            || (name.starts_with("devantech_eth") && case.action == "state"));
    let no_evidence = !any_byte_is_a_state
        && matches!(
            fault,
            Fault::Silence | Fault::Garbage | Fault::Endless | Fault::Refuse | Fault::ResetAt(0)
        );
    match &result {
        Ok(outcome) if no_evidence && outcome != "unknown" => {
            return Err(format!("{at}: taken for {outcome}"));
        }
        Ok(outcome) if *outcome != case.outcome && outcome != "unknown" && !any_byte_is_a_state => {
            return Err(format!("{at}: {outcome} instead of {}", case.outcome));
        }
        Err(error) if fault == Fault::Silence => {
            // Some greet, some wait for a greeting, some take silence for a wrong password.
            let fits = matches!(error, DriverError::LoginRefused(_))
                || matches!(error, DriverError::Transport(transport) if matches!(transport.kind, TransportErrorKind::Timeout | TransportErrorKind::NoConnection));
            if !fits {
                return Err(format!("{at}: {error:?}"));
            }
        }
        Ok(_) | Err(_) => {}
    }
    // The line is sound again, and another device is behind it: the next call works.
    driver.rest(Deadline::after(PATIENCE));
    let (sound, address) = device(case);
    proxy.set(Fault::None, address);
    let again = call(driver.as_mut(), case, PATIENCE);
    driver.rest(Deadline::after(PATIENCE));
    drop(driver);
    let dialogue = sound.finish();
    proxy.end();
    match again {
        Ok(outcome) if outcome == case.outcome => {
            dialogue.map_err(|wrong| format!("{at}: afterwards {wrong}"))
        }
        other => Err(format!(
            "{at}: the next call gave {other:?}, after {result:?}; {dialogue:?}"
        )),
    }
}

fn count(folder: &str) -> usize {
    std::fs::read_dir(folder).map_or(0, Iterator::count)
}

#[test]
fn the_fault_matrix_holds() {
    let cases: Vec<Case> = transcript::cases()
        .into_iter()
        .filter(is_spoilt_here)
        .collect();
    let mut cells = Vec::new();
    let mut covered = BTreeSet::new();
    for (index, case) in cases.iter().enumerate() {
        for (number, name) in case.drivers.iter().enumerate() {
            covered.insert(name.as_str());
            cells.extend(
                faults(case, number == 0)
                    .into_iter()
                    .map(|fault| (index, name.as_str(), fault)),
            );
        }
    }
    let uncovered: Vec<&str> = registry::specs()
        .filter(|spec| SPOILT_HERE.contains(&spec.transport))
        .flat_map(|spec| spec.names)
        .copied()
        .filter(|name| !covered.contains(name))
        .collect();
    assert!(
        uncovered.is_empty(),
        "not in the matrix: {}",
        uncovered.join(", ")
    );

    let threads_before = count("/proc/self/task");
    let (next, worst, wrong) = (
        AtomicUsize::new(0),
        Mutex::new(Duration::ZERO),
        Mutex::new(Vec::new()),
    );
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((index, name, fault)) =
                    cells.get(next.fetch_add(1, Ordering::SeqCst))
                {
                    let case = &cases[*index];
                    if let Err(text) = cell(case, name, *fault, &worst) {
                        wrong.lock().expect("lock").push(text);
                    }
                }
            });
        }
    });
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for (_, _, fault) in &cells {
        let kind = format!("{fault:?}");
        *kinds
            .entry(kind.split('(').next().expect("a name").to_owned())
            .or_default() += 1;
    }
    let worst = worst.into_inner().expect("lock");
    eprintln!(
        "fault matrix: {} cells over {} driver names ({kinds:?}); worst time over the deadline {:?}",
        cells.len(),
        covered.len(),
        worst.saturating_sub(DEADLINE)
    );
    let wrong: Vec<String> = wrong.into_inner().expect("lock");
    let shown = wrong.iter().take(40).cloned().collect::<Vec<_>>();
    assert!(
        wrong.is_empty(),
        "{} of {} cells:\n{}",
        wrong.len(),
        cells.len(),
        shown.join("\n")
    );
    // Other tests of this binary run beside this one, so a thread or two more proves nothing; one
    // left behind per cell would be thousands.
    assert!(
        count("/proc/self/task") < threads_before + 200,
        "threads were left behind"
    );
}

// ---- commands ----------------------------------------------------------------------------------

/// What a program may do instead of its work: a name, shell words, and the kinds of error that fit
/// (none: the driver must find out in its own way, or the outcome says that nothing is known).
const PROGRAM_FAULTS: [(&str, &str, &[TransportErrorKind]); 5] = [
    ("silence", "exec sleep 60", &[TransportErrorKind::Timeout]),
    (
        "endless",
        "while :; do echo 0123456789; done",
        &[TransportErrorKind::Timeout, TransportErrorKind::Garbled],
    ),
    (
        "drip",
        "while :; do printf .; sleep 0.2; done",
        &[TransportErrorKind::Timeout],
    ),
    ("killed", "kill -9 $$", &[]),
    ("garbage", r"printf '\376\377{]nonsense\n'; exit 1", &[]),
];

fn program_cell(
    case: &Case,
    name: &str,
    (fault, words, kinds): (&str, &str, &[TransportErrorKind]),
) -> Result<(), String> {
    let at = format!("{} ({name}), {fault}", case.at);
    let programs = sim::command::start(case);
    programs.spoil(Some(words));
    let mut driver = transcript::driver(case, name, programs.overrides());
    let began = Instant::now();
    let result = call(driver.as_mut(), case, DEADLINE);
    let took = began.elapsed();
    if took > DEADLINE + SLACK {
        return Err(format!("{at}: took {took:?}"));
    }
    let ignores_status = case.settings.contains_key("ignore_exit_status");
    match &result {
        Ok(outcome) if outcome == "unknown" => {}
        Ok(_) if ignores_status && kinds.is_empty() => {}
        Ok(outcome) => return Err(format!("{at}: taken for {outcome}")),
        Err(DriverError::Transport(error)) if kinds.is_empty() || kinds.contains(&error.kind) => {}
        Err(_) if kinds.is_empty() => {}
        Err(error) => return Err(format!("{at}: {error:?}")),
    }
    programs.spoil(None);
    let again = call(driver.as_mut(), case, PATIENCE);
    let dialogue = Box::new(programs).finish();
    match again {
        Ok(outcome) if outcome == case.outcome => {
            dialogue.map_err(|wrong| format!("{at}: afterwards {wrong}"))
        }
        other => Err(format!(
            "{at}: the next call gave {other:?}, after {result:?}; {dialogue:?}"
        )),
    }
}

#[test]
fn the_fault_matrix_of_commands_holds() {
    let cases: Vec<Case> = transcript::cases()
        .into_iter()
        .filter(|case| case.transport == "command" && ends_well(case) && !case.lines.is_empty())
        .collect();
    let covered: BTreeSet<&str> = cases
        .iter()
        .flat_map(|case| case.drivers.iter().map(String::as_str))
        .collect();
    let all: BTreeSet<&str> = registry::specs()
        .filter(|spec| spec.transport == "command")
        .flat_map(|spec| spec.names)
        .copied()
        .collect();
    assert_eq!(covered, all, "drivers of commands in the matrix");
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for fault in PROGRAM_FAULTS {
            let (cases, wrong) = (&cases, &wrong);
            scope.spawn(move || {
                for case in cases {
                    for name in &case.drivers {
                        if let Err(text) = program_cell(case, name, fault) {
                            wrong.lock().expect("lock").push(text);
                        }
                    }
                }
            });
        }
    });
    eprintln!(
        "fault matrix of commands: {} cells over {} driver names",
        cases.len() * PROGRAM_FAULTS.len(),
        covered.len()
    );
    let wrong = wrong.into_inner().expect("lock");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
