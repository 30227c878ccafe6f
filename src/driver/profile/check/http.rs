//! The requests of a web server.

use super::{Checker, Of};
use crate::driver::profile::answer;
use crate::driver::profile::holes::{Place, Template};
use crate::driver::profile::written::{self, File, Map};
use crate::driver::profile::{Asking, SignIn, Source, Web};
use crate::transport::http::{self, Method};

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
        let errors = self.failures("errors", &written.errors);
        let login = written.login.as_ref().map(|login| self.sign_in(login));
        if login.is_some() && !self.of_keys.insert("token".to_owned()) {
            self.fault("keys.token", "what the login gives has this name");
        }
        let common = self.headers("http", &written.http.headers, Of::Pdu);
        let login = login.map(|mut login| {
            // It cannot have what it gives.
            let is_known =
                |(_, text): &&(String, Template)| text.names().all(|name| name != "token");
            let known: Vec<_> = common.iter().filter(is_known).cloned().collect();
            add(&mut login.askings, &known);
            for asking in &mut login.askings {
                asking.failures.extend(errors.iter().cloned());
            }
            login
        });
        let mut of = |path: &str, action: Option<&written::Action>, of| {
            let askings = action.map(|action| self.askings(path, action, of));
            let mut askings = askings.unwrap_or_default();
            add(&mut askings, &common);
            for asking in &mut askings {
                asking.failures.extend(errors.iter().cloned());
            }
            askings
        };
        let web = Web {
            auth: written.http.auth,
            port: written.http.port,
            login,
            logout: of("logout", written.logout.as_ref(), Of::Pdu),
            on: of("on", Some(&written.on), Of::Outlet),
            off: of("off", Some(&written.off), Of::Outlet),
            state: of("state", written.state.as_ref(), Of::Outlet),
        };
        let is_set = |(name, _): &(String, Template)| name.eq_ignore_ascii_case("authorization");
        let sets = web
            .askings()
            .any(|asking| asking.headers.iter().any(is_set));
        if sets && web.auth != written::Auth::None {
            let what = "it sets the header Authorization, and so does the profile";
            self.fault("http.auth", what);
        }
        web
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
            (Method::Get, "get", &request.get),
            (Method::Post, "post", &request.post),
            (Method::Put, "put", &request.put),
            (Method::Patch, "patch", &request.patch),
            (Method::Delete, "delete", &request.delete),
        ];
        let mut targets = targets
            .iter()
            .filter_map(|(method, key, target)| Some((method, key, target.as_ref()?)));
        let (Some((method, key, target)), None) = (targets.next(), targets.next()) else {
            self.fault(
                path,
                "expected one of get, post, put, patch and delete: the path",
            );
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
            if !method.has_body() || body.is_some() {
                self.fault(
                    format!("{path}.{key}"),
                    "expected one body, and none with get and delete",
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
        let headers = self.headers(path, &request.headers, of);
        let failures = self.failures(&format!("{path}.else"), &request.other);
        Some(Asking {
            method: *method,
            target: target?,
            headers,
            body,
            status: request.status.clone(),
            expect,
            failures,
        })
    }

    fn sign_in(&mut self, login: &written::Action) -> SignIn {
        let first = written::each(login.take.as_ref()).first().cloned();
        let from = match first.map(|take| (take.header, take.cookie)) {
            Some((None, None)) => Source::Body,
            Some((Some(name), None)) => {
                let kept = http::kept();
                if !kept.iter().any(|own| own.eq_ignore_ascii_case(&name)) {
                    let what = format!("expected one of {}", kept.join(", "));
                    self.fault("login.take", what);
                }
                Source::Header(name)
            }
            Some((None, Some(name))) => Source::Cookie(name),
            Some((Some(_), Some(_))) => {
                self.fault("login.take", "expected a header or a cookie, not both");
                Source::Body
            }
            None => {
                self.fault("login", "expected take: where the token is in the answer");
                Source::Body
            }
        };
        SignIn {
            askings: self.askings("login", login, Of::Pdu),
            from,
            judge: self.judge("login", login, Of::Pdu),
        }
    }

    /// Patterns, each with what it tells.
    pub(super) fn failures(
        &mut self,
        path: &str,
        written: &Map<written::Failure>,
    ) -> Vec<(String, written::Failure)> {
        let mut failures = Vec::new();
        for (pattern, failure) in written {
            if self.told(path, answer::compile(pattern)).is_some() {
                failures.push((pattern.clone(), *failure));
            }
        }
        failures
    }

    fn headers(&mut self, path: &str, written: &Map<String>, of: Of) -> Vec<(String, Template)> {
        let mut headers: Vec<(String, Template)> = Vec::new();
        for (name, text) in written {
            let path = format!("{path}.headers.{name}");
            self.told(&path, http::check_header(name));
            if headers
                .iter()
                .any(|(own, _)| own.eq_ignore_ascii_case(name))
            {
                self.fault(&path, "this header is there twice");
            }
            let text = self.text(&path, text, Place::Header, of);
            headers.extend(text.map(|text| (name.clone(), text)));
        }
        headers
    }
}

/// Gives requests the headers of all requests that they do not have themselves.
fn add(askings: &mut [Asking], common: &[(String, Template)]) {
    for asking in askings {
        let is_own = |name: &str| {
            let mut own = asking.headers.iter();
            own.any(|(own, _)| own.eq_ignore_ascii_case(name))
        };
        let missing = common.iter().filter(|(name, _)| !is_own(name));
        let missing: Vec<_> = missing.cloned().collect();
        asking.headers.extend(missing);
        asking
            .headers
            .sort_by(|(one, _), (other, _)| one.cmp(other));
    }
}
