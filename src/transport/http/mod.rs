//! HTTP and HTTPS: one client per peer, over `ureq`.
//!
//! What goes out is decided here to the byte: the request target as given (`ureq` passes it on
//! unchanged), header names in the usual letter case, because small web servers compare them as
//! written. Connections are `transport::tcp`'s, so name look-up and connecting have their
//! deadlines there. A peer's answer is bounded ([`MOST_BODY`], [`MOST_HEAD`]), and its head is made
//! anew before `ureq` sees it, which would refuse what many a small web server writes.
//!
//! Credentials may stand in a request target where the protocol wants them there. So no error
//! text of this module shows a query, and every quote of an answer has the secrets blotted out.
//!
//! Proxies of the environment are honoured as curl does; loopback addresses are never reached
//! through one.

mod digest;
mod head;
mod proxy;
mod wire;

#[cfg(fuzzing)]
pub use head::check as check_head;
pub use head::kept;

use super::kept::{Kept, Opener};
use super::tls::{Tls, Trust};
use super::{Deadline, Timed, TransportError, TransportErrorKind, Verdict, blotted, printable};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use digest::Challenge;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use ureq::Agent;

/// The longest body that is read, in bytes.
pub const MOST_BODY: usize = 256 * 1024;

/// The longest head (status line and headers) that is read, in bytes.
pub const MOST_HEAD: usize = 16 * 1024;

/// How many redirects one request may follow.
const MOST_REDIRECTS: usize = 5;

const USER_AGENT: &str = concat!("pdudaemon/", env!("CARGO_PKG_VERSION"));

/// Where a server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Over TLS?
    pub tls: bool,
    /// Name or IP literal, IPv6 without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl Origin {
    /// The host, with the port unless it is the scheme's own.
    fn authority(&self) -> String {
        let host = if self.host.contains(':') {
            Cow::from(format!("[{}]", self.host))
        } else {
            Cow::from(&self.host)
        };
        if self.port == if self.tls { 443 } else { 80 } {
            host.into_owned()
        } else {
            format!("{host}:{}", self.port)
        }
    }

    /// Is `other` the same server, or the same host's encrypted one?
    fn may_lead_to(&self, other: &Self) -> bool {
        self.host.eq_ignore_ascii_case(&other.host)
            && (self.tls == other.tls && self.port == other.port || !self.tls && other.tls)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority())
    }
}

/// How a client proves who it is.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    /// Not at all.
    Open,
    /// Basic (RFC 7617), sent with the first request.
    Basic {
        /// User name.
        user: String,
        /// Password.
        password: String,
    },
    /// As the server asks: digest (RFC 7616, the strongest of its offers), or else Basic.
    Asked {
        /// User name.
        user: String,
        /// Password.
        password: String,
        /// When Basic will do.
        basic: Basic,
    },
    /// A token (RFC 6750).
    Bearer(String),
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "Open",
            Self::Basic { .. } => "Basic(***)",
            Self::Asked { .. } => "Asked(***)",
            Self::Bearer(_) => "Bearer(***)",
        })
    }
}

/// When Basic, which shows the password to whoever listens, may be the answer to a server that asks
/// for it: somebody in between may ask in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basic {
    /// Never.
    Never,
    /// Until the server has once asked for digest.
    UntilDigest,
    /// Whenever it is asked for.
    Always,
}

/// A request's method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Without a body.
    Get,
    /// With a body, maybe an empty one.
    Post,
    /// With a body.
    Put,
    /// With a body.
    Patch,
    /// Without a body.
    Delete,
}

impl Method {
    /// As it is sent.
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }

    /// Does a request of this method have a body?
    pub fn has_body(self) -> bool {
        matches!(self, Self::Post | Self::Put | Self::Patch)
    }
}

/// Headers that a request cannot have of its own: the client sets them, or could not do what they
/// ask for.
const OWN: &[&str] = &[
    "accept-encoding",
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Says why a request cannot have a header of this name.
pub fn check_header(name: &str) -> Result<(), String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || name.len() > 64 || !name.bytes().all(is_token) {
        return Err(format!("expected the name of a header, got {name:?}"));
    }
    let lower = name.to_ascii_lowercase();
    match OWN.contains(&lower.as_str()) || lower.starts_with("proxy-") {
        true => Err(format!("{name} is set by pdudaemon itself")),
        false => Ok(()),
    }
}

/// One request.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    method: Method,
    target: &'a str,
    content_type: Option<&'static str>,
    body: &'a str,
    /// Further headers, each in place of the client's own of that name.
    headers: &'a [(String, String)],
    anonymous: bool,
}

impl<'a> Request<'a> {
    /// GET of `target`: path and query as they are to be sent, see [`encode`].
    pub fn get(target: &'a str) -> Self {
        Self::without_body(Method::Get, target)
    }

    /// A request that has no body, or an empty one.
    pub fn without_body(method: Method, target: &'a str) -> Self {
        Self {
            method,
            target,
            content_type: None,
            body: "",
            headers: &[],
            anonymous: false,
        }
    }

    /// POST without a body.
    pub fn post_empty(target: &'a str) -> Self {
        Self::without_body(Method::Post, target)
    }

    /// A request with a body.
    pub fn with_body(
        method: Method,
        target: &'a str,
        content_type: &'static str,
        body: &'a str,
    ) -> Self {
        Self {
            content_type: Some(content_type),
            body,
            ..Self::without_body(method, target)
        }
    }

    /// The same with these headers: [`check_header`] has been asked about each name.
    pub fn with_headers(self, headers: &'a [(String, String)]) -> Self {
        Self { headers, ..self }
    }

    /// The same without the client's login, for servers that want it in the query instead.
    pub fn anonymous(self) -> Self {
        Self {
            anonymous: true,
            ..self
        }
    }

    /// Method and path for messages; no query, which may hold a password.
    fn doing(&self) -> String {
        let path = self.target.split('?').next().unwrap_or_default();
        format!("{} {path}", self.method.name())
    }
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.doing())
    }
}

/// What the server said, whatever its status.
#[derive(Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body, at most [`MOST_BODY`].
    pub body: Vec<u8>,
    /// For a redirect that was not followed: why.
    pub unfollowed: Option<String>,
    /// The request was redirected here: from where, in words that go before this answer's.
    pub redirected: Option<String>,
    /// The headers of [`kept`], their names in small letters.
    pub headers: Vec<(String, String)>,
    hidden: Arc<[String]>,
}

impl Answer {
    fn read(
        response: ureq::http::Response<ureq::Body>,
        hidden: Arc<[String]>,
    ) -> Result<Self, TransportError> {
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let headers = response.headers().iter();
        let headers = headers.map(|(name, value)| (name.to_string(), text(value.as_bytes())));
        Ok(Self {
            status: response.status().as_u16(),
            unfollowed: None,
            redirected: None,
            headers: headers.collect(),
            body: read_body(response, &hidden)?,
            hidden,
        })
    }

    /// What the headers of this name, in small letters, say.
    fn header<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let named = self.headers.iter().filter(move |(own, _)| own == name);
        named.map(|(_, text)| text.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }

    /// The body for a message: bounded, on one line, without secrets.
    pub fn quote(&self) -> String {
        quote(&self.body, &self.hidden)
    }

    /// Like [`Answer::quote`], of a page only its words: what an error page says to a person.
    pub fn words(&self) -> String {
        let text = self.text();
        let visible = text
            .split('<')
            .enumerate()
            .map(|(index, part)| match index {
                0 => part,
                _ => part.split_once('>').map_or("", |(_, after)| after),
            });
        let words: Vec<&str> = visible.flat_map(str::split_whitespace).collect();
        quote(words.join(" ").as_bytes(), &self.hidden)
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HTTP {}: {}", self.status, self.quote())
    }
}

/// Of the `headers` of an answer, the cookie of this name that they set, or with `*` all of them as a
/// request sends them.
pub fn cookie(headers: &[(String, String)], name: &str) -> Option<String> {
    let set = headers.iter().filter(|(name, _)| name == "set-cookie");
    let pairs = set.filter_map(|(_, text)| {
        let (name, value) = text.split(';').next()?.split_once('=')?;
        Some((name.trim(), value.trim()))
    });
    // The last one of a name counts; one without a value is taken away.
    let mut cookies: BTreeMap<&str, &str> = pairs.collect();
    cookies.retain(|name, value| !name.is_empty() && !value.is_empty());
    if name != "*" {
        return cookies.get(name).map(|value| (*value).to_owned());
    }
    let pairs = cookies
        .iter()
        .map(|(name, value)| format!("{name}={value}"));
    let pairs: Vec<String> = pairs.collect();
    (!pairs.is_empty()).then(|| pairs.join("; "))
}

fn quote(body: &[u8], hidden: &[String]) -> String {
    printable(&blotted(body, hidden))
}

/// Percent-encodes `text` for one component of a target: everything but letters, digits and
/// `-._~`, so that a value can never become another part of the request.
pub fn encode(text: &str) -> String {
    use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
    const OTHERS: &AsciiSet = &NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'.')
        .remove(b'_')
        .remove(b'~');
    utf8_percent_encode(text, OTHERS).to_string()
}

/// A client of one server. It keeps the connection, and the server's digest nonce, until
/// [`Client::rest`] or an error.
pub struct Client {
    origin: Origin,
    login: Login,
    /// Has the server ever asked for digest?
    knows_digest: bool,
    challenge: Option<Challenge>,
    kept: Kept<Agents>,
}

/// Makes agents, each with a connection that the server may close when it has served an answer.
struct Agents {
    is_tls: bool,
    tls: Tls,
    hidden: Arc<[String]>,
    /// A request has gone out since this was last cleared.
    has_sent: Arc<AtomicBool>,
}

impl Opener for Agents {
    type Session = Agent;
    type Error = Failure;

    fn open(&mut self, _: Deadline) -> Result<Agent, Failure> {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            // A head made anew may be a little longer than the one that came.
            .max_response_header_size(2 * MOST_HEAD)
            .input_buffer_size(2 * MOST_HEAD)
            .output_buffer_size(MOST_HEAD)
            .accept("")
            .accept_encoding("")
            .user_agent(USER_AGENT)
            // Ours to find, see `proxy`.
            .proxy(None)
            .build();
        if self.is_tls {
            // Before connecting, so that its errors are told apart.
            self.tls.config().map_err(Failure::Unanswered)?;
        }
        let connector = wire::Wires {
            tls: self.tls.clone(),
            hidden: Arc::clone(&self.hidden),
            has_sent: Arc::clone(&self.has_sent),
        };
        Ok(Agent::with_parts(config, connector, wire::NoLookUp))
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A client; nothing is opened or read yet. Says so when the host's name cannot stand in a
    /// URL.
    pub fn new(origin: Origin, login: Login, trust: Trust) -> Result<Self, String> {
        origin
            .to_string()
            .parse::<ureq::http::Uri>()
            .map_err(|_| format!("{:?} cannot be the host of a URL", origin.host))?;
        let agents = Agents {
            is_tls: origin.tls,
            tls: Tls::new(trust),
            hidden: Arc::default(),
            has_sent: Arc::default(),
        };
        let mut client = Self {
            origin,
            login: Login::Open,
            knows_digest: false,
            challenge: None,
            kept: Kept::new(agents),
        };
        match &login {
            Login::Open => {}
            Login::Basic { user, password } | Login::Asked { user, password, .. } => {
                client.hide(password);
                client.hide(&basic_pair(user, password));
            }
            Login::Bearer(token) => client.hide(token),
        }
        client.login = login;
        Ok(client)
    }

    /// A further secret, which requests carry in their target: it is blotted out of quotes.
    pub fn hide(&mut self, secret: &str) {
        if secret.is_empty() {
            return;
        }
        let mut hidden = self.kept.opener.hidden.to_vec();
        hidden.push(secret.to_owned());
        self.kept.opener.hidden = hidden.into();
    }

    /// Closes the connection and forgets the nonce.
    pub fn rest(&mut self, deadline: Deadline) {
        self.challenge = None;
        self.kept.rest(deadline);
    }

    /// Sends `request` and reads the answer, whatever its status. Redirects are followed within
    /// the host only; a command (any but a GET) only where the redirect keeps the method.
    pub fn ask(
        &mut self,
        request: &Request<'_>,
        timed: impl Timed,
    ) -> Result<Answer, TransportError> {
        let answer = self.follow(request, timed);
        if answer.is_err() {
            self.challenge = None;
        }
        answer
    }

    fn follow(
        &mut self,
        request: &Request<'_>,
        timed: impl Timed,
    ) -> Result<Answer, TransportError> {
        let mut origin = self.origin.clone();
        let mut target = request.target.to_owned();
        let mut redirected: Option<String> = None;
        for _ in 0..=MOST_REDIRECTS {
            let step = Request {
                target: &target,
                ..*request
            };
            let before = redirected.as_deref().unwrap_or_default();
            let mut answer =
                self.log_in(&origin, &step, timed)
                    .map_err(|error| TransportError {
                        detail: format!("{before}{}", error.detail),
                        ..error
                    })?;
            answer.redirected = redirected;
            let keeps_method = match answer.status {
                301..=303 => request.method == Method::Get,
                307 | 308 => true,
                _ => return Ok(answer),
            };
            let Some(location) = answer.header("location").next().map(str::to_owned) else {
                return Ok(answer);
            };
            let Some((next, path)) = resolve_location(&origin, &target, &location) else {
                answer.unfollowed = Some("to an address that makes no sense".into());
                return Ok(answer);
            };
            if !origin.may_lead_to(&next) {
                answer.unfollowed = Some(format!("to another server, {next}"));
                return Ok(answer);
            }
            if !keeps_method {
                answer.unfollowed = Some("which would lose the command".into());
                return Ok(answer);
            }
            // Many a web page does what it is asked, and then sends the browser elsewhere.
            let place = path.split('?').next().unwrap_or_default();
            redirected = Some(format!(
                "{}: HTTP {}, a redirect to {}; then: ",
                step.doing(),
                answer.status,
                quote(format!("{next}{place}").as_bytes(), &answer.hidden)
            ));
            (origin, target) = (next, path);
        }
        Err(TransportError::new(
            TransportErrorKind::Garbled,
            format!("{}: more than {MOST_REDIRECTS} redirects", request.doing()),
        ))
    }

    /// One request with the login, answering the server's challenge where it wants one.
    fn log_in(
        &mut self,
        origin: &Origin,
        request: &Request<'_>,
        timed: impl Timed,
    ) -> Result<Answer, TransportError> {
        let answer = self.exchange(origin, request, timed)?;
        let Login::Asked { basic, .. } = self.login else {
            return Ok(answer);
        };
        if answer.status != 401 || request.anonymous {
            return Ok(answer);
        }
        // The first answer, or a nonce kept from an earlier request that has run out.
        self.challenge = Challenge::strongest(answer.header("www-authenticate"));
        match self.challenge {
            None => return Ok(answer),
            Some(Challenge::Digest(_)) => self.knows_digest = true,
            Some(Challenge::Basic) => {}
        }
        timed.turned_away();
        if self.challenge == Some(Challenge::Basic)
            && let Some(why) = self.refuses(basic)
        {
            return Err(why);
        }
        let second = self.exchange(origin, request, timed)?;
        if second.status == 401 {
            self.challenge = None;
        }
        Ok(second)
    }

    /// Why Basic, which the server asks for, is not the answer.
    fn refuses(&self, basic: Basic) -> Option<TransportError> {
        let why = match basic {
            Basic::Never => "which is not allowed to show it",
            Basic::UntilDigest if self.knows_digest => "though it has asked for digest before",
            Basic::UntilDigest | Basic::Always => return None,
        };
        Some(TransportError::new(
            TransportErrorKind::Untrusted,
            format!(
                "{} asks for the password in clear (Basic login), {why}: somebody may stand in \
                 between; if not, set `basic_login` to \"always\"",
                self.origin
            ),
        ))
    }

    /// One exchange over the kept connection, or over a new one where the server closed the kept
    /// one while it was idle. The requests made here say what is to be, not what to change, so
    /// asking again does no harm.
    fn exchange(
        &mut self,
        origin: &Origin,
        request: &Request<'_>,
        timed: impl Timed,
    ) -> Result<Answer, TransportError> {
        let (login, challenge) = (&self.login, &mut self.challenge);
        let exchanged = self.kept.call(timed, |agents, agent| {
            let authorization = authorization(login, challenge, request);
            let mut hidden = Arc::clone(&agents.hidden);
            if let Some(proof) = authorization.as_deref().and_then(digest::proof) {
                // With it passwords can be tried out.
                let more = agents.hidden.iter().cloned().chain([proof.to_owned()]);
                hidden = more.collect();
            }
            agents.has_sent.store(false, Ordering::Relaxed);
            let headers = headers(origin, request, authorization);
            let called = call(agent, origin, request, &headers, timed.deadline());
            if agents.has_sent.load(Ordering::Relaxed) {
                timed.sent();
            }
            let response = called.map_err(Failure::Unanswered)?;
            if response.status().as_u16() == 407 {
                timed.turned_away();
                let words = "the proxy of the environment wants a login: put user and password \
                             into its URL (HTTP 407)";
                let kind = TransportErrorKind::NoConnection;
                return Err(Failure::Unanswered(TransportError::new(kind, words)));
            }
            Answer::read(response, hidden).map_err(Failure::BrokenOff)
        });
        exchanged.map_err(|failure| {
            let (Failure::Unanswered(error) | Failure::BrokenOff(error)) = failure;
            TransportError {
                detail: format!("{}: {}", request.doing(), error.detail),
                ..error
            }
        })
    }
}

/// What proves to the server who asks.
fn authorization(
    login: &Login,
    challenge: &mut Option<Challenge>,
    request: &Request<'_>,
) -> Option<String> {
    match (login, challenge) {
        _ if request.anonymous => None,
        (Login::Open, _) | (Login::Asked { .. }, None) => None,
        (Login::Basic { user, password }, _)
        | (Login::Asked { user, password, .. }, Some(Challenge::Basic)) => {
            Some(format!("Basic {}", basic_pair(user, password)))
        }
        (Login::Asked { user, password, .. }, Some(Challenge::Digest(digest))) => {
            Some(digest.answer(user, password, request.method.name(), request.target))
        }
        (Login::Bearer(token), _) => Some(format!("Bearer {token}")),
    }
}

fn headers(
    origin: &Origin,
    request: &Request<'_>,
    authorization: Option<String>,
) -> Vec<(String, String)> {
    let mut headers = vec![
        ("Host", origin.authority()),
        ("User-Agent", USER_AGENT.to_owned()),
        ("Accept", "*/*".to_owned()),
        ("Connection", "keep-alive".to_owned()),
    ];
    if let Some(content_type) = request.content_type {
        headers.push(("Content-Type", content_type.to_owned()));
    }
    if request.method.has_body() {
        headers.push(("Content-Length", request.body.len().to_string()));
    }
    headers.extend(authorization.map(|proof| ("Authorization", proof)));
    let is_own = |name: &str| {
        let mut own = request.headers.iter();
        own.any(|(own, _)| own.eq_ignore_ascii_case(name))
    };
    let usual = headers.into_iter().filter(|(name, _)| !is_own(name));
    let usual = usual.map(|(name, text)| (name.to_owned(), text));
    usual.chain(request.headers.iter().cloned()).collect()
}

/// One request, one answer, no second thoughts.
fn call(
    agent: &Agent,
    origin: &Origin,
    request: &Request<'_>,
    headers: &[(String, String)],
    deadline: Deadline,
) -> Result<ureq::http::Response<ureq::Body>, TransportError> {
    let left = deadline.left("the request")?;
    let url = format!("{origin}{}", request.target);
    let bare = |builder| with(builder, headers, left).call();
    let full = |builder| with(builder, headers, left).send(request.body.as_bytes());
    let called = match request.method {
        Method::Get => bare(agent.get(url)),
        Method::Delete => bare(agent.delete(url)),
        Method::Post => full(agent.post(url)),
        Method::Put => full(agent.put(url)),
        Method::Patch => full(agent.patch(url)),
    };
    called.map_err(wire::explain)
}

/// The request with its headers, and so much time.
fn with<B>(
    builder: ureq::RequestBuilder<B>,
    headers: &[(String, String)],
    left: Duration,
) -> ureq::RequestBuilder<B> {
    let builder = headers.iter().fold(builder, |builder, (name, value)| {
        builder.header_raw(name, value.as_bytes())
    });
    builder.config().timeout_global(Some(left)).build()
}

/// User and password as Basic sends them.
fn basic_pair(user: &str, password: &str) -> String {
    BASE64_STANDARD.encode(format!("{user}:{password}"))
}

/// A failed exchange.
enum Failure {
    /// No answer has begun.
    Unanswered(TransportError),
    /// The answer has begun, and broken off: the request is not sent again.
    BrokenOff(TransportError),
}

impl Verdict for Failure {
    fn is_lost(&self) -> bool {
        matches!(self, Self::Unanswered(error) if error.is_lost())
    }

    fn may_stand(&self) -> bool {
        false
    }

    fn is_refusal(&self) -> bool {
        false
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Unanswered(error) | Self::BrokenOff(error)) = self;
        error.fmt(f)
    }
}

fn read_body(
    response: ureq::http::Response<ureq::Body>,
    hidden: &[String],
) -> Result<Vec<u8>, TransportError> {
    let status = response.status().as_u16();
    let mut reader = response.into_body().into_reader();
    let (mut body, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        match reader.read(&mut chunk) {
            Ok(0) => return Ok(body),
            Ok(more) => body.extend_from_slice(chunk.get(..more).unwrap_or_default()),
            Err(error) => {
                let error = wire::explain(ureq::Error::from(error));
                let got = quote(&body, hidden);
                return Err(TransportError {
                    detail: format!("{} (HTTP {status}, got {got})", error.detail),
                    ..error
                });
            }
        }
        if body.len() > MOST_BODY {
            return Err(TransportError::new(
                TransportErrorKind::Garbled,
                format!(
                    "the answer is longer than {MOST_BODY} bytes, it begins {}",
                    quote(body.get(..100).unwrap_or_default(), hidden)
                ),
            ));
        }
    }
}

/// Where `location` leads from `target` at `origin`: the server, and the target there.
fn resolve_location(origin: &Origin, target: &str, location: &str) -> Option<(Origin, String)> {
    let location = location.split('#').next().unwrap_or_default().trim();
    let lower = location.to_ascii_lowercase();
    let (tls, rest) = if let Some(rest) = lower.strip_prefix("http://") {
        (false, location.get(location.len() - rest.len()..)?)
    } else if let Some(rest) = lower.strip_prefix("https://") {
        (true, location.get(location.len() - rest.len()..)?)
    } else if let Some(rest) = location.strip_prefix("//") {
        (origin.tls, rest)
    } else if location.starts_with('/') {
        return Some((origin.clone(), location.to_owned()));
    } else if location.is_empty() || location.split(['/', '?']).next()?.contains(':') {
        return None;
    } else {
        let path = target.split('?').next().unwrap_or_default();
        let folder = path.rfind('/').and_then(|slash| path.get(..=slash))?;
        return Some((origin.clone(), format!("{folder}{location}")));
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end)?;
    let uri: ureq::http::uri::Authority = authority.parse().ok()?;
    if authority.contains('@') {
        return None;
    }
    let next = Origin {
        tls,
        host: uri.host().trim_matches(['[', ']']).to_owned(),
        port: uri.port_u16().unwrap_or(if tls { 443 } else { 80 }),
    };
    Some((
        next,
        if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("/{path}")
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(tls: bool, host: &str, port: u16) -> Origin {
        Origin {
            tls,
            host: host.into(),
            port,
        }
    }

    #[test]
    fn urls_name_the_port_where_it_is_not_the_usual_one() {
        assert_eq!(origin(false, "pdu", 80).to_string(), "http://pdu");
        assert_eq!(origin(true, "pdu", 80).to_string(), "https://pdu:80");
        assert_eq!(origin(true, "::1", 443).to_string(), "https://[::1]");
        assert_eq!(origin(false, "::1", 81).to_string(), "http://[::1]:81");
    }

    #[test]
    fn locations_are_resolved_as_browsers_do() {
        let here = origin(false, "pdu", 80);
        let check = |location: &str| {
            resolve_location(&here, "/a/b?c=/d", location)
                .map(|(origin, target)| format!("{origin}{target}"))
                .unwrap_or_default()
        };
        assert_eq!(check("/x?y#z"), "http://pdu/x?y");
        assert_eq!(check("x"), "http://pdu/a/x");
        assert_eq!(check("HTTPS://Pdu/x"), "https://Pdu/x");
        assert_eq!(check("//other:81"), "http://other:81/");
        assert_eq!(check("http://[::1]:81?x"), "http://[::1]:81/?x");
        assert_eq!(check("javascript:alert(1)"), "");
        assert_eq!(check("http://user:password@pdu/"), "");
        assert_eq!(check(""), "");
    }

    #[test]
    fn only_the_same_host_may_be_led_to() {
        let here = origin(false, "pdu", 80);
        assert!(here.may_lead_to(&origin(false, "PDU", 80)));
        assert!(here.may_lead_to(&origin(true, "pdu", 443)));
        assert!(!here.may_lead_to(&origin(false, "pdu", 81)));
        assert!(!here.may_lead_to(&origin(false, "pdu.evil", 80)));
        assert!(!origin(true, "pdu", 443).may_lead_to(&here));
    }

    #[test]
    fn quotes_have_no_secrets() {
        let mut client =
            Client::new(origin(false, "pdu", 80), Login::Open, Trust::default()).expect("builds");
        client.hide("p w");
        let quoted = quote(b"user=x&pass=p%20w or p w\r\n", &client.kept.opener.hidden);
        assert_eq!(quoted, r#""user=x&pass=*** or ***\r\n""#);
        assert_eq!(
            format!("{:?}", Request::get("/set.cmd?pass=p%20w")),
            "GET /set.cmd"
        );
        assert!(!format!("{client:?}").contains("p w"));
    }

    #[test]
    fn a_page_is_quoted_by_its_words() {
        let check = |body: &str| {
            let answer = Answer {
                status: 401,
                body: body.into(),
                unfollowed: None,
                redirected: None,
                headers: Vec::new(),
                hidden: Arc::default(),
            };
            answer.words()
        };
        let page = "<!DOCTYPE html>\r\n<html><h1>401 Unauthorized</h1>\n<p>no\n entry</html>";
        assert_eq!(check(page), "\"401 Unauthorized no entry\"");
        assert_eq!(check("plain words"), "\"plain words\"");
        assert_eq!(check("<<<"), "\"\"");
    }

    #[test]
    fn a_cookie_is_what_the_last_header_of_its_name_sets() {
        let headers = [
            "a=1; Path=/",
            "b=x==; Secure",
            "a=2",
            "c=; Max-Age=0",
            "odd",
        ];
        let headers = headers.map(|text| ("set-cookie".to_owned(), text.to_owned()));
        for (name, expected) in [
            ("a", Some("2")),
            ("b", Some("x==")),
            ("c", None),
            ("d", None),
            ("*", Some("a=2; b=x==")),
        ] {
            assert_eq!(cookie(&headers, name).as_deref(), expected, "{name}");
        }
        assert_eq!(cookie(&[], "*"), None);
    }

    #[test]
    fn the_headers_that_frame_a_request_are_not_for_others_to_set() {
        for name in ["X-CSRF", "Accept", "Cookie", "SOAPACTION", "Content-Type"] {
            assert_eq!(check_header(name), Ok(()), "{name}");
        }
        let long = "x".repeat(65);
        for name in [
            "",
            "a b",
            "a:",
            "a\r\nb",
            "é",
            "Host",
            "content-length",
            "Proxy-X",
            &long,
        ] {
            assert!(check_header(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn one_component_is_encoded_whole() {
        assert_eq!(encode("a b/c?d#e%..é"), "a%20b%2Fc%3Fd%23e%25..%C3%A9");
    }

    #[test]
    fn a_host_that_cannot_be_in_a_url_is_told_at_once() {
        let client =
            |host: &str| Client::new(origin(false, host, 80), Login::Open, Trust::default());
        assert!(client("pdu_1.lab").is_ok());
        assert!(client("a\\b").is_err());
    }
}
