//! Faults of raw TCP PDUs: each ends within the deadline, in its own class, and the next call works.

use crate::sim::stream::{Fault, Pdu, TcpBench};
use pdudaemon::driver::{Driver, DriverError, registry};
use pdudaemon::request::{Outlet, PduName, State, Switch};
use pdudaemon::settings::{Position, Settings};
use pdudaemon::transport::{Deadline, TransportErrorKind};
use serde_json::{Value, json};
use std::net::TcpListener;
use std::time::{Duration, Instant};

/// What a faulty call is given, and how much later it may come back on a busy machine.
const PATIENCE: Duration = Duration::from_millis(300);
const SLACK: Duration = Duration::from_secs(4);

pub(crate) fn build(name: &str, settings: Value) -> Box<dyn Driver> {
    let at = Position { line: 1, column: 1 };
    let settings = Settings::new(PduName::new("pdu"), name, settings.to_string(), at);
    registry::find(name)
        .expect("a driver")
        .build
        .build(&settings)
        .expect("good settings")
}

pub(crate) fn long() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

/// Is `error` what `fault` has to lead to?
pub(crate) fn is_right_class(fault: Fault, error: &DriverError) -> bool {
    use TransportErrorKind as K;
    let kind = match error {
        DriverError::Transport(error) => Some(error.kind),
        _ => None,
    };
    match fault {
        Fault::None => false,
        Fault::Silent | Fault::Half | Fault::Drip => kind == Some(K::Timeout),
        Fault::Reset | Fault::ResetOnce => kind == Some(K::Closed),
        Fault::Garbage | Fault::Endless => {
            matches!(error, DriverError::Unexpected { .. })
                || matches!(kind, Some(K::Garbled | K::Timeout))
        }
        Fault::Stuck => matches!(error, DriverError::Unexpected { .. }),
    }
}

/// Switches under a fault that begins after `honest` answers, then without it.
pub(crate) fn under_fault(
    driver: &mut dyn Driver,
    outlet: &Outlet,
    fault: Fault,
    patience: Duration,
    heal: impl FnOnce(),
) {
    // A reset comes at once; the answers before it may take their time on a busy machine.
    let patience = match fault {
        Fault::Reset => patience.max(Duration::from_secs(10)),
        _ => patience,
    };
    let start = Instant::now();
    let error = driver
        .switch(outlet, Switch::On, Deadline::after(patience))
        .expect_err("a fault");
    let took = start.elapsed();
    assert!(
        is_right_class(fault, &error),
        "{fault:?}: wrong class: {error:?}"
    );
    assert!(took < patience + SLACK, "{fault:?} took {took:?}");
    assert!(error.is_transient(), "{fault:?}: {error}");
    heal();
    driver
        .switch(outlet, Switch::On, long())
        .unwrap_or_else(|error| panic!("after {fault:?}: {error}"));
    assert_eq!(driver.state(outlet, long()), Ok(State::On));
    driver
        .switch(outlet, Switch::Off, long())
        .unwrap_or_else(|error| panic!("after {fault:?}: {error}"));
    assert_eq!(driver.state(outlet, long()), Ok(State::Off));
    driver.rest(long());
}

pub(crate) const FAULTS: [Fault; 6] = [
    Fault::Silent,
    Fault::Reset,
    Fault::Garbage,
    Fault::Half,
    Fault::Drip,
    Fault::Endless,
];

/// Every fault, at every answer of a switching.
fn faults(name: &str, settings: Value, outlet: &str, answers: usize, pdu: impl Fn() -> PduBox) {
    let outlet = Outlet::new(outlet);
    let bench = TcpBench::start(pdu());
    let mut settings = settings;
    settings["ip"] = json!(bench.address());
    let mut driver = build(name, settings);
    for honest in 0..answers {
        for fault in FAULTS {
            bench.control.set(fault, honest);
            let heal = || bench.control.set(Fault::None, 0);
            under_fault(driver.as_mut(), &outlet, fault, PATIENCE, heal);
        }
    }
}

/// A boxed PDU is one, so that a table can hold several kinds.
pub(crate) type PduBox = Box<dyn Pdu>;

impl Pdu for PduBox {
    fn answer(&mut self, input: &mut Vec<u8>, is_stuck: bool) -> Option<Vec<u8>> {
        self.as_mut().answer(input, is_stuck)
    }

    fn connected(&mut self) {
        self.as_mut().connected();
    }
}

fn take<const N: usize>(input: &mut Vec<u8>) -> Option<[u8; N]> {
    let taken = input.get(..N)?.try_into().ok()?;
    input.drain(..N);
    Some(taken)
}

/// A Devantech ETH008 with the password `secret`.
#[derive(Default)]
struct Eth {
    relays: u8,
    is_unlocked: bool,
}

impl Pdu for Eth {
    fn answer(&mut self, input: &mut Vec<u8>, is_stuck: bool) -> Option<Vec<u8>> {
        match input.first()? {
            0x79 => {
                let given: [u8; 7] = take(input)?;
                self.is_unlocked = &given[1..] == b"secret";
                Some(vec![if self.is_unlocked { 1 } else { 2 }])
            }
            0x7b => {
                input.remove(0);
                self.is_unlocked = false;
                Some(vec![0])
            }
            0x24 => {
                input.remove(0);
                Some(vec![self.relays])
            }
            _ => {
                let [command, relay, _] = take(input)?;
                if !self.is_unlocked {
                    return Some(vec![1]);
                }
                let bit = 1 << (relay - 1);
                if !is_stuck {
                    self.relays &= !bit;
                    if command == 0x20 {
                        self.relays |= bit;
                    }
                }
                Some(vec![0])
            }
        }
    }

    fn connected(&mut self) {
        self.is_unlocked = false;
    }
}

/// A dScript module.
#[derive(Default)]
struct Ds([bool; 25]);

impl Pdu for Ds {
    fn answer(&mut self, input: &mut Vec<u8>, is_stuck: bool) -> Option<Vec<u8>> {
        let text = String::from_utf8(std::mem::take(input)).ok()?;
        let words: Vec<&str> = text.split(' ').collect();
        match words[..] {
            ["SR", relay, to] => {
                if !is_stuck {
                    self.0[relay.parse::<usize>().ok()?] = to == "on";
                }
                Some(b"Ok\r\n".to_vec())
            }
            ["GR", relay] => Some(match self.0[relay.parse::<usize>().ok()?] {
                true => b"Active\r\n".to_vec(),
                false => b"Inactive\r\n".to_vec(),
            }),
            _ => None,
        }
    }
}

/// An EG-PMS-LAN with the password `secret`.
struct Egpms {
    step: u8,
    states: [u8; 4],
}

impl Egpms {
    const KEY: [u8; 8] = *b"secret  ";
    const CHALLENGE: [u8; 4] = [0x9a, 0xbc, 0xde, 0xf1];

    fn mask(plain: u8) -> u8 {
        let [_, _, t2, t3] = Self::CHALLENGE;
        ((plain ^ t2).wrapping_add(t3) ^ Self::KEY[0]).wrapping_add(Self::KEY[1])
    }
}

impl Pdu for Egpms {
    fn answer(&mut self, input: &mut Vec<u8>, is_stuck: bool) -> Option<Vec<u8>> {
        let [k0, k1, k2, k3, k4, k5, k6, k7] = Self::KEY.map(u32::from);
        let [t0, t1, t2, t3] = Self::CHALLENGE.map(u32::from);
        if input.first() == Some(&0x11) && self.step != 1 {
            input.remove(0);
            let begins = self.step == 0;
            self.step = if begins { 1 } else { 9 };
            return Some(if begins {
                Self::CHALLENGE.into()
            } else {
                vec![]
            });
        }
        let given: [u8; 4] = take(input)?;
        if self.step == 9 {
            return Some(vec![]);
        }
        if self.step == 1 {
            let first = ((t0 ^ k2) * k0) ^ (k4 << 8) ^ k6 ^ t2;
            let second = ((t1 ^ k3) * k1) ^ (k5 << 8) ^ k7 ^ t3;
            let right = ((first & 0xffff) | (second << 16)).to_le_bytes();
            self.step = if given == right { 2 } else { 9 };
            if given != right {
                return Some(vec![]);
            }
        } else if !is_stuck {
            for (state, control) in self.states.iter_mut().zip(given) {
                match control {
                    on if on == Self::mask(1) => *state = 0x41,
                    off if off == Self::mask(2) => *state = 0x82,
                    _ => assert_eq!(control, Self::mask(4)),
                }
            }
        }
        Some(self.states.map(Self::mask).to_vec())
    }

    fn connected(&mut self) {
        self.step = 0;
    }
}

fn egpms() -> Egpms {
    Egpms {
        step: 0,
        states: [0x82; 4],
    }
}

/// A Modbus server with 16 coils.
#[derive(Default)]
struct Modbus([bool; 16]);

impl Pdu for Modbus {
    fn answer(&mut self, input: &mut Vec<u8>, is_stuck: bool) -> Option<Vec<u8>> {
        let request: [u8; 12] = take(input)?;
        let coil = usize::from(request[9]);
        if request[7] == 5 {
            if !is_stuck {
                self.0[coil] = request[10] == 0xff;
            }
            return Some(request.to_vec());
        }
        let mut answer = request[..7].to_vec();
        answer[5] = 4;
        answer.extend([1, 1, u8::from(self.0[coil])]);
        Some(answer)
    }
}

/// A Kasa strip with two outlets.
#[derive(Default)]
struct Kasa([bool; 2]);

impl Pdu for Kasa {
    fn answer(&mut self, input: &mut Vec<u8>, is_stuck: bool) -> Option<Vec<u8>> {
        let length = u32::from_be_bytes(input.get(..4)?.try_into().ok()?) as usize;
        let cipher = input.get(4..4 + length)?;
        let mut key = 0xab;
        let plain: Vec<u8> = cipher
            .iter()
            .map(|byte| {
                let plain = byte ^ key;
                key = *byte;
                plain
            })
            .collect();
        input.clear();
        let request: Value = serde_json::from_slice(&plain).expect("JSON");
        let answer = match request.pointer("/system/set_relay_state/state") {
            Some(state) => {
                let child = request.pointer("/context/child_ids/0").expect("a child");
                let index = usize::from(child == "DD01");
                if !is_stuck {
                    self.0[index] = state == 1;
                }
                json!({"system": {"set_relay_state": {"err_code": 0}}})
            }
            None => {
                json!({"system": {"get_sysinfo": {"err_code": 0, "deviceId": "DD", "children": [
                {"id": "DD00", "alias": "a", "state": u8::from(self.0[0])},
                {"id": "DD01", "alias": "b", "state": u8::from(self.0[1])},
            ], "padding": "x".repeat(3000)}}})
            }
        };
        let text = answer.to_string();
        let mut frame = (text.len() as u32).to_be_bytes().to_vec();
        let mut key = 0xab;
        frame.extend(text.bytes().map(|byte| {
            key ^= byte;
            key
        }));
        Some(frame)
    }
}

#[test]
fn devantech_eth_survives_every_fault() {
    let settings = json!({"password": "secret"});
    faults("devantech_eth008", settings, "8", 2, || {
        Box::new(Eth::default())
    });
}

#[test]
fn devantech_ds_survives_every_fault() {
    faults("devantech_ds2824", json!({}), "24", 1, || {
        Box::new(Ds::default())
    });
}

#[test]
fn egpms_survives_every_fault() {
    let settings = json!({"password": "secret"});
    faults("egpms", settings, "4", 3, || Box::new(egpms()));
}

#[test]
fn modbus_survives_every_fault() {
    faults("modbustcp", json!({}), "7", 1, || {
        Box::new(Modbus::default())
    });
}

#[test]
fn tplink_survives_every_fault() {
    faults("tplink", json!({}), "b", 2, || Box::new(Kasa::default()));
}

#[test]
fn a_state_that_stays_wrong_is_no_success() {
    let cases: [(&str, Value, PduBox); 2] = [
        ("devantech_ds378", json!({}), Box::new(Ds::default())),
        ("egpms", json!({"password": "secret"}), Box::new(egpms())),
    ];
    for (name, mut settings, pdu) in cases {
        let bench = TcpBench::start(pdu);
        settings["ip"] = json!(bench.address());
        let mut driver = build(name, settings);
        bench.control.set(Fault::Stuck, 0);
        let heal = || bench.control.set(Fault::None, 0);
        under_fault(
            driver.as_mut(),
            &Outlet::new("3"),
            Fault::Stuck,
            Duration::from_secs(20),
            heal,
        );
    }
}

#[test]
fn wrong_passwords_are_told_apart() {
    let cases: [(&str, PduBox); 2] = [
        ("devantech_eth008", Box::new(Eth::default())),
        // Its silence lasts 4 s.
        ("egpms", Box::new(egpms())),
    ];
    for (name, pdu) in cases {
        let bench = TcpBench::start(pdu);
        let mut driver = build(name, json!({"ip": bench.address(), "password": "secrex"}));
        let error = driver
            .switch(&Outlet::new("1"), Switch::On, long())
            .expect_err("refused");
        assert!(
            matches!(error, DriverError::LoginRefused(_)),
            "{name}: {error:?}"
        );
        assert!(!error.is_transient() && !error.may_have_acted());
        assert!(!error.to_string().contains("secrex"), "{error}");
    }
}

#[test]
fn a_refused_connection_has_certainly_not_acted() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    drop(listener);
    for name in [
        "devantech_eth8020",
        "devantech_ds2824",
        "egpms",
        "modbustcp",
        "tplink",
    ] {
        let mut driver = build(name, json!({"ip": address, "password": "secret"}));
        let outlet = Outlet::new("1");
        for result in [
            driver.switch(&outlet, Switch::Off, long()),
            driver.state(&outlet, long()).map(drop),
        ] {
            let error = result.expect_err("nobody there");
            assert!(
                matches!(&error, DriverError::Transport(error) if error.kind == TransportErrorKind::NoConnection),
                "{name}: {error:?}"
            );
            assert!(error.is_transient() && !error.may_have_acted());
        }
    }
}

#[test]
fn a_queue_of_jobs_costs_one_connection_and_a_lost_one_is_opened_again() {
    let cases: [(&str, PduBox); 3] = [
        ("devantech_eth008", Box::new(Eth::default())),
        ("devantech_ds2824", Box::new(Ds::default())),
        ("modbustcp", Box::new(Modbus::default())),
    ];
    for (name, pdu) in cases {
        let bench = TcpBench::start(pdu);
        let mut driver = build(name, json!({"ip": bench.address(), "password": "secret"}));
        let outlet = Outlet::new("5");
        for _ in 0..3 {
            driver.switch(&outlet, Switch::On, long()).expect("on");
            driver.switch(&outlet, Switch::Off, long()).expect("off");
        }
        assert_eq!(bench.control.connections(), 1, "{name}");
        driver.rest(long());
        driver.switch(&outlet, Switch::On, long()).expect("on");
        assert_eq!(bench.control.connections(), 2, "{name}");
        // The connection is reset at the next answer: within the call a new one is opened.
        bench.control.reset_once();
        driver.switch(&outlet, Switch::Off, long()).expect("off");
        assert_eq!(driver.state(&outlet, long()), Ok(State::Off), "{name}");
        assert_eq!(bench.control.connections(), 3, "{name}");
    }
}

#[test]
fn an_answer_to_another_transaction_is_not_taken() {
    /// Answers with the transaction id of the request before.
    struct Late(Modbus);
    impl Pdu for Late {
        fn answer(&mut self, input: &mut Vec<u8>, is_stuck: bool) -> Option<Vec<u8>> {
            let mut answer = self.0.answer(input, is_stuck)?;
            answer[1] = answer[1].wrapping_sub(1);
            Some(answer)
        }
    }
    let bench = TcpBench::start(Late(Modbus::default()));
    let mut driver = build("modbustcp", json!({"ip": bench.address()}));
    let error = driver
        .switch(
            &Outlet::new("1"),
            Switch::On,
            Deadline::after(Duration::from_secs(1)),
        )
        .expect_err("refused");
    assert!(is_right_class(Fault::Silent, &error), "{error:?}");
    assert!(
        error.to_string().contains("transaction 0, not 1"),
        "{error}"
    );
}
