//! The requests of a web server.

use super::{Checker, Of};
use crate::driver::profile::answer;
use crate::driver::profile::holes::Place;
use crate::driver::profile::written::{self, File};
use crate::driver::profile::{Asking, Verb, Web};

impl Checker {
    pub(super) fn web(&mut self, written: &File) -> Web {
        let of_auth: &[&str] = match written.http.auth {
            written::Auth::None => &[],
            written::Auth::Basic | written::Auth::Digest | written::Auth::Asked => {
                &["username", "password"]
            }
            written::Auth::Bearer => &["api_key"],
        };
        for key in of_auth {
            if !self.of_keys.contains(*key) {
                self.fault("http.auth", format!("it needs [keys.{key}]"));
            }
        }
        let mut errors = Vec::new();
        for (pattern, failure) in &written.errors {
            if self.told("errors", answer::compile(pattern)).is_some() {
                errors.push((pattern.clone(), *failure));
            }
        }
        let login = written.login.as_ref().map(|login| {
            if login.take.is_none() {
                self.fault("login", "expected take: where the token is in the answer");
            }
            let requests = self.askings("login", login, Of::Pdu);
            (requests, self.judge("login", login, Of::Pdu))
        });
        if login.is_some() && !self.of_keys.insert("token".to_owned()) {
            self.fault("keys.token", "what the login gives has this name");
        }
        let mut of = |path: &str, action: Option<&written::Action>, of| {
            action
                .map(|action| self.askings(path, action, of))
                .unwrap_or_default()
        };
        Web {
            auth: written.http.auth,
            port: written.http.port,
            login,
            logout: of("logout", written.logout.as_ref(), Of::Pdu),
            on: of("on", Some(&written.on), Of::Outlet),
            off: of("off", Some(&written.off), Of::Outlet),
            state: of("state", written.state.as_ref(), Of::Outlet),
            errors,
        }
    }

    fn askings(&mut self, path: &str, action: &written::Action, of: Of) -> Vec<Asking> {
        let requests = match (&action.request, action.requests.as_slice()) {
            (Some(one), []) => vec![(format!("{path}.request"), one)],
            (None, several @ [_, ..]) => {
                let numbered = several.iter().enumerate();
                numbered
                    .map(|(at, one)| (format!("{path}.requests.{at}"), one))
                    .collect()
            }
            _ => {
                self.fault(path, "expected request, or requests");
                Vec::new()
            }
        };
        if requests.len() > 32 {
            self.fault(path, "expected at most 32 requests");
        }
        let askings = requests
            .into_iter()
            .filter_map(|(path, one)| self.asking(&path, one, of));
        askings.collect()
    }

    fn asking(&mut self, path: &str, request: &written::Request, of: Of) -> Option<Asking> {
        let targets = [
            (Verb::Get, "get", &request.get),
            (Verb::Post, "post", &request.post),
            (Verb::Patch, "patch", &request.patch),
        ];
        let mut targets = targets
            .iter()
            .filter_map(|(verb, key, target)| Some((verb, key, target.as_ref()?)));
        let (Some((verb, key, target)), None) = (targets.next(), targets.next()) else {
            self.fault(path, "expected one of get, post and patch: the path");
            return None;
        };
        if !target.starts_with('/') || target.starts_with("//") || target.contains([' ', '#']) {
            self.fault(
                format!("{path}.{key}"),
                "expected a path that begins with one slash, without blanks",
            );
        }
        let target = self.text(&format!("{path}.{key}"), target, Place::Target, of);
        let bodies = [
            (
                "form",
                "application/x-www-form-urlencoded",
                &request.form,
                Place::Target,
            ),
            ("json", "application/json", &request.json, Place::Json),
            ("body", "text/plain", &request.body, Place::Plain),
        ];
        let mut body = None;
        for (key, kind, text, place) in bodies {
            let Some(text) = text else { continue };
            if *verb == Verb::Get || body.is_some() {
                self.fault(
                    format!("{path}.{key}"),
                    "expected one body, and none with get",
                );
            }
            let text = self.text(&format!("{path}.{key}"), text, place, of);
            body = text.map(|text| (kind, text));
        }
        if let Some(status) = request
            .status
            .iter()
            .find(|status| !(200..=599).contains(*status))
        {
            self.fault(
                format!("{path}.status"),
                format!("expected 200 to 599, got {status}"),
            );
        }
        let expect = match &request.expect {
            None => None,
            Some(pattern) => self.text(&format!("{path}.expect"), pattern, Place::Pattern, of),
        };
        Some(Asking {
            verb: *verb,
            target: target?,
            body,
            status: request.status.clone(),
            expect,
        })
    }
}
