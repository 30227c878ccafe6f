//! Drivers over http: the table of their specs, and the steps they have in common.
//!
//! Every one of them reaches its PDU at `ip`, else `hostname`, else the PDU's name, each maybe
//! with `:port`; and over TLS with `"protocol": "https"`, where the PDU has it.
//!
//! The Python program's drivers, run against the same simulators, send the same request lines and
//! bodies. What differs, and why:
//! * `User-Agent` has our name, and there is no `Accept-Encoding`: we take answers as they are.
//! * anel: a `#` in user or password is encoded; there the rest of the request was cut off.
//! * esphome-http, home-assistant-http, servertechpro2: an outlet id is encoded whole (of ESPHome's
//!   each of its two parts), so that it cannot become another path.
//! * home-assistant-http without `api_key` sends no `Authorization`; there it was `Bearer None`.
//! * The state read back, and the requests for states, are additions.

mod anel;
pub(super) mod engine;
mod esphome;
mod home_assistant;
mod ip9850;
mod lindy;
mod netio;
mod sainsmart;
mod servertech;
mod servo;
mod shelly;
mod tasmota;
mod ubus;

use super::{By, DEVICE_TIMEOUT, DriverError, DriverSpec, Has, Host, SHOWS_WITHIN};
use crate::request::{Proof, State, Switch};
use crate::settings::{Secret, Settings, SettingsError, TextOrNumber, keys, words};
use crate::transport::http::{Answer, Basic, Client, Login, Origin, Request};
use crate::transport::tls::Trust;
use crate::transport::{Attempt, Deadline, Timed, TransportError, TransportErrorKind};
use std::num::NonZeroU16;
use std::path::PathBuf;

/// Every driver name of this transport.
pub(super) static SPECS: &[DriverSpec] = &[
    anel::HOME,
    anel::SPEC,
    esphome::SPEC,
    home_assistant::SPEC,
    ip9850::SPEC,
    lindy::SPEC,
    netio::SPEC,
    sainsmart::SPEC,
    servertech::SPEC,
    servo::SPEC,
    shelly::SPEC,
    tasmota::ANY,
    tasmota::BRENNENSTUHL,
    tasmota::SONOFF_S20,
    ubus::SPEC,
];

/// What the specs have in common.
const SPEC: DriverSpec = DriverSpec {
    names: &[],
    any_case: false,
    models: "",
    transport: "http",
    outlets: Has::Told(""),
    reads_back: true,
    verified_by: "",
    timeout: DEVICE_TIMEOUT,
    shows_within: SHOWS_WITHIN,
    build: &By(no_driver),
};

/// Stands in [`SPEC`] until a row names its own.
fn no_driver((): (), settings: &Settings) -> Result<Box<dyn super::Driver>, SettingsError> {
    Err(settings.error("driver", "this row of the table has no driver"))
}

keys! {
    /// How a PDU is spoken to.
    struct Way {
        protocol: Scheme = "http", "https listens on port 443 unless told otherwise";
        insecure: bool = false, "accept any certificate (https)";
        ca_file: Option<PathBuf>, "PEM file with the PDU's certificate or its authority's (https)";
    }
}

/// With or without TLS?
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

words! { Scheme: "http" = Scheme::Http, "https" = Scheme::Https }

keys! {
    /// A port of its own, on a PDU that may have one.
    struct WebPort {
        port: Option<NonZeroU16> => "80", "TCP port; with https 443 unless told otherwise";
    }
}

/// What the keys `username` and `password` are for.
const USERNAME: &str = "user name";
const PASSWORD: &str = "password";

keys! {
    /// User and password, where the PDU wants them.
    struct Credentials {
        username: Option<TextOrNumber>, USERNAME;
        password: Option<Secret>, PASSWORD;
    }
}

impl Credentials {
    /// Both, where both are given and not empty.
    fn both(&self) -> Option<(String, String)> {
        let user = self.username.as_deref().unwrap_or_default();
        let password = self.password.as_ref().map_or("", Secret::reveal);
        (!user.is_empty() && !password.is_empty()).then(|| (user.to_owned(), password.to_owned()))
    }
}

keys! {
    /// The factory's user and password, where the config has no others.
    struct Admin {
        username: TextOrNumber = "admin", USERNAME;
        password: Secret = "admin", PASSWORD;
    }
}

/// What the key `basic_login` is for.
const BASIC_LOGIN: &str = "when Basic login, which shows the password to whoever listens, is the \
    answer where the PDU asks for it: never, until the PDU has once asked for digest, always";

words! {
    Basic: "never" = Basic::Never, "until-digest" = Basic::UntilDigest, "always" = Basic::Always
}

fn basic(user: TextOrNumber, password: &Secret) -> Login {
    Login::Basic {
        user: user.0,
        password: password.reveal().to_owned(),
    }
}

/// Where a PDU answers; without a port of its own that is the scheme's.
fn origin(
    settings: &Settings,
    host: &Host,
    way: &Way,
    port: Option<NonZeroU16>,
) -> Result<Origin, SettingsError> {
    let tls = way.protocol == Scheme::Https;
    let usual = if tls { 443 } else { 80 };
    let address = host.address(settings, port.map_or(usual, NonZeroU16::get))?;
    Ok(Origin {
        tls,
        host: address.host,
        port: address.port,
    })
}

/// The client that a PDU's settings ask for.
fn client(
    settings: &Settings,
    host: &Host,
    way: Way,
    port: Option<NonZeroU16>,
    login: Login,
) -> Result<Client, SettingsError> {
    if way.insecure && way.ca_file.is_some() {
        return Err(settings.error("insecure", "makes no sense together with ca_file"));
    }
    let origin = origin(settings, host, &way, port)?;
    let trust = match way.ca_file {
        _ if way.insecure => Trust::Insecure,
        Some(file) => Trust::File(file),
        None => Trust::System,
    };
    let key = host.given().map_or("driver", |(key, _)| key);
    Client::new(origin, login, trust).map_err(|message| settings.error(key, message))
}

/// Asks, and gives the answer if its status says that all is well.
fn ask(
    client: &mut Client,
    request: &Request<'_>,
    timed: impl Timed,
) -> Result<Answer, DriverError> {
    ask_and(client, request, timed, Ok)
}

/// The same; `read` takes what is wanted from the answer, which may still be a refusal.
fn ask_and<T>(
    client: &mut Client,
    request: &Request<'_>,
    timed: impl Timed,
    read: impl FnOnce(Answer) -> Result<T, DriverError>,
) -> Result<T, DriverError> {
    timed.judge(|| read(judged(client.ask(request, timed)?, &[])?))
}

/// Tells the answers that mean failure apart by their status; those of `also` are as good as 200.
fn judged(answer: Answer, also: &[u16]) -> Result<Answer, DriverError> {
    if (200..300).contains(&answer.status) || also.contains(&answer.status) {
        return Ok(answer);
    }
    Err(failure(answer.status, said(&answer)))
}

/// An answer in words, for people.
fn said(answer: &Answer) -> String {
    let before = answer.redirected.as_deref().unwrap_or_default();
    match &answer.unfollowed {
        Some(why) => format!("{before}HTTP {}, a redirect {why}", answer.status),
        None => format!("{before}HTTP {}: {}", answer.status, answer.words()),
    }
}

/// What a status says that is not the one asked for.
fn failure(status: u16, said: String) -> DriverError {
    match status {
        401 | 403 => DriverError::LoginRefused(said),
        // Too many at once; the PDU has not looked at the request.
        408 | 429 | 503 => {
            DriverError::Transport(TransportError::new(TransportErrorKind::Busy, said))
        }
        // It may have switched, and then sent the browser to another page; or something broke
        // while it worked on the request.
        200..=399 | 500..=599 => DriverError::Unexpected {
            expected: "HTTP 200".into(),
            got: said,
        },
        _ => DriverError::Refused(said),
    }
}

/// An answer that is not what the protocol says.
fn unexpected(expected: impl Into<String>, answer: &Answer) -> DriverError {
    DriverError::Unexpected {
        expected: expected.into(),
        got: answer.quote(),
    }
}

/// The body as JSON.
fn json(answer: &Answer) -> Result<serde_json::Value, DriverError> {
    serde_json::from_slice(&answer.body).map_err(|_| unexpected("JSON", answer))
}

/// Does the page tell of 401, as a number of its own? Some PDUs say so under HTTP 200.
fn tells_of_401(page: &str) -> bool {
    page.split(|c: char| !c.is_ascii_alphanumeric())
        .any(|word| word == "401")
}

/// What an answer proves that shows the outlet as `state`. It may show late.
fn proof_of(state: &State, to: Switch) -> Proof {
    match *state == State::from(to) {
        true => Proof::State,
        false => Proof::Reply,
    }
}

/// The state that a word of the PDU means.
fn state_of(word: &str) -> State {
    match word.trim().to_ascii_lowercase().as_str() {
        "on" | "1" | "true" => State::On,
        "off" | "0" | "false" => State::Off,
        _ => State::Unknown(word.trim().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::PduName;
    use crate::settings::Position;

    pub(super) fn settings(driver: &str, text: &str) -> Settings {
        let start = Position { line: 1, column: 1 };
        Settings::new(PduName::new("pdu1"), driver, text, start)
    }

    #[test]
    fn every_row_builds_from_the_least_a_config_may_say_and_does_not_panic() {
        for spec in SPECS {
            for name in spec.names {
                if let Err(error) = spec.build.build(&settings(name, "{}")) {
                    panic!("{name}: {error}");
                }
            }
        }
    }

    #[test]
    fn impossible_ways_are_refused_at_once() {
        for (text, key) in [
            (r#"{"protocol": "gopher"}"#, "protocol"),
            (r#"{"insecure": "maybe"}"#, "insecure"),
            (r#"{"insecure": true, "ca_file": "x"}"#, "insecure"),
            (r#"{"ip": "a b"}"#, "ip"),
        ] {
            for spec in SPECS {
                let name = spec.names[0];
                match spec.build.build(&settings(name, text)) {
                    Err(error) => assert_eq!(error.key.as_deref(), Some(key), "{name} {text}"),
                    Ok(_) => panic!("{name} accepted {text}"),
                }
            }
        }
    }

    #[test]
    fn ports_come_from_the_address_the_key_or_the_scheme() {
        keys! {
            struct Keys {
                ..host: Host;
                ..port: WebPort;
                ..way: Way;
            }
        }
        for (text, expected) in [
            ("{}", 80),
            (r#"{"protocol": "https"}"#, 443),
            (r#"{"protocol": "https", "port": "8443"}"#, 8443),
            (r#"{"port": 9998}"#, 9998),
            (r#"{"port": 9998, "ip": "h:81"}"#, 81),
        ] {
            let settings = settings("x", text);
            let keys: Keys = settings.keys().expect("reads");
            let origin = origin(&settings, &keys.host, &keys.way, keys.port.port);
            assert_eq!(origin.map(|origin| origin.port), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_number_that_has_401_in_it_is_not_401() {
        assert!(tells_of_401("HTTP/1.1 401 Unauthorized"));
        assert!(!tells_of_401("<mA>2401</mA> 4010 x401"));
    }

    #[test]
    fn an_impossible_port_is_refused_where_it_is_read() {
        for text in [r#"{"port": 0}"#, r#"{"port": "any"}"#, r#"{"port": 65536}"#] {
            for name in ["esphome-http", "home-assistant-http", "netiojson", "SERVO"] {
                let spec = SPECS.iter().find(|spec| spec.names.contains(&name));
                let built = spec.expect(name).build.build(&settings(name, text));
                let key = built.err().and_then(|error| error.key);
                assert_eq!(key.as_deref(), Some("port"), "{name} {text}");
            }
        }
    }
}
