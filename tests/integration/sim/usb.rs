//! USB devices emulated behind a real Linux USB stack: gadgets of configfs and FunctionFS on the
//! kernel's `dummy_hcd` controllers. Runs in the virtual machine of `make test-usb` alone.
//!
//! A gadget is a HID device with one interface, an interrupt endpoint in each direction, and
//! whatever an [`Emulation`] makes of control requests and output reports; or a USB serial port, whose
//! device's end is a tty that a simulator of `stream` reads.

use super::Simulator;
use crate::transcript::{Case, Line, bytes};
use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Are we in the virtual machine?
pub(crate) fn is_here() -> bool {
    std::env::var_os("PDUD_USB_VM").is_some()
}

/// What a device tells of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) vendor: u16,
    pub(crate) product: u16,
    pub(crate) serial: String,
    pub(crate) name: String,
}

impl Identity {
    pub(crate) fn new(vendor: u16, product: u16, serial: &str, name: &str) -> Self {
        Self {
            vendor,
            product,
            serial: serial.into(),
            name: name.into(),
        }
    }
}

/// A control request's setup packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Setup {
    pub(crate) kind: u8,
    pub(crate) request: u8,
    pub(crate) value: u16,
    pub(crate) index: u16,
    pub(crate) length: u16,
}

/// Where an emulation puts its input reports.
pub(crate) type Inputs = Sender<Vec<u8>>;

/// How a device takes a control request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Data(Vec<u8>),
    Stall,
    /// Nothing at all, as long as [`Emulation::is_silent`].
    Silence,
}

impl From<Option<Vec<u8>>> for Reply {
    fn from(data: Option<Vec<u8>>) -> Self {
        data.map_or(Self::Stall, Self::Data)
    }
}

/// What a device does. A read that is `None` is refused (stalled).
pub(crate) trait Emulation: Send {
    fn read(&mut self, setup: Setup) -> Option<Vec<u8>>;
    fn write(&mut self, setup: Setup, data: &[u8], inputs: &Inputs) -> bool;
    fn output(&mut self, report: &[u8], inputs: &Inputs);

    /// The reply to a read, for devices that can be silent.
    fn reply(&mut self, setup: Setup) -> Reply {
        self.read(setup).into()
    }

    /// Is it still silent?
    fn is_silent(&self) -> bool {
        false
    }

    /// Does it send reports without end and sense?
    fn floods(&self) -> bool {
        false
    }

    /// How a write is taken, before its data is: data, of no meaning, is to take it.
    fn accepts(&mut self, _: Setup) -> Reply {
        Reply::Data(Vec::new())
    }
}

/// A plugged-in device; unplugged when dropped.
pub(crate) struct Gadget {
    folder: PathBuf,
    /// Removed with the gadget: the kernel has four of its kind.
    function: Option<PathBuf>,
    controller: usize,
    stop: Arc<AtomicBool>,
}

/// As many controllers as the virtual machine's init asks for; the last is left for hub tests.
const CONTROLLERS: usize = 11;
/// The controller whose root hub is switched.
const HUB_CONTROLLER: usize = 11;

static TAKEN: Mutex<[bool; CONTROLLERS]> = Mutex::new([false; CONTROLLERS]);
static NUMBER: AtomicUsize = AtomicUsize::new(0);

fn put(path: PathBuf, content: &str) {
    fs::write(&path, content).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// Waits until `is_so`, at most ten seconds.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(
            begin.elapsed() < Duration::from_secs(10),
            "waited for: {what}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

impl Gadget {
    /// Makes a device and plugs it in.
    pub(crate) fn plug(identity: &Identity, emulation: impl Emulation + 'static) -> Self {
        Self::plug_into(free_controller(), identity, emulation)
    }

    /// Makes a hub, which the kernel's hub driver takes, and plugs it in.
    pub(crate) fn plug_hub(identity: &Identity, emulation: impl Emulation + 'static) -> Self {
        Self::make(free_controller(), identity, emulation, HUB)
    }

    /// Makes a serial adapter with a protocol of its maker's and plugs it in.
    pub(crate) fn plug_adapter(identity: &Identity, emulation: impl Emulation + 'static) -> Self {
        Self::make(free_controller(), identity, emulation, ADAPTER)
    }

    /// Makes a USB serial port and plugs it in: what is sent to the host's tty arrives at the tty
    /// whose path `connect` gets before that.
    pub(crate) fn plug_serial(identity: &Identity, connect: impl FnOnce(&str)) -> Self {
        let frame = Frame::new(identity, "acm");
        let number = fs::read_to_string(frame.function.join("port_num")).expect("a serial port");
        connect(&format!("/dev/ttyGS{}", number.trim()));
        frame.plug_into(free_controller(), Arc::default())
    }

    /// The same device made of the kernel's own HID function, for reports that travel by interrupt or
    /// as output reports. It ends each whole packet of input with an empty one.
    pub(crate) fn plug_hidg(
        identity: &Identity,
        emulation: impl Emulation + 'static,
        (report, has_output): (u8, bool),
    ) -> Self {
        let frame = Frame::new(identity, "hid");
        put(frame.function.join("protocol"), "0");
        put(frame.function.join("subclass"), "0");
        put(frame.function.join("report_length"), &report.to_string());
        if !has_output {
            put(frame.function.join("no_out_endpoint"), "1");
        }
        let mut reports = REPORTS.to_vec();
        for at in REPORT_LENGTHS {
            reports[at] = report;
        }
        fs::write(frame.function.join("report_desc"), reports).expect("the reports");
        let number = fs::read_to_string(frame.function.join("dev")).expect("a device number");
        let (_, minor) = number.trim().split_once(':').expect("major and minor");
        let device = PathBuf::from(format!("/dev/hidg{minor}"));
        let function = frame.function.clone();
        let stop = Arc::new(AtomicBool::new(false));
        let mut gadget = frame.plug_into(free_controller(), Arc::clone(&stop));
        gadget.function = Some(function);
        let open = OpenOptions::new().read(true).write(true).open(&device);
        let device = open.unwrap_or_else(|error| panic!("{}: {error}", device.display()));
        spawn(move || serve_hidg(device, emulation, &stop));
        gadget
    }

    /// The host's tty of a USB serial port.
    pub(crate) fn tty(&self) -> PathBuf {
        let interface = self
            .sysfs()
            .expect("plugged in")
            .join(format!("{}:1.0", self.path()));
        let mut name = None;
        until("the host's tty", || {
            // Adapters have it in a folder of its own name.
            let folders = [interface.join("tty"), interface.clone()];
            let entries = folders
                .iter()
                .filter_map(|folder| fs::read_dir(folder).ok())
                .flatten();
            name = entries
                .filter_map(|entry| Some(entry.ok()?.file_name()))
                .find(|name| {
                    let name = name.to_string_lossy();
                    name.len() > 3 && name.starts_with("tty")
                });
            name.is_some()
        });
        Path::new("/dev").join(name.expect("a tty"))
    }

    fn plug_into(
        controller: usize,
        identity: &Identity,
        emulation: impl Emulation + 'static,
    ) -> Self {
        Self::make(controller, identity, emulation, HID)
    }

    fn make(
        controller: usize,
        identity: &Identity,
        emulation: impl Emulation + 'static,
        interface: &[&[u8]],
    ) -> Self {
        let frame = Frame::new(identity, "ffs");
        let is_hub = interface == HUB;
        if is_hub {
            put(frame.folder.join("bDeviceClass"), "0x09");
            put(frame.folder.join("bDeviceProtocol"), "0x01");
        }
        let number = frame.number;
        let mount = std::env::temp_dir().join(format!("ffs{number}"));
        fs::create_dir(&mount).expect("a mount point");
        let mounted = Command::new("mount")
            .args(["-t", "functionfs", &format!("f{number}")])
            .arg(&mount)
            .status();
        assert!(
            mounted.is_ok_and(|status| status.success()),
            "mount functionfs"
        );
        let mut control = open(&mount, "ep0");
        control
            .write_all(&descriptors(interface))
            .expect("descriptors");
        control.write_all(&no_strings()).expect("strings");

        let stop = Arc::new(AtomicBool::new(false));
        let emulation: Arc<Mutex<Box<dyn Emulation>>> = Arc::new(Mutex::new(Box::new(emulation)));
        let (inputs, reports) = channel();
        // These threads block in the kernel until the process ends: there is no waking a read of
        // an endpoint that is no longer bound.
        let (shared, sender) = (Arc::clone(&emulation), inputs.clone());
        spawn(move || serve_control(control, &shared, &sender));
        if !is_hub {
            let output = open(&mount, "ep2");
            let (shared, stopped) = (Arc::clone(&emulation), Arc::clone(&stop));
            spawn(move || serve_output(output, &shared, &inputs, &stopped));
            let input = open(&mount, "ep1");
            let stopped = Arc::clone(&stop);
            spawn(move || serve_input(input, &emulation, &reports, &stopped));
        }

        frame.plug_into(controller, stop)
    }

    /// Plugs it in (again).
    pub(crate) fn replug(&self) {
        put(
            self.folder.join("UDC"),
            &format!("dummy_udc.{}", self.controller),
        );
        until("the device to appear", || {
            self.sysfs().is_some_and(|device| {
                let name = device
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned();
                device.join(format!("{name}:1.0/bInterfaceNumber")).exists()
            })
        });
        // The kernel's HID driver asks its questions first, where it takes the device.
        std::thread::sleep(Duration::from_millis(100));
    }

    /// Pulls it out.
    pub(crate) fn unplug(&self) {
        let _ = fs::write(self.folder.join("UDC"), "\n");
        until("the device to disappear", || self.sysfs().is_none());
    }

    /// Where it is plugged in: `3-1`.
    pub(crate) fn path(&self) -> String {
        let device = self.sysfs().expect("plugged in");
        device
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    }

    /// Its folder in sysfs.
    pub(crate) fn sysfs(&self) -> Option<PathBuf> {
        root_hubs(self.controller).into_iter().find_map(|(_, hub)| {
            let bus = fs::read_to_string(hub.join("busnum")).ok()?;
            let device = hub.join(format!("{}-1", bus.trim()));
            device.exists().then_some(device)
        })
    }

    /// A handle that can pull it out from another thread.
    pub(crate) fn cord(&self) -> Cord {
        Cord(self.folder.join("UDC"))
    }
}

/// Pulls a device out, without waiting.
pub(crate) struct Cord(PathBuf);

impl Cord {
    pub(crate) fn pull(&self) {
        let _ = fs::write(&self.0, "\n");
    }
}

impl Drop for Gadget {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Without the checks of `unplug`: the test may have failed already.
        self.cord().pull();
        for _ in 0..200 {
            if self.sysfs().is_none() {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        if let Some(function) = &self.function {
            let _ = fs::remove_file(self.folder.join("configs/c.1/f"));
            let _ = fs::remove_dir(function);
        }
        if let Some(taken) = TAKEN.lock().expect("lock").get_mut(self.controller) {
            *taken = false;
        }
    }
}

/// The root hubs of a controller, each with its speed.
fn root_hubs(controller: usize) -> Vec<(u32, PathBuf)> {
    let folder = format!("/sys/devices/platform/dummy_hcd.{controller}");
    fs::read_dir(folder)
        .expect("the controller")
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| path.join("busnum").exists())
        .map(|path| {
            let speed = fs::read_to_string(path.join("speed")).unwrap_or_default();
            (speed.trim().parse().unwrap_or(0), path)
        })
        .collect()
}

const THREAD: &str = "gadget";

fn spawn(serve: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().name(THREAD.into());
    thread.spawn(serve).expect("a thread");
}

/// This process's threads but those of the emulations, and its handles on USB devices.
pub(crate) fn left_behind() -> (usize, usize) {
    let entries = |folder: &str| {
        let entries = fs::read_dir(folder).expect("procfs");
        entries.filter_map(|entry| Some(entry.ok()?.path()))
    };
    let is_ours = |thread: &PathBuf| {
        let name = fs::read_to_string(thread.join("comm"));
        name.is_ok_and(|name| name.trim() != THREAD)
    };
    let is_usb = |handle: &PathBuf| {
        let device = fs::read_link(handle);
        device.is_ok_and(|device| device.starts_with("/dev/bus/usb"))
    };
    (
        entries("/proc/self/task").filter(is_ours).count(),
        entries("/proc/self/fd").filter(is_usb).count(),
    )
}

/// Plugs a device into the hub that hub tests switch.
pub(crate) fn plug_into_hub(identity: &Identity, emulation: impl Emulation + 'static) -> Gadget {
    Gadget::plug_into(HUB_CONTROLLER, identity, emulation)
}

/// Bus number of the USB 2 root hub that hub tests may switch.
pub(crate) fn hub_bus() -> String {
    hub_bus_of(480)
}

/// Bus number of that root hub's half of a speed.
pub(crate) fn hub_bus_of(speed: u32) -> String {
    let hubs = root_hubs(HUB_CONTROLLER);
    let (_, hub) = hubs
        .iter()
        .find(|(found, _)| *found == speed)
        .unwrap_or_else(|| panic!("no hub of speed {speed}: {hubs:?}"));
    fs::read_to_string(hub.join("busnum"))
        .expect("a bus number")
        .trim()
        .to_owned()
}

fn free_controller() -> usize {
    let mut taken = TAKEN.lock().expect("lock");
    let free = taken
        .iter()
        .position(|taken| !taken)
        .expect("a free controller");
    taken[free] = true;
    free
}

/// A gadget with one function that is not plugged in yet.
struct Frame {
    number: usize,
    folder: PathBuf,
    function: PathBuf,
}

impl Frame {
    fn new(identity: &Identity, kind: &str) -> Self {
        let number = NUMBER.fetch_add(1, Ordering::SeqCst);
        let folder = PathBuf::from(format!("/sys/kernel/config/usb_gadget/g{number}"));
        let function = folder.join(format!("functions/{kind}.f{number}"));
        let strings = folder.join("strings/0x409");
        for path in [&folder, &function, &folder.join("configs/c.1"), &strings] {
            fs::create_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
        put(
            folder.join("idVendor"),
            &format!("0x{:04x}", identity.vendor),
        );
        put(
            folder.join("idProduct"),
            &format!("0x{:04x}", identity.product),
        );
        put(folder.join("bcdDevice"), "0x0010");
        put(folder.join("max_speed"), "high-speed");
        put(strings.join("serialnumber"), &identity.serial);
        put(strings.join("product"), &identity.name);
        put(strings.join("manufacturer"), "emulated");
        Self {
            number,
            folder,
            function,
        }
    }

    /// `stop` ends the threads behind the function.
    fn plug_into(self, controller: usize, stop: Arc<AtomicBool>) -> Gadget {
        std::os::unix::fs::symlink(&self.function, self.folder.join("configs/c.1/f"))
            .expect("the function");
        let gadget = Gadget {
            folder: self.folder,
            function: None,
            controller,
            stop,
        };
        gadget.replug();
        gadget
    }
}

fn open(mount: &Path, name: &str) -> File {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(mount.join(name))
        .unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// A vendor-defined HID report descriptor without report ids: 64 bytes in and out, 8 of feature.
const REPORTS: &[u8] = &[
    0x06, 0x00, 0xff, 0x09, 0x01, 0xa1, 0x01, 0x15, 0x00, 0x26, 0xff, 0x00, 0x75, 0x08, 0x95, 64,
    0x09, 0x01, 0x81, 0x02, 0x95, 64, 0x09, 0x02, 0x91, 0x02, 0x95, 8, 0x09, 0x03, 0xb1, 0x02,
    0xc0,
];

/// Where [`REPORTS`] tells the lengths of input and output.
const REPORT_LENGTHS: [usize; 2] = [15, 21];

/// A HID interface, ep1 in, ep2 out.
const HID: &[&[u8]] = &[
    &[9, 4, 0, 0, 2, 3, 0, 0, 0],
    &[9, 0x21, 0x11, 0x01, 0, 1, 0x22, REPORTS.len() as u8, 0],
    &[7, 5, 0x81, 3, 64, 0, 1],
    &[7, 5, 0x02, 3, 64, 0, 1],
];

/// A hub's interface, whose ep1 tells of changes.
const HUB: &[&[u8]] = &[&[9, 4, 0, 0, 1, 9, 0, 0, 0], &[7, 5, 0x81, 3, 1, 0, 12]];

/// An interface of a maker's own protocol: bytes in and out in bulk.
const ADAPTER: &[&[u8]] = &[
    &[9, 4, 0, 0, 2, 0xff, 0, 0, 0],
    &[7, 5, 0x81, 2, 64, 0, 0],
    &[7, 5, 0x02, 2, 64, 0, 0],
];

/// FunctionFS's descriptors: one interface, for both speeds the same but for the packets in bulk;
/// control requests to any recipient come to us.
fn descriptors(interface: &[&[u8]]) -> Vec<u8> {
    const MAGIC: u32 = 3;
    const FULL_SPEED: u32 = 1;
    const HIGH_SPEED: u32 = 2;
    const ALL_RECIPIENTS: u32 = 64;
    let full = interface.concat();
    let in_bulk = |descriptor: &[u8]| {
        let mut descriptor = descriptor.to_vec();
        if let [_, 5, _, 2, low, high, _] = &mut descriptor[..] {
            [*low, *high] = 512u16.to_le_bytes();
        }
        descriptor
    };
    let high: Vec<u8> = interface.iter().copied().flat_map(in_bulk).collect();
    let count = interface.len() as u32;
    let body = [&count.to_le_bytes()[..], &count.to_le_bytes(), &full, &high].concat();
    let length = 12 + body.len() as u32;
    [
        &MAGIC.to_le_bytes()[..],
        &length.to_le_bytes(),
        &(FULL_SPEED | HIGH_SPEED | ALL_RECIPIENTS).to_le_bytes(),
        &body,
    ]
    .concat()
}

fn no_strings() -> Vec<u8> {
    [2u32, 16, 0, 0]
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect()
}

/// Answers control requests. Waits on: the next event of ep0.
fn serve_control(mut control: File, emulation: &Mutex<Box<dyn Emulation>>, inputs: &Inputs) {
    const SETUP: u8 = 4;
    const EIDRM: i32 = 43;
    const EL2HLT: i32 = 51;
    let mut event = [0; 12];
    loop {
        match control.read(&mut event) {
            Ok(12) if event[8] == SETUP => {}
            Ok(_) => continue,
            // The host took a request back before it was answered, or one was left alone until now
            // and is refused by this very read.
            Err(error) if matches!(error.raw_os_error(), Some(EIDRM | EL2HLT)) => continue,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => {
                eprintln!("ep0: {error}");
                return;
            }
        }
        let word = |at: usize| u16::from_le_bytes([event[at], event[at + 1]]);
        let setup = Setup {
            kind: event[0],
            request: event[1],
            value: word(2),
            index: word(4),
            length: word(6),
        };
        let is_read = setup.kind & 0x80 != 0;
        if is_read {
            let answer = match (setup.kind, setup.request, setup.value >> 8) {
                (0x81, 6, 0x22) => Reply::Data(REPORTS.to_vec()),
                _ => emulation.lock().expect("lock").reply(setup),
            };
            // An answer in the wrong direction is FunctionFS's way to stall.
            let _ = match answer {
                Reply::Data(mut data) => {
                    data.truncate(setup.length.into());
                    control.write(&data)
                }
                Reply::Stall => control.read(&mut []),
                Reply::Silence => {
                    wait_out(emulation);
                    control.read(&mut [])
                }
            };
        } else {
            let reply = emulation.lock().expect("lock").accepts(setup);
            match reply {
                Reply::Data(_) => {}
                Reply::Stall => {
                    let _ = control.write(&[]);
                    continue;
                }
                Reply::Silence => {
                    wait_out(emulation);
                    let _ = control.write(&[]);
                    continue;
                }
            }
            // SET_IDLE is the kernel's own, and a write of nothing cannot be stalled after it.
            let is_kernels = setup.kind == 0x21 && setup.request == 0x0a;
            let mut data = vec![0; setup.length.into()];
            let Ok(length) = control.read(&mut data) else {
                continue;
            };
            if !is_kernels {
                emulation
                    .lock()
                    .expect("lock")
                    .write(setup, &data[..length], inputs);
            }
        }
    }
}

/// Leaves a request alone while the device is silent: whatever is read or written at ep0 now would be
/// taken for its answer.
fn wait_out(emulation: &Mutex<Box<dyn Emulation>>) {
    while emulation.lock().expect("lock").is_silent() {
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn serve_output(
    mut output: File,
    emulation: &Mutex<Box<dyn Emulation>>,
    inputs: &Inputs,
    stop: &AtomicBool,
) {
    let mut report = [0; 64];
    while !stop.load(Ordering::SeqCst) {
        // An error means that the device is not plugged in at the moment.
        match output.read(&mut report) {
            Ok(length) => emulation
                .lock()
                .expect("lock")
                .output(&report[..length], inputs),
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

fn serve_input(
    mut input: File,
    emulation: &Mutex<Box<dyn Emulation>>,
    reports: &Receiver<Vec<u8>>,
    stop: &AtomicBool,
) {
    for report in reports {
        let _ = input.write(&report);
        while !stop.load(Ordering::SeqCst) && emulation.lock().expect("lock").floods() {
            let _ = input.write(&garbage(64));
        }
        if stop.load(Ordering::SeqCst) {
            return;
        }
    }
}

/// Plays a device of the kernel's HID function. Waits on: the next report of the host.
fn serve_hidg(mut device: File, mut emulation: impl Emulation, stop: &AtomicBool) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let (inputs, reports) = channel();
    let look = Timespec {
        tv_sec: 0,
        tv_nsec: 20_000_000,
    };
    let mut report = [0; 64];
    while !stop.load(Ordering::SeqCst) {
        let mut ready = [PollFd::new(&device, PollFlags::IN)];
        if !poll(&mut ready, Some(&look)).is_ok_and(|ready| ready > 0) {
            continue;
        }
        let Ok(length) = device.read(&mut report) else {
            continue;
        };
        let data = &report[..length];
        // The kernel does not say whether a report came as a feature.
        let setup = Setup {
            kind: 0x21,
            request: 9,
            value: 0x0300,
            index: 0,
            length: data.len() as u16,
        };
        if !emulation.write(setup, data, &inputs) {
            emulation.output(data, &inputs);
        }
        for answer in reports.try_iter() {
            device.write_all(&answer).expect("a report");
        }
    }
}

/// What is wrong with a device, from one of its exchanges on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Takes what comes, and answers nothing.
    Mute,
    /// Refuses its control requests.
    Stall,
    /// Is pulled out.
    Unplug,
    /// Answers bytes without sense.
    Garbage,
    /// Answers half of each report.
    Half,
    /// Answers nothing of each report: an empty one.
    Empty,
    /// Sends reports without end and sense.
    Flood,
}

/// An emulation that plays a transcript.
struct Player(Arc<Mutex<Play>>);

#[derive(Default)]
struct Play {
    lines: VecDeque<Line>,
    wrong: Option<String>,
    /// What is wrong, from which exchange on, counted from 0.
    fault: Option<(Fault, usize)>,
    /// What the driver has sent.
    heard: Vec<String>,
    /// Pulls the device out.
    cord: Option<Cord>,
}

impl Play {
    /// What is wrong with the exchange that is under way.
    fn fault(&self) -> Option<Fault> {
        let (fault, from) = self.fault?;
        (self.heard.len() > from).then_some(fault)
    }

    /// The answer as the fault leaves it; `None` for none at all.
    fn spoil(&self, answer: Vec<u8>) -> Option<Vec<u8>> {
        match self.fault() {
            Some(Fault::Mute | Fault::Unplug) => None,
            Some(Fault::Half) => Some(answer[..answer.len() / 2].to_vec()),
            Some(Fault::Empty) => Some(Vec::new()),
            Some(Fault::Garbage | Fault::Flood) => Some(garbage(answer.len())),
            Some(Fault::Stall) | None => Some(answer),
        }
    }
}

/// So many bytes without sense.
pub(super) fn garbage(length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| 0x6e ^ (at as u8).wrapping_mul(0x5d))
        .collect()
}

impl Player {
    /// The driver did `what`; the answer, if that was next in the transcript.
    fn next(&mut self, what: &str, inputs: Option<&Inputs>) -> Reply {
        let mut play = self.0.lock().expect("lock");
        play.heard.push(what.to_owned());
        match play.lines.pop_front() {
            Some(Line::Sent(expected)) if normal(&expected) == what => {}
            other => {
                play.wrong
                    .get_or_insert(format!("expected {other:?}, got {what}"));
                return Reply::Stall;
            }
        }
        let fault = play.fault();
        if fault == Some(Fault::Unplug)
            && let Some(cord) = play.cord.take()
        {
            cord.pull();
        }
        let mut reply = Reply::Data(Vec::new());
        while let Some(Line::Answer(text)) = play.lines.front().cloned() {
            play.lines.pop_front();
            match (text.strip_prefix("in "), inputs) {
                (Some(report), Some(inputs)) => {
                    if let Some(report) = play.spoil(bytes(report)) {
                        inputs.send(report).expect("a device");
                    }
                }
                _ => reply = play.spoil(bytes(&text)).map_or(Reply::Silence, Reply::Data),
            }
        }
        if fault == Some(Fault::Stall) {
            return Reply::Stall;
        }
        reply
    }
}

/// A `>` line in the form that [`Player`] compares: the data as hex.
pub(crate) fn normal(line: &str) -> String {
    let mut words = line.split_whitespace();
    let first = words.next().expect("a word");
    if first == "out" {
        return format!("out {}", hex(&bytes(&line[3..])));
    }
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn hex(data: &[u8]) -> String {
    data.iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<Vec<_>>()
        .join(" ")
}

fn head(setup: Setup) -> String {
    let Setup {
        kind,
        request,
        value,
        index,
        ..
    } = setup;
    format!("{kind:02x} {request:02x} {value:04x} {index:04x}")
}

impl Emulation for Player {
    fn floods(&self) -> bool {
        self.0.lock().expect("lock").fault() == Some(Fault::Flood)
    }

    fn is_silent(&self) -> bool {
        let play = self.0.lock().expect("lock");
        matches!(play.fault, Some((Fault::Mute | Fault::Unplug, _)))
    }

    fn read(&mut self, _: Setup) -> Option<Vec<u8>> {
        None
    }

    fn reply(&mut self, setup: Setup) -> Reply {
        self.next(&format!("{} {:04x}", head(setup), setup.length), None)
    }

    fn accepts(&mut self, setup: Setup) -> Reply {
        // The exchange counts when its data is there; whether it will be taken is told before.
        let play = self.0.lock().expect("lock");
        match play.fault {
            Some((Fault::Stall, from)) if play.heard.len() >= from => {
                drop(play);
                self.0
                    .lock()
                    .expect("lock")
                    .heard
                    .push(format!("{} refused", head(setup)));
                Reply::Stall
            }
            _ => Reply::Data(Vec::new()),
        }
    }

    fn write(&mut self, setup: Setup, data: &[u8], inputs: &Inputs) -> bool {
        let what = format!("{} {}", head(setup), hex(data));
        self.next(what.trim_end(), Some(inputs)) != Reply::Stall
    }

    fn output(&mut self, report: &[u8], inputs: &Inputs) {
        self.next(&format!("out {}", hex(report)), Some(inputs));
    }
}

/// The device that a case's drivers look for.
fn identity(case: &Case) -> Identity {
    let plain = case.settings.contains_key("plain");
    match case.drivers[0].as_str() {
        "ClewareUsbSwitch4" => Identity::new(0x0d50, 0x0008, "88b9f", "USB-Switch4"),
        "ClewareUsbSwitch8" if plain => Identity::new(0x0d50, 0x0030, "88b9f", "Contact00"),
        "ClewareUsbSwitch8" => Identity::new(0x0d50, 0x0030, "63813", "Contact00"),
        "vusbhid" => Identity::new(0x16c0, 0x05df, "", "USBRelay8"),
        "EG-PMS" | "EG-PM2" => Identity::new(0x04b4, 0xfd11, "", "EnerGenie"),
        other => panic!("{}: no emulated device for {other}", case.at),
    }
}

/// What one of the YKUSH drivers looks for.
pub(crate) fn ykush(name: &str) -> Option<Identity> {
    let product = match name {
        "YKUSH" => 0xf2f7,
        "YKUSHXS" => 0xf0cd,
        "YKUSH3" => 0xf11b,
        _ => return None,
    };
    Some(Identity::new(0x04d8, product, "YK12345", name))
}

/// The emulated devices of a case, one for each product that its drivers stand for. They stay
/// plugged in for the next case if that wants the same.
pub(super) struct UsbPdu {
    play: Arc<Mutex<Play>>,
    settings: serde_json::Value,
}

struct Plugged {
    identities: Vec<Identity>,
    gadgets: Vec<Gadget>,
    play: Arc<Mutex<Play>>,
}

static PLUGGED: Mutex<Option<Plugged>> = Mutex::new(None);

/// Makes the device of the transcript that was started go wrong, from its exchange `from` on.
pub(crate) fn spoil(fault: Fault, from: usize) {
    let plugged = PLUGGED.lock().expect("lock");
    let plugged = plugged.as_ref().expect("plugged in");
    let mut play = plugged.play.lock().expect("lock");
    play.fault = Some((fault, from));
    // Of all names of a case, the first is tried.
    play.cord = plugged.gadgets.first().map(Gadget::cord);
}

/// What the driver has sent since the transcript was started.
pub(crate) fn heard() -> Vec<String> {
    let plugged = PLUGGED.lock().expect("lock");
    let plugged = plugged.as_ref().expect("plugged in");
    let play = plugged.play.lock().expect("lock");
    play.heard.clone()
}

/// Pulls the transcript's devices out; nothing else is wrong with them then.
pub(crate) fn unplug() {
    let plugged = PLUGGED.lock().expect("lock");
    let plugged = plugged.as_ref().expect("plugged in");
    plugged.play.lock().expect("lock").fault = None;
    plugged.gadgets.iter().for_each(Gadget::unplug);
}

/// Plugs them in again.
pub(crate) fn replug() {
    let plugged = PLUGGED.lock().expect("lock");
    plugged
        .as_ref()
        .expect("plugged in")
        .gadgets
        .iter()
        .for_each(Gadget::replug);
}

/// Unplugs the devices of the last transcript.
pub(crate) fn unplug_all() {
    *PLUGGED.lock().expect("lock") = None;
}

pub(super) fn start(case: &Case) -> Box<dyn Simulator> {
    if case.drivers.iter().any(|driver| driver == "usbhub") {
        return Box::new(HubPdu::start(case));
    }
    let mut identities: Vec<Identity> =
        case.drivers.iter().filter_map(|name| ykush(name)).collect();
    if identities.is_empty() {
        identities.push(identity(case));
    }
    let mut plugged = PLUGGED.lock().expect("lock");
    if plugged
        .as_ref()
        .is_none_or(|plugged| plugged.identities != identities)
    {
        *plugged = None;
        let play = Arc::new(Mutex::new(Play::default()));
        let plug = |identity| Gadget::plug(identity, Player(Arc::clone(&play)));
        *plugged = Some(Plugged {
            gadgets: identities.iter().map(plug).collect(),
            identities,
            play,
        });
    }
    let plugged = plugged.as_ref().expect("plugged in");
    *plugged.play.lock().expect("lock") = Play {
        lines: case.lines.iter().cloned().collect(),
        ..Play::default()
    };
    let text = serde_json::to_string(&case.settings).expect("settings");
    let text = text.replace("{path}", &plugged.gadgets[0].path());
    Box::new(UsbPdu {
        play: Arc::clone(&plugged.play),
        settings: serde_json::from_str(&text).expect("settings"),
    })
}

impl Simulator for UsbPdu {
    fn overrides(&self) -> serde_json::Value {
        self.settings.clone()
    }

    /// The host may know that its last report has been taken before the device has looked at it.
    fn finish(self: Box<Self>) -> Result<(), String> {
        let begin = Instant::now();
        loop {
            let play = self.play.lock().expect("lock");
            match (&play.wrong, play.lines.front()) {
                (Some(wrong), _) => return Err(wrong.clone()),
                (None, None) => return Ok(()),
                (None, Some(line)) if begin.elapsed() > FINISHING => {
                    return Err(format!("the driver never sent {line:?}"));
                }
                (None, Some(_)) => {}
            }
            drop(play);
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// How long the last of a dialogue may take to be seen.
const FINISHING: Duration = Duration::from_secs(2);

/// A root hub of the kernel, watched through `usbmon`.
struct HubPdu {
    bus: String,
    requests: Arc<Mutex<Vec<String>>>,
    expected: Vec<String>,
}

impl HubPdu {
    fn start(case: &Case) -> Self {
        let bus = hub_bus();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let file = format!("/sys/kernel/debug/usb/usbmon/{bus}u");
        let mut monitor = File::open(file).expect("usbmon");
        let shared = Arc::clone(&requests);
        // Ends with the process: a read of usbmon waits for the next event.
        std::thread::spawn(move || {
            let mut text = String::new();
            let mut buffer = [0; 4096];
            while let Ok(length) = monitor.read(&mut buffer) {
                text.push_str(&String::from_utf8_lossy(&buffer[..length]));
                while let Some((line, rest)) = text.split_once('\n') {
                    shared.lock().expect("lock").extend(request_of(line));
                    text = rest.to_owned();
                }
            }
        });
        let sent = |line: &Line| match line {
            Line::Sent(text) => Some(normal(text)),
            Line::Answer(_) => None,
        };
        Self {
            bus,
            requests,
            expected: case.lines.iter().filter_map(sent).collect(),
        }
    }
}

/// The setup packet in a line of usbmon's text: `<tag> <time> S Co:1:001:0 s 23 01 0008 0001 0000 0`.
fn request_of(line: &str) -> Option<String> {
    let mut words = line.split_whitespace().skip(2);
    if words.next()? != "S" || words.nth(1)? != "s" {
        return None;
    }
    let words: Vec<&str> = words.take(5).collect();
    let [kind, request, value, index, length] = words[..] else {
        return None;
    };
    let tail = if length == "0000" { "" } else { length };
    Some(
        format!("{kind} {request} {value} {index} {tail}")
            .trim_end()
            .to_owned(),
    )
}

impl Simulator for HubPdu {
    fn overrides(&self) -> serde_json::Value {
        serde_json::json!({ "location": self.bus })
    }

    /// The kernel asks its own questions in between: what is expected must be there, in order.
    fn finish(self: Box<Self>) -> Result<(), String> {
        let begin = Instant::now();
        loop {
            let requests = self.requests.lock().expect("lock").clone();
            let mut rest = requests.iter();
            let missing = self
                .expected
                .iter()
                .find(|wanted| !rest.any(|sent| sent == *wanted));
            match missing {
                None => return Ok(()),
                Some(missing) if begin.elapsed() > FINISHING => {
                    return Err(format!("the driver never sent {missing}, but {requests:?}"));
                }
                Some(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}
