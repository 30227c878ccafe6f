//! What the emulated USB devices do, as far as the drivers and the second opinions ask it.

use super::usb::{Cord, Emulation, Fault, Identity, Inputs, Reply, Setup, garbage};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// The relays of an emulated device, for the test to look at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Relays(Arc<Mutex<[bool; 8]>>);

impl Relays {
    pub(crate) fn get(&self, outlet: usize) -> bool {
        self.0.lock().expect("lock")[outlet - 1]
    }

    fn set(&self, outlet: usize, on: bool) {
        if let Some(relay) = self.0.lock().expect("lock").get_mut(outlet.wrapping_sub(1)) {
            *relay = on;
        }
    }
}

/// Yepkit's hub.
#[derive(Default)]
pub(crate) struct Ykush {
    pub(crate) relays: Relays,
    /// How many commands are not answered at all.
    pub(crate) silent: u32,
    /// Pulled at the first command.
    pub(crate) cord: Arc<Mutex<Option<Cord>>>,
}

impl Ykush {
    pub(crate) fn identity(serial: &str) -> Identity {
        Identity::new(0x04d8, 0xf2f7, serial, "YKUSH")
    }
}

impl Emulation for Ykush {
    fn read(&mut self, _: Setup) -> Option<Vec<u8>> {
        None
    }

    fn write(&mut self, _: Setup, _: &[u8], _: &Inputs) -> bool {
        false
    }

    fn output(&mut self, report: &[u8], inputs: &Inputs) {
        if let Some(cord) = self.cord.lock().expect("lock").take() {
            return cord.pull();
        }
        let (what, port) = (report[0] >> 4, report[0] & 0x0f);
        match what {
            0 | 1 => self.relays.set(port.into(), what == 1),
            _ => {}
        }
        if self.silent > 0 {
            self.silent -= 1;
            return;
        }
        let mut answer = vec![0; 64];
        answer[0] = 1;
        answer[1] = if self.relays.get(port.into()) {
            0x10 | port
        } else {
            port
        };
        inputs.send(answer).expect("a device");
    }
}

/// A serial adapter (CP210x) with nobody behind it; it hangs at the first bytes that it is to send.
#[derive(Clone, Default)]
pub(crate) struct Adapter(Arc<AtomicBool>);

impl Adapter {
    pub(crate) fn identity() -> Identity {
        Identity::new(0x10c4, 0xea60, "CP1", "CP2102")
    }

    /// It is as new.
    pub(crate) fn mend(&self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

impl Emulation for Adapter {
    fn read(&mut self, setup: Setup) -> Option<Vec<u8>> {
        Some(vec![0; setup.length.into()])
    }

    fn write(&mut self, _: Setup, _: &[u8], _: &Inputs) -> bool {
        true
    }

    fn output(&mut self, _: &[u8], _: &Inputs) {
        self.0.store(true, Ordering::SeqCst);
    }

    fn reply(&mut self, setup: Setup) -> Reply {
        match self.is_silent() {
            true => Reply::Silence,
            false => self.read(setup).into(),
        }
    }

    fn is_silent(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    fn accepts(&mut self, setup: Setup) -> Reply {
        self.reply(setup)
    }
}

/// Cleware's USB-Switch 4.
#[derive(Default)]
pub(crate) struct Cleware4 {
    pub(crate) relays: Relays,
    /// While it hangs, it takes nothing over the control endpoint.
    pub(crate) hangs: Arc<Hanging>,
}

/// Whether a device hangs, and what it was told meanwhile.
#[derive(Default)]
pub(crate) struct Hanging {
    pub(crate) is_on: AtomicBool,
    pub(crate) told: AtomicUsize,
}

impl Cleware4 {
    pub(crate) fn identity() -> Identity {
        Identity::new(0x0d50, 0x0008, "88b9f", "USB-Switch4")
    }
}

impl Emulation for Cleware4 {
    fn accepts(&mut self, _: Setup) -> Reply {
        if !self.is_silent() {
            return Reply::Data(Vec::new());
        }
        self.hangs.told.fetch_add(1, Ordering::SeqCst);
        Reply::Silence
    }

    fn is_silent(&self) -> bool {
        self.hangs.is_on.load(Ordering::SeqCst)
    }

    fn read(&mut self, _: Setup) -> Option<Vec<u8>> {
        None
    }

    fn write(&mut self, setup: Setup, data: &[u8], inputs: &Inputs) -> bool {
        if (setup.kind, setup.request, setup.value, data.get(1)) != (0x21, 9, 0x0300, Some(&0x81)) {
            return false;
        }
        let bit = |outlet: usize| u8::from(self.relays.get(outlet)) << (2 * (outlet - 1));
        let first = (1..=4).map(bit).sum::<u8>();
        // The fourth outlet's bit is 6; bit 7 says that the report is valid.
        inputs
            .send(vec![0x80 | first, 0, 0, 0, 0, 0])
            .expect("a device");
        true
    }

    fn output(&mut self, report: &[u8], _: &Inputs) {
        if let [outlet @ 0x10..=0x13, value] = *report {
            self.relays.set(usize::from(outlet - 0x10) + 1, value == 1);
        }
    }
}

/// Cleware's USB-Switch 8 with a serial number of its own.
#[derive(Default)]
pub(crate) struct Cleware8 {
    pub(crate) relays: Relays,
}

impl Cleware8 {
    pub(crate) fn identity() -> Identity {
        Identity::new(0x0d50, 0x0030, "88ba0", "Contact00")
    }
}

impl Emulation for Cleware8 {
    fn read(&mut self, _: Setup) -> Option<Vec<u8>> {
        None
    }

    fn write(&mut self, setup: Setup, data: &[u8], inputs: &Inputs) -> bool {
        if (setup.kind, setup.request, setup.value, data.get(1)) != (0x21, 9, 0x0300, Some(&0x81)) {
            return false;
        }
        let relays = (1..=8).map(|outlet| u8::from(self.relays.get(outlet)) << (outlet - 1));
        inputs
            .send(vec![0x80, 0, 0, 0, 0, relays.sum()])
            .expect("a device");
        true
    }

    fn output(&mut self, report: &[u8], _: &Inputs) {
        if let [0x03, _, to, _, which] = *report {
            for outlet in (1..=8).filter(|outlet| which >> (outlet - 1) & 1 == 1) {
                self.relays.set(outlet, to >> (outlet - 1) & 1 == 1);
            }
        }
    }
}

/// A V-USB relay board.
#[derive(Default)]
pub(crate) struct UsbRelay {
    pub(crate) relays: Relays,
}

impl UsbRelay {
    pub(crate) fn identity() -> Identity {
        Identity::new(0x16c0, 0x05df, "", "USBRelay8")
    }
}

impl Emulation for UsbRelay {
    fn read(&mut self, setup: Setup) -> Option<Vec<u8>> {
        if setup.request != 1 || setup.value >> 8 != 3 {
            return None;
        }
        let mut report = b"BITFT\0\0\0".to_vec();
        report[7] = (1..=8)
            .map(|relay| u8::from(self.relays.get(relay)) << (relay - 1))
            .sum();
        Some(report)
    }

    fn write(&mut self, setup: Setup, data: &[u8], _: &Inputs) -> bool {
        if setup.request != 9 || setup.value >> 8 != 3 {
            return false;
        }
        match *data {
            [0xff, relay, ..] => self.relays.set(relay.into(), true),
            [0xfd, relay, ..] => self.relays.set(relay.into(), false),
            _ => return false,
        }
        true
    }

    /// A tool that goes through hidraw sends the same bytes as an output report.
    fn output(&mut self, report: &[u8], inputs: &Inputs) {
        let setup = Setup {
            kind: 0x21,
            request: 9,
            value: 0x0300,
            index: 0,
            length: 8,
        };
        self.write(setup, report, inputs);
    }
}

/// EnerGenie's power strip.
pub(crate) struct SisPm {
    pub(crate) relays: Relays,
    /// The last byte of its id.
    pub(crate) last: u8,
}

impl Default for SisPm {
    fn default() -> Self {
        Self {
            relays: Relays::default(),
            last: 0xc3,
        }
    }
}

impl SisPm {
    pub(crate) const ID: &str = "01:01:51:a4:c3";

    pub(crate) fn identity() -> Identity {
        Identity::new(0x04b4, 0xfd11, "", "EnerGenie")
    }
}

impl Emulation for SisPm {
    fn read(&mut self, setup: Setup) -> Option<Vec<u8>> {
        if setup.request != 1 || setup.value >> 8 != 3 {
            return None;
        }
        let [_, report] = setup.value.to_be_bytes();
        match report {
            1 => Some(vec![0x01, 0x01, 0x51, 0xa4, self.last]),
            3 | 6 | 9 | 12 => {
                let on = self.relays.get(usize::from(report / 3));
                Some(vec![report, 2 | u8::from(on), 0, 0, 0])
            }
            _ => None,
        }
    }

    fn write(&mut self, setup: Setup, data: &[u8], _: &Inputs) -> bool {
        let [_, report] = setup.value.to_be_bytes();
        let is_command = setup.request == 9 && report % 3 == 0;
        if let (true, [_, value, ..]) = (is_command, data) {
            self.relays.set(usize::from(report / 3), *value == 3);
        }
        is_command
    }

    fn output(&mut self, _: &[u8], _: &Inputs) {}
}

/// A USB 2 hub with four ports that are switched one by one (USB 2.0, 11.24).
#[derive(Clone, Default)]
pub(crate) struct Hub(Arc<Mutex<HubState>>);

#[derive(Default)]
struct HubState {
    powered: [bool; 4],
    /// Says that it has switched, and has not.
    is_stuck: bool,
    /// What is wrong, after how many more requests.
    fault: Option<(Fault, usize)>,
    /// Requests that were spoilt.
    spoilt: usize,
    cord: Option<Cord>,
}

impl Hub {
    pub(crate) fn identity() -> Identity {
        Identity::new(0x2109, 0x2811, "", "Hub")
    }

    /// A sound hub, whose first port has power or not.
    pub(crate) fn set(&self, powered: bool) {
        let mut state = self.0.lock().expect("lock");
        *state = HubState::default();
        state.powered[0] = powered;
    }

    pub(crate) fn stick(&self) {
        self.0.lock().expect("lock").is_stuck = true;
    }

    /// Goes wrong after `sound` more requests.
    pub(crate) fn spoil(&self, fault: Fault, sound: usize, cord: Cord) {
        let mut state = self.0.lock().expect("lock");
        state.fault = Some((fault, sound));
        state.cord = Some(cord);
    }

    pub(crate) fn is_powered(&self) -> bool {
        self.0.lock().expect("lock").powered[0]
    }

    /// How many requests it has spoilt.
    pub(crate) fn spoilt(&self) -> usize {
        self.0.lock().expect("lock").spoilt
    }

    /// The fault of the request that has come.
    fn fault(&self) -> Option<Fault> {
        let mut state = self.0.lock().expect("lock");
        let (fault, sound) = state.fault.as_mut()?;
        let fault = *fault;
        if *sound > 0 {
            *sound -= 1;
            return None;
        }
        state.spoilt += 1;
        if fault == Fault::Unplug
            && let Some(cord) = state.cord.take()
        {
            cord.pull();
        }
        Some(fault)
    }
}

impl Emulation for Hub {
    fn read(&mut self, setup: Setup) -> Option<Vec<u8>> {
        match (setup.kind, setup.request) {
            (0xa0, 6) => Some(vec![9, 0x29, 4, 0x09, 0, 50, 100, 0, 0xff]),
            (0xa0, 0) => Some(vec![0; 4]),
            (0xa3, 0) => {
                let port = usize::from(setup.index).wrapping_sub(1);
                let powered = *self.0.lock().expect("lock").powered.get(port)?;
                Some(vec![0, u8::from(powered), 0, 0])
            }
            _ => None,
        }
    }

    fn reply(&mut self, setup: Setup) -> Reply {
        let sound: Reply = self.read(setup).into();
        match (self.fault(), sound) {
            (Some(Fault::Mute | Fault::Unplug), _) => Reply::Silence,
            (Some(Fault::Stall), _) => Reply::Stall,
            (Some(Fault::Half), Reply::Data(data)) => Reply::Data(data[..data.len() / 2].to_vec()),
            (Some(Fault::Empty), Reply::Data(_)) => Reply::Data(Vec::new()),
            (Some(_), Reply::Data(data)) => Reply::Data(garbage(data.len())),
            (_, sound) => sound,
        }
    }

    fn accepts(&mut self, _: Setup) -> Reply {
        match self.fault() {
            Some(Fault::Mute | Fault::Unplug) => Reply::Silence,
            Some(Fault::Stall) => Reply::Stall,
            _ => Reply::Data(Vec::new()),
        }
    }

    fn is_silent(&self) -> bool {
        let state = self.0.lock().expect("lock");
        matches!(state.fault, Some((Fault::Mute | Fault::Unplug, 0)))
    }

    fn write(&mut self, setup: Setup, _: &[u8], _: &Inputs) -> bool {
        const PORT_POWER: u16 = 8;
        let mut state = self.0.lock().expect("lock");
        let port = usize::from(setup.index).wrapping_sub(1);
        let is_stuck = state.is_stuck;
        if let (0x23, 1 | 3, PORT_POWER, Some(powered), false) = (
            setup.kind,
            setup.request,
            setup.value,
            state.powered.get_mut(port),
            is_stuck,
        ) {
            *powered = setup.request == 3;
        }
        true
    }

    fn output(&mut self, _: &[u8], _: &Inputs) {}
}
