//! Drivers over ssh: the table of their specs, and what their dialects share.

mod acme;
mod mfi;

use super::{By, DEVICE_TIMEOUT, DriverError, DriverSpec, Has, SHOWS_WITHIN};
use crate::settings::{Address, Secret, Settings, SettingsError, TextOrNumber, keys};
use crate::transport::ssh::{Client, HostKey, SshError, Target};

keys! {
    /// What the ssh client may be told.
    struct Files {
        known_hosts: Option<String>,
            "file with the trusted host keys; the ssh client's own when absent";
        key_file: Option<String>, "private key to log in with; the ssh client's own when absent";
    }
}

/// What the keys `username` and `password` are for.
const USERNAME: &str = "user to log in as";
const PASSWORD: &str = "that user's password, when no key is accepted";

/// Every driver name of this transport.
pub(super) static SPECS: &[DriverSpec] = &[
    DriverSpec {
        names: &["acme"],
        any_case: false,
        models: "BayLibre ACME power switches",
        transport: "ssh",
        outlets: Has::Numbers(1, 8),
        reads_back: false,
        verified_by: "OpenSSH's sshd with a recorded shell. UNVERIFIED on hardware: that \
                      dut-switch-on and dut-switch-off tell a failure by their exit status",
        timeout: DEVICE_TIMEOUT,
        shows_within: SHOWS_WITHIN,
        build: &By(acme::build),
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
        outlets: Has::Numbers(1, outlets),
        reads_back: true,
        verified_by: "OpenSSH's sshd with a recorded shell, also one limited to group1-sha1, \
                      ssh-rsa and aes128-cbc. UNVERIFIED on hardware: that old firmware needs no \
                      other algorithms",
        timeout: DEVICE_TIMEOUT,
        shows_within: SHOWS_WITHIN,
        build: &By(mfi::build),
    }
}

/// Who logs in, and how.
struct Login {
    username: TextOrNumber,
    password: Secret,
    host_key: HostKey,
    options: &'static [&'static str],
}

/// A client of `address`; port 0 is that of the ssh configuration.
fn client(
    settings: &Settings,
    address: Address,
    login: Login,
    files: Files,
) -> Result<Client, SettingsError> {
    for (key, file) in [
        ("known_hosts", &files.known_hosts),
        ("key_file", &files.key_file),
    ] {
        if let Some(file) = file
            && (file.is_empty() || file.contains(['"', '\n']))
        {
            return Err(settings.error(key, "expected the path of a file"));
        }
    }
    let password = login.password.reveal().to_owned();
    if password.contains(['\n', '\r', '\0']) {
        return Err(settings.error("password", "expected no line ends"));
    }
    let target = Target {
        host: address.host,
        port: (address.port != 0).then_some(address.port),
        user: login.username.0,
        password,
        host_key: login.host_key,
        known_hosts: files.known_hosts,
        key_file: files.key_file,
        options: login.options,
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
