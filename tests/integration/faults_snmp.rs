//! An SNMP call ends in time and in the right class, takes no answer but its own, and sends a
//! command again only where that is safe. What goes wrong on every line alike is in the fault
//! matrix.

use crate::sim::ber::{answer, answer_after, binding, refusal, request_id, with_request_id};
use crate::sim::port::{self, Served};
use crate::transcript::{Confirmed, Failed};
use pdudaemon::driver::confirm::Confirm;
use pdudaemon::driver::{Driver, DriverError, registry};
use pdudaemon::request::{Outlet, PduName, Proof, State, Switch};
use pdudaemon::settings::{Position, Settings};
use pdudaemon::transport::{Attempt, Deadline, TransportErrorKind};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What the tests give a call that must fail.
const SHORT: Duration = Duration::from_secs(1);

/// What a call that fails may take at most: the deadline, and a loaded machine's delays.
const LATE: Duration = Duration::from_secs(20);

/// A datagram of the driver, and where it came from.
struct Asked<'a> {
    request: &'a [u8],
    from: SocketAddr,
    socket: &'a UdpSocket,
    /// How many came before.
    before: usize,
}

impl Asked<'_> {
    fn say(&self, bytes: &[u8]) {
        let _ = self.socket.send_to(bytes, self.from);
    }

    fn is_set(&self) -> bool {
        is_set(self.request)
    }

    /// Carries the request out; a GET is told 1.
    fn obey(&self) {
        self.say(&answer(self.request, 0, 1));
    }

    /// The version on the wire: 0 is v1, 1 is v2c.
    fn version(&self) -> u8 {
        self.request[4]
    }
}

/// Is it a SET of SNMPv2c, behind version and community?
fn is_set(request: &[u8]) -> bool {
    request.get(14) == Some(&0xa3)
}

/// An agent with a behaviour of its own, that can be given another.
struct Agent {
    port: u16,
    behaviour: Arc<Mutex<Behaviour>>,
    requests: Arc<Mutex<Vec<Vec<u8>>>>,
    _served: Served,
}

type Behaviour = Box<dyn FnMut(&Asked<'_>) + Send>;

impl Agent {
    fn start(behaviour: impl FnMut(&Asked<'_>) + Send + 'static) -> Self {
        Self::on(port::datagrams(Ipv4Addr::LOCALHOST.into()), behaviour)
    }

    /// Where one was before.
    fn again(port: u16, behaviour: impl FnMut(&Asked<'_>) + Send + 'static) -> Self {
        let socket = UdpSocket::bind(("127.0.0.1", port)).expect("its port");
        Self::on(socket, behaviour)
    }

    fn on(socket: UdpSocket, behaviour: impl FnMut(&Asked<'_>) + Send + 'static) -> Self {
        let behaviour: Arc<Mutex<Behaviour>> = Arc::new(Mutex::new(Box::new(behaviour)));
        let requests = Arc::<Mutex<Vec<Vec<u8>>>>::default();
        let (behaves, heard) = (Arc::clone(&behaviour), Arc::clone(&requests));
        let served = Served::on(socket, move |socket, ending| {
            let mut buffer = [0; 2048];
            for before in 0.. {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else {
                    return;
                };
                if ending.is_near() {
                    return;
                }
                let request = &buffer[..length];
                heard.lock().expect("lock").push(request.to_vec());
                behaves.lock().expect("lock")(&Asked {
                    request,
                    from,
                    socket,
                    before,
                });
            }
        });
        Self {
            port: served.address.port(),
            behaviour,
            requests,
            _served: served,
        }
    }

    /// From now on it does what it is asked.
    fn recover(&self) {
        *self.behaviour.lock().expect("lock") = Box::new(|asked| asked.obey());
    }

    fn requests(&self) -> Vec<Vec<u8>> {
        self.requests.lock().expect("lock").clone()
    }
}

fn driver(name: &str, port: u16) -> Box<dyn Driver> {
    driver_at(name, &format!("127.0.0.1:{port}"))
}

fn driver_at(name: &str, address: &str) -> Box<dyn Driver> {
    let settings = serde_json::json!({
        "ip": address, "community": "private",
        "username": "operator", "oid": "1.3.6.1.4.1.318.1.1.4.4.2.1.3.*",
        "onsetting": 1, "offsetting": 2,
    });
    let settings = Settings::new(
        PduName::new("pdu"),
        name,
        settings.to_string(),
        Position { line: 1, column: 1 },
    );
    let spec = registry::find(name).expect("a driver");
    spec.make(&settings).expect("builds").0
}

/// The SET alone, without the reading behind it.
fn set(driver: &mut dyn Driver, within: Duration) -> Result<(), Failed> {
    let attempt = Attempt::new(Deadline::after(within));
    let replied = driver.switch(&Outlet::new("1"), Switch::On, &attempt);
    replied
        .map(drop)
        .map_err(|error| Failed::new(error, &attempt))
}

fn on(driver: &mut dyn Driver, within: Duration) -> Result<(), Failed> {
    driver.confirmed(&Outlet::new("1"), Switch::On, Deadline::after(within))
}

/// A call that must fail: in time, and as an error of the transport's `kind`.
fn fails(driver: &mut dyn Driver, kind: TransportErrorKind) -> String {
    let start = Instant::now();
    let error = on(driver, SHORT).expect_err("fails");
    assert!(
        start.elapsed() < SHORT + LATE,
        "{:?}: {error}",
        start.elapsed()
    );
    match error.error {
        DriverError::Transport(error) => {
            assert_eq!(error.kind, kind, "{error}");
            error.detail
        }
        other => panic!("expected {kind:?}, got {other:?}"),
    }
}

/// The behaviour makes a call fail as `kind`, and the next one works.
fn fault(
    name: &str,
    kind: TransportErrorKind,
    behaviour: impl FnMut(&Asked<'_>) + Send + 'static,
) -> String {
    let agent = Agent::start(behaviour);
    let mut driver = driver(name, agent.port);
    let detail = fails(driver.as_mut(), kind);
    agent.recover();
    assert_eq!(on(driver.as_mut(), LATE), Ok(()));
    detail
}

#[test]
fn silence_is_a_timeout_after_several_copies_of_one_request() {
    for name in ["snmpv1", "snmpv2c", "cyberpower81001"] {
        let agent = Agent::start(|_| {});
        let mut driver = driver(name, agent.port);
        let start = Instant::now();
        let detail = fails(driver.as_mut(), TransportErrorKind::Timeout);
        // It has all the time that there is.
        assert!(start.elapsed() >= SHORT, "{name}: {detail}");
        assert!(detail.contains("requests in "), "{name}: {detail}");
        let requests = agent.requests();
        assert!(
            (2..=6).contains(&requests.len()),
            "{name}: {}",
            requests.len()
        );
        let ids: Vec<i32> = requests.iter().map(|request| request_id(request)).collect();
        assert!(ids.iter().all(|id| *id == ids[0]), "{name}: {ids:?}");
        agent.recover();
        assert_eq!(on(driver.as_mut(), LATE), Ok(()), "{name}");
    }
    // Nothing but the discovery was sent: the PDU cannot have acted.
    let detail = fault("snmpv3", TransportErrorKind::NoConnection, |_| {});
    assert!(detail.contains("engine discoveries"), "{detail}");
}

#[test]
fn an_agent_that_goes_away_in_the_middle_is_a_closed_connection() {
    let agent = Agent::start(|_| {});
    let port = agent.port;
    let mut driver = driver("snmpv2c", port);
    let waiter = std::thread::spawn(move || {
        // Takes the first copy, and is gone for the next.
        while agent.requests().is_empty() {
            std::thread::sleep(Duration::from_millis(1));
        }
        drop(agent);
    });
    let error = on(driver.as_mut(), LATE).expect_err("gone");
    assert!(
        matches!(&*error, DriverError::Transport(e) if e.kind == TransportErrorKind::Closed),
        "{error:?}"
    );
    waiter.join().expect("joined");
    let _agent = Agent::again(port, |asked| asked.obey());
    assert_eq!(on(driver.as_mut(), LATE), Ok(()));
}

#[test]
fn what_is_no_answer_is_garbled() {
    use TransportErrorKind::Garbled;
    for name in ["snmpv1", "snmpv3"] {
        let detail = fault(name, Garbled, |asked| asked.say(b"220 hello\r\n"));
        assert!(detail.contains("220 hello"), "{detail}");
        // Half an answer.
        for length in [10, 20] {
            let detail = fault(name, Garbled, move |asked| {
                asked.say(&answer(asked.request, 0, 1)[..length]);
            });
            assert!(!detail.contains("priv"), "{detail}");
        }
        // Nested deeply enough to exhaust a decoder's stack.
        fault(name, Garbled, |asked| {
            let nested: Vec<u8> = (0..2000_u16)
                .rev()
                .flat_map(|left| {
                    let [high, low] = (left * 4).to_be_bytes();
                    [0x30, 0x82, high, low]
                })
                .collect();
            asked.say(&nested);
        });
        // More than any answer may be.
        fault(name, Garbled, |asked| asked.say(&[0x30; 60_000]));
    }
}

#[test]
fn a_drip_and_a_flood_end_with_the_deadline() {
    use TransportErrorKind::Garbled;
    for name in ["snmpv2c", "snmpv3"] {
        // An answer, a byte at a time.
        fault(name, Garbled, |asked| {
            for byte in answer(asked.request, 0, 1).chunks(1) {
                asked.say(byte);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        fault(name, Garbled, |asked| {
            let until = Instant::now() + SHORT + SHORT / 4;
            while asked.before == 0 && Instant::now() < until {
                asked.say(b"more and more");
            }
        });
    }
}

#[test]
fn answers_of_other_requests_are_not_taken() {
    // Only of others: a silence.
    fault("snmpv2c", TransportErrorKind::Timeout, |asked| {
        let id = request_id(asked.request);
        asked.say(&with_request_id(&answer(asked.request, 0, 1), id ^ 1));
    });
    // Of others first, then ours; each answer twice, so that the second one meets the next request.
    let agent = Agent::start(|asked| {
        let right = answer(asked.request, 0, 1);
        let id = request_id(asked.request);
        asked.say(&with_request_id(
            &answer(asked.request, 6, 1),
            id.wrapping_sub(2),
        ));
        asked.say(b"garbage");
        asked.say(&right);
        asked.say(&right);
    });
    for name in ["snmpv1", "snmpv3"] {
        let mut driver = driver(name, agent.port);
        for _ in 0..20 {
            assert_eq!(on(driver.as_mut(), LATE), Ok(()), "{name}");
            assert_eq!(
                driver.state(&Outlet::new("1"), Deadline::after(LATE)),
                Ok(State::On),
                "{name}"
            );
        }
    }
    assert!(agent.requests().len() >= 81);
}

#[test]
fn another_state_is_unknown_and_told() {
    let agent = Agent::start(|asked| asked.say(&answer(asked.request, 0, 4)));
    let mut driver = driver("snmpv1", agent.port);
    let state = driver.state(&Outlet::new("1"), Deadline::after(LATE));
    assert_eq!(state, Ok(State::Unknown("unknown, 4".into())));
    // Off where on was asked for: read, not remembered.
    assert_eq!(set(driver.as_mut(), LATE), Ok(()));
    *agent.behaviour.lock().expect("lock") =
        Box::new(|asked| asked.say(&answer(asked.request, 0, 2)));
    let state = driver.state(&Outlet::new("1"), Deadline::after(LATE));
    assert_eq!(state, Ok(State::Off));
}

#[test]
fn a_late_answer_to_an_earlier_copy_counts() {
    let agent = Agent::start(|asked| {
        if asked.before == 0 {
            // Longer than one copy's patience, shorter than the deadline.
            std::thread::sleep(Duration::from_millis(300));
            asked.obey();
        }
    });
    let mut driver = driver("snmpv1", agent.port);
    assert_eq!(set(driver.as_mut(), Duration::from_secs(1)), Ok(()));
}

#[test]
fn a_slow_agent_is_given_the_time_it_takes() {
    // Longer than the first pause; one datagram after the other, copies included.
    const WORK: Duration = Duration::from_millis(1300);
    let slow = |name: &'static str| {
        std::thread::spawn(move || {
            let agent = v3_agent(|asked, _| {
                if binding(asked.request).is_some_and(|(_, value)| value.is_some()) {
                    std::thread::sleep(WORK);
                }
                asked.obey();
            });
            let mut driver = driver(name, agent.port);
            for _ in 0..4 {
                let within = Duration::from_secs(30);
                assert_eq!(on(driver.as_mut(), within), Ok(()), "{name}");
                let state = driver.state(&Outlet::new("1"), Deadline::after(within));
                assert_eq!(state, Ok(State::On), "{name}");
                driver.rest(Deadline::after(within));
            }
            let requests = agent.requests();
            let sets = requests
                .iter()
                .filter(|request| binding(request).is_some_and(|(_, value)| value.is_some()));
            // Only the first one was sent twice.
            assert_eq!(sets.count(), 5, "{name}");
        })
    };
    for test in ["snmpv1", "snmpv2c", "snmpv3"].map(slow) {
        test.join().expect("no panic");
    }
}

#[test]
fn answers_from_another_address_or_port_of_the_agent_are_taken() {
    for (name, elsewhere) in [
        ("snmpv1", "127.0.0.2"),
        ("snmpv2c", "127.0.0.1"),
        ("snmpv2c", "127.0.0.2"),
        ("snmpv3", "127.0.0.2"),
        ("snmpv3", "127.0.0.1"),
    ] {
        let other = UdpSocket::bind((elsewhere, 0)).expect("a port");
        let agent = Agent::start(move |asked| {
            let right = answer(asked.request, 0, 1);
            let id = request_id(asked.request);
            // Anybody can send something, and it is nothing to us.
            for stray in [&b"hello"[..], &with_request_id(&right, id ^ 1), &right] {
                let _ = other.send_to(stray, asked.from);
            }
        });
        let mut driver = driver(name, agent.port);
        for _ in 0..3 {
            assert_eq!(on(driver.as_mut(), LATE), Ok(()), "{name}");
            assert_eq!(
                driver.state(&Outlet::new("1"), Deadline::after(LATE)),
                Ok(State::On),
                "{name}"
            );
        }
        let discoveries = usize::from(name == "snmpv3");
        // Each switch is read as well.
        assert_eq!(agent.requests().len(), 9 + discoveries, "{name}: no copies");
    }
    // A stranger's words are not the agent's.
    let stranger = UdpSocket::bind(("127.0.0.2", 0)).expect("a port");
    let detail = fault("snmpv2c", TransportErrorKind::Timeout, move |asked| {
        let _ = stranger.send_to(b"hello", asked.from);
    });
    assert!(!detail.contains("hello"), "{detail}");
}

#[test]
fn a_v3_agent_that_never_agrees_about_its_clock_is_not_asked_without_end() {
    let agent = v3_agent(|asked, _| asked.say(&refusal(asked.request, 2)));
    let mut driver = driver("snmpv3", agent.port);
    let detail = fails(driver.as_mut(), TransportErrorKind::Garbled);
    assert!(detail.contains("another clock"), "{detail}");
    assert!(agent.requests().len() < 12, "{}", agent.requests().len());
}

#[test]
fn snmpv1_falls_back_to_v1_and_remembers_what_answered() {
    let agent = Agent::start(|asked| {
        if asked.version() == 0 {
            asked.obey();
        }
    });
    let mut driver = driver("snmpv1", agent.port);
    assert_eq!(on(driver.as_mut(), Duration::from_millis(1200)), Ok(()));
    let versions =
        |agent: &Agent| -> Vec<u8> { agent.requests().iter().map(|request| request[4]).collect() };
    assert_eq!(versions(&agent)[..2], [1, 0]);
    let before = agent.requests().len();
    assert_eq!(on(driver.as_mut(), LATE), Ok(()));
    driver.rest(Deadline::after(LATE));
    assert_eq!(on(driver.as_mut(), LATE), Ok(()));
    let after = versions(&agent);
    assert!(
        after.len() >= before + 2 && after[before..].iter().all(|v| *v == 0),
        "{after:?}"
    );
}

#[test]
fn a_status_keeps_the_session_and_names_the_reason() {
    for (status, is_transient, acted) in [(6, false, false), (17, false, false), (5, true, true)] {
        let agent = Agent::start(move |asked| asked.say(&answer(asked.request, status, 1)));
        let mut driver = driver("snmpv2c", agent.port);
        let error = on(driver.as_mut(), LATE).expect_err("refused");
        assert_eq!(
            (error.is_transient(), error.may_have_acted()),
            (is_transient, acted),
            "{error}"
        );
        assert!(
            error.to_string().contains(&format!("({status})")),
            "{error}"
        );
        agent.recover();
        assert_eq!(on(driver.as_mut(), LATE), Ok(()));
    }
}

/// What an agent makes of a request.
type Reply = fn(&[u8]) -> Vec<u8>;

/// The refusals of a v3 agent: usmStats counters, and error-status codes.
const REFUSALS: [Reply; 6] = [
    |request| refusal(request, 1),
    |request| refusal(request, 3),
    |request| refusal(request, 5),
    |request| refusal(request, 6),
    |request| answer(request, 16, 1),
    |request| answer(request, 17, 1),
];

/// A v3 agent that treats the SETs as `behaviour` does, which gets each and how many came before;
/// discoveries are answered.
fn v3_agent(mut behaviour: impl FnMut(&Asked<'_>, usize) + Send + 'static) -> Agent {
    let mut sets = 0;
    Agent::start(move |asked| match binding(asked.request) {
        None => asked.obey(),
        Some(_) => {
            behaviour(asked, sets);
            sets += 1;
        }
    })
}

#[test]
fn a_refusal_is_certain_unless_an_earlier_copy_may_have_been_carried_out() {
    for refuse in REFUSALS {
        let refused = |agent: Agent| {
            let mut driver = driver("snmpv3", agent.port);
            on(driver.as_mut(), LATE).expect_err("refused")
        };
        let error = refused(v3_agent(move |asked, _| asked.say(&refuse(asked.request))));
        assert!(!error.may_have_acted(), "{error:?}");
        // The first copy is outside of the agent's time window: it is refused as well.
        let error = refused(v3_agent(move |asked, before| match before {
            0 => asked.say(&refusal(asked.request, 2)),
            _ => asked.say(&refuse(asked.request)),
        }));
        assert!(!error.may_have_acted(), "{error:?}");
        // The answer to the first copy is lost.
        let error = refused(v3_agent(move |asked, before| {
            if before > 0 {
                asked.say(&refuse(asked.request));
            }
        }));
        assert!(error.may_have_acted(), "{error:?}");
        // The agent was restarted after the discovery. It checks no clock, and does what it is
        // asked; its answer only tells a newer clock.
        let error = refused(v3_agent(move |asked, before| match before {
            0 => asked.say(&answer_after(2, asked.request, 0, 1)),
            _ => asked.say(&refuse(asked.request)),
        }));
        assert!(error.may_have_acted(), "{error:?}");
    }
}

#[test]
fn an_agent_that_forgets_its_engine_and_goes_away_may_have_acted() {
    for kept in [false, true] {
        let socket = port::datagrams(Ipv4Addr::LOCALHOST.into());
        let port = socket.local_addr().expect("an address").port();
        let agent = std::thread::spawn(move || {
            let mut buffer = [0; 2048];
            // How many SETs came, the one that is carried out included.
            let mut sets = usize::from(!kept);
            loop {
                let (length, from) = socket.recv_from(&mut buffer).expect("a request");
                let request = &buffer[..length];
                let is_set = binding(request).is_some();
                if !is_set || sets == 0 {
                    let _ = socket.send_to(&answer(request, 0, 1), from);
                }
                sets += usize::from(is_set);
                if sets == 3 {
                    // The second copy. From now on the port is closed to the driver.
                    socket.connect(("127.0.0.1", 9)).expect("connected");
                    let _ = socket.send_to(&refusal(request, 4), from);
                    return;
                }
            }
        });
        let mut driver = driver("snmpv3", port);
        if kept {
            assert_eq!(set(driver.as_mut(), LATE), Ok(()));
        }
        let error = set(driver.as_mut(), LATE).expect_err("gone");
        assert!(error.may_have_acted(), "{error:?}");
        assert!(error.to_string().contains("went away"), "{error}");
        agent.join().expect("joined");
    }
}

#[test]
fn names_are_looked_up_once_a_session() {
    let agent = Agent::start(|asked| asked.obey());
    let mut driver = driver_at("snmpv1", &format!("localhost:{}", agent.port));
    // Where localhost is ::1 first, nobody is there, and the other address is tried at once.
    for _ in 0..3 {
        assert_eq!(set(driver.as_mut(), LATE), Ok(()));
    }
    assert_eq!(agent.requests().len(), 3);
}

#[test]
fn a_state_that_shows_late_is_waited_for_and_the_set_sent_once() {
    // As network cards of APC do it: the SET is answered at once.
    let mut set_at = None;
    let agent = Agent::start(move |asked| {
        let is_late = match set_at {
            None => true,
            Some(at) => Instant::now() < at + Duration::from_millis(400),
        };
        match asked.is_set() {
            true => {
                set_at.get_or_insert_with(Instant::now);
                asked.obey();
            }
            false => asked.say(&answer(asked.request, 0, if is_late { 2 } else { 1 })),
        }
    });
    let mut driver = driver("snmpv2c", agent.port);
    let confirm = Confirm::new(None, driver.proofs(), Duration::from_secs(20)).expect("a rule");
    let outlet = Outlet::new("1");
    let deadline = Deadline::after(Duration::from_secs(20));
    let proof = confirm.switch(
        driver.as_mut(),
        &outlet,
        Switch::On,
        &Attempt::new(deadline),
    );
    assert_eq!(proof, Ok(Proof::State));
    let requests = agent.requests();
    let sets = requests.iter().filter(|request| is_set(request)).count();
    assert_eq!(sets, 1);
    assert!(requests.len() > 3, "read again and again");
}

#[test]
fn an_agent_without_an_object_to_read_is_believed_its_answer() {
    // noSuchName for every GET.
    let agent = Agent::start(|asked| match asked.is_set() {
        true => asked.obey(),
        false => asked.say(&answer(asked.request, 2, 1)),
    });
    let mut driver = driver("snmpv2c", agent.port);
    let outlet = Outlet::new("1");
    for (asked, proof) in [(None, Some(Proof::Reply)), (Some(Proof::State), None)] {
        let confirm = Confirm::new(asked, driver.proofs(), Duration::ZERO).expect("a rule");
        let attempt = Attempt::new(Deadline::after(LATE));
        let told = confirm.switch(driver.as_mut(), &outlet, Switch::On, &attempt);
        assert_eq!(told.as_ref().ok(), proof.as_ref(), "{told:?}");
        assert!(attempt.may_have_acted());
    }
}
