//! The engine of HTTP profiles: requests as the profile says.

use super::{BASIC_LOGIN, Way, WebPort};
use crate::driver::profile::engine::{self, Engine, Pace, filled, pattern};
use crate::driver::profile::holes::{Filling, Fillings, quoted};
use crate::driver::profile::script::Stage;
use crate::driver::profile::{Asking, Auth, Bound, Profile, Source, Tape, Test, Web, proof};
use crate::driver::{Built, DriverError, Host};
use crate::request::Switch;
use crate::settings::{Key, Keys, Settings, SettingsError, keys};
use crate::transport::http::{Basic, Client, Login, Request, cookie};
use crate::transport::{Attempt, Deadline, Timed, TransportError, TransportErrorKind};
use std::sync::Arc;

keys! {
    /// Where the server of a profile is.
    struct Reach {
        ..host: Host;
        ..port: WebPort;
        ..way: Way;
    }
}

keys! {
    struct Asked {
        basic_login: Basic = "until-digest", BASIC_LOGIN;
    }
}

/// The keys that every HTTP profile with such a login has.
pub(crate) fn keys(auth: Auth) -> Vec<Key> {
    let mut keys = Reach::rows();
    if auth == Auth::Asked {
        keys.extend(Asked::rows());
    }
    keys
}

/// A request with its holes filled.
#[derive(Debug)]
struct Filled<'a> {
    asking: &'a Asking,
    target: String,
    headers: Vec<(String, String)>,
    body: String,
}

impl Filled<'_> {
    /// As a dialogue has it: the request, each header of the profile's, and the body where it has one.
    fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("{} {}", self.asking.method.name(), self.target)];
        let headers = self.headers.iter();
        lines.extend(headers.map(|(name, text)| format!("{name}: {text}")));
        if self.asking.body.is_some() {
            lines.push(self.body.replace('\n', "\\n"));
        }
        lines
    }
}

/// An answer whose status is one that the request wants.
#[derive(Debug, Default)]
struct Told {
    text: String,
    /// Their names in small letters.
    headers: Vec<(String, String)>,
}

/// An answer, and how a status that the request does not want is told.
struct Reply {
    status: u16,
    told: Told,
    said: String,
}

impl Reply {
    /// The answer if its status is one that the request wants.
    fn judged(self, asking: &Asking) -> Result<Told, DriverError> {
        match (200..300).contains(&self.status) || asking.status.contains(&self.status) {
            true => Ok(self.told),
            false => Err(super::failure(self.status, self.said)),
        }
    }
}

/// Whoever answers requests: a server, or a test in its place.
trait Server: Send {
    fn ask<T: Timed>(&mut self, request: &Filled<'_>, timed: T) -> Result<Reply, DriverError>;
    fn rest(&mut self, deadline: Deadline);
}

/// A web server that may need a pause between two requests.
struct Site {
    client: Client,
    pace: Pace,
}

impl Server for Site {
    fn ask<T: Timed>(&mut self, filled: &Filled<'_>, timed: T) -> Result<Reply, DriverError> {
        self.pace.wait(timed.deadline())?;
        let (method, target) = (filled.asking.method, filled.target.as_str());
        let request = match &filled.asking.body {
            None => Request::without_body(method, target),
            Some((kind, _)) => Request::with_body(method, target, kind, &filled.body),
        };
        let request = request.with_headers(&filled.headers);
        let answer = self.client.ask(&request, timed);
        self.pace.begin();
        let answer = answer?;
        Ok(Reply {
            status: answer.status,
            said: super::said(&answer),
            told: Told {
                text: answer.text().into_owned(),
                headers: answer.headers,
            },
        })
    }

    fn rest(&mut self, deadline: Deadline) {
        self.client.rest(deadline);
    }
}

/// A PDU's web pages, as its profile knows them.
struct Pages<S> {
    server: S,
    web: Arc<Web>,
    bound: Bound,
    /// What a login has given: it is a hole of the requests behind it.
    token: Option<String>,
    tape: Option<Tape>,
}

/// The driver of a PDU with this profile; what it says to the PDU is written on the `tape`.
pub(crate) fn build(
    profile: &Arc<Profile>,
    web: &Arc<Web>,
    settings: &Settings,
    tape: Option<&Tape>,
) -> Result<Built, SettingsError> {
    let bound = Bound::read(profile, settings)?;
    let text = |key: &str| {
        bound
            .keys()
            .get(key)
            .map(ToString::to_string)
            .unwrap_or_default()
    };
    let asked = |basic| Login::Asked {
        user: text("username"),
        password: text("password"),
        basic,
    };
    let login = match web.auth {
        Auth::None => Login::Open,
        Auth::Basic => Login::Basic {
            user: text("username"),
            password: text("password"),
        },
        Auth::Digest => asked(Basic::Never),
        Auth::Asked => asked(settings.keys::<Asked>()?.basic_login),
        Auth::Bearer => Login::Bearer(text("api_key")),
    };
    let reach: Reach = settings.keys()?;
    let port = reach.port.port.or(web.port);
    let mut client = super::client(settings, &reach.host, reach.way, port, login)?;
    for secret in bound.secrets() {
        client.hide(&secret);
    }
    let pace = Pace::new(profile.gap);
    Ok(built(Site { client, pace }, web, bound, tape))
}

/// The same with a server that plays a dialogue.
pub(crate) fn played(web: &Arc<Web>, bound: Bound, stage: Stage) -> Built {
    built(Scripted(stage), web, bound, None)
}

fn built<S: Server + 'static>(
    server: S,
    web: &Arc<Web>,
    bound: Bound,
    tape: Option<&Tape>,
) -> Built {
    engine::built(Pages {
        server,
        web: Arc::clone(web),
        bound,
        token: None,
        tape: tape.cloned(),
    })
}

impl<S: Server> Pages<S> {
    /// Sends these requests, with a login before them where the profile has one; the last answer.
    fn ask<T: Timed>(
        &mut self,
        which: fn(&Web) -> &[Asking],
        fillings: &Fillings,
        timed: T,
    ) -> Result<String, DriverError> {
        let web = Arc::clone(&self.web);
        let was_known = self.token.is_some();
        let mut result = self.ask_in_session(&web, which(&web), fillings, timed);
        if was_known && matches!(result, Err(DriverError::LoginRefused(_))) {
            // The session has run out: nothing was carried out.
            self.token = None;
            result = self.ask_in_session(&web, which(&web), fillings, timed);
        }
        if result.is_err() {
            self.token = None;
        }
        result
    }

    fn ask_in_session<T: Timed>(
        &mut self,
        web: &Web,
        askings: &[Asking],
        fillings: &Fillings,
        timed: T,
    ) -> Result<String, DriverError> {
        let Some(login) = &web.login else {
            let told = self.ask_all(askings, fillings, timed)?;
            return Ok(told.text);
        };
        let token = match &self.token {
            Some(token) => token.clone(),
            None => {
                let told = self.ask_all(&login.askings, fillings, timed.deadline())?;
                let token = login.judge.value(&told.part(&login.from)?, fillings)?;
                if let Some(tape) = &self.tape {
                    tape.hide(&token, "token");
                }
                token
            }
        };
        self.token = Some(token.clone());
        let mut fillings = fillings.clone();
        fillings.insert("token".to_owned(), Filling::Secret(token));
        let told = self.ask_all(askings, &fillings, timed)?;
        Ok(told.text)
    }

    /// The last text, and all headers.
    fn ask_all<T: Timed>(
        &mut self,
        askings: &[Asking],
        fillings: &Fillings,
        timed: T,
    ) -> Result<Told, DriverError> {
        let mut all = Told::default();
        for asking in askings {
            let body = asking.body.as_ref().map(|(_, body)| filled(body, fillings));
            let headers = asking.headers.iter();
            let headers = headers.map(|(name, text)| Ok((name.clone(), filled(text, fillings)?)));
            let request = Filled {
                asking,
                target: filled(&asking.target, fillings)?,
                headers: headers.collect::<Result<_, DriverError>>()?,
                body: body.transpose()?.unwrap_or_default(),
            };
            let told = timed.judge(|| {
                let reply = self.server.ask(&request, timed);
                if let Some(tape) = &self.tape {
                    let from = self.web.login.as_ref().map(|login| &login.from);
                    write_down(&request, &reply, from, tape);
                }
                let told = reply?.judged(asking)?;
                asking.judge(&told.text, fillings).map(|()| told)
            })?;
            all.text = told.text;
            all.headers.extend(told.headers);
        }
        Ok(all)
    }
}

impl Told {
    /// Where a login's token is.
    fn part(self, source: &Source) -> Result<String, DriverError> {
        let (found, expected) = match source {
            Source::Body => return Ok(self.text),
            Source::Header(name) => {
                let named = |(own, _): &&(String, String)| own.eq_ignore_ascii_case(name);
                let text = self
                    .headers
                    .iter()
                    .rfind(named)
                    .map(|(_, text)| text.clone());
                (text, format!("the header {name} with the token"))
            }
            Source::Cookie(name) => (
                cookie(&self.headers, name),
                match name.as_str() {
                    "*" => "a cookie".to_owned(),
                    name => format!("the cookie {name}"),
                },
            ),
        };
        // What the answer says may be secret.
        found.ok_or_else(|| DriverError::Unexpected {
            expected: format!("{expected} in the answer to the login"),
            got: "none".to_owned(),
        })
    }
}

impl Asking {
    /// Does the text of an answer tell a failure, or lack what it should have?
    fn judge(&self, text: &str, fillings: &Fillings) -> Result<(), DriverError> {
        for (pattern, failure) in &self.failures {
            if found(pattern, text)? {
                return Err(failure.error(&quoted(text.as_bytes(), fillings)));
            }
        }
        match &self.expect {
            Some(expected) if !found(&filled(expected, fillings)?, text)? => {
                Err(DriverError::Unexpected {
                    expected: "the answer that the profile expects".to_owned(),
                    got: quoted(text.as_bytes(), fillings),
                })
            }
            _ => Ok(()),
        }
    }
}

pub(crate) fn found(text: &str, within: &str) -> Result<bool, DriverError> {
    Ok(pattern(text)?.is_match(within))
}

impl<S: Server> Engine for Pages<S> {
    fn bound(&self) -> &Bound {
        &self.bound
    }

    fn switch(
        &mut self,
        to: Switch,
        fillings: &Fillings,
        attempt: &Attempt,
    ) -> Result<(), DriverError> {
        let which: fn(&Web) -> &[Asking] = match to {
            Switch::On => |web| &web.on,
            Switch::Off => |web| &web.off,
        };
        self.ask(which, fillings, attempt).map(drop)
    }

    fn answer(&mut self, fillings: &Fillings, deadline: Deadline) -> Result<String, DriverError> {
        self.ask(|web| &web.state, fillings, deadline)
    }

    fn rest(&mut self, deadline: Deadline) {
        if self.token.is_some() {
            let keys = self.bound.keys().clone();
            // Nobody is told how a logout went.
            let _ = self.ask(|web| &web.logout, &keys, deadline);
        }
        self.token = None;
        self.server.rest(deadline);
    }
}

/// Writes a request and its answer down as a dialogue has them, with the headers that a login may
/// take its token `from`.
fn write_down(
    request: &Filled<'_>,
    reply: &Result<Reply, DriverError>,
    from: Option<&Source>,
    tape: &Tape,
) {
    request.lines().into_iter().for_each(|line| tape.sent(line));
    let is_wanted = |name: &str| match from {
        Some(Source::Header(own)) => own.eq_ignore_ascii_case(name),
        Some(Source::Cookie(_)) => name == "set-cookie",
        Some(Source::Body) | None => false,
    };
    let answer = match reply {
        Ok(reply) => {
            let headers = reply.told.headers.iter();
            for (name, text) in headers.filter(|(name, _)| is_wanted(name)) {
                tape.answered(format!("header {name}: {text}"));
            }
            format!("{} {}", reply.status, reply.told.text)
        }
        Err(DriverError::Transport(error)) if error.kind == TransportErrorKind::Closed => {
            "closed".to_owned()
        }
        Err(_) => "silence".to_owned(),
    };
    let lines = answer.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty());
    lines.for_each(|line| tape.answered(line));
}

/// Somebody who looks at pages, and logs in nowhere.
pub(crate) struct Visitor(Client);

impl Visitor {
    /// Where these settings say that the server is.
    pub(crate) fn at(settings: &Settings) -> Result<Self, SettingsError> {
        let reach: Reach = settings.keys()?;
        let port = reach.port.port;
        let client = super::client(settings, &reach.host, reach.way, port, Login::Open)?;
        Ok(Self(client))
    }

    /// The text of a page, whatever its status.
    pub(crate) fn page(&mut self, path: &str, deadline: Deadline) -> Result<String, DriverError> {
        let answer = self.0.ask(&Request::get(path), deadline)?;
        Ok(answer.text().into_owned())
    }
}

/// A server that plays a dialogue: `> GET /path`, then each header of the profile's and the body as
/// `>` lines; `< header Name: text`, then `< 200 text`, further lines of the text as `<` lines behind
/// it, `< silence`, `< closed`.
struct Scripted(Stage);

impl Server for Scripted {
    fn ask<T: Timed>(&mut self, filled: &Filled<'_>, timed: T) -> Result<Reply, DriverError> {
        let strange = |what: String| DriverError::Unexpected {
            expected: "what the test has".to_owned(),
            got: what,
        };
        timed.sent();
        let mut answers = Vec::new();
        for line in filled.lines() {
            answers = self.0.answers(&line).map_err(strange)?;
        }
        let header = |line: &String| {
            let (name, text) = line.strip_prefix("header ")?.split_once(':')?;
            Some((name.to_ascii_lowercase(), text.trim().to_owned()))
        };
        let headers: Vec<(String, String)> = answers.iter().map_while(header).collect();
        let answer = answers.split_off(headers.len()).join("\n");
        let (status, text) = answer.split_once([' ', '\n']).unwrap_or((&answer, ""));
        let kind = match status {
            "silence" => Some(TransportErrorKind::Timeout),
            "closed" => Some(TransportErrorKind::Closed),
            _ => None,
        };
        if let Some(kind) = kind {
            return Err(TransportError::new(kind, "the test's server does not answer").into());
        }
        let status: u16 = status.parse().map_err(|_| strange(format!("< {answer}")))?;
        Ok(Reply {
            status,
            said: format!("HTTP {status}: {text}"),
            told: Told {
                text: text.to_owned(),
                headers,
            },
        })
    }

    fn rest(&mut self, _: Deadline) {}
}

/// Runs one of the profile's tests; says what went another way.
pub(crate) fn prove(profile: &Arc<Profile>, web: &Arc<Web>, test: &Test) -> Result<(), String> {
    proof::play(profile, test, str::to_owned, |bound, stage| {
        played(web, bound, stage)
    })
}
