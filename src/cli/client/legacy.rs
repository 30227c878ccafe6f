//! The options of every release: one outlet, over the line protocol or with `-H` over HTTP.
//! Scripts know their texts and exit codes.

use super::tls::{self, Tls};
use super::words;
use super::{CONNECT_PATIENCE, Ending, PORT, is_timeout, token};
use crate::cli::options::{self, Opt, UsageError, opt};
use crate::request::Delay;
use crate::settings::{Address, Secret};
use lexopt::{Arg, Parser, ValueExt};
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// The longest answer.
const MAX_ANSWER: u64 = 64 * 1024;

pub(super) const OPTIONS: &[Opt] = &[
    opt(
        None,
        "daemon",
        Some("HOST[:PORT]"),
        "the daemon, [::1]:16421 for IPv6, or the path of its Unix socket",
    ),
    opt(
        None,
        "hostname",
        Some("PDU"),
        "the PDU's name in the daemon's configuration",
    ),
    opt(None, "port", Some("OUTLET"), "the outlet"),
    opt(
        None,
        "alias",
        Some("ALIAS"),
        "an alias instead of --hostname and --port; only with --http",
    ),
    opt(
        None,
        "command",
        Some("COMMAND"),
        "on, off, reboot or get-status (status for short)",
    ),
    opt(
        None,
        "delay",
        Some("SECONDS"),
        "pause between off and on of a reboot [5]",
    ),
    opt(
        None,
        "timeout",
        Some("SECONDS"),
        "longest wait for the answer [no limit: it comes when the work is done]",
    ),
    opt(
        Some('H'),
        "http",
        None,
        "ask over HTTP: the daemon then also says why a request failed",
    ),
    opt(
        None,
        "token-file",
        Some("FILE"),
        "a file with the access token, for --http [$PDUDAEMON_TOKEN_FILE]",
    ),
    opt(Some('V'), "version", None, "print the version"),
    opt(Some('h'), "help", None, "print this help"),
];

/// One question, ready to be asked.
pub(super) struct Question {
    pub(super) daemon: String,
    pub(super) target: Target,
    pub(super) command: &'static str,
    pub(super) delay: Option<Delay>,
    pub(super) timeout: Option<Duration>,
    pub(super) http: bool,
    pub(super) token: Option<Secret>,
    pub(super) tls: Option<Tls>,
}

pub(super) enum Target {
    Outlet { pdu: String, outlet: String },
    Alias(String),
}

/// The help text.
pub(super) fn help() -> String {
    format!(
        "pduclient - asks a pdudaemon to switch an outlet\n\n\
         Usage: pduclient --daemon HOST --hostname PDU --port OUTLET --command on|off|reboot|get-status\n\n\
         Options:\n{}\n\
         Or with a word, over the daemon's newer HTTP interface:\n{}\n\
         Exit status: 0 done, 127 refused or failed, 1 no daemon or an option missing, 2 wrong usage.\n",
        options::table(OPTIONS) + &options::table(&tls::OPTIONS),
        words::summary()
    )
}

/// Reads the arguments behind the program's name and asks.
pub(super) fn run(args: impl IntoIterator<Item = OsString>) -> Ending {
    match parse(args) {
        Ok(Ok(question)) => question.ask(),
        Ok(Err(ending)) => ending,
        Err(error) => Ending::complain(
            2,
            format!("Usage: pduclient [options]\n\npduclient: error: {error}"),
        ),
    }
}

fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Result<Question, Ending>, UsageError> {
    let mut parser = Parser::from_args(args);
    let (mut daemon, mut hostname, mut port, mut alias, mut command) =
        (None, None, None, None, None);
    let (mut delay, mut timeout, mut http) = (None, None, false);
    let (mut token_file, mut word) = (None, None);
    let mut tls = tls::Wish::default();
    while let Some(arg) = parser.next()? {
        let name = match arg {
            Arg::Short(short) => OPTIONS
                .iter()
                .find(|opt| opt.short == Some(short))
                .map(|opt| opt.long),
            // What abbreviated an option of every release still does.
            Arg::Long(name) => Some(match options::find(&[OPTIONS], name) {
                Ok(old) => old,
                Err(_) => options::find(&[OPTIONS, &tls::OPTIONS], name)?,
            }),
            // As with optparse, further words do not count.
            Arg::Value(value) => {
                word = word.or_else(|| value.string().ok());
                continue;
            }
        };
        let Some(name) = name else {
            return Err(arg.unexpected().into());
        };
        let mut value = || -> Result<String, UsageError> {
            let value = parser
                .value()
                .map_err(|_| UsageError::new(format!("--{name}: expected a value")))?;
            value
                .string()
                .map_err(|_| UsageError::new(format!("--{name}: expected UTF-8 text")))
        };
        let seconds = |text: String| -> Result<Delay, UsageError> {
            text.parse()
                .map_err(|_| UsageError::new(format!("--{name}: expected seconds, got {text:?}")))
        };
        match name {
            "help" => return Ok(Err(Ending::say(0, help().trim_end()))),
            "version" => {
                return Ok(Err(Ending::say(
                    0,
                    concat!("pduclient ", env!("CARGO_PKG_VERSION")),
                )));
            }
            "http" => http = true,
            "daemon" => daemon = Some(value()?),
            "hostname" => hostname = Some(value()?),
            "port" => port = Some(value()?),
            "alias" => alias = Some(value()?),
            "command" => command = Some(value()?),
            "delay" => delay = Some(seconds(value()?)?),
            "token-file" => token_file = Some(value()?),
            "timeout" => timeout = Some(seconds(value()?)?.duration()),
            _ if tls.take(name, &mut value)? => {}
            _ => return Err(UsageError::new(format!("no such option: --{name}"))),
        }
    }
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let (daemon, command) = (given(daemon), given(command));
    let (alias, hostname, port) = (given(alias), given(hostname), given(port));
    let missing = {
        let options = [
            ("--daemon", daemon.is_some()),
            ("--hostname", hostname.is_some() || alias.is_some()),
            ("--port", port.is_some() || alias.is_some()),
            ("--command", command.is_some()),
        ];
        let target = match (&alias, &hostname, &port) {
            (Some(alias), ..) => format!("@{alias}"),
            (None, Some(pdu), Some(outlet)) => format!("{pdu}:{outlet}"),
            _ => "PDU:OUTLET".to_owned(),
        };
        let word = word.or_else(|| command.clone());
        move || missing(&options, &words::meant(word.as_deref(), &target))
    };
    let (Some(daemon), Some(command)) = (daemon, command) else {
        return Ok(Err(missing()));
    };
    let target = match (alias, hostname, port) {
        (None, Some(pdu), Some(outlet)) => Target::Outlet { pdu, outlet },
        (Some(alias), None, None) if http => Target::Alias(alias),
        (Some(_), None, None) => {
            return Ok(Err(Ending::say(
                1,
                "An alias can only be asked for with --http",
            )));
        }
        _ => return Ok(Err(missing())),
    };
    let command = match command.as_str() {
        "on" => "on",
        "off" => "off",
        "reboot" => "reboot",
        "get-status" | "status" => "get-status",
        other => return Ok(Err(Ending::say(1, format!("Unknown pdu command: {other}")))),
    };
    if timeout.is_some_and(|timeout| timeout.is_zero()) {
        return Err(UsageError::new("--timeout: expected more than 0 seconds"));
    }
    let token = match http.then(|| token(token_file.as_deref().map(Path::new))) {
        None => None,
        Some(Ok(token)) => token,
        Some(Err(reason)) => return Ok(Err(Ending::say(1, reason))),
    };
    let tls = match tls.grant() {
        Ok(tls) => tls,
        Err(reason) => return Ok(Err(Ending::say(1, reason))),
    };
    Ok(Ok(Question {
        daemon,
        target,
        command,
        delay,
        timeout,
        http,
        token,
        tls,
    }))
}

/// The text that scripts know; and on standard error the missing options, and a command line that
/// needs none of them.
fn missing(options: &[(&str, bool)], instead: &str) -> Ending {
    let names: Vec<&str> = options
        .iter()
        .filter(|(_, is_given)| !is_given)
        .map(|(name, _)| *name)
        .collect();
    let why = match names.as_slice() {
        [] => "--alias stands for --hostname and --port, not beside them".to_owned(),
        names => format!("there is no {}", names.join(", no ")),
    };
    let daemon = match std::env::var_os("PDUDAEMON") {
        Some(_) if names.contains(&"--daemon") => " (PDUDAEMON counts only with a word)",
        _ => "",
    };
    Ending {
        err: Some(format!(
            "pduclient: {why}{daemon}; did you mean pduclient {instead}?"
        )),
        ..Ending::say(1, "Missing option, try -h for help")
    }
}

impl Question {
    fn ask(&self) -> Ending {
        let answer = match &self.target {
            Target::Outlet { pdu, outlet } if !self.http => self.ask_line(pdu, outlet),
            Target::Outlet { .. } | Target::Alias(_) => self.ask_http(),
        };
        match answer {
            Ok(ending) => ending,
            Err(error) if is_timeout(&error) => Ending::say(
                127,
                format!(
                    "Error sending command! {} did not answer in time",
                    self.daemon
                ),
            ),
            Err(error) => Ending::say(
                1,
                format!("Error sending command, wrong daemon hostname?\n{error}"),
            ),
        }
    }

    /// The answer to the line: `ack`, a state, or anything else.
    fn ask_line(&self, pdu: &str, outlet: &str) -> io::Result<Ending> {
        let delay = self
            .delay
            .map(|delay| format!(" {}", delay.duration().as_secs_f64()))
            .unwrap_or_default();
        let line = format!("{pdu} {outlet} {}{delay}", self.command);
        let mut answer = Vec::new();
        if self.daemon.starts_with('/') {
            let mut stream = UnixStream::connect(&self.daemon)?;
            stream.set_read_timeout(self.timeout)?;
            stream.write_all(line.as_bytes())?;
            stream.shutdown(Shutdown::Write)?;
            stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
        } else {
            let mut stream = self.connect()?;
            stream.set_read_timeout(self.timeout)?;
            match &self.tls {
                None => {
                    stream.write_all(line.as_bytes())?;
                    stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
                }
                Some(tls) => {
                    let mut stream = tls.open(&self.address()?.host, stream)?;
                    stream.write_all(line.as_bytes())?;
                    stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
                }
            }
        }
        let answer = String::from_utf8_lossy(&answer);
        Ok(match (self.command, answer.trim()) {
            ("get-status", state @ ("on" | "off")) => Ending::say(0, state),
            ("get-status", other) => self.refused(other),
            (_, "ack") => Ending::say(0, "Command sent successfully."),
            (_, "nack") => Ending::say(
                127,
                format!(
                    "Error sending command! {} replied: nack\nAsk with --http for the reason.",
                    self.daemon
                ),
            ),
            (_, other) => self.refused(other),
        })
    }

    fn refused(&self, reply: &str) -> Ending {
        Ending::say(
            127,
            format!("Error sending command! {} replied: {reply}", self.daemon),
        )
    }

    fn address(&self) -> io::Result<Address> {
        Address::parse(&self.daemon, PORT)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let Address { host, port } = self.address()?;
        let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"));
        for address in (host.as_str(), port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, CONNECT_PATIENCE) {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn ask_http(&self) -> io::Result<Ending> {
        let (status, body) = self.get()?;
        let body = body.trim();
        if status >= 400 {
            let reply = format!(
                "Error sending command! {} replied: <Response [{status}]>",
                self.daemon
            );
            return Ok(Ending::say(
                127,
                if body.is_empty() {
                    reply
                } else {
                    format!("{reply}\n{body}")
                },
            ));
        }
        Ok(match self.command {
            "get-status" => Ending::say(0, body),
            _ => Ending::say(0, "Command sent successfully."),
        })
    }

    /// Status and body of the answer on the path that every release of the daemon has.
    pub(super) fn get(&self) -> io::Result<(u16, String)> {
        let mut query = form_urlencoded::Serializer::new(String::new());
        match &self.target {
            Target::Outlet { pdu, outlet } => query
                .append_pair("hostname", pdu)
                .append_pair("port", outlet),
            Target::Alias(alias) => query.append_pair("alias", alias),
        };
        if let Some(delay) = self.delay {
            query.append_pair("delay", &delay.duration().as_secs_f64().to_string());
        }
        let url = format!(
            "{}://{}/power/control/{}?{}",
            tls::scheme(self.tls.as_ref()),
            self.address()?,
            self.command,
            query.finish()
        );
        let agent = tls::agent(self.tls.as_ref(), self.timeout);
        let mut request = agent.get(&url);
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {}", token.reveal()));
        }
        let mut response = request.call().map_err(ureq::Error::into_io)?;
        let body = response
            .body_mut()
            .with_config()
            .limit(MAX_ANSWER)
            .read_to_string()
            .map_err(ureq::Error::into_io)?;
        Ok((response.status().as_u16(), body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(args: &str) -> (u8, String) {
        let ending = run(args.split_whitespace().map(OsString::from));
        (ending.code, ending.out.or(ending.err).unwrap_or_default())
    }

    #[test]
    fn wrong_usage_ends_as_it_always_did() {
        assert_eq!(
            ends("--hostname p --port 1 --command on"),
            (1, "Missing option, try -h for help".into())
        );
        assert_eq!(
            ends("--daemon h --hostname p --port 1 --command toggle"),
            (1, "Unknown pdu command: toggle".into())
        );
        assert_eq!(ends("--nonsense").0, 2);
        assert_eq!(ends("--daemon h --delay abc").0, 2);
        assert_eq!(ends("--daemon h --alias a --command on").0, 1);
        assert_eq!(ends("-h").0, 0);
    }
}
