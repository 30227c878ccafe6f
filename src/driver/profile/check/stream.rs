//! What is sent over a stream: the steps of a dialogue, the bytes for a board.

use super::{Checker, Of};
use crate::driver::profile::answer;
use crate::driver::profile::holes::Place;
use crate::driver::profile::octets::Octets;
use crate::driver::profile::written::{self, File};
use crate::driver::profile::{Over, Raw, Site, Step, Swap, Talk, Typed, Until};

impl Checker {
    pub(super) fn talk(&mut self, written: &File) -> Talk {
        let line = &written.line;
        let over = match line.over.is_empty() {
            true => vec![Over::Telnet],
            false => line.over.clone(),
        };
        let failures = self.failures("errors", &written.errors);
        self.reaches(&over);
        let eol = line.eol.clone().unwrap_or_else(|| "\r\n".to_owned());
        if eol.len() > 4 {
            self.fault("line.eol", "expected at most 4 characters");
        }
        let mut of = |path: &str, action: Option<&written::Action>, of| {
            let steps = action.and_then(|action| action.steps.as_ref());
            let steps = steps.map(Vec::as_slice).unwrap_or_default();
            if steps.len() > 32 {
                self.fault(path, "expected at most 32 steps");
            }
            let is_strange = |step: &written::Step| step.over.iter().any(|one| !over.contains(one));
            if steps.iter().any(is_strange) {
                self.fault(path, "a step is for what [line] over does not name");
            }
            let numbered = steps.iter().enumerate();
            let read = numbered.map(|(at, step)| {
                let path = format!("{path}.steps.{at}");
                self.step(&path, step, of, line.prompt.as_deref(), &failures)
            });
            read.collect()
        };
        Talk {
            login: of("login", written.login.as_ref(), Of::Pdu),
            logout: of("logout", written.logout.as_ref(), Of::Pdu),
            on: of("on", Some(&written.on), Of::Outlet),
            off: of("off", Some(&written.off), Of::Outlet),
            state: of("state", written.state.as_ref(), Of::Outlet),
            site: Site {
                port: line.port.unwrap_or(23),
                baud: line.baud.unwrap_or(9600),
                over,
            },
            eol,
        }
    }

    /// Can a PDU be reached so?
    fn reaches(&mut self, over: &[Over]) {
        for key in ["username", "password"] {
            if over.contains(&Over::Ssh) && !self.of_keys.contains(key) {
                self.fault("line.over", format!("ssh needs [keys.{key}]"));
            }
        }
    }

    fn step(
        &mut self,
        path: &str,
        step: &written::Step,
        of: Of,
        prompt: Option<&str>,
        failures: &[(String, written::Failure)],
    ) -> Step {
        let typed = match (&step.send, &step.key) {
            (Some(line), None) => Some(("send", line, true)),
            (None, Some(key)) => Some(("key", key, false)),
            (None, None) => None,
            (Some(_), Some(_)) => {
                self.fault(path, "expected send or key, not both");
                None
            }
        };
        if typed.is_none() && step.expect.is_none() {
            self.fault(path, "expected send, key or expect");
        }
        let send = typed.and_then(|(key, text, is_line)| {
            let text = self.text(&format!("{path}.{key}"), text, Place::Line, of)?;
            Some(Typed { text, is_line })
        });
        let expect = match (step.expect.as_deref(), prompt) {
            (None, _) => None,
            (Some("prompt"), Some(prompt)) => self.text("line.prompt", prompt, Place::Pattern, of),
            (Some("prompt"), None) => {
                self.fault(format!("{path}.expect"), "expected [line] with a prompt");
                None
            }
            (Some(pattern), _) => self.text(&format!("{path}.expect"), pattern, Place::Pattern, of),
        };
        let mut answers = Vec::new();
        for (pattern, typed) in &step.answer {
            self.told(&format!("{path}.answer"), answer::compile(pattern));
            let (text, is_line) = match typed {
                written::Typed::Line(text) => (text, true),
                written::Typed::Key(typed) => (&typed.key, false),
            };
            let text = self.text(&format!("{path}.answer"), text, Place::Line, of);
            answers.extend(text.map(|text| (pattern.clone(), Typed { text, is_line })));
        }
        let mut all = failures.to_vec();
        all.extend(self.failures(&format!("{path}.else"), &step.other));
        Step {
            send,
            expect,
            answers,
            over: step.over.clone(),
            failures: all,
        }
    }

    pub(super) fn raw(&mut self, written: &File) -> Raw {
        let bytes = &written.bytes;
        if bytes.over.is_empty()
            || bytes
                .over
                .iter()
                .any(|over| matches!(over, Over::Telnet | Over::Ssh))
        {
            self.fault("bytes.over", "expected tcp, serial or both");
        }
        if bytes.over.contains(&Over::Tcp) && bytes.port.is_none() {
            self.fault("bytes.port", "expected the port that the PDU listens on");
        }
        let mut of = |path: &str, action: Option<&written::Action>, of| {
            let swap = action.and_then(|action| self.swap(path, action, of));
            swap.into_iter().collect()
        };
        Raw {
            login: of("login", written.login.as_ref(), Of::Pdu),
            on: of("on", Some(&written.on), Of::Outlet),
            off: of("off", Some(&written.off), Of::Outlet),
            state: of("state", written.state.as_ref(), Of::Outlet),
            site: Site {
                over: bytes.over.clone(),
                port: bytes.port.unwrap_or(0),
                baud: bytes.baud.unwrap_or(9600),
            },
        }
    }

    fn swap(&mut self, path: &str, action: &written::Action, of: Of) -> Option<Swap> {
        let Some(write) = &action.write else {
            self.fault(path, "expected write: the bytes that are sent");
            return None;
        };
        let write = self.octets(&format!("{path}.write"), write, of);
        let read = action.read.as_ref();
        let until = match read.map(|read| (read.bytes, &read.until)) {
            None => None,
            Some((Some(count), None)) if (1..=4096).contains(&count) => Some(Until::Count(count)),
            Some((None, Some(pattern))) => {
                let pattern = self.text(&format!("{path}.read.until"), pattern, Place::Pattern, of);
                pattern.map(Until::Pattern)
            }
            Some(_) => {
                self.fault(
                    format!("{path}.read"),
                    "expected bytes = 1 to 4096, or until = 'PATTERN'",
                );
                None
            }
        };
        if path == "state" && read.is_none() {
            self.fault(path, "expected read: how the answer ends");
        }
        let is = match read.and_then(|read| read.is.as_ref()) {
            None => None,
            Some(is) => Some(self.octets(&format!("{path}.read.is"), is, of)?),
        };
        Some(Swap {
            write: write?,
            until,
            is,
        })
    }

    fn octets(&mut self, path: &str, text: &str, of: Of) -> Option<Octets> {
        let mut templates = Vec::new();
        let octets = Octets::parse(text, |template, place| {
            templates.push((template.clone(), place));
            Ok(())
        });
        let octets = self.told(path, octets)?;
        for (template, place) in templates {
            self.known(path, template, place, of)?;
        }
        Some(octets)
    }
}
