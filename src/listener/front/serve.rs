//! What clients send and are sent: which protocol it is, legacy lines to the dispatcher, refusals,
//! and what of an answer is still to be sent.

use super::Front;
use super::connection::ClientPhase;
use super::handshake;
use crate::config::Protocols;
use crate::listener::head::{self, Refusal, refusal};
use crate::listener::tcp;
use log::info;
use rustix::event::epoll;
use std::io::{self, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A legacy line that is none yet, and has no newline, ends after this much quiet.
const QUIET: Duration = Duration::from_millis(50);
/// How long a refused client may go on sending before the connection is closed on it.
const LINGER: Duration = Duration::from_secs(1);
/// For whoever has to speak TLS and does not.
const NO_TLS: &str =
    "this daemon is reached over TLS: https:// in place of http://, or pduclient --tls";
/// What one client is sent before others get their turn.
const TURN: usize = 64 * 1024;

impl Front {
    pub(super) fn client_ready(&mut self, id: u64, flags: epoll::EventFlags) {
        use epoll::EventFlags as E;
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        if client.phase == ClientPhase::Handshake {
            return self.handshake_ready(id, flags);
        }
        if client.phase == ClientPhase::LineAsked && flags.contains(E::HUP) {
            // Answered, and shut down by whoever did that.
            return self.close(id);
        }
        if flags.contains(E::OUT) {
            if !self.flush(id) {
                return;
            }
            // What was to be sent is out: the next request may be here already.
            self.advance_http(id);
        }
        if !flags.contains(E::IN) {
            if flags.intersects(E::ERR | E::HUP) {
                self.close(id);
            }
            return;
        }
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        if !client.interest.contains(E::IN) {
            return;
        }
        let before = client.input.len();
        let stream = &client.wire.stream;
        match stream.receive(&mut self.chunk, &mut client.input) {
            Ok(true) => client.ended = true,
            Ok(false)
                if matches!(
                    client.phase,
                    ClientPhase::Lingering | ClientPhase::LineAsked
                ) =>
            {
                client.input = Vec::new();
                return;
            }
            Ok(false) => {
                let is_first = std::mem::take(&mut client.is_fresh);
                if is_first && self.tls.is_some() && handshake::begins(&client.input) {
                    return self.begin_handshake(id);
                }
                let more = client.input.get(before..).unwrap_or_default();
                client.idle_since = Instant::now();
                // A head ends with a line, a body where its head said: reading a head anew at
                // every byte of a drip would cost the square of its length.
                let may_be_whole = match client.wanted {
                    0 => more.contains(&b'\n') || client.input.len() >= self.limits.head,
                    wanted => client.input.len() >= wanted,
                };
                if client.phase == ClientPhase::Http && client.rest_since.is_some() && !may_be_whole
                {
                    return self.watch(id);
                }
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => return,
                _ => return self.close(id),
            },
        }
        self.advance(id);
        self.watch(id);
    }

    /// Looks at what has come, and does what can be done with it.
    fn advance(&mut self, id: u64) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        let limits = &self.limits;
        let was_line = client.phase == ClientPhase::Line;
        if client.phase == ClientPhase::Sniffing || (was_line && self.protocols == Protocols::Both)
        {
            client.phase = match head::sniff(&client.input) {
                Protocols::Http => ClientPhase::Http,
                Protocols::Tcp => ClientPhase::Line,
                Protocols::Both if client.ended => ClientPhase::Line,
                Protocols::Both => return client.rest_is_missing(&mut self.timers, limits),
            };
            if was_line && client.phase == ClientPhase::Http {
                // It came in pieces; the quiet that ends a line is none that ends a head.
                let end = client.time_end(limits);
                client.set_due(&mut self.timers, Some(end));
            }
        }
        let lacks_tls = handshake::is_missing(self.tls.as_ref(), client);
        match client.phase {
            ClientPhase::Http if lacks_tls => self.refuse(id, &refusal(403, NO_TLS)),
            ClientPhase::Line => {
                // What the first read brings is the request when it can be one, as it was for the
                // Python program, whose clients end it with nothing and wait.
                let is_first = client.rest_since.is_none();
                let whole = client.ended
                    || client.input.contains(&b'\n')
                    || (is_first && tcp::parse(&client.input, &Arc::default()).is_ok());
                if client.input.is_empty() && client.ended {
                    self.close(id);
                } else if whole || client.input.len() > limits.line {
                    self.ask_line(id, true);
                } else {
                    client.rest_is_missing(&mut self.timers, limits);
                    let end = client.time_end(limits).min(Instant::now() + QUIET);
                    client.set_due(&mut self.timers, Some(end));
                }
            }
            ClientPhase::Http => self.advance_http(id),
            ClientPhase::Lingering if client.ended && client.output.is_empty() => self.close(id),
            ClientPhase::Handshake
            | ClientPhase::Lingering
            | ClientPhase::LineAsked
            | ClientPhase::Sniffing => {}
        }
    }

    /// Takes what has come as the line, unless that took too long.
    pub(super) fn ask_line(&mut self, id: u64, in_time: bool) {
        let longest = self.limits.line;
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        client.set_due(&mut self.timers, None);
        client.phase = ClientPhase::LineAsked;
        let input = std::mem::take(&mut client.input);
        let line = input
            .split(|byte| *byte == b'\n')
            .next()
            .unwrap_or_default();
        let parsed = if line.len() > longest {
            let why = format!("the line is longer than {longest} bytes");
            Err(("line-too-long", Some(why)))
        } else if !in_time {
            Err(("timeout", Some("the line did not come in time".to_owned())))
        } else if handshake::is_missing(self.tls.as_ref(), client) {
            Err(("plain", Some(NO_TLS.to_owned())))
        } else {
            // One that is turned away has its line in the log.
            self.guard
                .admit_line(&client.peer)
                .map_err(|_| ("denied", None))
                .and_then(|caller| {
                    let mut request =
                        tcp::parse(line, caller.client()).map_err(|why| ("line", Some(why)))?;
                    request.may_know_names = caller.may_everything();
                    let may = self.guard.permit(
                        &caller,
                        &self.dispatcher,
                        &request.target,
                        request.action,
                    );
                    may.map(|()| request).map_err(|_| ("denied", None))
                })
        };
        match parsed {
            Ok(request) => {
                let wire = Arc::downgrade(&client.wire);
                self.dispatcher.submit(
                    request,
                    Box::new(move |outcome| {
                        let Some(wire) = wire.upgrade() else { return };
                        // A few bytes into an empty socket buffer: taken whole or the client is gone.
                        let _ = (&wire.stream).write(tcp::answer(&outcome));
                        wire.stream.shutdown(Shutdown::Both);
                    }),
                );
            }
            Err((reason, why)) => {
                if let Some(why) = why {
                    info!(target: "pdud.tcp", "{}: {why}", client.peer.origin);
                }
                self.dispatcher.metrics().refused(reason);
                client.output.push(tcp::NACK);
                self.say_goodbye(id);
            }
        }
    }

    /// Sends what is in `output`, then waits a little for the client to close.
    fn say_goodbye(&mut self, id: u64) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        client.phase = ClientPhase::Lingering;
        client.closing = true;
        client.input = Vec::new();
        client.set_due(&mut self.timers, Some(Instant::now() + LINGER));
        self.flush(id);
    }

    /// Writes `output`; false when the connection is closed by that.
    pub(super) fn flush(&mut self, id: u64) -> bool {
        let Some(client) = self.clients.get_mut(&id) else {
            return false;
        };
        let Ok(sent) = client.output.write_to(&client.wire.stream, TURN) else {
            self.close(id);
            return false;
        };
        if !client.output.is_empty() {
            let now = Instant::now();
            client.rest_since.get_or_insert(now);
            if sent > 0 || client.due.is_none() {
                // It reads, if slowly.
                client.idle_since = now;
            }
            let end = client.time_end(&self.limits);
            if sent > 0 || client.due.is_none_or(|due| due > end) {
                client.set_due(&mut self.timers, Some(end));
            }
        } else if !client.closing {
            client.rest_since = None;
        } else if client.phase == ClientPhase::Lingering && !client.ended {
            client.wire.stream.shutdown(Shutdown::Write);
        } else {
            self.close(id);
            return false;
        }
        self.watch(id);
        true
    }

    /// Tells the epoll what this connection waits for, and keeps account of the bytes kept for it.
    /// One with which they become too many is let go: requests that come whole, and answers that
    /// are taken, are not kept and go on as ever.
    pub(super) fn watch(&mut self, id: u64) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        let interest = client.waits_for(&self.limits);
        if interest != client.interest {
            client.interest = interest;
            let data = epoll::EventData::new_u64(id);
            if epoll::modify(&self.epoll, &client.wire.stream, data, interest).is_err() {
                return self.close(id);
            }
        }
        let size = client.size();
        let before = std::mem::replace(&mut client.buffered, size);
        self.buffered = self.buffered - before + size;
        if size <= before || self.buffered <= self.limits.buffered {
            return;
        }
        if client.phase == ClientPhase::Http && client.output.is_empty() && !client.asked {
            return self.refuse(id, &refusal(503, "too many requests are here in part"));
        }
        info!(target: "pdud.listener", "{}: let go, too many bytes are kept for clients", client.peer.origin);
        self.dispatcher.metrics().refused("buffer");
        self.close(id);
    }

    pub(super) fn close_when_sent(&mut self, id: u64) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        client.closing = true;
        if client.output.is_empty() {
            self.say_goodbye(id);
        } else {
            client.phase = ClientPhase::Lingering;
            let end = client.time_end(&self.limits);
            client.set_due(&mut self.timers, Some(end));
            self.watch(id);
        }
    }

    /// An answer of the front itself, which ends the connection.
    pub(super) fn refuse(&mut self, id: u64, refusal: &Refusal) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        client.asked = false;
        client.wire.give_up();
        info!(target: "pdud.http", "{}: {refusal}", client.peer.origin);
        self.dispatcher.metrics().refused(refusal.word());
        client.output.push(refusal.response().as_bytes());
        self.say_goodbye(id);
    }
}
