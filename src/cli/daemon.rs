//! The daemon's command line: lexopt to [`Cli`], and the help text from the same table. No I/O.

use crate::cli::options::{self, Opt, UsageError, opt};
use crate::config::Protocols;
use crate::request::{Action, Delay, Switch};
use lexopt::{Arg, Parser, ValueExt};
use log::LevelFilter;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// The config file, unless `--conf` names another.
pub const DEFAULT_CONFIG: &str = "/etc/pdudaemon/pdudaemon.conf";

/// The task of this run.
#[derive(Clone, Debug, PartialEq)]
pub enum Job {
    /// Run the daemon.
    Serve,
    /// Carry out one request without a daemon.
    Drive(Drive),
    /// Check the config.
    Check {
        /// Warnings count as errors.
        strict: bool,
    },
    /// Ask the daemon whether it serves.
    Health,
    /// Print every driver, or those that speak of a word.
    ListDrivers {
        /// A maker's name, a model, part of a driver's name.
        word: Option<String>,
    },
    /// Print the attached devices that a driver knows, as a config.
    Discover,
    /// Look for the profile of the PDU at an address.
    Detect(Detect),
    /// Carry out one action with a profile, and print the dialogue as a test.
    Try(Try),
    /// Print the help.
    Help,
    /// Print the version.
    Version,
}

/// One request from the command line.
#[derive(Clone, Debug, PartialEq)]
pub struct Drive {
    /// `--alias`.
    pub alias: Option<String>,
    /// `--hostname`: the PDU's name.
    pub hostname: Option<String>,
    /// `--port`: the outlet.
    pub port: Option<String>,
    /// `--request`.
    pub action: Action,
    /// `--delay`.
    pub delay: Option<Delay>,
    /// `--retries`.
    pub retries: Option<u32>,
    /// `--retry-delay`.
    pub retrydelay: Option<Duration>,
}

/// One action with a profile.
#[derive(Clone, PartialEq)]
pub struct Try {
    /// A profile's file, or its name.
    pub profile: String,
    /// `--hostname`: where the PDU is.
    pub hostname: Option<String>,
    /// `--outlet`.
    pub outlet: String,
    /// What to switch it to; none to read its state.
    pub to: Option<Switch>,
    /// `--set`: keys of the PDU and their values.
    pub set: Vec<(String, String)>,
}

/// The PDU whose profile is looked for.
#[derive(Clone, PartialEq)]
pub struct Detect {
    /// Where the PDU is.
    pub host: String,
    /// `--http`: its web server is asked, not its SNMP agent.
    pub http: bool,
    /// `--set`: keys that say how it is reached.
    pub set: Vec<(String, String)>,
}

impl std::fmt::Debug for Detect {
    /// Without the values: some are secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Detect")
            .field("host", &self.host)
            .field("http", &self.http)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Try {
    /// Without the values: some are secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Try")
            .field("profile", &self.profile)
            .field("hostname", &self.hostname)
            .field("outlet", &self.outlet)
            .field("to", &self.to)
            .finish_non_exhaustive()
    }
}

/// The command line, understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Cli {
    /// The task of this run.
    pub job: Job,
    /// The config file; `-` is standard input.
    pub conf: PathBuf,
    /// `--listener`: overrides the config.
    pub listener: Option<Protocols>,
    /// `--loglevel`: overrides the config.
    pub loglevel: Option<LevelFilter>,
    /// `--journal`: log to the systemd journal.
    pub journal: bool,
    /// `--logfile`: log there instead of to standard output.
    pub logfile: Option<PathBuf>,
}

const GENERAL: &[Opt] = &[
    opt(
        Some('c'),
        "conf",
        Some("FILE"),
        "configuration file, - for standard input [/etc/pdudaemon/pdudaemon.conf]",
    ),
    opt(
        None,
        "listener",
        Some("http|tcp|both"),
        "protocols on the port; overrides daemon.listener of the file [both]",
    ),
    opt(
        None,
        "loglevel",
        Some("LEVEL"),
        "DEBUG, INFO, WARN or ERROR; overrides daemon.logging_level [INFO]",
    ),
    opt(
        None,
        "logfile",
        Some("FILE"),
        "log to this file, opened again after a rotation and on SIGHUP [-, standard output]",
    ),
    opt(
        Some('j'),
        "journal",
        None,
        "log to the systemd journal, with PDU, OUTLET and CLIENT as fields",
    ),
    opt(
        None,
        "check",
        None,
        "check the configuration file and exit: 0 if it can work, 1 if not",
    ),
    opt(
        None,
        "strict",
        None,
        "with --check: warnings count as errors",
    ),
    opt(
        None,
        "health",
        None,
        "ask the daemon of the configuration file, and exit: 0 if it serves, 1 if not",
    ),
    opt(
        None,
        "list-drivers",
        Some("[WORD]"),
        "print every driver with its models, keys and outlets, or those of a maker or model",
    ),
    opt(
        None,
        "discover",
        None,
        "list the attached USB and serial devices that a driver knows, as a configuration",
    ),
    opt(Some('V'), "version", None, "print the version"),
    opt(Some('h'), "help", None, "print this help"),
];

const DRIVE: &[Opt] = &[
    opt(
        None,
        "drive",
        None,
        "carry out one request and exit: 0 if the PDU has done it, 1 if not",
    ),
    opt(
        None,
        "hostname",
        Some("PDU"),
        "the PDU's name in the configuration file",
    ),
    opt(None, "port", Some("OUTLET"), "the outlet"),
    opt(
        None,
        "alias",
        Some("ALIAS"),
        "an alias of the configuration file, instead of --hostname and --port",
    ),
    opt(
        None,
        "request",
        Some("COMMAND"),
        "on, off, reboot or get-status",
    ),
    opt(
        None,
        "delay",
        Some("SECONDS"),
        "pause between off and on of a reboot [5]",
    ),
    opt(
        None,
        "retries",
        Some("N"),
        "attempts; overrides the PDU's own retries [5]",
    ),
    opt(
        None,
        "retry-delay",
        Some("SECONDS"),
        "pause between attempts; overrides the PDU's own retrydelay [5]",
    ),
];

const PROFILES: &[Opt] = &[
    opt(
        None,
        "detect",
        Some("HOST"),
        "ask a PDU by SNMP which profile it needs, and print an entry; switches nothing",
    ),
    opt(None, "http", None, "with --detect: ask its web server"),
    opt(
        None,
        "try",
        Some("PROFILE"),
        "carry out one action with a profile (file or name), and print it as a [[test]]",
    ),
    opt(
        None,
        "outlet",
        Some("OUTLET"),
        "the outlet; --hostname is the address of the PDU",
    ),
    opt(
        None,
        "set",
        Some("KEY=VALUE"),
        "a key of the PDU, as community=public; as often as wanted",
    ),
];

/// The help text.
pub fn help() -> String {
    let mut text = String::from(
        "pdudaemon - switches the outlets of PDUs, one command at a time each\n\n\
         Usage: pdudaemon [--conf FILE] [options]\n       \
         pdudaemon --drive --hostname PDU --port OUTLET --request on|off|reboot|get-status\n       \
         pdudaemon --check [--strict]\n       \
         pdudaemon --detect HOST [--http] [--set KEY=VALUE]\n       \
         pdudaemon --try PROFILE --hostname HOST --outlet OUTLET [--set KEY=VALUE] on|off|state\n\n\
         Options:\n",
    );
    text.push_str(&options::table(GENERAL));
    text.push_str("\nWithout a daemon:\n");
    text.push_str(&options::table(DRIVE));
    text.push_str("\nProfiles of PDUs:\n");
    text.push_str(&options::table(PROFILES));
    text.push_str(
        "\nTry it:\n  \
         curl -fsS 'http://localhost:16421/power/control/reboot?hostname=PDU&port=3&delay=5'\n  \
         pduclient --daemon localhost --hostname PDU --port 3 --command off\n\n\
         See pdudaemon(8), pduclient(1) and pdudaemon.conf(5).\n",
    );
    text
}

/// The log level of this name, in any letter case.
fn level(text: &str) -> Result<LevelFilter, UsageError> {
    match text.to_ascii_uppercase().as_str() {
        "DEBUG" => Ok(LevelFilter::Debug),
        "INFO" => Ok(LevelFilter::Info),
        "WARN" | "WARNING" => Ok(LevelFilter::Warn),
        "ERROR" => Ok(LevelFilter::Error),
        _ => Err(UsageError::new(format!(
            "--loglevel: expected DEBUG, INFO, WARN or ERROR, got {text:?}"
        ))),
    }
}

impl Cli {
    /// Reads the arguments behind the program's name.
    pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Self, UsageError> {
        let mut parser = Parser::from_args(args);
        let mut cli = Self {
            job: Job::Serve,
            conf: DEFAULT_CONFIG.into(),
            listener: None,
            loglevel: None,
            journal: false,
            logfile: None,
        };
        let (mut drive, mut check, mut strict) = (false, false, false);
        let (mut alias, mut hostname, mut port, mut request) = (None, None, None, None);
        let (mut delay, mut retries, mut retrydelay) = (None, None, None);
        let (mut profile, mut outlet, mut set, mut act) = (None, None, Vec::new(), None);
        let (mut host, mut http) = (None, false);
        while let Some(arg) = parser.next()? {
            let name = match arg {
                Arg::Short(short) => GENERAL
                    .iter()
                    .find(|opt| opt.short == Some(short))
                    .map(|opt| opt.long),
                Arg::Long(name) => Some(options::find(&[GENERAL, DRIVE, PROFILES], name)?),
                Arg::Value(value) if cli.job == (Job::ListDrivers { word: None }) => {
                    let word = Some(value.to_string_lossy().into_owned());
                    cli.job = Job::ListDrivers { word };
                    continue;
                }
                Arg::Value(ref value) if profile.is_some() && act.is_none() => {
                    act = Some(value.to_string_lossy().into_owned());
                    continue;
                }
                Arg::Value(ref value) => {
                    return Err(UsageError::new(format!(
                        "unexpected argument {}",
                        value.display()
                    )));
                }
            };
            let Some(name) = name else {
                return Err(arg.unexpected().into());
            };
            let mut value = || -> Result<String, UsageError> {
                parser
                    .value()
                    .map_err(|_| UsageError::new(format!("--{name}: expected a value")))?
                    .string()
                    .map_err(|_| UsageError::new(format!("--{name}: expected UTF-8 text")))
            };
            match name {
                "help" => {
                    return Ok(Self {
                        job: Job::Help,
                        ..cli
                    });
                }
                "version" => {
                    return Ok(Self {
                        job: Job::Version,
                        ..cli
                    });
                }
                "list-drivers" => {
                    let word = parser.optional_value();
                    let word = word.map(|word| word.to_string_lossy().into_owned());
                    cli.job = Job::ListDrivers { word };
                }
                "discover" => cli.job = Job::Discover,
                "health" => cli.job = Job::Health,
                "conf" => cli.conf = value()?.into(),
                "listener" => {
                    let parsed = value()?
                        .parse()
                        .map_err(|error| UsageError::new(format!("--listener: {error}")))?;
                    cli.listener = Some(parsed);
                }
                "loglevel" => cli.loglevel = Some(level(&value()?)?),
                "logfile" => {
                    cli.logfile = Some(value()?)
                        .filter(|path| !path.is_empty() && path != "-")
                        .map(Into::into)
                }
                "journal" => cli.journal = true,
                "check" => check = true,
                "strict" => strict = true,
                "drive" => drive = true,
                "detect" => host = Some(value()?),
                "http" => http = true,
                "try" => profile = Some(value()?),
                "outlet" => outlet = Some(value()?),
                "set" => {
                    let pair = value()?;
                    let (key, value) = pair.split_once('=').ok_or_else(|| {
                        UsageError::new("--set: expected KEY=VALUE, as --set unit=2")
                    })?;
                    set.push((key.to_owned(), value.to_owned()));
                }
                "alias" => alias = Some(value()?),
                "hostname" => hostname = Some(value()?),
                "port" => port = Some(value()?),
                "request" => request = Some(value()?),
                "delay" => {
                    let parsed: Delay = value()?
                        .parse()
                        .map_err(|error| UsageError::new(format!("--{error}")))?;
                    delay = Some(parsed);
                }
                "retries" => {
                    let text = value()?;
                    let number: i64 = text.parse().map_err(|_| {
                        UsageError::new(format!("--retries: expected a number, got {text:?}"))
                    })?;
                    retries = Some(u32::try_from(number.max(1)).unwrap_or(u32::MAX));
                }
                "retry-delay" => {
                    let text = value()?;
                    let parsed: Delay = text.parse().map_err(|_| {
                        UsageError::new(format!("--retry-delay: expected seconds, got {text:?}"))
                    })?;
                    retrydelay = Some(parsed.duration());
                }
                _ => return Err(UsageError::new(format!("unknown option --{name}"))),
            }
        }
        if alias.is_some() && (hostname.is_some() || port.is_some()) {
            return Err(UsageError::new(
                "--alias: must not be combined with --hostname or --port",
            ));
        }
        if strict && !check {
            return Err(UsageError::new("--strict: only has a meaning with --check"));
        }
        if profile.is_none() && outlet.is_some() {
            return Err(UsageError::new("--outlet: only has a meaning with --try"));
        }
        if profile.is_none() && host.is_none() && !set.is_empty() {
            return Err(UsageError::new(
                "--set: only has a meaning with --try and --detect",
            ));
        }
        if http && host.is_none() {
            return Err(UsageError::new("--http: only has a meaning with --detect"));
        }
        if check {
            cli.job = Job::Check { strict };
        } else if let Some(host) = host {
            cli.job = Job::Detect(Detect { host, http, set });
        } else if let Some(profile) = profile {
            let to = match act.as_deref() {
                Some("on") => Some(Switch::On),
                Some("off") => Some(Switch::Off),
                Some("state") => None,
                _ => return Err(UsageError::new("--try: expected on, off or state")),
            };
            let outlet = outlet.ok_or_else(|| UsageError::new("--try: expected --outlet"))?;
            let is_way = |key: &str| ["ip", "hostname", "device"].contains(&key);
            if hostname.is_none() && !set.iter().any(|(key, _)| is_way(key)) {
                return Err(UsageError::new(
                    "--try: expected --hostname, or --set device=... for a serial line",
                ));
            }
            cli.job = Job::Try(Try {
                profile,
                hostname,
                outlet,
                to,
                set,
            });
        } else if drive {
            let expected = || UsageError::new(format!("--request: expected {}", Action::COMMANDS));
            let action = request
                .ok_or_else(expected)?
                .parse()
                .map_err(|()| expected())?;
            if alias.is_none() && (hostname.is_none() || port.is_none()) {
                return Err(UsageError::new(
                    "--drive: expected --hostname and --port, or --alias",
                ));
            }
            cli.job = Job::Drive(Drive {
                alias,
                hostname,
                port,
                action,
                delay,
                retries,
                retrydelay,
            });
        }
        Ok(cli)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Switch;

    fn parse(args: &str) -> Result<Cli, String> {
        Cli::parse(args.split_whitespace().map(OsString::from)).map_err(|error| error.to_string())
    }

    #[test]
    fn options_are_read_and_may_be_abbreviated() {
        let cli = parse("--conf /x --log DEBUG").expect_err("ambiguous");
        assert!(cli.contains("--loglevel, --logfile"), "{cli}");
        let cli = parse("-c /x --loglev warn -j --listen tcp --logfile -").expect("fine");
        assert_eq!(
            (cli.conf, cli.loglevel, cli.journal),
            ("/x".into(), Some(LevelFilter::Warn), true)
        );
        assert_eq!((cli.listener, cli.logfile), (Some(Protocols::Tcp), None));
        assert_eq!(parse("--help --nonsense").expect("fine").job, Job::Help);
        let Job::Drive(drive) =
            parse("--drive --hostname=p --port 04 --req reboot --delay 0.5 --retries 0")
                .expect("fine")
                .job
        else {
            panic!("not a drive")
        };
        assert_eq!(
            (drive.port.as_deref(), drive.action, drive.retries),
            (Some("04"), Action::Reboot, Some(1))
        );
        let Job::Drive(drive) = parse("--drive --alias a --request off").expect("fine").job else {
            panic!()
        };
        assert_eq!(drive.action, Action::Switch(Switch::Off));
    }

    #[test]
    fn what_makes_no_sense_is_told() {
        for (args, expected) in [
            ("--nonsense", "unknown option --nonsense"),
            ("--hostnam", ""),
            ("--confg x", "did you mean --conf?"),
            ("--listener udp", "--listener: expected"),
            ("--loglevel LOUD", "--loglevel: expected"),
            (
                "--drive --hostname p --port 1",
                "--request: expected on, off",
            ),
            ("--drive --request on --hostname p", "--drive: expected"),
            (
                "--drive --request on --alias a --hostname p",
                "--alias: must not",
            ),
            (
                "--drive --request on --alias a --delay abc",
                "--delay: expected",
            ),
            ("--strict", "--strict"),
            ("on", "unexpected argument on"),
            ("--he", "--health, --help"),
            ("--set unit=1", "only has a meaning with --try"),
            ("--outlet 1", "only has a meaning with --try"),
            ("--http", "only has a meaning with --detect"),
            ("--try p --hostname h --outlet 1", "--try: expected on, off"),
            (
                "--try p --hostname h --outlet 1 reboot",
                "--try: expected on",
            ),
            ("--try p --hostname h on", "--try: expected --outlet"),
            ("--try p --outlet 1 on", "--try: expected --hostname"),
            (
                "--try p --hostname h --outlet 1 --set unit on",
                "--set: expected",
            ),
            (
                "--try p --hostname h --outlet 1 on off",
                "unexpected argument off",
            ),
        ] {
            let error = parse(args).map(|cli| cli.job).expect_err(args);
            assert!(error.contains(expected), "{args}: {error}");
        }
    }

    #[test]
    fn drivers_are_listed_by_a_word() {
        let word = |word: Option<&str>| Job::ListDrivers {
            word: word.map(str::to_owned),
        };
        assert_eq!(parse("--list-drivers").expect("fine").job, word(None));
        for args in ["--list-drivers raritan", "--list-drivers=raritan"] {
            assert_eq!(parse(args).expect("fine").job, word(Some("raritan")));
        }
        assert!(parse("--list-drivers raritan px2").is_err());
    }

    #[test]
    fn the_help_names_every_option() {
        let help = help();
        for opt in GENERAL.iter().chain(DRIVE).chain(PROFILES) {
            assert!(help.contains(&format!("--{}", opt.long)), "{}", opt.long);
        }
        assert!(
            help.lines().all(|line| line.len() <= 120),
            "a line is too long"
        );
    }
}
