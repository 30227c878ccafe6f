//! The clients: each lane is one client that alone speaks of its outlets, one step at a time, in
//! one of many ways, and holds every answer against what it knows.

use crate::books::{Books, Command, Ending, Entry};
use crate::dice::Dice;
use crate::lab::Lab;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// No answer may take longer: a full queue of a PDU that is away, every command tried thrice.
const PATIENCE: Duration = Duration::from_secs(150);
/// A kept connection that was idle for longer is not used again; the daemon closes it at 30 s.
const IDLE: Duration = Duration::from_secs(20);
/// How long a request whose client has left is looked for.
const SEARCH: Duration = Duration::from_secs(10);
/// Most that a client thinks between two requests, in milliseconds.
const THINKING: usize = 200;

/// One outlet, and what it may be.
pub(crate) struct Outlet {
    pub(crate) pdu: usize,
    pub(crate) id: &'static str,
    pub(crate) entry: Entry,
}

/// An answer: status and body.
type Answer = (u16, String);

pub(crate) struct Lane<'l> {
    pub(crate) number: usize,
    pub(crate) outlets: Vec<Outlet>,
    pub(crate) books: Books,
    lab: &'l Lab,
    address: SocketAddr,
    dice: Dice,
    kept: Option<(BufReader<TcpStream>, Instant)>,
}

/// Ways to ask, with their weights.
#[derive(Clone, Copy)]
enum Way {
    Path,
    PathOnce,
    Line,
    Put,
    Follow,
    Cancel,
    Many,
    Alias,
    Leave,
    Read,
    Look,
    Nonsense,
}

const WAYS: &[(Way, usize)] = &[
    (Way::Path, 18),
    (Way::PathOnce, 10),
    (Way::Line, 12),
    (Way::Put, 10),
    (Way::Follow, 8),
    (Way::Cancel, 6),
    (Way::Many, 6),
    (Way::Alias, 8),
    (Way::Leave, 6),
    (Way::Read, 12),
    (Way::Look, 2),
    (Way::Nonsense, 2),
];

/// Outlets of a lane's alias.
pub(crate) const ALIASED: usize = 3;

impl<'l> Lane<'l> {
    pub(crate) fn new(
        number: usize,
        outlets: Vec<Outlet>,
        lab: &'l Lab,
        address: SocketAddr,
        dice: Dice,
    ) -> Self {
        Self {
            number,
            outlets,
            books: Books::default(),
            lab,
            address,
            dice,
            kept: None,
        }
    }

    /// Asks until it is time to stop.
    pub(crate) fn run(&mut self, until: Instant) {
        let weights: Vec<usize> = WAYS.iter().map(|(_, weight)| *weight).collect();
        while Instant::now() < until {
            let (way, _) = WAYS[self.dice.weighted(&weights)];
            self.step(way);
            let thought = Duration::from_millis(self.dice.below(THINKING) as u64);
            std::thread::sleep(thought.min(until.saturating_duration_since(Instant::now())));
        }
        self.kept = None;
    }

    /// Reads each outlet once, so that all PDUs have been spoken to.
    pub(crate) fn greet(&mut self) {
        for index in 0..self.outlets.len() {
            self.read(index, 0);
        }
    }

    fn step(&mut self, way: Way) {
        let index = self.dice.below(self.outlets.len());
        let command = self.command();
        match way {
            Way::Path => self.path(index, command, true),
            Way::PathOnce => self.path(index, command, false),
            Way::Line => self.line(index, command),
            Way::Put => self.put(index, command),
            Way::Follow => self.follow_one(index, command),
            Way::Cancel => self.cancel(index, command),
            Way::Many => self.many(command),
            Way::Alias => self.alias(command),
            Way::Leave => self.leave(index, command),
            Way::Read => {
                let how = self.dice.below(3);
                self.read(index, how);
            }
            Way::Look => self.look(),
            Way::Nonsense => self.nonsense(index),
        }
    }

    fn command(&mut self) -> Command {
        *self.dice.of(&[
            Command::On,
            Command::On,
            Command::Off,
            Command::Off,
            Command::Reboot,
        ])
    }

    /// A reboot's pause in seconds.
    fn pause(&mut self) -> f64 {
        *self.dice.of(&[0.0, 0.1, 0.5, 1.5])
    }

    fn name(&self, index: usize) -> String {
        self.lab.pdus[self.outlets[index].pdu].name.clone()
    }

    /// An outlet's id in a path.
    fn id(&self, index: usize) -> String {
        self.outlets[index].id.replace('/', "%2F")
    }

    fn wrong(&mut self, what: &str) {
        let (number, now) = (self.number, jiff::Timestamp::now());
        self.books
            .wrong(format!("{now:.3}, client {number}: {what}"));
    }

    // ---- what an answer means ---------------------------------------------------------------

    /// A command has ended: notes it, and after a success looks at the PDU itself.
    fn ended(&mut self, index: usize, command: Command, ending: Ending, kind: &'static str) {
        self.outlets[index].entry.note(command, ending);
        if ending == Ending::Done && command != Command::State {
            self.look_at(index, kind);
        }
    }

    /// An outlet whose last command was done must be so at once.
    fn look_at(&mut self, index: usize, kind: &'static str) {
        let outlet = &self.outlets[index];
        if !outlet.entry.is_certain() || outlet.entry.is_owed {
            return;
        }
        let pdu = &self.lab.pdus[outlet.pdu];
        if pdu
            .truth(outlet.id)
            .is_some_and(|is_on| !outlet.entry.allows(is_on))
        {
            let what = format!(
                "{} ({}) outlet {}: {kind}: must be {}, and is not",
                pdu.name,
                pdu.driver,
                outlet.id,
                outlet.entry.words()
            );
            self.wrong(&what);
        }
    }

    /// What a failure's words say of the queue: never begun, or perhaps carried out.
    fn failure(words: &str) -> Ending {
        let never = [
            "there is no PDU",
            "there is no alias",
            "leads nowhere",
            "the queue is full",
            "cancelled before it began",
        ];
        if never.iter().any(|never| words.contains(never)) {
            Ending::Untouched
        } else {
            Ending::Failed
        }
    }

    fn word(ending: Ending) -> &'static str {
        match ending {
            Ending::Done => "done",
            Ending::Failed => "failed",
            Ending::Untouched => "not begun",
        }
    }

    /// Counts a request that was a ticket of its own.
    fn count(&mut self, kind: &'static str, command: Command, ending: Ending) {
        self.books.asked(kind, Self::word(ending));
        self.books.ticket(command, ending == Ending::Done);
    }

    /// Without an answer nothing is known of the outlet.
    fn lost(&mut self, index: usize, kind: &'static str, command: Command, why: &str) {
        self.books.asked(kind, "NO ANSWER");
        self.books.unseen(command);
        self.outlets[index].entry.is_loose = true;
        let what = format!(
            "{kind} {} of {} {}: {why}",
            command.word(),
            self.name(index),
            self.outlets[index].id
        );
        self.wrong(&what);
    }

    fn legacy_ending(answer: &Answer) -> Result<Ending, String> {
        match answer {
            (200, body) if body == "OK - accepted request\n" => Ok(Ending::Done),
            (503, body) if body.starts_with("Invalid request: ") && body.ends_with('\n') => {
                Ok(Self::failure(body))
            }
            other => Err(format!("an odd answer: {other:?}")),
        }
    }

    /// A request as the API shows it, once it has ended, or a problem in its place.
    fn api_ending(answer: &Answer) -> Result<Ending, String> {
        let odd = || format!("an odd answer: {answer:?}");
        let body: Value = serde_json::from_str(&answer.1).map_err(|_| odd())?;
        match answer.0 {
            200 => match (&body["progress"], &body["ok"]) {
                (Value::String(ended), Value::Bool(ok)) if ended == "ended" => Ok(if *ok {
                    Ending::Done
                } else {
                    Self::failure(body["problem"]["detail"].as_str().ok_or_else(odd)?)
                }),
                _ => Err(odd()),
            },
            400..=599 => Ok(Self::failure(body["detail"].as_str().ok_or_else(odd)?)),
            _ => Err(odd()),
        }
    }

    // ---- the wire ---------------------------------------------------------------------------

    fn connect(&self) -> Result<BufReader<TcpStream>, String> {
        let stream = TcpStream::connect_timeout(&self.address, PATIENCE)
            .map_err(|error| format!("no connection: {error}"))?;
        let patience = Some(PATIENCE);
        stream.set_read_timeout(patience).expect("set");
        stream.set_write_timeout(patience).expect("set");
        stream.set_nodelay(true).expect("set");
        Ok(BufReader::new(stream))
    }

    fn message(method: &str, target: &str, body: Option<&Value>, is_last: bool) -> String {
        let mut text = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n");
        if is_last {
            text += "Connection: close\r\n";
        }
        match body {
            Some(body) => {
                let body = body.to_string();
                let length = body.len();
                text += &format!(
                    "Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
                );
            }
            None => text += "\r\n",
        }
        text
    }

    /// One request on the kept connection.
    fn http(&mut self, method: &str, target: &str, body: Option<&Value>) -> Result<Answer, String> {
        let kept = self.kept.take().filter(|(_, used)| used.elapsed() < IDLE);
        let mut line = match kept {
            Some((line, _)) => line,
            None => self.connect()?,
        };
        let began = Instant::now();
        let message = Self::message(method, target, body, false);
        let sent = line.get_mut().write_all(message.as_bytes());
        sent.map_err(|error| format!("not sent: {error}"))?;
        let answer = read_answer(&mut line)?;
        if !line.buffer().is_empty() {
            return Err("more than one answer".into());
        }
        self.books.waited(began.elapsed().as_secs_f64());
        self.kept = Some((line, Instant::now()));
        Ok(answer)
    }

    /// One request on a connection of its own, which must end with the answer.
    fn http_once(&mut self, method: &str, target: &str) -> Result<Answer, String> {
        let began = Instant::now();
        let mut line = self.connect()?;
        let message = Self::message(method, target, None, true);
        let sent = line.get_mut().write_all(message.as_bytes());
        sent.map_err(|error| format!("not sent: {error}"))?;
        let answer = read_answer(&mut line)?;
        let mut rest = Vec::new();
        line.read_to_end(&mut rest)
            .map_err(|error| format!("no end after the answer: {error}"))?;
        if !rest.is_empty() {
            return Err(format!(
                "more than one answer: {:?}",
                rest.escape_ascii().to_string()
            ));
        }
        self.books.waited(began.elapsed().as_secs_f64());
        Ok(answer)
    }

    // ---- the ways ---------------------------------------------------------------------------

    fn legacy_target(&mut self, index: usize, command: Command) -> String {
        let mut target = format!(
            "/power/control/{}?hostname={}&port={}",
            command.word(),
            self.name(index),
            self.id(index)
        );
        if command == Command::Reboot {
            target += &format!("&delay={}", self.pause());
        }
        target
    }

    fn path(&mut self, index: usize, command: Command, keep: bool) {
        let kind = if keep {
            "path, kept connection"
        } else {
            "path, one connection"
        };
        let target = self.legacy_target(index, command);
        let answer = if keep {
            self.http("GET", &target, None)
        } else {
            self.http_once("GET", &target)
        };
        match answer.and_then(|answer| Self::legacy_ending(&answer)) {
            Err(why) => self.lost(index, kind, command, &why),
            Ok(ending) => {
                self.count(kind, command, ending);
                self.ended(index, command, ending, kind);
            }
        }
    }

    fn line(&mut self, index: usize, command: Command) {
        let kind = "line";
        let began = Instant::now();
        let mut line = format!(
            "{} {} {}",
            self.name(index),
            self.outlets[index].id,
            command.word()
        );
        if command == Command::Reboot {
            line += &format!(" {}", self.pause());
        }
        let ends_line = self.dice.chance(50);
        let talk = || -> Result<Vec<u8>, String> {
            let mut stream = self.connect()?;
            let inner = stream.get_mut();
            let mut said = line.into_bytes();
            if ends_line {
                said.push(b'\n');
            }
            inner
                .write_all(&said)
                .map_err(|error| format!("not sent: {error}"))?;
            if !ends_line {
                inner
                    .shutdown(Shutdown::Write)
                    .map_err(|error| error.to_string())?;
            }
            let mut answer = Vec::new();
            stream
                .read_to_end(&mut answer)
                .map_err(|error| format!("no answer: {error}"))?;
            Ok(answer)
        };
        let answer = talk();
        self.books.waited(began.elapsed().as_secs_f64());
        let ending = match answer.as_deref() {
            Ok(b"ack\n") => Ending::Done,
            // It does not say why.
            Ok(b"nack\n") => Ending::Failed,
            Ok(other) => {
                let why = format!("an odd answer: {}", other.escape_ascii());
                return self.lost(index, kind, command, &why);
            }
            Err(why) => {
                let why = why.clone();
                return self.lost(index, kind, command, &why);
            }
        };
        self.count(kind, command, ending);
        self.ended(index, command, ending, kind);
    }

    /// Method, target and body of a command in the API.
    fn api_request(
        &mut self,
        base: &str,
        command: Command,
        query: &str,
    ) -> (&'static str, String, Option<Value>) {
        match command {
            Command::On | Command::Off => (
                "PUT",
                format!("{base}/state{query}"),
                Some(json!({"state": command.word()})),
            ),
            Command::Reboot => (
                "POST",
                format!("{base}/reboot{query}"),
                Some(json!({"delay": self.pause()})),
            ),
            Command::State => ("GET", format!("{base}/state"), None),
        }
    }

    fn base(&self, index: usize) -> String {
        format!(
            "/api/v1/pdus/{}/outlets/{}",
            self.name(index),
            self.id(index)
        )
    }

    fn put(&mut self, index: usize, command: Command) {
        let kind = "API, waited for";
        let (method, target, body) = self.api_request(&self.base(index), command, "");
        let answer = self.http(method, &target, body.as_ref());
        match answer.and_then(|answer| Self::api_ending(&answer)) {
            Err(why) => self.lost(index, kind, command, &why),
            Ok(ending) => {
                self.count(kind, command, ending);
                self.ended(index, command, ending, kind);
            }
        }
    }

    /// Submits without waiting: the request's number, or how it was refused.
    fn submit(&mut self, index: usize, command: Command) -> Result<Result<u64, Ending>, String> {
        let (method, target, body) = self.api_request(&self.base(index), command, "?wait=false");
        let answer = self.http(method, &target, body.as_ref())?;
        let odd = || format!("an odd answer: {answer:?}");
        let body: Value = serde_json::from_str(&answer.1).map_err(|_| odd())?;
        match answer.0 {
            202 => Ok(Ok(body["id"].as_u64().ok_or_else(odd)?)),
            400..=599 => match Self::failure(body["detail"].as_str().ok_or_else(odd)?) {
                Ending::Untouched => Ok(Err(Ending::Untouched)),
                Ending::Done | Ending::Failed => Err(odd()),
            },
            _ => Err(odd()),
        }
    }

    /// Follows a request to its end; nothing when it is forgotten by then.
    fn follow(&mut self, id: u64) -> Result<Option<Ending>, String> {
        let until = Instant::now() + PATIENCE;
        loop {
            let answer = self.http("GET", &format!("/api/v1/requests/{id}?wait=20"), None)?;
            if answer.0 == 404 {
                return Ok(None);
            }
            let body: Value = serde_json::from_str(&answer.1).unwrap_or_default();
            if answer.0 == 200
                && ["waiting", "running"]
                    .iter()
                    .any(|word| body["progress"] == *word)
            {
                if Instant::now() > until {
                    return Err(format!("request {id} does not end"));
                }
                continue;
            }
            return Self::api_ending(&answer).map(Some);
        }
    }

    /// What following gave; the outlet is not looked at, as another command may be under way.
    fn followed(
        &mut self,
        index: usize,
        command: Command,
        kind: &'static str,
        end: Result<Option<Ending>, String>,
    ) {
        match end {
            Err(why) => self.lost(index, kind, command, &why),
            Ok(Some(ending)) => {
                self.count(kind, command, ending);
                self.outlets[index].entry.note(command, ending);
            }
            Ok(None) => {
                self.books.asked(kind, "forgotten");
                self.books.unseen(command);
                let entry = &mut self.outlets[index].entry;
                entry.note(command, Ending::Failed);
            }
        }
    }

    fn follow_one(&mut self, index: usize, command: Command) {
        let kind = "API, followed";
        match self.submit(index, command) {
            Err(why) => self.lost(index, kind, command, &why),
            Ok(Err(ending)) => self.count(kind, command, ending),
            Ok(Ok(id)) => {
                let end = self.follow(id);
                self.followed(index, command, kind, end);
                self.look_at(index, kind);
            }
        }
    }

    /// Two requests at once, and the second taken back, unless it has begun.
    fn cancel(&mut self, index: usize, first: Command) {
        let kind = "API, two, one cancelled";
        let second = self.command();
        let mut ids = Vec::new();
        for command in [first, second] {
            match self.submit(index, command) {
                Err(why) => self.lost(index, kind, command, &why),
                Ok(Err(ending)) => self.count(kind, command, ending),
                Ok(Ok(id)) => ids.push((id, command)),
            }
        }
        if let [_, (id, _)] = ids[..] {
            match self.http("DELETE", &format!("/api/v1/requests/{id}"), None) {
                Ok((200 | 409 | 404, _)) => {}
                other => self.wrong(&format!("DELETE of request {id}: {other:?}")),
            }
        }
        for (id, command) in ids {
            let end = self.follow(id);
            self.followed(index, command, kind, end);
        }
        self.look_at(index, kind);
    }

    /// One command for several outlets.
    fn many(&mut self, command: Command) {
        let kind = "API, many targets";
        let start = self.dice.below(self.outlets.len());
        let count = 2 + self.dice.below(6);
        let picked: Vec<usize> = (start..self.outlets.len()).take(count).collect();
        let targets: Vec<String> = picked
            .iter()
            .map(|index| format!("{}:{}", self.name(*index), self.outlets[*index].id))
            .collect();
        let mut body = json!({"targets": targets, "command": command.word()});
        if command == Command::Reboot {
            body["delay"] = json!(self.pause());
        }
        let answer = self.http("POST", "/api/v1/requests", Some(&body));
        let (status, text) = match answer {
            Ok(answer) => answer,
            Err(why) => return self.lost_all(&picked, kind, command, &why),
        };
        let odd = format!("an odd answer: {status} {text}");
        let Ok(body) = serde_json::from_str::<Value>(&text) else {
            return self.lost_all(&picked, kind, command, &odd);
        };
        let Some(results) = body["results"].as_array() else {
            // Refused whole: a target's PDU is not in the config just now.
            let detail = body["detail"].as_str().unwrap_or_default();
            if Self::failure(detail) == Ending::Untouched {
                return self.books.asked(kind, "refused whole");
            }
            return self.lost_all(&picked, kind, command, &odd);
        };
        if results.len() != picked.len() {
            return self.lost_all(&picked, kind, command, &odd);
        }
        let mut done = 0;
        for (index, result) in picked.iter().zip(results) {
            let ending = match result["ok"].as_bool() {
                Some(true) => Ending::Done,
                _ => Self::failure(result["problem"]["detail"].as_str().unwrap_or_default()),
            };
            done += usize::from(ending == Ending::Done);
            self.count(kind, command, ending);
            self.ended(*index, command, ending, kind);
        }
        let right = match done {
            0 => 502,
            done if done == results.len() => 200,
            _ => 207,
        };
        if status != right {
            self.wrong(&format!(
                "{kind}: status {status} for {done} of {} done",
                results.len()
            ));
        }
    }

    fn lost_all(&mut self, picked: &[usize], kind: &'static str, command: Command, why: &str) {
        for index in picked {
            self.lost(*index, kind, command, why);
        }
    }

    /// The lane's alias: its first outlets together.
    fn alias(&mut self, command: Command) {
        let all: Vec<usize> = (0..ALIASED).collect();
        let name = alias_name(self.number);
        let (kind, answer) = if self.dice.chance(50) {
            let mut target = format!("/power/control/{}?alias={name}", command.word());
            if command == Command::Reboot {
                target += &format!("&delay={}", self.pause());
            }
            let answer = self.http("GET", &target, None);
            (
                "alias, path",
                answer.and_then(|answer| Self::legacy_ending(&answer)),
            )
        } else {
            let base = format!("/api/v1/aliases/{name}");
            let (method, target, body) = self.api_request(&base, command, "");
            let answer = self.http(method, &target, body.as_ref());
            (
                "alias, API",
                answer.and_then(|answer| Self::api_ending(&answer)),
            )
        };
        match answer {
            Err(why) => {
                self.lost_all(&all, kind, command, &why);
            }
            Ok(ending) => {
                self.count(kind, command, ending);
                for index in all {
                    self.ended(index, command, ending, kind);
                }
            }
        }
    }

    /// Asks, and leaves before the answer. How it ended is found among the daemon's requests.
    fn leave(&mut self, index: usize, command: Command) {
        let kind = "left before the answer";
        let newest = match self.requests(1) {
            Ok(requests) => requests.first().and_then(|newest| newest["id"].as_u64()),
            Err(why) => return self.wrong(&format!("{kind}: the list of requests: {why}")),
        };
        let message = if self.dice.chance(60) {
            let target = self.legacy_target(index, command);
            Self::message("GET", &target, None, false)
        } else {
            let id = self.outlets[index].id;
            format!("{} {id} {}\n", self.name(index), command.word())
        };
        let gone = self.connect().and_then(|mut line| {
            let sent = line.get_mut().write_all(message.as_bytes());
            sent.map_err(|error| format!("not sent: {error}"))?;
            std::thread::sleep(Duration::from_millis(self.dice.below(20) as u64));
            Ok(())
        });
        if let Err(why) = gone {
            return self.lost(index, kind, command, &why);
        }
        let until = Instant::now() + SEARCH;
        while Instant::now() < until {
            let requests = match self.requests(300) {
                Ok(requests) => requests,
                Err(why) => return self.lost(index, kind, command, &why),
            };
            let mine = requests.iter().find(|request| {
                request["id"].as_u64() > newest
                    && request["target"]["pdu"] == *self.name(index)
                    && request["target"]["outlet"] == self.outlets[index].id
            });
            if let Some(id) = mine.and_then(|mine| mine["id"].as_u64()) {
                let end = self.follow(id);
                self.followed(index, command, kind, end);
                return self.look_at(index, kind);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        // The daemon may never have read it, or have forgotten it already.
        self.books.asked(kind, "never seen");
        self.books.unseen(command);
        self.outlets[index].entry.is_loose = true;
    }

    fn requests(&mut self, limit: usize) -> Result<Vec<Value>, String> {
        let answer = self.http("GET", &format!("/api/v1/requests?limit={limit}"), None)?;
        let mut body: Value = serde_json::from_str(&answer.1).map_err(|_| answer.1.clone())?;
        match body["requests"].take() {
            Value::Array(requests) if answer.0 == 200 => Ok(requests),
            _ => Err(format!("an odd answer: {answer:?}")),
        }
    }

    /// Reads a state in one of three ways.
    fn read(&mut self, index: usize, how: usize) {
        let certain = self.outlets[index].entry;
        let (kind, (ending, state)) = match how {
            0 => {
                let target = self.legacy_target(index, Command::State);
                let kind = "state, path";
                let answer = match self.http("GET", &target, None) {
                    Ok(answer) => answer,
                    Err(why) => return self.lost(index, kind, Command::State, &why),
                };
                let state = match (answer.0, answer.1.as_str()) {
                    (200, "on\n") => (Ending::Done, Some(true)),
                    (200, "off\n") => (Ending::Done, Some(false)),
                    (503, body) if body.starts_with("Invalid request: ") => (Ending::Failed, None),
                    _ => {
                        let why = format!("an odd answer: {answer:?}");
                        return self.lost(index, kind, Command::State, &why);
                    }
                };
                (kind, state)
            }
            1 => {
                let kind = "state, API";
                let target = format!("{}/state", self.base(index));
                match self.http("GET", &target, None).and_then(api_state) {
                    Ok(state) => (kind, state),
                    Err(why) => return self.lost(index, kind, Command::State, &why),
                }
            }
            _ => {
                let kind = "state, last known";
                let target = format!("{}/state?last=true", self.base(index));
                match self.http("GET", &target, None).and_then(api_state) {
                    // What is known is as old as the last command; only a certain one is right.
                    Ok((_, Some(is_on))) if certain.is_certain() && !certain.allows_now(is_on) => {
                        let what = format!(
                            "{} {}: last known to be {is_on}, must be {}",
                            self.name(index),
                            self.outlets[index].id,
                            certain.words()
                        );
                        self.wrong(&what);
                    }
                    Ok(_) => {}
                    Err(why) => self.wrong(&format!("{kind}: {why}")),
                }
                return self.books.asked(kind, "done");
            }
        };
        self.count(kind, Command::State, ending);
        if let Some(is_on) = state.filter(|is_on| !certain.allows_now(*is_on)) {
            let what = format!(
                "{} {}: read as {}, must be {}",
                self.name(index),
                self.outlets[index].id,
                if is_on { "on" } else { "off" },
                certain.words()
            );
            self.wrong(&what);
        }
    }

    /// Lists, metrics, the page.
    fn look(&mut self) {
        let target = *self.dice.of(&[
            "/api/v1/pdus",
            "/metrics",
            "/",
            "/healthz",
            "/api/v1/aliases",
        ]);
        let kind = "lists, page, metrics";
        match self.http("GET", target, None) {
            // /healthz tells of a driver call past its deadline.
            Ok((200, body)) if !body.is_empty() => self.books.asked(kind, "done"),
            other => self.wrong(&format!("{target}: {other:?}")),
        }
    }

    /// Requests that make no sense: refused, each in its own way.
    fn nonsense(&mut self, index: usize) {
        let kind = "nonsense";
        let name = self.name(index);
        let (target, right) = match self.dice.below(4) {
            0 => ("/power/control/on?hostname=nobody&port=1".to_owned(), 503),
            1 => (
                "/power/control/explode?hostname=pdu001&port=1".to_owned(),
                404,
            ),
            2 => (format!("/power/control/on?hostname={name}"), 503),
            _ => ("/api/v1/nothing".to_owned(), 404),
        };
        match self.http("GET", &target, None) {
            Ok((status, _)) if status == right => self.books.asked(kind, "refused"),
            other => self.wrong(&format!("{target}: {other:?}")),
        }
        if target.contains("nobody") {
            // It came as far as the queues, and was refused there.
            self.books.ticket(Command::On, false);
        }
    }
}

/// The name of a lane's alias.
pub(crate) fn alias_name(lane: usize) -> String {
    format!("client{lane}")
}

/// The state in an API answer, which may be unknown. A problem is a failure.
fn api_state(answer: Answer) -> Result<(Ending, Option<bool>), String> {
    let body: Value = serde_json::from_str(&answer.1).map_err(|_| format!("odd: {answer:?}"))?;
    match (answer.0, body["state"].as_str()) {
        (200, Some("on")) => Ok((Ending::Done, Some(true))),
        (200, Some("off")) => Ok((Ending::Done, Some(false))),
        // An answer, but not the one that was asked for; the daemon counts it so as well.
        (200, Some("unknown")) => Ok((Ending::Failed, None)),
        (200, None) => Ok((Ending::Done, None)),
        (400..=599, _) if body["detail"].is_string() => Ok((Ending::Failed, None)),
        _ => Err(format!("an odd answer: {answer:?}")),
    }
}

/// Reads one answer, strictly: status line, heads, as many bytes as `Content-Length` says.
fn read_answer(line: &mut impl BufRead) -> Result<Answer, String> {
    let mut status = None;
    let mut length = None;
    loop {
        let mut text = String::new();
        match line.read_line(&mut text) {
            Ok(0) => return Err("the connection ended without a whole answer".into()),
            Ok(_) => {}
            Err(error) => return Err(format!("no answer: {error}")),
        }
        let Some(text) = text.strip_suffix("\r\n") else {
            return Err(format!("an odd line in the head: {text:?}"));
        };
        if status.is_none() {
            let code = text
                .strip_prefix("HTTP/1.1 ")
                .and_then(|rest| rest.get(..3)?.parse().ok());
            status = Some(code.ok_or_else(|| format!("an odd status line: {text:?}"))?);
        } else if text.is_empty() {
            break;
        } else if let Some((name, value)) = text.split_once(": ") {
            if name.eq_ignore_ascii_case("content-length") {
                length = value.parse().ok();
            }
        } else {
            return Err(format!("an odd line in the head: {text:?}"));
        }
    }
    let (Some(status), Some(length)) = (status, length) else {
        return Err("no Content-Length".into());
    };
    let mut body: Vec<u8> = vec![0; length];
    line.read_exact(&mut body)
        .map_err(|error| format!("half a body: {error}"))?;
    let body = String::from_utf8(body).map_err(|_| "a body that is no text".to_owned())?;
    Ok((status, body))
}
