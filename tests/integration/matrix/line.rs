//! Lines to devices that can be spoilt: a TCP and a UDP proxy. They keep what the driver sent.

use crate::sim::fault::{Datagrams, Fault, Spoiler, Then, Weather, is_idle, reset};
use crate::sim::port::{self, Ending, Served};
use crate::transcript::Case;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How often a proxy looks whether it is to end.
const TICK: Option<Duration> = Some(Duration::from_millis(20));

/// A line to a device: the address stays, what is behind it changes.
pub(super) struct Proxy {
    address: SocketAddr,
    is_udp: bool,
    shared: Arc<Shared>,
    /// Nobody listens where connections are refused.
    served: Option<Served>,
}

struct Shared {
    /// What is wrong, counted in bytes that have come back, or in datagrams.
    spoiler: Spoiler,
    device: Mutex<SocketAddr>,
    heard: Mutex<Vec<Vec<u8>>>,
}

impl Proxy {
    /// The line to a case's device, with a fault after `sound` bytes that come back.
    pub(super) fn start(case: &Case, fault: Fault, sound: usize, device: SocketAddr) -> Self {
        let port = match fault {
            Fault::Refuse => port::free(),
            _ => 0,
        };
        let mut proxy = Self {
            address: (Ipv4Addr::LOCALHOST, port).into(),
            is_udp: super::is_of_datagrams(case),
            shared: Arc::new(Shared {
                spoiler: Spoiler::default(),
                device: Mutex::new(device),
                heard: Mutex::default(),
            }),
            served: None,
        };
        proxy.set(fault, sound, device);
        proxy
    }

    pub(super) fn overrides(&self, case: &Case) -> serde_json::Value {
        if case.transport == "serial" {
            serde_json::json!({ "device": format!("socket://{}", self.address) })
        } else {
            serde_json::json!({ "ip": self.address.to_string() })
        }
    }

    /// From now on this is wrong, and the device is there.
    pub(super) fn set(&mut self, fault: Fault, sound: usize, device: SocketAddr) {
        *self.shared.device.lock().expect("lock") = device;
        self.shared.heard.lock().expect("lock").clear();
        self.shared.spoiler.set(fault, sound);
        if fault != Fault::Refuse && self.served.is_none() {
            let served = self.serve();
            self.address = served.address;
            self.served = Some(served);
        }
    }

    fn serve(&self) -> Served {
        let (shared, ip) = (Arc::clone(&self.shared), self.address.ip());
        let is_any = self.address.port() == 0;
        if self.is_udp {
            let socket = match is_any {
                true => port::datagrams(ip),
                false => UdpSocket::bind(self.address).expect("its port"),
            };
            return Served::on(socket, move |socket, ending| shared.carry(socket, ending));
        }
        let listener = match is_any {
            true => port::listener(ip),
            false => TcpListener::bind(self.address).expect("its port"),
        };
        Served::on(listener, move |listener, ending| {
            let shared = &shared;
            std::thread::scope(|scope| {
                for stream in listener.incoming() {
                    let Ok(stream) = stream else { return };
                    if ending.is_near() {
                        return;
                    }
                    scope.spawn(move || shared.connect(&stream, ending));
                }
            });
        })
    }

    /// What the driver has sent since the fault was set: by connection, or by datagram.
    pub(super) fn heard(&self) -> Vec<Vec<u8>> {
        self.shared.heard.lock().expect("lock").clone()
    }

    /// From now on the device gets no datagram more: its port may soon be another's.
    pub(super) fn cut(&mut self) {
        if self.is_udp && self.served.is_some() {
            self.set(Fault::Silence, 0, self.address);
        }
    }
}

impl Shared {
    /// A place for what one more connection or datagram brings.
    fn hear(&self, bytes: &[u8]) -> usize {
        let mut heard = self.heard.lock().expect("lock");
        heard.push(bytes.to_vec());
        heard.len() - 1
    }

    fn hear_more(&self, place: usize, bytes: &[u8]) {
        // The fault may have been set anew since the connection came.
        if let Some(heard) = self.heard.lock().expect("lock").get_mut(place) {
            heard.extend(bytes);
        }
    }

    fn device(&self) -> SocketAddr {
        *self.device.lock().expect("lock")
    }

    // ---- TCP -----------------------------------------------------------------------------------

    fn connect(&self, mut client: &TcpStream, ending: &Ending) {
        client.set_read_timeout(TICK).expect("a timeout can be set");
        let place = self.hear(&[]);
        let (fault, sound) = self.spoiler.state();
        if matches!(fault, Fault::Endless | Fault::Negotiation) {
            client
                .set_write_timeout(TICK)
                .expect("a timeout can be set");
        }
        if sound == 0 && fault.needs_no_device() {
            let then = self.spoiler.say(&mut client, &[], fault, ending);
            match then {
                Ok(Then::Reset) | Err(_) => return reset(client),
                Ok(Then::End) => drop(client.shutdown(Shutdown::Write)),
                Ok(Then::GoOn) => {}
            }
            return self.there(client, None, place, &Ending::default(), ending);
        }
        let Ok(device) = TcpStream::connect(self.device()) else {
            return reset(client);
        };
        device.set_read_timeout(TICK).expect("a timeout can be set");
        let over = Ending::default();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                self.there(client, Some(&device), place, &over, ending);
                // The device has nothing more to say.
                let _ = device.shutdown(Shutdown::Write);
            });
            match self.back(&device, client, &over, ending) {
                Then::Reset => reset(client),
                Then::End | Then::GoOn => drop(client.shutdown(Shutdown::Write)),
            }
            over.begin();
        });
    }

    /// Keeps what the client sends, and carries it on, until it has left.
    fn there(
        &self,
        mut client: &TcpStream,
        mut device: Option<&TcpStream>,
        place: usize,
        over: &Ending,
        ending: &Ending,
    ) {
        let mut chunk = [0; 4096];
        while !over.is_near() && !ending.is_near() {
            match client.read(&mut chunk) {
                Ok(0) => return,
                Ok(count) => {
                    self.hear_more(place, &chunk[..count]);
                    if let Some(device) = &mut device
                        && device.write_all(&chunk[..count]).is_err()
                    {
                        return;
                    }
                }
                Err(error) if is_idle(&error) => {}
                Err(_) => return,
            }
        }
    }

    /// Carries back what the device says, until something is wrong with it; tells how the client's
    /// connection is to be closed.
    fn back(
        &self,
        mut device: &TcpStream,
        mut client: &TcpStream,
        over: &Ending,
        ending: &Ending,
    ) -> Then {
        let (mut chunk, mut is_said) = ([0; 4096], false);
        // Byte by byte, or in pieces as they come.
        let most = match self.spoiler.state() {
            (Fault::Reset, sound) if sound % 3 == 0 => 1,
            _ => chunk.len(),
        };
        while !over.is_near() && !ending.is_near() {
            let (fault, sound) = self.spoiler.state();
            match fault {
                Fault::Reset if sound == 0 => return Then::Reset,
                Fault::End if sound == 0 => return Then::End,
                _ => {}
            }
            let count = match device.read(&mut chunk[..most]) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if is_idle(&error) => continue,
                Err(_) => break,
            };
            let (sound, fault) = self.spoiler.take(count);
            if client.write_all(&chunk[..sound]).is_err() {
                break;
            }
            let rest = &chunk[sound..count];
            if rest.is_empty() || is_said {
                continue;
            }
            // What is of another protocol is said once a connection.
            is_said = fault == Fault::Garbage;
            match self.spoiler.say(&mut client, rest, fault, ending) {
                Ok(Then::GoOn) => {}
                Ok(then) => return then,
                Err(_) => break,
            }
        }
        Then::GoOn
    }

    // ---- UDP -----------------------------------------------------------------------------------

    fn carry(&self, socket: &UdpSocket, ending: &Ending) {
        let tick = Some(Duration::from_millis(10));
        let device_end = port::datagrams(Ipv4Addr::LOCALHOST.into());
        for socket in [socket, &device_end] {
            socket.set_read_timeout(tick).expect("a timeout can be set");
        }
        let (mut buffer, mut there, mut way) =
            ([0; 4096], Weather::default(), Datagrams::default());
        let (mut client, mut question) = (self.device(), Vec::new());
        while !ending.is_near() {
            if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                (client, question) = (from, buffer[..length].to_vec());
                self.hear(&question);
                let on = match self.spoiler.state() {
                    (Fault::Silence, 0) => Vec::new(),
                    (Fault::Lossy(seed), _) => there.pass(seed, &question),
                    _ => vec![question.clone()],
                };
                for datagram in on {
                    let _ = device_end.send_to(&datagram, self.device());
                }
            }
            let Ok((length, _)) = device_end.recv_from(&mut buffer) else {
                continue;
            };
            let (_, fault) = self.spoiler.take(1);
            for datagram in way.back(fault, &question, &buffer[..length]) {
                let _ = socket.send_to(&datagram, client);
            }
        }
    }
}
