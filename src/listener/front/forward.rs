//! Whole HTTP requests on their way to tiny_http, one at a time per client.

use super::Front;
use super::connection::{ClientPhase, SMALL};
use crate::listener::head::{self, CLIENT_HEADER, refusal};
use crate::listener::response::HttpAsker;
use log::error;
use rustix::event::epoll;
use std::io;
use std::time::Instant;

impl Front {
    /// An answer has left something to do.
    pub(super) fn answered(&mut self, id: u64) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        if !client.settle(true) {
            // Nothing yet, but it is known how long it may take at most.
            let due = client.next_look(false, Instant::now(), &self.limits);
            return client.set_due(&mut self.timers, Some(due));
        }
        if !self.flush(id) {
            return;
        }
        let Some(client) = self.clients.get(&id) else {
            return;
        };
        if client.phase != ClientPhase::Http || client.closing {
            return;
        }
        if self.draining || !client.keeps_alive {
            return self.close_when_sent(id);
        }
        // The client may have sent its next request already.
        self.advance_http(id);
    }

    /// Hands the next whole request on, when none is under way.
    pub(super) fn advance_http(&mut self, id: u64) {
        let most_connections = self.most_connections();
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        // What has come while a request is under way is looked at when that is answered.
        if client.phase != ClientPhase::Http || !client.settle(true) {
            return;
        }
        // A client that does not take its answers gets no further ones, and is let go after a while.
        if client.closing || !client.output.is_empty() || !client.keeps_alive || self.draining {
            return;
        }
        if client.input.is_empty() {
            if client.ended {
                self.close(id);
            }
            return;
        }
        let limits = &self.limits;
        let head = match head::request(&client.input, limits) {
            Err(refusal) => return self.refuse(id, &refusal),
            Ok(None) if client.ended => return self.close(id),
            Ok(None) => return client.rest_is_missing(&mut self.timers, limits),
            Ok(Some(head)) => head,
        };
        let Some(body) = client.input.get(head.length..head.length + head.body) else {
            if client.ended {
                return self.close(id);
            }
            if head.expects_continue && client.input.len() == head.length && !client.invited {
                client.invited = true;
                client.output.push(b"HTTP/1.1 100 Continue\r\n\r\n");
                if !self.flush(id) {
                    return;
                }
            }
            if let Some(client) = self.clients.get_mut(&id) {
                client.wanted = head.length + head.body;
                client.rest_is_missing(&mut self.timers, &self.limits);
            }
            return;
        };
        // Each connection may have a small request under way beside all large ones, and one large
        // request alone is never too large.
        let under_way = self.link.size();
        let small = if head.size <= SMALL {
            SMALL * most_connections
        } else {
            0
        };
        if under_way > 0 && under_way + head.size > limits.buffered + small {
            return self.refuse(id, &refusal(503, "too many requests are under way"));
        }
        let asker = HttpAsker::new(&client.wire, client.peer.clone(), &head);
        let more = client.input.len() > head.length + head.body;
        client.asked = true;
        client.invited = false;
        client.rest_since = None;
        client.wanted = 0;
        client.keeps_alive = head.keeps_alive;
        client
            .wire
            .ask(more || client.ended || !client.keeps_alive || self.draining);
        let number = format!("{CLIENT_HEADER}: {id}\r\n\r\n");
        let body = if head.is_body_used { body } else { &[] };
        let request = [head.lines.as_slice(), number.as_bytes(), body];
        let sent = self.link.send(&self.epoll, id, asker, head.size, request);
        client.input.drain(..head.length + head.body);
        if client.input.capacity() > SMALL.max(2 * client.input.len()) {
            client.input.shrink_to_fit();
        }
        self.watch(id);
        if let Err(error) = sent {
            self.link_lost(&error);
        }
    }

    pub(super) fn link_ready(&mut self, flags: epoll::EventFlags) {
        use epoll::EventFlags as E;
        if flags.intersects(E::IN | E::HUP | E::ERR) {
            // tiny_http is never asked to answer, nor to end.
            self.link_lost(&io::ErrorKind::UnexpectedEof.into());
        } else if let Err(error) = self.link.flush(&self.epoll) {
            self.link_lost(&error);
        }
    }

    /// The private socket failed: whose request was on it gets told so.
    pub(super) fn link_lost(&mut self, error: &io::Error) {
        error!(target: "pdud.http", "the connection to the HTTP server is lost: {error}");
        for (id, _asker) in self.link.cut() {
            // From here on the asker finds nobody who waits.
            self.refuse(id, &refusal(502, "the HTTP server gave no answer"));
        }
    }
}
