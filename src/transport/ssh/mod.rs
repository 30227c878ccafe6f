//! SSH through the system's OpenSSH client: its keys, agent, configuration and known hosts are the
//! user's own, and every algorithm is its business.
//!
//! One connection is shared by all commands until [`Client::close`] (`ControlMaster`; its socket
//! lives in a private directory). A lost connection is made anew by the next command.
//!
//! A password reaches `ssh` by its askpass protocol: `ssh` runs this very program (see
//! [`askpass_main`]), which fetches the answer over a private Unix socket. So the password is in no
//! argument list, in no environment and on no disk.

mod shell;

pub use shell::Shell;

use super::command::{End, Output, Program};
use super::kept::{Kept, Opener};
use super::private::PrivateFolder;
use super::{Deadline, Timed, TransportError, TransportErrorKind, Verdict, printable};
use rustix::event::{PollFd, PollFlags, poll};
use std::fmt;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::Duration;

/// Tells a program run by `ssh` as its asker where to ask.
const ASKPASS_SOCKET: &str = "PDUDAEMON_ASKPASS";

/// How long a connection without work outlives a daemon that was killed, in seconds.
const PERSIST: u32 = 60;

/// How long closing the shared connection may take.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);

/// How long one end of the askpass socket waits for the other.
const ASK_PATIENCE: Duration = Duration::from_secs(5);

/// Which host keys are trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostKey {
    /// Only those in the known hosts.
    Known,
    /// A new host's key is trusted and remembered; a changed one is not trusted.
    AcceptNew,
}

/// Where to log in, and how.
#[derive(Clone)]
pub struct Target {
    /// Host name or address, or a `Host` of the user's ssh configuration.
    pub host: String,
    /// TCP port; that of the ssh configuration when absent.
    pub port: Option<u16>,
    /// User name.
    pub user: String,
    /// Finished to a request for a password.
    pub password: String,
    /// Which host keys are trusted.
    pub host_key: HostKey,
    /// The known hosts file; the ssh client's own when absent.
    pub known_hosts: Option<String>,
    /// The private key; the ssh client's own when absent.
    pub key_file: Option<String>,
    /// Further options, as `ssh -o` takes them.
    pub options: &'static [&'static str],
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({}@{})", self.user, self.host)
    }
}

impl Target {
    /// Can `ssh` be given this target without taking a part of it for an option?
    pub fn is_valid(&self) -> bool {
        [&self.host, &self.user]
            .iter()
            .all(|text| !text.starts_with('-') && !text.chars().any(char::is_control))
            && !self.user.is_empty()
    }

    /// The arguments up to the command, which shares the connection of the socket `control`; without
    /// one it is a shell with a terminal, and the client says when the host has let it in.
    fn arguments(&self, control: Option<&str>, connect_seconds: u64) -> Vec<String> {
        let trusted = match self.host_key {
            HostKey::Known => "yes",
            HostKey::AcceptNew => "accept-new",
        };
        let mut options = vec![
            "BatchMode=no".to_owned(),
            "NumberOfPasswordPrompts=1".to_owned(),
            "PreferredAuthentications=publickey,keyboard-interactive,password".to_owned(),
            format!("StrictHostKeyChecking={trusted}"),
            format!("ConnectTimeout={connect_seconds}"),
            "ServerAliveInterval=5".to_owned(),
            "ServerAliveCountMax=3".to_owned(),
            "ClearAllForwardings=yes".to_owned(),
            "ForwardAgent=no".to_owned(),
            "ForwardX11=no".to_owned(),
            "PermitLocalCommand=no".to_owned(),
        ];
        match control {
            Some(control) => options.extend([
                // Below this level a failed negotiation is not told.
                "LogLevel=INFO".to_owned(),
                "ControlMaster=auto".to_owned(),
                format!("ControlPath={control}"),
                format!("ControlPersist={PERSIST}"),
            ]),
            None => options.extend([
                "LogLevel=VERBOSE".to_owned(),
                "ControlPath=none".to_owned(),
                "EscapeChar=none".to_owned(),
            ]),
        }
        if let Some(file) = &self.known_hosts {
            options.push(format!("UserKnownHostsFile={}", quoted(file)));
            options.push("GlobalKnownHostsFile=/dev/null".to_owned());
        }
        if let Some(file) = &self.key_file {
            options.push(format!("IdentityFile={}", quoted(file)));
            options.push("IdentitiesOnly=yes".to_owned());
        }
        options.extend(self.options.iter().map(|&option| option.to_owned()));
        let terminal = if control.is_some() { "-T" } else { "-tt" };
        let mut arguments = vec![terminal.to_owned()];
        for option in options {
            arguments.extend(["-o".to_owned(), option]);
        }
        if let Some(port) = self.port {
            arguments.extend(["-p".to_owned(), port.to_string()]);
        }
        arguments.extend(["-l".to_owned(), self.user.clone(), "--".to_owned()]);
        arguments.push(self.host.clone());
        arguments
    }
}

/// A file name as an ssh option takes it: blanks separate several, percent signs expand.
fn quoted(file: &str) -> String {
    format!("\"{}\"", file.replace('%', "%%"))
}

/// Why a remote command has no exit status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SshError {
    /// Neither key nor password was accepted.
    LoginRefused(String),
    /// The two ends have no algorithm in common, or the client does not know one.
    NoAlgorithm(String),
    /// The way to the host failed.
    Transport(TransportError),
}

impl SshError {
    /// Did the client say so before there was a session for the command?
    fn is_of_no_session(&self) -> bool {
        use TransportErrorKind as K;
        match self {
            Self::LoginRefused(_) | Self::NoAlgorithm(_) => true,
            Self::Transport(error) => {
                matches!(error.kind, K::NoName | K::NoConnection | K::Untrusted)
            }
        }
    }
}

impl Verdict for SshError {
    fn is_lost(&self) -> bool {
        matches!(self, Self::Transport(error) if error.is_lost())
    }

    fn may_stand(&self) -> bool {
        true
    }

    fn is_refusal(&self) -> bool {
        self.is_of_no_session()
    }
}

impl fmt::Display for SshError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LoginRefused(words) | Self::NoAlgorithm(words) => f.write_str(words),
            Self::Transport(error) => error.fmt(f),
        }
    }
}

impl From<TransportError> for SshError {
    fn from(error: TransportError) -> Self {
        Self::Transport(error)
    }
}

/// What a remote command left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Its exit status.
    pub status: i32,
    /// What it printed, bounded.
    pub output: String,
    /// Its exit status and last words, for an error.
    pub complaint: String,
}

/// An SSH client for one target.
#[derive(Debug)]
pub struct Client(Kept<Host>);

/// The host of a target, which one connection is shared to.
struct Host(Target);

impl Opener for Host {
    type Session = Private;
    type Error = SshError;

    /// The connection itself is made by the first command.
    fn open(&mut self, _: Deadline) -> Result<Private, SshError> {
        Ok(Private::new()?)
    }

    fn is_alive(&self, private: &mut Private, _: Deadline) -> bool {
        private.is_connected()
    }

    /// Ends the shared connection.
    fn leave(&self, private: Private, deadline: Deadline) {
        if private.is_connected() {
            // After a deadline has passed there is still a connection to end.
            let least = Deadline::after(Duration::from_millis(500));
            let patience = deadline.max(least).within(CLOSE_PATIENCE);
            let control = private.control();
            let _ = Program::new("ssh")
                .args(["-O", "exit", "-o", &format!("ControlPath={control}"), "--"])
                .arg(&self.0.host)
                .run(patience);
        }
    }
}

impl Client {
    /// A client; nothing is connected yet.
    pub fn new(target: Target) -> Self {
        Self(Kept::new(Host(target)))
    }

    /// Runs `command` in the user's shell on the host. The caller answers for every byte of it.
    ///
    /// Over a shared connection that turns out to be lost, it is run once more: it must be one that
    /// may be run twice.
    pub fn run(&mut self, command: &str, timed: impl Timed) -> Result<Finished, SshError> {
        self.0.call(timed, |Host(target), private| {
            let left = timed.deadline().left("the remote command")?;
            let arguments = target.arguments(Some(&private.control()), left.as_secs().clamp(1, 10));
            let program = Program::new("ssh")
                .args(arguments.iter().map(String::as_str))
                .arg(command)
                .env("SSH_ASKPASS", &asker()?)
                .env("SSH_ASKPASS_REQUIRE", "force")
                .env(ASKPASS_SOCKET, &private.socket());
            let output = private.asked(&target.password, || program.run(timed))?;
            judge(output.map_err(without_program)?, || private.is_connected())
        })
    }

    /// Ends the shared connection.
    pub fn close(&mut self, deadline: Deadline) {
        self.0.rest(deadline);
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.close(Deadline::after(CLOSE_PATIENCE));
    }
}

fn without_program(error: TransportError) -> TransportError {
    match error.kind {
        TransportErrorKind::NotFound => TransportError {
            detail: "the program ssh is not installed (Debian: openssh-client)".into(),
            ..error
        },
        _ => error,
    }
}

/// The client's exit status is the command's, but 255 may also mean that there was none.
fn judge(mut output: Output, is_connected: impl Fn() -> bool) -> Result<Finished, SshError> {
    output.stderr = without_chatter(&output.stderr);
    let complaint = output.complaint();
    match output.end {
        End::Exit(255) => {
            let said = String::from_utf8_lossy(&output.stderr);
            // Over a connection that stands, words of a refused one are the command's own.
            if let Some(error) = failure(&said)
                && (!error.is_of_no_session() || !is_connected())
            {
                return Err(error);
            }
            // A command that ended with 255 leaves the connection as it was.
            if !is_connected() {
                return Err(TransportError::new(
                    TransportErrorKind::Closed,
                    format!("ssh lost the connection, {complaint}"),
                )
                .into());
            }
            Ok(Finished {
                status: 255,
                output: output.text(),
                complaint,
            })
        }
        End::Exit(status) => Ok(Finished {
            status,
            output: output.text(),
            complaint,
        }),
        End::Signal(_) => Err(TransportError::new(
            TransportErrorKind::Closed,
            format!("ssh was ended: {complaint}"),
        )
        .into()),
    }
}

/// The error output without what the client says of itself when nothing is wrong: that it has
/// remembered a host key, and its advice about algorithms.
fn without_chatter(stderr: &[u8]) -> Vec<u8> {
    let chatter: [&[u8]; 2] = [b"Warning: Permanently added", b"** "];
    stderr
        .split_inclusive(|byte| *byte == b'\n')
        .filter(|line| !chatter.iter().any(|words| line.starts_with(words)))
        .flatten()
        .copied()
        .collect()
}

/// What the ssh client complains about; `None` when the words are not its own.
fn failure(said: &str) -> Option<SshError> {
    use TransportErrorKind as K;
    /// Words of the client, and what they mean, the telling ones first.
    const WORDS: &[(&str, Option<K>)] = &[
        // The shared connection took the command and was lost; what comes after this is about a
        // connection that the client tries by itself.
        ("mux_client_request_session", Some(K::Closed)),
        ("REMOTE HOST IDENTIFICATION HAS CHANGED", Some(K::Untrusted)),
        ("Host key verification failed", Some(K::Untrusted)),
        (": Permission denied (", None),
        ("Too many authentication failures", None),
        ("Could not resolve hostname", Some(K::NoName)),
        ("timed out during banner exchange", Some(K::Timeout)),
        ("Timeout, server", Some(K::Timeout)),
        ("ssh: connect to host", Some(K::NoConnection)),
        ("banner line", Some(K::Garbled)),
        ("Bad remote protocol version", Some(K::Garbled)),
        ("Bad packet length", Some(K::Garbled)),
        ("kex_exchange_identification", Some(K::Closed)),
        ("Connection closed by", Some(K::Closed)),
        ("Connection reset by", Some(K::Closed)),
        ("closed by remote host", Some(K::Closed)),
        ("Broken pipe", Some(K::Closed)),
        ("mux_client", Some(K::Closed)),
        ("Received disconnect from", Some(K::Closed)),
    ];
    let line_with = |words: &str| {
        said.lines()
            .find(|line| line.contains(words))
            .map(|line| printable(line.trim().as_bytes()))
    };
    for words in ["Unable to negotiate", "command-line: line 0: Bad"] {
        if let Some(line) = line_with(words) {
            return Some(SshError::NoAlgorithm(line));
        }
    }
    WORDS.iter().find_map(|(words, kind)| {
        let line = line_with(words)?;
        Some(match kind {
            None => SshError::LoginRefused(line),
            Some(kind) => TransportError::new(*kind, format!("ssh: {line}")).into(),
        })
    })
}

/// One client's sockets: that of the shared connection, and that of the asker.
#[derive(Debug)]
struct Private {
    folder: PrivateFolder,
    listener: UnixListener,
}

impl Private {
    fn new() -> Result<Self, TransportError> {
        let failed = |error: io::Error| TransportError::io("making a private directory", &error);
        let folder = PrivateFolder::new(None).map_err(failed)?;
        let listener = UnixListener::bind(folder.path().join("a")).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        Ok(Self { folder, listener })
    }

    fn control(&self) -> String {
        self.folder.path().join("c").to_string_lossy().into_owned()
    }

    fn socket(&self) -> String {
        self.folder.path().join("a").to_string_lossy().into_owned()
    }

    /// Is the shared connection's socket there?
    fn is_connected(&self) -> bool {
        self.folder.path().join("c").exists()
    }

    /// Does `work` while askers are answered, on a thread that waits on their socket and on the
    /// end of the work.
    fn asked<T>(&self, password: &str, work: impl FnOnce() -> T) -> Result<T, TransportError> {
        if cfg!(fuzzing) {
            // No ssh is run, so nobody asks.
            return Ok(work());
        }
        let (end, done) = UnixStream::pair()
            .map_err(|error| TransportError::io("preparing to be asked", &error))?;
        std::thread::scope(|scope| {
            std::thread::Builder::new()
                .name("askpass".into())
                .spawn_scoped(scope, move || answer(&self.listener, &done, password))
                .map_err(|error| TransportError::io("starting the askpass thread", &error))?;
            let result = work();
            drop(end);
            Ok(result)
        })
    }
}

/// Answers askers until `done` is closed.
fn answer(listener: &UnixListener, done: &UnixStream, password: &str) {
    loop {
        let mut watched = [
            PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(done.as_fd(), PollFlags::IN),
        ];
        match poll(&mut watched, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
        let [asker, end] = &watched;
        if !end.revents().is_empty() {
            return;
        }
        if !asker.revents().is_empty()
            && let Ok((stream, _)) = listener.accept()
        {
            // An asker that went away again asked nothing.
            let _ = answer_one(stream, password);
        }
    }
}

fn answer_one(mut stream: UnixStream, password: &str) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(ASK_PATIENCE))?;
    stream.set_write_timeout(Some(ASK_PATIENCE))?;
    let mut prompt = Vec::new();
    io::Read::by_ref(&mut stream)
        .take(4096)
        .read_to_end(&mut prompt)?;
    if wants_password(&String::from_utf8_lossy(&prompt)) {
        stream.write_all(format!("{password}\n").as_bytes())?;
    }
    Ok(())
}

/// Is it the password that is asked for, not a key's passphrase or a host key's confirmation?
fn wants_password(prompt: &str) -> bool {
    prompt.to_ascii_lowercase().contains("password") && !prompt.contains("yes/no")
}

static ASKER: OnceLock<PathBuf> = OnceLock::new();

/// Names the program that `ssh` shall run to ask for a password: one whose first act is
/// [`askpass_main`]. Without this call it is the running program.
pub fn set_asker(program: &Path) {
    // The first one stays.
    let _ = ASKER.set(program.to_owned());
}

fn asker() -> Result<String, TransportError> {
    let program = match ASKER.get() {
        Some(program) => program.clone(),
        None => std::env::current_exe()
            .map_err(|error| TransportError::io("finding the running program", &error))?,
    };
    Ok(program.to_string_lossy().into_owned())
}

/// The asker: when this program was started by `ssh` to ask for a password, does that and returns
/// the exit code; otherwise `None`. To be called before anything else is done.
pub fn askpass_main() -> Option<ExitCode> {
    let socket = std::env::var_os(ASKPASS_SOCKET)?;
    let prompt = std::env::args_os().nth(1).unwrap_or_default();
    let ask = || -> io::Result<String> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(ASK_PATIENCE))?;
        stream.write_all(prompt.to_string_lossy().as_bytes())?;
        stream.shutdown(std::net::Shutdown::Write)?;
        let mut answer = String::new();
        stream.take(4096).read_to_string(&mut answer)?;
        Ok(answer)
    };
    Some(match ask() {
        Ok(answer) if answer.ends_with('\n') => {
            match io::stdout()
                .write_all(answer.as_bytes())
                .and_then(|()| io::stdout().flush())
            {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE,
            }
        }
        _ => ExitCode::FAILURE,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> Target {
        Target {
            host: "10.0.0.1".into(),
            port: Some(2222),
            user: "ubnt".into(),
            password: "s3cret".into(),
            host_key: HostKey::Known,
            known_hosts: Some("/etc/known hosts".into()),
            key_file: None,
            options: &["Ciphers=+aes128-cbc"],
        }
    }

    #[test]
    fn arguments_hold_no_secret_and_end_the_options() {
        let arguments = target().arguments(Some("/run/c"), 7);
        let line = arguments.join(" ");
        assert!(!line.contains("s3cret") && !format!("{:?}", target()).contains("s3cret"));
        assert!(line.contains("-o StrictHostKeyChecking=yes"));
        assert!(line.contains("-o UserKnownHostsFile=\"/etc/known hosts\""));
        assert!(line.ends_with("-o Ciphers=+aes128-cbc -p 2222 -l ubnt -- 10.0.0.1"));
        let odd = Target {
            host: "-oProxyCommand=x".into(),
            ..target()
        };
        assert!(target().is_valid() && !odd.is_valid());
    }

    #[test]
    fn complaints_of_the_client_are_told_apart() {
        let kind = |said: &str| match failure(said) {
            Some(SshError::Transport(error)) => format!("{:?}", error.kind),
            Some(SshError::LoginRefused(_)) => "refused".into(),
            Some(SshError::NoAlgorithm(_)) => "algorithm".into(),
            None => "none".into(),
        };
        for (said, expected) in [
            (
                "root@h: Permission denied (publickey,password).\r\n",
                "refused",
            ),
            ("sh: /proc/power/relay1: Permission denied\n", "none"),
            (
                "No ED25519 host key is known for h\nHost key verification failed.\r\n",
                "Untrusted",
            ),
            (
                "ssh: connect to host h port 22: Connection refused\r\n",
                "NoConnection",
            ),
            (
                "ssh: connect to host h port 22: No route to host\r\n",
                "NoConnection",
            ),
            (
                "ssh: Could not resolve hostname h: Name or service not known\r\n",
                "NoName",
            ),
            ("Connection timed out during banner exchange\n", "Timeout"),
            (
                "kex_exchange_identification: Connection closed by remote host\n",
                "Closed",
            ),
            (
                "kex_exchange_identification: banner line contains invalid characters\n",
                "Garbled",
            ),
            (
                "Unable to negotiate with h port 22: no matching cipher found.\n",
                "algorithm",
            ),
            ("client_loop: send disconnect: Broken pipe\n", "Closed"),
            (
                "mux_client_request_session: read from master failed: Broken pipe\r\n\
                 ssh: connect to host h port 22: Connection refused\r\n",
                "Closed",
            ),
            ("no such relay\n", "none"),
        ] {
            assert_eq!(kind(said), expected, "{said:?}");
        }
    }

    #[test]
    fn chatter_is_no_complaint() {
        let said = b"Warning: Permanently added 'h' to the list\r\n** advice\nno relay\nx";
        assert_eq!(without_chatter(said), b"no relay\nx");
    }

    #[test]
    fn only_passwords_are_told() {
        assert!(wants_password("ubnt@10.0.0.1's password: "));
        assert!(wants_password("(root@h) Password: "));
        assert!(!wants_password(
            "Enter passphrase for key '/root/.ssh/id': "
        ));
        assert!(!wants_password(
            "The authenticity of 'password' ... (yes/no/[fingerprint])?"
        ));
    }
}
