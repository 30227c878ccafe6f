//! The messages for a PDU behind a broker, and what it says of itself.

use super::{Checker, Of};
use crate::driver::profile::answer;
use crate::driver::profile::holes::{Place, Template};
use crate::driver::profile::written::{self, File};
use crate::driver::profile::{Publish, Topics};

impl Checker {
    pub(super) fn topics(&mut self, written: &File) -> Option<Topics> {
        let offline = written::each(written.mqtt.offline.as_ref())
            .iter()
            .filter_map(|offline| self.offline(offline));
        let offline: Vec<(Template, String)> = offline.collect();
        let (on, off) = (
            self.publish("on", &written.on),
            self.publish("off", &written.off),
        );
        let state = written.state.as_ref();
        let asks = match state {
            Some(state) if state.publish.is_some() => self.publish("state", state),
            _ => None,
        };
        let topic = match state.map(|state| &state.awaits) {
            Some(Some(topic)) => self.text("state.await", topic, Place::Topic, Of::Outlet),
            Some(None) => {
                self.fault("state", "expected await: the topic that tells the state");
                None
            }
            None => None,
        };
        Some(Topics {
            offline,
            on: on?,
            off: off?,
            asks,
            state: topic,
        })
    }

    fn offline(&mut self, written: &written::Offline) -> Option<(Template, String)> {
        let topic = self.text("mqtt.offline", &written.topic, Place::Topic, Of::Outlet);
        self.told("mqtt.offline", answer::compile(&written.says))?;
        Some((topic?, written.says.clone()))
    }

    fn publish(&mut self, path: &str, action: &written::Action) -> Option<Publish> {
        let path = format!("{path}.publish");
        let Some(written) = &action.publish else {
            self.fault(
                &path,
                "expected the message, as { topic = \"...\", text = \"ON\" }",
            );
            return None;
        };
        let topic = self.text(
            &format!("{path}.topic"),
            &written.topic,
            Place::Topic,
            Of::Outlet,
        );
        let text = match (&written.text, &written.json) {
            (Some(text), None) => self.text(&format!("{path}.text"), text, Place::Line, Of::Outlet),
            (None, Some(json)) => self.text(&format!("{path}.json"), json, Place::Json, Of::Outlet),
            _ => {
                self.fault(&path, "expected text or json, one of them");
                None
            }
        };
        Some(Publish {
            topic: topic?,
            text: text?,
        })
    }
}
