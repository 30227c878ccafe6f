//! The engine of MQTT profiles: publishes what switches, and takes what the PDU says of itself.
//!
//! What the broker answers proves nothing about the PDU. So the state is proof alone: a message that
//! follows our question, or, where a profile has none, the last one that the PDU has left with the
//! broker. Whatever came before the question is taken in first, so that it is not taken for the answer.

use super::profile::engine::{self, Engine, filled, pattern};
use super::profile::holes::Fillings;
use super::profile::script::Stage;
use super::profile::{Bound, Profile, Publish, Tape, Test, Topics, proof};
use super::{Built, DriverError, Host};
use crate::request::Switch;
use crate::settings::{Key, Keys, Secret, Settings, SettingsError, TextOrNumber, keys, words};
use crate::transport::kept::{Kept, Opener};
use crate::transport::mqtt::{Broker, Message, MqttError, Session};
use crate::transport::tls::Trust;
use crate::transport::{Attempt, Deadline, Timed, TransportError, TransportErrorKind, printable};
use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How long a PDU may take to say its state, when the deadline is longer.
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);

keys! {
    /// Where the broker is, and who we are there.
    struct Reach {
        ..host: Host;
        port: Option<NonZeroU16> => "1883", "the broker's TCP port; with mqtts 8883 unless told otherwise";
        protocol: Scheme = "mqtt", "mqtts is MQTT over TLS";
        insecure: bool = false, "accept any certificate (mqtts)";
        ca_file: Option<PathBuf>, "PEM file with the broker's certificate or its authority's (mqtts)";
        username: Option<TextOrNumber>, "user name at the broker";
        password: Option<Secret>, "password at the broker";
    }
}

/// With or without TLS?
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Mqtt,
    Mqtts,
}

words! { Scheme: "mqtt" = Scheme::Mqtt, "mqtts" = Scheme::Mqtts }

/// The keys that every MQTT profile has.
pub(super) fn keys() -> Vec<Key> {
    Reach::rows()
}

impl Reach {
    fn broker(self, settings: &Settings) -> Result<Broker, SettingsError> {
        let tls = self.protocol == Scheme::Mqtts;
        if self.insecure && self.ca_file.is_some() {
            return Err(settings.error("insecure", "makes no sense together with ca_file"));
        }
        let usual = if tls { 8883 } else { 1883 };
        let port = self.port.map_or(usual, NonZeroU16::get);
        let address = self.host.address(settings, port)?;
        let trust = match self.ca_file {
            _ if self.insecure => Trust::Insecure,
            Some(file) => Trust::File(file),
            None => Trust::System,
        };
        let user = self.username.map(|user| user.0);
        let password = self.password.map(|password| password.reveal().to_owned());
        Ok(Broker::new(
            (address.host, address.port),
            tls.then_some(trust),
            (user, password),
        ))
    }
}

/// Opens connections to a broker, or to a test in its place.
trait Desk: Send {
    type Link: Link + Send;

    fn open(&mut self, deadline: Deadline) -> Result<Self::Link, DriverError>;
}

/// An open connection to a broker: see [`Session`].
trait Link {
    fn subscribe(&mut self, topics: &[String], deadline: Deadline) -> Result<(), DriverError>;
    fn publish<T: Timed>(&mut self, topic: &str, text: &str, timed: T) -> Result<(), DriverError>;
    fn settle(&mut self, deadline: Deadline) -> Result<(), DriverError>;
    fn wait(&mut self, deadline: Deadline) -> Result<(), DriverError>;
    fn latest(&self, topic: &str) -> Option<&Message>;
    fn forget(&mut self, topic: &str);
    fn leave(self, deadline: Deadline);
}

impl Desk for Broker {
    type Link = Session;

    fn open(&mut self, deadline: Deadline) -> Result<Session, DriverError> {
        Ok(Self::open(self, deadline)?)
    }
}

impl Link for Session {
    fn subscribe(&mut self, topics: &[String], deadline: Deadline) -> Result<(), DriverError> {
        Ok(Self::subscribe(self, topics, deadline)?)
    }

    fn publish<T: Timed>(&mut self, topic: &str, text: &str, timed: T) -> Result<(), DriverError> {
        Ok(Self::publish(self, topic, text, timed)?)
    }

    fn settle(&mut self, deadline: Deadline) -> Result<(), DriverError> {
        Ok(Self::settle(self, deadline)?)
    }

    fn wait(&mut self, deadline: Deadline) -> Result<(), DriverError> {
        Ok(Self::wait(self, deadline)?)
    }

    fn latest(&self, topic: &str) -> Option<&Message> {
        Self::latest(self, topic)
    }

    fn forget(&mut self, topic: &str) {
        Self::forget(self, topic);
    }

    fn leave(self, deadline: Deadline) {
        Self::leave(self, deadline);
    }
}

impl From<MqttError> for DriverError {
    fn from(error: MqttError) -> Self {
        match error {
            MqttError::LoginRefused(words) => Self::LoginRefused(words),
            MqttError::Refused(words) => Self::Refused(words),
            MqttError::Transport(error) => Self::Transport(error),
        }
    }
}

/// A PDU behind a broker, as its profile knows it.
struct Subscriber<D> {
    desk: D,
    topics: Arc<Topics>,
    bound: Bound,
}

/// The driver of a PDU with this profile; what it says to the PDU is written on the `tape`.
pub(super) fn build(
    profile: &Arc<Profile>,
    topics: &Arc<Topics>,
    settings: &Settings,
    tape: Option<&Tape>,
) -> Result<Built, SettingsError> {
    let reach: Reach = settings.keys()?;
    let bound = Bound::read(profile, settings)?;
    // A key with a wildcard in it is told before anything is switched.
    if let Some(outlet) = profile.ids.all().first() {
        let of_outlet = bound.fillings(outlet);
        let names = of_outlet.and_then(|fillings| topics.named(&fillings));
        names.map_err(|error| settings.error("driver", error.to_string()))?;
    }
    let desk = reach.broker(settings)?;
    Ok(match tape.cloned() {
        None => built(desk, topics, bound),
        Some(tape) => built(Taped { desk, tape }, topics, bound),
    })
}

/// The same with a broker that plays a dialogue.
pub(super) fn played(topics: &Arc<Topics>, bound: Bound, stage: Stage) -> Built {
    built(Scripted(stage), topics, bound)
}

fn built<D: Desk + 'static>(desk: D, topics: &Arc<Topics>, bound: Bound) -> Built {
    let topics = Arc::clone(topics);
    engine::built(Kept::new(Subscriber {
        desk,
        topics,
        bound,
    }))
}

impl Topics {
    /// Every topic that is listened to, for the outlet that fills the holes.
    fn named(&self, fillings: &Fillings) -> Result<Vec<String>, DriverError> {
        let offline = self.offline.iter().map(|(topic, _)| topic);
        let all = offline.chain(&self.state);
        all.map(|topic| filled(topic, fillings)).collect()
    }

    /// Says so if the PDU is not there: then nobody would hear a command.
    fn is_online(&self, link: &impl Link, fillings: &Fillings) -> Result<(), DriverError> {
        for (topic, says) in &self.offline {
            let topic = filled(topic, fillings)?;
            let Some(message) = link.latest(&topic) else {
                continue;
            };
            if pattern(says)?.is_match(&String::from_utf8_lossy(&message.text)) {
                let what = format!(
                    "the PDU is offline: {topic} says {}",
                    printable(&message.text)
                );
                return Err(TransportError::new(TransportErrorKind::NoConnection, what).into());
            }
        }
        Ok(())
    }
}

impl<D: Desk> Subscriber<D> {
    /// Subscribes to everything that is listened to, and takes in what came up to now.
    fn listen(
        &self,
        link: &mut D::Link,
        fillings: &Fillings,
        deadline: Deadline,
    ) -> Result<(), DriverError> {
        link.subscribe(&self.topics.named(fillings)?, deadline)?;
        link.settle(deadline)?;
        self.topics.is_online(link, fillings)
    }

    fn publish<T: Timed>(
        &self,
        link: &mut D::Link,
        publish: &Publish,
        fillings: &Fillings,
        timed: T,
    ) -> Result<(), DriverError> {
        let topic = filled(&publish.topic, fillings)?;
        link.publish(&topic, &filled(&publish.text, fillings)?, timed)
    }

    /// The message that tells the state. One in which the value is not found is passed over.
    fn said(
        &self,
        link: &mut D::Link,
        fillings: &Fillings,
        deadline: Deadline,
    ) -> Result<String, DriverError> {
        let Some(topic) = &self.topics.state else {
            let why = "its profile has no [state]";
            return Err(DriverError::CannotRead(why.to_owned()));
        };
        let topic = filled(topic, fillings)?;
        self.listen(link, fillings, deadline)?;
        if let Some(asks) = &self.topics.asks {
            link.forget(&topic);
            self.publish(link, asks, fillings, deadline)?;
        }
        let mut without = None;
        loop {
            let counts = |message: &&Message| self.topics.asks.is_none() || !message.is_retained;
            if let Some(message) = link.latest(&topic).filter(counts) {
                let text = String::from_utf8_lossy(&message.text).into_owned();
                match self.bound.profile.judge.value(&text, fillings) {
                    Ok(_) => return Ok(text),
                    Err(error) => without = Some(error),
                }
                link.forget(&topic);
            }
            match link.wait(deadline.within(ANSWER_PATIENCE)) {
                Ok(()) => self.topics.is_online(link, fillings)?,
                Err(DriverError::Transport(late)) if late.kind == TransportErrorKind::Timeout => {
                    let silent = || {
                        let what = format!("the PDU says nothing on {topic}");
                        TransportError::new(TransportErrorKind::Timeout, what).into()
                    };
                    return Err(without.unwrap_or_else(silent));
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl<D: Desk> Opener for Subscriber<D> {
    type Session = D::Link;
    type Error = DriverError;

    /// Less than what the broker waits for a sign of life.
    const IDLE: Duration = Duration::from_secs(50);

    fn open(&mut self, deadline: Deadline) -> Result<D::Link, DriverError> {
        self.desk.open(deadline)
    }

    fn leave(&self, link: D::Link, deadline: Deadline) {
        link.leave(deadline);
    }
}

impl<D: Desk> Engine for Kept<Subscriber<D>> {
    fn bound(&self) -> &Bound {
        &self.opener.bound
    }

    fn switch(
        &mut self,
        to: Switch,
        fillings: &Fillings,
        attempt: &Attempt,
    ) -> Result<(), DriverError> {
        self.call(attempt, |pdu, link| {
            pdu.listen(link, fillings, attempt.deadline())?;
            let publish = match to {
                Switch::On => &pdu.topics.on,
                Switch::Off => &pdu.topics.off,
            };
            pdu.publish(link, publish, fillings, attempt)
        })
    }

    fn answer(&mut self, fillings: &Fillings, deadline: Deadline) -> Result<String, DriverError> {
        self.call(deadline, |pdu, link| pdu.said(link, fillings, deadline))
    }

    fn rest(&mut self, deadline: Deadline) {
        Kept::rest(self, deadline);
    }
}

/// A broker whose dialogue is written down.
struct Taped<D> {
    desk: D,
    tape: Tape,
}

/// An open connection to it, with the last message of each topic that is written down.
struct TapedLink<L> {
    link: L,
    tape: Tape,
    seen: BTreeMap<String, Option<(Vec<u8>, bool)>>,
}

impl<D: Desk> Desk for Taped<D> {
    type Link = TapedLink<D::Link>;

    fn open(&mut self, deadline: Deadline) -> Result<Self::Link, DriverError> {
        Ok(TapedLink {
            link: self.desk.open(deadline)?,
            tape: self.tape.clone(),
            seen: BTreeMap::new(),
        })
    }
}

impl<L: Link> TapedLink<L> {
    /// Writes down what has come.
    fn heard(&mut self, result: Result<(), DriverError>) -> Result<(), DriverError> {
        for (topic, seen) in &mut self.seen {
            let said = self.link.latest(topic);
            let said = said.map(|said| (said.text.to_vec(), said.is_retained));
            if said == *seen {
                continue;
            }
            if let Some((text, is_retained)) = &said {
                let text = String::from_utf8_lossy(text).replace(['\r', '\n'], " ");
                let retained = if *is_retained { "retained " } else { "" };
                self.tape.answered(format!("{retained}{topic} {text}"));
            }
            *seen = said;
        }
        match &result {
            Err(DriverError::Transport(error)) if error.kind == TransportErrorKind::Closed => {
                self.tape.answered("closed");
            }
            _ => {}
        }
        result
    }
}

impl<L: Link> Link for TapedLink<L> {
    fn subscribe(&mut self, topics: &[String], deadline: Deadline) -> Result<(), DriverError> {
        for topic in topics
            .iter()
            .filter(|topic| !self.seen.contains_key(*topic))
        {
            self.tape.sent(format!("subscribe {topic}"));
        }
        let new = topics.iter().map(|topic| (topic.clone(), None));
        let known = std::mem::take(&mut self.seen);
        self.seen = new.chain(known).collect();
        let result = self.link.subscribe(topics, deadline);
        self.heard(result)
    }

    fn publish<T: Timed>(&mut self, topic: &str, text: &str, timed: T) -> Result<(), DriverError> {
        self.tape
            .sent(format!("publish {topic} {text}").trim().to_owned());
        let result = self.link.publish(topic, text, timed);
        self.heard(result)
    }

    fn settle(&mut self, deadline: Deadline) -> Result<(), DriverError> {
        let result = self.link.settle(deadline);
        self.heard(result)
    }

    fn wait(&mut self, deadline: Deadline) -> Result<(), DriverError> {
        let result = self.link.wait(deadline);
        self.heard(result)
    }

    fn latest(&self, topic: &str) -> Option<&Message> {
        self.link.latest(topic)
    }

    fn forget(&mut self, topic: &str) {
        self.link.forget(topic);
        if let Some(seen) = self.seen.get_mut(topic) {
            *seen = None;
        }
    }

    fn leave(self, deadline: Deadline) {
        self.link.leave(deadline);
    }
}

/// A broker that plays a dialogue: `> subscribe TOPIC`, `> publish TOPIC TEXT`; `< TOPIC TEXT`,
/// `< retained TOPIC TEXT`, `< closed`.
struct Scripted(Stage);

/// What it has yet to say, and what it has said.
struct Heard {
    stage: Stage,
    rest: VecDeque<String>,
    topics: BTreeMap<String, Option<Message>>,
    /// Has everything been said, and been looked at?
    is_over: bool,
}

impl Desk for Scripted {
    type Link = Heard;

    fn open(&mut self, _: Deadline) -> Result<Heard, DriverError> {
        Ok(Heard {
            stage: self.0.clone(),
            rest: self.0.greeting().into(),
            topics: BTreeMap::new(),
            is_over: false,
        })
    }
}

impl Heard {
    fn sent(&mut self, line: &str) -> Result<(), DriverError> {
        let strange = |got| DriverError::Unexpected {
            expected: "what the test has".to_owned(),
            got,
        };
        let answers = self.stage.answers(line.trim()).map_err(strange)?;
        self.rest.extend(answers);
        Ok(())
    }
}

impl Link for Heard {
    fn subscribe(&mut self, topics: &[String], _: Deadline) -> Result<(), DriverError> {
        for topic in topics {
            if !self.topics.contains_key(topic) {
                self.topics.insert(topic.clone(), None);
                self.sent(&format!("subscribe {topic}"))?;
            }
        }
        Ok(())
    }

    fn publish<T: Timed>(&mut self, topic: &str, text: &str, timed: T) -> Result<(), DriverError> {
        timed.sent();
        self.sent(&format!("publish {topic} {text}"))
    }

    fn settle(&mut self, deadline: Deadline) -> Result<(), DriverError> {
        if self.is_over {
            // Who looks again waits for another state, which never comes.
            return self.wait(deadline);
        }
        while !self.rest.is_empty() {
            self.wait(deadline)?;
        }
        self.is_over = self.stage.is_over();
        Ok(())
    }

    fn wait(&mut self, _: Deadline) -> Result<(), DriverError> {
        let error = |kind, what: &str| Err(TransportError::new(kind, what).into());
        let Some(line) = self.rest.pop_front() else {
            return error(TransportErrorKind::Timeout, "the test says no more");
        };
        if line == "closed" {
            return error(TransportErrorKind::Closed, "the test closes the connection");
        }
        let (said, is_retained) = match line.strip_prefix("retained ") {
            Some(said) => (said, true),
            None => (line.as_str(), false),
        };
        // A topic may have blanks: the longest that fits is meant.
        let known = self.topics.iter_mut().rev().find_map(|(topic, message)| {
            let text = said.strip_prefix(topic.as_str())?;
            (text.is_empty() || text.starts_with(' ')).then_some((message, text.trim()))
        });
        let Some((message, text)) = known else {
            let what = format!("nobody has subscribed to the topic of < {line}");
            return error(TransportErrorKind::Garbled, &what);
        };
        *message = Some(Message {
            text: text.into(),
            is_retained,
        });
        Ok(())
    }

    fn latest(&self, topic: &str) -> Option<&Message> {
        self.topics.get(topic)?.as_ref()
    }

    fn forget(&mut self, topic: &str) {
        self.topics.insert(topic.to_owned(), None);
    }

    fn leave(self, _: Deadline) {}
}

/// Runs one of the profile's tests; says what went another way.
pub(super) fn prove(
    profile: &Arc<Profile>,
    topics: &Arc<Topics>,
    test: &Test,
) -> Result<(), String> {
    proof::play(profile, test, str::to_owned, |bound, stage| {
        played(topics, bound, stage)
    })
}
