//! Drivers over ssh: the table of their specs, and what their dialects share.

mod acme;
mod mfi;

use super::{DEVICE_TIMEOUT, DriverError, DriverSpec, HOSTNAME, Has, IP, Key, SHOWS_WITHIN, key};
use crate::settings::{self, Secret, Settings, SettingsError};
use crate::transport::ssh::{Client, HostKey, SshError, Target};
use serde::Deserialize;

const KNOWN_HOSTS: Key = key(
    "known_hosts",
    "text",
    "none",
    "file with the trusted host keys; the ssh client's own when absent",
);
const KEY_FILE: Key = key(
    "key_file",
    "text",
    "none",
    "private key to log in with; the ssh client's own when absent",
);

static ACME_KEYS: [Key; 6] = [
    IP,
    HOSTNAME,
    key("username", "text", "\"root\"", "user to log in as"),
    key(
        "password",
        "text",
        "\"\"",
        "that user's password, when no key is accepted",
    ),
    KNOWN_HOSTS,
    KEY_FILE,
];

static MFI_KEYS: [Key; 9] = [
    IP,
    HOSTNAME,
    key("sshport", "number", "22", "TCP port of the ssh server"),
    key("username", "text", "\"ubnt\"", "user to log in as"),
    key(
        "password",
        "text",
        "\"ubnt\"",
        "that user's password, when no key is accepted",
    ),
    key(
        "verify_hostkey",
        "flag",
        "true",
        "refuse a host whose key is not known; false accepts a new key, but no changed one",
    ),
    key(
        "legacy_algorithms",
        "flag",
        "true",
        "offer, last of all, the algorithms that old firmware needs",
    ),
    KNOWN_HOSTS,
    KEY_FILE,
];

/// Every driver name of this transport.
pub(super) static SPECS: &[DriverSpec] = &[
    DriverSpec {
        names: &["acme"],
        any_case: false,
        models: "BayLibre ACME power switches",
        transport: "ssh",
        keys: &ACME_KEYS,
        outlets: Has::Numbers(1, 8),
        reads_back: false,
        verified_by: "OpenSSH's sshd with a recorded shell. UNVERIFIED on hardware: that \
                      dut-switch-on and dut-switch-off tell a failure by their exit status",
        timeout: DEVICE_TIMEOUT,
        shows_within: SHOWS_WITHIN,
        build: &acme::build,
    },
    mfi(&["ubntmfi3port"], "Ubiquiti mFi mPower, 3 outlets", 3),
    mfi(&["ubntmfi6port"], "Ubiquiti mFi mPower, 6 outlets", 6),
    mfi(&["ubntmfi8port"], "Ubiquiti mFi mPower, 8 outlets", 8),
];

const fn mfi(names: &'static [&'static str], models: &'static str, outlets: u32) -> DriverSpec {
    DriverSpec {
        names,
        any_case: false,
        models,
        transport: "ssh",
        keys: &MFI_KEYS,
        outlets: Has::Numbers(1, outlets),
        reads_back: true,
        verified_by: "OpenSSH's sshd with a recorded shell, also one limited to group1-sha1, \
                      ssh-rsa and aes128-cbc. UNVERIFIED on hardware: that old firmware needs no \
                      other algorithms",
        timeout: DEVICE_TIMEOUT,
        shows_within: SHOWS_WITHIN,
        build: &mfi::build,
    }
}

/// The keys of all of these drivers.
#[derive(Deserialize)]
struct Keys {
    #[serde(default, deserialize_with = "settings::maybe_number")]
    sshport: Option<u16>,
    #[serde(default, deserialize_with = "settings::maybe_text")]
    username: Option<String>,
    #[serde(default)]
    password: Option<Secret>,
    #[serde(default)]
    known_hosts: Option<String>,
    #[serde(default)]
    key_file: Option<String>,
}

/// What differs between the drivers.
struct Defaults {
    username: &'static str,
    password: &'static str,
    /// Port 0 is that of the ssh configuration.
    port: u16,
    host_key: HostKey,
    options: &'static [&'static str],
}

fn client(settings: &Settings, defaults: &Defaults) -> Result<Client, SettingsError> {
    let keys: Keys = settings.read()?;
    if keys.sshport == Some(0) {
        return Err(settings.error("sshport", "expected 1 to 65535, got 0"));
    }
    let port = match defaults.port {
        // Without the key.
        0 => 0,
        port => keys.sshport.unwrap_or(port),
    };
    let address = settings.address(port)?;
    for (key, file) in [
        ("known_hosts", &keys.known_hosts),
        ("key_file", &keys.key_file),
    ] {
        if let Some(file) = file
            && (file.is_empty() || file.contains(['"', '\n']))
        {
            return Err(settings.error(key, "expected the path of a file"));
        }
    }
    let password = keys
        .password
        .map_or_else(|| defaults.password.to_owned(), |p| p.reveal().to_owned());
    if password.contains(['\n', '\r', '\0']) {
        return Err(settings.error("password", "expected no line ends"));
    }
    let target = Target {
        host: address.host,
        port: (address.port != 0).then_some(address.port),
        user: keys
            .username
            .unwrap_or_else(|| defaults.username.to_owned()),
        password,
        host_key: defaults.host_key,
        known_hosts: keys.known_hosts,
        key_file: keys.key_file,
        options: defaults.options,
    };
    if target.is_valid() {
        Ok(Client::new(target))
    } else {
        Err(settings.error(
            "username",
            "expected a user name and a host, neither with a dash in front",
        ))
    }
}

impl From<SshError> for DriverError {
    fn from(error: SshError) -> Self {
        match error {
            SshError::LoginRefused(words) => Self::LoginRefused(words),
            SshError::NoAlgorithm(words) => Self::Setup(format!("ssh: {words}")),
            SshError::Transport(error) => Self::Transport(error),
        }
    }
}
