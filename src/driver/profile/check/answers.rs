//! What an answer means: where its value is, and the outlet's state for each value.

use super::{Checker, Of};
use crate::driver::profile::answer::{Judge, OTHER, Take};
use crate::driver::profile::holes::{Place, Template};
use crate::driver::profile::written::{self, Meaning};

impl Checker {
    pub(super) fn judge(&mut self, path: &str, written: &written::Action, of: Of) -> Judge {
        let takes = self.takes(path, written::each(written.take.as_ref()), of);
        if let Some(test) = &written.test
            && !self.of_outlet.contains(test)
            && !self.of_keys.contains(test)
        {
            self.fault(format!("{path}.test"), format!("nothing defines {test:?}"));
        }
        if path == "state" && !written.keys().is_empty() {
            let meanings: Vec<Meaning> = written.map.values().copied().collect();
            let missing = [(Meaning::On, "on"), (Meaning::Off, "off")];
            for (_, word) in missing
                .iter()
                .filter(|(meaning, _)| !meanings.contains(meaning))
            {
                self.fault("state.map", format!("no value means {word:?}"));
            }
            if written.test.is_some()
                && let Some(other) = written
                    .map
                    .keys()
                    .find(|key| !["0", "1", OTHER].contains(&key.as_str()))
            {
                self.fault(
                    format!("state.map.{other}"),
                    "a test gives 0 or 1, never this",
                );
            }
        }
        Judge {
            takes,
            test: written.test.clone(),
            map: written.map.clone(),
        }
    }

    pub(super) fn takes(&mut self, path: &str, written: &[written::Take], of: Of) -> Vec<Take> {
        let mut takes = Vec::new();
        for (at, take) in written.iter().enumerate() {
            // A single one may stand without a list.
            let path = match written.len() {
                1 => format!("{path}.take"),
                _ => format!("{path}.take.{at}"),
            };
            let before = takes.len();
            let is_source = take.header.is_some() || take.cookie.is_some();
            if is_source && (!path.starts_with("login") || at > 0) {
                self.fault(&path, "only a login begins with a header or a cookie");
            }
            let regex: fn(Template) -> Take = Take::Regex;
            let texts = [
                ("regex", &take.regex, Place::Pattern, regex),
                ("all", &take.all, Place::Pattern, Take::All),
                ("json", &take.json, Place::Plain, Take::Json),
                ("xml", &take.xml, Place::Plain, Take::Xml),
                ("byte", &take.byte, Place::Plain, Take::Byte),
            ];
            for (key, text, place, make) in texts {
                let Some(text) = text else { continue };
                if key == "all"
                    && !["(?<outlet>", "(?<state>"]
                        .iter()
                        .all(|group| text.contains(group))
                {
                    self.fault(
                        format!("{path}.all"),
                        "expected the groups (?<outlet>…) and (?<state>…)",
                    );
                }
                if key == "json" && !text.is_empty() && !text.starts_with('/') {
                    self.fault(
                        format!("{path}.json"),
                        "expected a JSON pointer, as /outputs/0/state",
                    );
                }
                let template = self.text(&format!("{path}.{key}"), text, place, of);
                takes.extend(template.map(make));
            }
            match (&take.split, &take.field) {
                (Some(separator), Some(field)) if !separator.is_empty() => {
                    let field = self.text(&format!("{path}.field"), field, Place::Plain, of);
                    takes.extend(field.map(|field| Take::Split(separator.clone(), field)));
                }
                (None, None) => {}
                _ => self.fault(&path, "expected split and field together"),
            }
            if takes.len() + usize::from(is_source) > before + 1 {
                self.fault(
                    &path,
                    "expected one of regex, all, json, xml, byte and split; several go into a list",
                );
            }
            takes.extend(take.number.map(Take::Number));
            if takes.len() == before && !is_source {
                self.fault(
                    &path,
                    "expected one of regex, all, json, xml, byte, split or as",
                );
            }
        }
        takes
    }
}
