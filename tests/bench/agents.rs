//! SNMP agents and the bare UDP client they are measured with.

use rustix::event::epoll;
use std::collections::VecDeque;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// How many.
pub const AGENTS: usize = 50;

/// The address of an agent: also the PDU's name, as the Python program has no other way to it.
pub fn host(agent: usize) -> String {
    format!("127.0.1.{}", agent + 1)
}

/// Serves all agents for ever, for a child process: whatever is set or read is answered after
/// `latency`.
pub fn serve(latency: Duration) -> ! {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("an epoll");
    let sockets: Vec<UdpSocket> = (0..AGENTS)
        .map(|agent| {
            let socket =
                UdpSocket::bind((host(agent), 161)).expect("port 161: the bench needs root for it");
            socket.set_nonblocking(true).expect("non-blocking");
            let data = epoll::EventData::new_u64(agent as u64);
            epoll::add(&epoll, &socket, data, epoll::EventFlags::IN).expect("watched");
            socket
        })
        .collect();
    println!("ready");
    let mut objects: Vec<Objects> = (0..AGENTS).map(|_| Objects::default()).collect();
    let mut due: VecDeque<(Instant, usize, SocketAddr, Vec<u8>)> = VecDeque::new();
    let mut events: Vec<epoll::Event> = Vec::with_capacity(AGENTS);
    let mut buffer = [0; 2048];
    loop {
        let wait = due.front().map(|(due, ..)| {
            let left = due.saturating_duration_since(Instant::now());
            rustix::time::Timespec {
                tv_sec: left.as_secs() as i64,
                tv_nsec: i64::from(left.subsec_nanos()),
            }
        });
        events.clear();
        let _ = epoll::wait(
            &epoll,
            rustix::buffer::spare_capacity(&mut events),
            wait.as_ref(),
        );
        for event in &events {
            let agent = event.data.u64() as usize;
            while let Ok((length, client)) = sockets[agent].recv_from(&mut buffer) {
                let Some(answer) = objects[agent].answer(&buffer[..length]) else {
                    continue;
                };
                if latency.is_zero() {
                    let _ = sockets[agent].send_to(&answer, client);
                } else {
                    due.push_back((Instant::now() + latency, agent, client, answer));
                }
            }
        }
        while due.front().is_some_and(|(due, ..)| *due <= Instant::now()) {
            if let Some((_, agent, client, answer)) = due.pop_front() {
                let _ = sockets[agent].send_to(&answer, client);
            }
        }
    }
}

/// What one agent has been told: the varbind list of each object's last SET.
#[derive(Default)]
struct Objects(Vec<Vec<u8>>);

impl Objects {
    /// Confirms a SET, and answers a GET with what was set last. All lengths are short ones, and
    /// there is one object a request.
    fn answer(&mut self, request: &[u8]) -> Option<Vec<u8>> {
        // SEQUENCE, INTEGER version, OCTET STRING community, then the PDU: request id, two more
        // integers of one byte each, the varbind list.
        let community = 5;
        let pdu = community + 2 + usize::from(*request.get(community + 1)?);
        let list = pdu + 4 + usize::from(*request.get(pdu + 3)?) + 6;
        let varbinds = request.get(list..)?;
        let object = |list: &[u8]| {
            list.get(4..6 + usize::from(*list.get(5)?))
                .map(<[u8]>::to_vec)
        };
        let wanted = object(varbinds)?;
        let kept = self
            .0
            .iter()
            .position(|kept| object(kept).as_ref() == Some(&wanted));
        let mut answer = request.get(..list)?.to_vec();
        match *request.get(pdu)? {
            0xa3 => {
                match kept.and_then(|kept| self.0.get_mut(kept)) {
                    Some(kept) => *kept = varbinds.to_vec(),
                    None => self.0.push(varbinds.to_vec()),
                }
                answer.extend_from_slice(varbinds);
            }
            0xa0 => {
                let kept = self.0.get(kept?)?;
                let longer = u8::try_from(kept.len() - varbinds.len()).ok()?;
                *answer.get_mut(1)? += longer;
                *answer.get_mut(pdu + 1)? += longer;
                answer.extend_from_slice(kept);
            }
            _ => return None,
        }
        *answer.get_mut(pdu)? = 0xa2;
        Some(answer)
    }
}

/// A SET as the daemons send it: outlet 1 on, version 2c.
const SET: &[u8] = &[
    0x30, 0x32, 0x02, 0x01, 0x01, 0x04, 0x07, b'p', b'r', b'i', b'v', b'a', b't', b'e', 0xa3, 0x24,
    0x02, 0x04, 0x10, 0x20, 0x30, 0x40, 0x02, 0x01, 0x00, 0x02, 0x01, 0x00, 0x30, 0x16, 0x30, 0x14,
    0x06, 0x0f, 0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x3e, 0x01, 0x01, 0x04, 0x04, 0x02, 0x01, 0x03,
    0x01, 0x02, 0x01, 0x01,
];

/// As many SETs a second as a bare UDP client gets through: a thread an agent, nothing else.
pub fn bare_client(time: Duration) -> f64 {
    let began = Instant::now();
    let clients: Vec<_> = (0..AGENTS)
        .map(|agent| {
            std::thread::spawn(move || {
                let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
                socket.connect((host(agent), 161)).expect("connected");
                socket
                    .set_read_timeout(Some(Duration::from_secs(2)))
                    .expect("a time-out");
                let (mut count, mut buffer) = (0usize, [0; 2048]);
                while began.elapsed() < time {
                    socket.send(SET).expect("sent");
                    socket.recv(&mut buffer).expect("answered");
                    count += 1;
                }
                count
            })
        })
        .collect();
    let count: usize = clients
        .into_iter()
        .map(|client| client.join().expect("a count"))
        .sum();
    count as f64 / began.elapsed().as_secs_f64()
}
