//! Whatever may be wrong with a line, or with the device at its end; and the one place that spoils
//! streams and datagrams with it.

use super::port::Ending;
use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// Nobody listens.
    Refuse,
    /// Nothing is said any more.
    Silence,
    /// The connection is reset; a line is unplugged.
    Reset,
    /// The same, once.
    ResetOnce,
    /// The connection is closed politely.
    End,
    /// Half of what is to be said, and no more.
    Half,
    /// A byte a second.
    Drip,
    /// Bytes of another protocol, once.
    Garbage,
    /// Bytes without end.
    Endless,
    /// Telnet's questions without end.
    Negotiation,
    /// What was asked comes back as an answer: the right id, the wrong message (datagrams).
    Echo,
    /// The answer to the request before (datagrams).
    Stale,
    /// Three datagrams in ten lost, doubled, late: by this seed.
    Lossy(u64),
    /// Everything is said twice, as a network may (datagrams).
    Twice,
    /// The device answers, but switches nothing.
    Stuck,
    /// The device does what it is told, and is gone before it says so.
    Dies,
}

impl Fault {
    /// Does a line on which nothing was sound yet go wrong without its device?
    pub(crate) fn needs_no_device(self) -> bool {
        use Fault as F;
        matches!(
            self,
            F::Silence | F::Reset | F::End | F::Garbage | F::Endless | F::Negotiation
        )
    }
}

/// The pause between two bytes of a line that drips.
pub(crate) const DRIP: Duration = Duration::from_secs(1);

/// How often a simulator looks whether it is to end.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// No telnet, no HTTP, no number, no frame of any device, and not one bit of it is a good one.
const GARBAGE: &[u8] =
    b"\x5a\xa5\xfe\xff\x7f SSH-2.0-nonsense\r\n{]\x1b[2J\xf0\x9f\x92\xa9\r\n\x80";

/// Closes with a reset instead of a farewell, when the last handle is dropped. A shutdown would say
/// farewell.
pub(crate) fn reset(stream: &TcpStream) {
    let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// Did nothing come, or go, within the time-out?
pub(crate) fn is_idle(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// How a stream goes on after something was said, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    GoOn,
    /// Closed politely.
    End,
    /// Cut off hard.
    Reset,
}

/// Spoils what a device says, from a certain moment on.
#[derive(Debug)]
pub(crate) struct Spoiler {
    /// The fault, and how much is sound before it: answers, or bytes, as its user counts them.
    fault: Mutex<(Fault, usize)>,
    spoiled: AtomicUsize,
}

impl Default for Spoiler {
    fn default() -> Self {
        Self {
            fault: Mutex::new((Fault::None, 0)),
            spoiled: AtomicUsize::new(0),
        }
    }
}

impl Spoiler {
    /// After `sound` further ones, `fault` it is.
    pub(crate) fn set(&self, fault: Fault, sound: usize) {
        *self.fault.lock().expect("lock") = (fault, sound);
    }

    /// How often something was not as it should be.
    pub(crate) fn spoiled(&self) -> usize {
        self.spoiled.load(Ordering::SeqCst)
    }

    /// What is wrong, now or soon.
    pub(crate) fn fault(&self) -> Fault {
        self.state().0
    }

    /// The same, and how much is sound before it.
    pub(crate) fn state(&self) -> (Fault, usize) {
        *self.fault.lock().expect("lock")
    }

    /// Takes `count` of what is sound: how many of them there are left, and what is wrong with the
    /// others.
    pub(crate) fn take(&self, count: usize) -> (usize, Fault) {
        let mut fault = self.fault.lock().expect("lock");
        let sound = match fault.0 {
            Fault::None => count,
            // It is the device that is stuck, whatever was said before.
            Fault::Stuck => 0,
            _ => count.min(fault.1),
        };
        fault.1 -= sound.min(fault.1);
        if sound == count {
            return (sound, Fault::None);
        }
        self.spoiled.fetch_add(1, Ordering::SeqCst);
        if fault.0 == Fault::ResetOnce {
            *fault = (Fault::None, 0);
            return (sound, Fault::Reset);
        }
        (sound, fault.0)
    }

    /// Says `bytes` as `fault` has it.
    pub(crate) fn say(
        &self,
        stream: &mut impl Write,
        bytes: &[u8],
        fault: Fault,
        ending: &Ending,
    ) -> std::io::Result<Then> {
        match fault {
            Fault::None | Fault::Stuck | Fault::Twice => stream.write_all(bytes)?,
            Fault::Silence | Fault::Echo | Fault::Stale | Fault::Lossy(_) => {}
            Fault::Refuse | Fault::Reset | Fault::ResetOnce | Fault::Dies => {
                return Ok(Then::Reset);
            }
            Fault::End => return Ok(Then::End),
            Fault::Half => stream.write_all(&bytes[..bytes.len() / 2])?,
            Fault::Garbage => stream.write_all(GARBAGE)?,
            Fault::Drip => self.drip(stream, bytes, ending)?,
            Fault::Endless => self.babble(stream, &[0x55; 1024], ending)?,
            Fault::Negotiation => {
                let asks: Vec<u8> = (0..=255).flat_map(|o| [255, 251, o, 255, 253, o]).collect();
                self.babble(stream, &asks, ending)?;
            }
        }
        Ok(Then::GoOn)
    }

    /// Ends with the fault: nothing is said any more once it is healed.
    fn babble(
        &self,
        stream: &mut impl Write,
        words: &[u8],
        ending: &Ending,
    ) -> std::io::Result<()> {
        let begun = self.fault();
        while !ending.is_near() {
            let fault = self.fault.lock().expect("lock");
            if fault.0 != begun {
                break;
            }
            let said = stream.write(words);
            drop(fault);
            match said {
                // Whoever listens does not read any more.
                Err(error) if is_idle(&error) => std::thread::sleep(TICK),
                said => drop(said?),
            }
        }
        Ok(())
    }

    fn drip(&self, stream: &mut impl Write, bytes: &[u8], ending: &Ending) -> std::io::Result<()> {
        for byte in bytes {
            let due = Instant::now() + DRIP;
            while Instant::now() < due {
                if ending.is_near() || self.fault() != Fault::Drip {
                    return Ok(());
                }
                std::thread::sleep(TICK);
            }
            stream.write_all(&[*byte])?;
        }
        Ok(())
    }
}

/// What becomes of datagrams on their way back.
#[derive(Default)]
pub(crate) struct Datagrams {
    weather: Weather,
    /// The request before, and its answer.
    before: Option<(Vec<u8>, Vec<u8>)>,
}

impl Datagrams {
    /// What comes in place of the answer to `question`.
    pub(crate) fn back(&mut self, fault: Fault, question: &[u8], answer: &[u8]) -> Vec<Vec<u8>> {
        match fault {
            Fault::None | Fault::Stuck => vec![answer.to_vec()],
            Fault::Twice => vec![answer.to_vec(); 2],
            Fault::Half => vec![answer[..answer.len() / 2].to_vec()],
            Fault::Garbage => vec![GARBAGE.to_vec()],
            Fault::Endless => vec![vec![0x30; 4000]],
            Fault::Echo => vec![question.to_vec()],
            // Each question gets the answer to the one before; a copy of it none.
            Fault::Stale => self
                .before
                .replace((question.to_vec(), answer.to_vec()))
                .filter(|(asked, _)| asked != question)
                .map(|(_, answer)| answer)
                .into_iter()
                .collect(),
            Fault::Lossy(seed) => self.weather.pass(!seed, answer),
            Fault::Refuse
            | Fault::Silence
            | Fault::Reset
            | Fault::ResetOnce
            | Fault::End
            | Fault::Drip
            | Fault::Negotiation
            | Fault::Dies => Vec::new(),
        }
    }
}

/// A network that loses, doubles and holds back three datagrams in ten each.
#[derive(Default)]
pub(crate) struct Weather {
    count: u64,
    held: Option<Vec<u8>>,
}

impl Weather {
    /// What goes on when `datagram` comes: one that is held back comes after the next.
    pub(crate) fn pass(&mut self, seed: u64, datagram: &[u8]) -> Vec<Vec<u8>> {
        self.count += 1;
        let mut dice = fastrand::Rng::with_seed(seed.wrapping_mul(1_000_003) ^ self.count);
        let mut strikes = || dice.u8(..10) < 3;
        let (lost, doubled, late) = (strikes(), strikes(), strikes());
        let mut on: Vec<Vec<u8>> = Vec::new();
        if !lost {
            on.push(datagram.to_vec());
            if doubled {
                on.push(datagram.to_vec());
            }
        }
        if late && let Some(last) = on.pop() {
            on.extend(self.held.replace(last));
        } else {
            on.extend(self.held.take());
        }
        on
    }
}
