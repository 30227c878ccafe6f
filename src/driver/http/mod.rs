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
mod esphome;
mod home_assistant;
mod intellinet;
mod ip9850;
mod lindy;
mod netio;
mod sainsmart;
mod servertech;
mod servo;
mod shelly;
mod tasmota;
mod ubus;

use super::{DEVICE_TIMEOUT, DriverError, DriverSpec, HOSTNAME, Has, IP, Key, SHOWS_WITHIN, key};
use crate::request::{Proof, State, Switch};
use crate::settings::{self, Address, Secret, Settings, SettingsError};
use crate::transport::http::{Answer, Basic, Client, Login, Origin, Request, Trust};
use crate::transport::kept::tried_again;
use crate::transport::{Attempt, Deadline, TransportError, TransportErrorKind};
use serde::Deserialize;
use std::path::PathBuf;

/// Every driver name of this transport.
pub(super) static SPECS: &[DriverSpec] = &[
    anel::HOME,
    anel::SPEC,
    esphome::SPEC,
    home_assistant::SPEC,
    intellinet::SPEC,
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
    keys: &[],
    outlets: Has::Told(""),
    reads_back: true,
    verified_by: "",
    timeout: DEVICE_TIMEOUT,
    shows_within: SHOWS_WITHIN,
    build: &no_driver,
};

/// Stands in [`SPEC`] until a row names its own.
fn no_driver(settings: &Settings) -> Result<Box<dyn super::Driver>, SettingsError> {
    Err(settings.error("driver", "this row of the table has no driver"))
}

const PROTOCOL: Key = key(
    "protocol",
    "text",
    "\"http\"",
    "http or https; https listens on port 443 unless told otherwise",
);
const INSECURE: Key = key(
    "insecure",
    "flag",
    "false",
    "accept any certificate (https)",
);
const CA_FILE: Key = key(
    "ca_file",
    "text",
    "none",
    "PEM file with the PDU's certificate or its authority's (https)",
);

const fn port(default: &'static str) -> Key {
    key("port", "number", default, "TCP port")
}

const fn username(default: &'static str) -> Key {
    key("username", "text", default, "user name")
}

const fn password(default: &'static str) -> Key {
    key("password", "text", default, "password")
}

/// User and password as configs have them; a driver adds its defaults.
#[derive(Deserialize)]
struct Credentials {
    #[serde(default, deserialize_with = "settings::maybe_text")]
    username: Option<String>,
    #[serde(default)]
    password: Option<Secret>,
}

impl Credentials {
    /// With the factory's user and password where the config has none.
    fn or(self, user: &str, password: &str) -> (String, String) {
        (
            self.username.unwrap_or_else(|| user.to_owned()),
            self.password
                .map_or_else(|| password.to_owned(), |secret| secret.reveal().to_owned()),
        )
    }

    /// Both, where both are given and not empty.
    fn both(&self) -> Option<(String, String)> {
        let user = self.username.as_deref().unwrap_or_default();
        let password = self.password.as_ref().map_or("", Secret::reveal);
        (!user.is_empty() && !password.is_empty()).then(|| (user.to_owned(), password.to_owned()))
    }
}

/// The key of logins that are made as the PDU asks.
const fn basic_login(default: &'static str) -> Key {
    key(
        "basic_login",
        "text",
        default,
        "when Basic login, which shows the password to whoever listens, is the answer where the PDU \
         asks for it: \"never\", \"until-digest\" (until the PDU has once asked for digest), \
         \"always\"",
    )
}

/// A login as the PDU asks for it.
fn asked(
    settings: &Settings,
    (user, password): (String, String),
    default: Basic,
) -> Result<Login, SettingsError> {
    #[derive(Deserialize)]
    struct Keys {
        #[serde(default)]
        basic_login: Option<String>,
    }
    let basic = match settings.read::<Keys>()?.basic_login.as_deref() {
        None => default,
        Some("never") => Basic::Never,
        Some("until-digest") => Basic::UntilDigest,
        Some("always") => Basic::Always,
        Some(other) => {
            return Err(settings.error(
                "basic_login",
                format!("expected \"never\", \"until-digest\" or \"always\", got {other:?}"),
            ));
        }
    };
    Ok(Login::Asked {
        user,
        password,
        basic,
    })
}

fn basic((user, password): (String, String)) -> Login {
    Login::Basic { user, password }
}

/// Does the driver read a `port` key?
#[derive(Clone, Copy, PartialEq, Eq)]
enum PortKey {
    /// Yes; this is the port without it.
    Or(u16),
    /// No: the scheme's own port, or the address's.
    Unread,
}

/// The client that a PDU's settings ask for.
fn client(settings: &Settings, port: PortKey, login: Login) -> Result<Client, SettingsError> {
    let way = Way::read(settings)?;
    let address = settings.address(way.port(settings, port)?)?;
    way.client(settings, address, login)
}

/// How a PDU is reached, as written.
#[derive(Deserialize)]
struct Way {
    #[serde(default)]
    ip: Option<String>,
    #[serde(default)]
    hostname: Option<String>,
    #[serde(default)]
    protocol: Option<String>,
    #[serde(default, deserialize_with = "settings::flag")]
    insecure: bool,
    #[serde(default)]
    ca_file: Option<PathBuf>,
    #[serde(skip)]
    tls: bool,
}

impl Way {
    fn read(settings: &Settings) -> Result<Self, SettingsError> {
        let mut way: Self = settings.read()?;
        way.tls = match way.protocol.as_deref() {
            None | Some("http") => false,
            Some("https") => true,
            Some(other) => {
                return Err(settings.error(
                    "protocol",
                    format!("expected \"http\" or \"https\", got {other:?}"),
                ));
            }
        };
        if way.insecure && way.ca_file.is_some() {
            return Err(settings.error("insecure", "makes no sense together with ca_file"));
        }
        Ok(way)
    }

    fn port(&self, settings: &Settings, port: PortKey) -> Result<u16, SettingsError> {
        #[derive(Deserialize)]
        struct Keys {
            #[serde(default, deserialize_with = "settings::maybe_number")]
            port: Option<u16>,
        }
        let usual = if self.tls { 443 } else { 80 };
        let PortKey::Or(default) = port else {
            return Ok(usual);
        };
        match settings.read::<Keys>()?.port {
            Some(0) => Err(settings.error("port", "expected 1 to 65535, got 0")),
            Some(port) => Ok(port),
            None if default == 80 => Ok(usual),
            None => Ok(default),
        }
    }

    fn client(
        self,
        settings: &Settings,
        address: Address,
        login: Login,
    ) -> Result<Client, SettingsError> {
        let key = match (&self.ip, &self.hostname) {
            (Some(ip), _) if !ip.is_empty() => "ip",
            (_, Some(hostname)) if !hostname.is_empty() => "hostname",
            _ => "driver",
        };
        let trust = match self.ca_file {
            _ if self.insecure => Trust::Insecure,
            Some(file) => Trust::File(file),
            None => Trust::System,
        };
        let origin = Origin {
            tls: self.tls,
            host: address.host,
            port: address.port,
        };
        Client::new(origin, login, trust).map_err(|message| settings.error(key, message))
    }
}

/// Asks, and tells the answers that mean failure apart by their status.
fn ask(
    client: &mut Client,
    request: &Request<'_>,
    deadline: Deadline,
) -> Result<Answer, DriverError> {
    let answer = client.ask(request, deadline)?;
    let said = || match &answer.unfollowed {
        Some(why) => format!("HTTP {}, a redirect {why}", answer.status),
        None => format!("HTTP {}: {}", answer.status, answer.words()),
    };
    let error = match answer.status {
        200..=299 => return Ok(answer),
        401 | 403 => DriverError::LoginRefused(said()),
        // Too many at once; the PDU has not looked at the request.
        408 | 429 | 503 => {
            DriverError::Transport(TransportError::new(TransportErrorKind::Busy, said()))
        }
        // It may have switched, and then sent the browser to another page; or something broke
        // while it worked on the request.
        300..=399 | 500..=599 => DriverError::Unexpected {
            expected: "HTTP 200".into(),
            got: said(),
        },
        _ => DriverError::Refused(said()),
    };
    told(&answer, error)
}

/// The failure that an answer tells. It is about the last copy of the request only: a refusal says
/// nothing of an earlier one that may have been carried out.
fn told<T>(answer: &Answer, error: DriverError) -> Result<T, DriverError> {
    match &answer.earlier {
        Some(earlier) => tried_again(DriverError::Transport(earlier.clone()), Err(error)),
        None => Err(error),
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
        for (text, port, expected) in [
            ("{}", PortKey::Or(80), 80),
            (r#"{"protocol": "https"}"#, PortKey::Or(80), 443),
            (
                r#"{"protocol": "https", "port": "8443"}"#,
                PortKey::Or(80),
                8443,
            ),
            (
                r#"{"protocol": "https", "port": 8443}"#,
                PortKey::Unread,
                443,
            ),
            (r#"{"port": "any"}"#, PortKey::Unread, 80),
            (r#"{"port": 9998}"#, PortKey::Or(9999), 9998),
        ] {
            let settings = settings("x", text);
            let way = Way::read(&settings).expect("reads");
            assert_eq!(way.port(&settings, port), Ok(expected), "{text}");
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
            for name in [
                "esphome-http",
                "home-assistant-http",
                "intellinet",
                "netiojson",
                "SERVO",
            ] {
                let spec = SPECS.iter().find(|spec| spec.names.contains(&name));
                let built = spec.expect(name).build.build(&settings(name, text));
                let key = built.err().and_then(|error| error.key);
                assert_eq!(key.as_deref(), Some("port"), "{name} {text}");
            }
        }
    }
}
