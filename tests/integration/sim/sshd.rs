//! OpenSSH's own `sshd`, one process for each connection (`sshd -i`), behind a listener of ours on a
//! loopback port: real keys, real passwords, and a forced command that records what it is asked
//! and answers as the test says. Started as root it gets a user list of its own, in a mount
//! namespace: nothing on this machine is changed.
//!
//! In a transcript `>` is the command line as it arrives at the host, `<` the command's exit status
//! and its output as a quoted text.

use super::Simulator;
use super::port::{self, Served};
use crate::transcript::{Case, Line, bytes};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use tempfile::TempDir;

/// The password of the user `ubnt` that an [`Sshd`] with passwords knows, and its hash.
pub(crate) const PASSWORD: &str = "open sesame";
const PASSWORD_HASH: &str = "$6$pdudaemontest$SVjLBAg.Sd78p7cd999YbdIy7id/aAMfXnmwy1KEX3MCTH2ha6fGcYnJALUqK8HrCtRWHRxZLRmFaawVD45xx1";

/// Key pairs, made once for all tests: the host's, the user's, and a stranger's.
struct Keys(TempDir);

impl Keys {
    fn get() -> &'static Self {
        static KEYS: OnceLock<Keys> = OnceLock::new();
        KEYS.get_or_init(|| {
            pdudaemon::transport::ssh::set_asker(Path::new(env!("CARGO_BIN_EXE_pdudaemon")));
            let folder = tempfile::tempdir().expect("a scratch directory");
            for (name, kind) in [
                ("host", "ed25519"),
                ("old-host", "rsa"),
                ("user", "ed25519"),
                ("stranger", "ed25519"),
            ] {
                run(Command::new("ssh-keygen")
                    .args(["-q", "-t", kind, "-N", "", "-f"])
                    .arg(folder.path().join(name)));
            }
            Self(folder)
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn public(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(&format!("{name}.pub"))).expect("a public key")
    }
}

fn run(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?} (Debian: openssh-client): {error}"));
    assert!(output.status.success(), "{command:?}: {output:?}");
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Which sshd.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Keys,
    Passwords,
    Old,
}

/// A running sshd.
pub(crate) struct Sshd {
    pub(crate) port: u16,
    served: Option<Served>,
    folder: TempDir,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    connections: AtomicUsize,
    open: Mutex<Vec<(TcpStream, Child)>>,
}

impl Sshd {
    /// A host on which the user's key logs in. Its n-th command runs the n-th of `scripts` (shell).
    pub(crate) fn start(scripts: &[&str]) -> Self {
        Self::with(scripts, Kind::Keys)
    }

    /// A host on which no key, but `ubnt` with [`PASSWORD`] logs in. Needs root, for the password
    /// files of its own.
    pub(crate) fn with_password(scripts: &[&str]) -> Self {
        assert!(is_root(), "sshd reads passwords as root only");
        Self::with(scripts, Kind::Passwords)
    }

    /// A host that speaks nothing but what old firmware does.
    pub(crate) fn old(scripts: &[&str]) -> Self {
        Self::with(scripts, Kind::Old)
    }

    fn with(scripts: &[&str], kind: Kind) -> Self {
        let passwords = kind == Kind::Passwords;
        let (host, algorithms) = match kind {
            Kind::Keys | Kind::Passwords => (
                "host",
                "KexAlgorithms curve25519-sha256,curve25519-sha256@libssh.org",
            ),
            Kind::Old => (
                "old-host",
                "HostKeyAlgorithms ssh-rsa\nKexAlgorithms diffie-hellman-group1-sha1\n\
                 Ciphers aes128-cbc\nMACs hmac-sha1",
            ),
        };
        assert!(
            Path::new("/usr/sbin/sshd").exists(),
            "/usr/sbin/sshd is not installed (Debian: openssh-server)"
        );
        if is_root() {
            // Where sshd locks itself in; Debian's service makes it at each start.
            std::fs::create_dir_all("/run/sshd").expect("/run/sshd");
        }
        let keys = Keys::get();
        let folder = tempfile::tempdir().expect("a scratch directory");
        let at = |name: &str| folder.path().join(name);
        let here = folder.path().display();
        let authorized = if passwords {
            String::new()
        } else {
            keys.public("user")
        };
        std::fs::write(at("authorized_keys"), authorized).expect("written");
        for (index, script) in scripts.iter().enumerate() {
            std::fs::write(at(&format!("{index}.sh")), script).expect("written");
        }
        std::fs::write(
            at("command"),
            format!(
                "#!/bin/sh\ncd {here} || exit 99\nn=$(cat count 2>/dev/null || echo 0)\n\
                 echo $((n + 1)) > count\nprintf '%s\\n' \"$SSH_ORIGINAL_COMMAND\" >> commands\n\
                 [ -f $n.sh ] || {{ echo 'the test has no answer for this' >&2; exit 98; }}\n\
                 exec sh $n.sh\n"
            ),
        )
        .expect("written");
        std::fs::set_permissions(at("command"), PermissionsExt::from_mode(0o755)).expect("mode");
        std::fs::write(
            at("config"),
            format!(
                "HostKey {}\nAuthorizedKeysFile {here}/authorized_keys\nPidFile none\nUsePAM no\n\
                 StrictModes no\nPasswordAuthentication {}\nKbdInteractiveAuthentication no\n\
                 PermitRootLogin yes\n{algorithms}\nForceCommand /bin/sh {here}/command\n",
                keys.path(host).display(),
                if passwords { "yes" } else { "no" }
            ),
        )
        .expect("written");
        if is_root() {
            // A plain shell, so that no start-up files of this machine's user are run.
            let passwd = std::fs::read_to_string("/etc/passwd").expect("/etc/passwd");
            let others = passwd.lines().filter(|line| !line.starts_with("root:"));
            let own = "root:x:0:0::/root:/bin/sh\nubnt:x:0:0::/root:/bin/sh\n";
            let passwd = format!("{own}{}\n", others.collect::<Vec<_>>().join("\n"));
            std::fs::write(at("passwd"), passwd).expect("written");
            let rest = "19000:0:99999:7:::";
            let shadow = format!("root:*:{rest}\nubnt:{PASSWORD_HASH}:{rest}\n");
            std::fs::write(at("shadow"), shadow).expect("written");
        }
        let listener = port::listener(Ipv4Addr::LOCALHOST.into());
        let port = listener.local_addr().expect("an address").port();
        std::fs::write(
            at("known_hosts"),
            format!("[127.0.0.1]:{port} {}", keys.public(host)),
        )
        .expect("written");
        let shared = Arc::new(Shared::default());
        let (of, open) = (folder.path().to_owned(), Arc::clone(&shared));
        let served = Served::connections_on(listener, move |stream, ending| {
            if !ending.is_near() {
                serve(stream, &of, &open);
            }
        });
        Self {
            port,
            served: Some(served),
            shared,
            folder,
        }
    }

    pub(crate) fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// A known hosts file with the key of somebody else at this address.
    pub(crate) fn known_stranger(&self) -> String {
        let line = format!(
            "[127.0.0.1]:{} {}",
            self.port,
            Keys::get().public("stranger")
        );
        std::fs::write(self.file("stranger"), line).expect("written");
        self.file("stranger")
    }

    /// A key that is not in the host's list.
    pub(crate) fn strangers_key() -> String {
        Keys::get().path("stranger").display().to_string()
    }

    /// The commands that arrived.
    pub(crate) fn commands(&self) -> Vec<String> {
        std::fs::read_to_string(self.file("commands"))
            .unwrap_or_default()
            .lines()
            .map(str::to_owned)
            .collect()
    }

    /// How many connections were made.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Cuts every open connection.
    pub(crate) fn cut(&self) {
        for (stream, mut child) in self.shared.open.lock().expect("lock").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Waits until every connection has been ended by the client.
    pub(crate) fn wait_for_end(&self) {
        for (_, mut child) in self.shared.open.lock().expect("lock").drain(..) {
            let _ = child.wait();
        }
    }

    /// Settings that lead a driver here with the user's key.
    pub(crate) fn settings(&self) -> serde_json::Value {
        let user = Command::new("id").arg("-un").output().expect("id").stdout;
        serde_json::json!({
            "ip": format!("127.0.0.1:{}", self.port),
            "username": String::from_utf8_lossy(&user).trim(),
            "known_hosts": self.file("known_hosts"),
            "key_file": Keys::get().path("user"),
        })
    }
}

fn serve(stream: TcpStream, folder: &Path, shared: &Shared) {
    shared.connections.fetch_add(1, Ordering::SeqCst);
    let mut command = if is_root() {
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation", "private", "sh", "-c"])
            .arg(
                "mount --bind \"$1/passwd\" /etc/passwd && \
                 mount --bind \"$1/shadow\" /etc/shadow && \
                 exec /usr/sbin/sshd -i -f \"$1/config\"",
            )
            .arg("sh")
            .arg(folder);
        command
    } else {
        let mut command = Command::new("/usr/sbin/sshd");
        command.arg("-i").arg("-f").arg(folder.join("config"));
        command
    };
    let end = |stream: &TcpStream| OwnedFd::from(stream.try_clone().expect("a clone"));
    let child = command
        .stdin(Stdio::from(end(&stream)))
        .stdout(Stdio::from(end(&stream)))
        .stderr(Stdio::null())
        .spawn()
        .expect("sshd starts (as root by unshare; Debian: util-linux)");
    shared.open.lock().expect("lock").push((stream, child));
}

impl Drop for Sshd {
    fn drop(&mut self) {
        drop(self.served.take());
        self.cut();
    }
}

/// A transcript's host.
pub(super) struct SshPdu {
    sshd: Sshd,
    expected: Vec<String>,
}

pub(super) fn start(case: &Case) -> SshPdu {
    let mut scripts: Vec<String> = Vec::new();
    let mut expected = Vec::new();
    for line in &case.lines {
        match line {
            Line::Sent(command) => expected.push(command.trim().to_owned()),
            Line::Answer(text) => {
                let (status, output) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
                let octal: String = bytes(output)
                    .iter()
                    .map(|byte| format!("\\{byte:03o}"))
                    .collect();
                scripts.push(format!("printf '{octal}'\nexit {status}\n"));
            }
        }
    }
    let scripts: Vec<&str> = scripts.iter().map(String::as_str).collect();
    SshPdu {
        sshd: Sshd::start(&scripts),
        expected,
    }
}

impl Simulator for SshPdu {
    fn overrides(&self) -> serde_json::Value {
        self.sshd.settings()
    }

    fn finish(self: Box<Self>) -> Result<(), String> {
        let got = self.sshd.commands();
        if got == self.expected {
            Ok(())
        } else {
            Err(format!(
                "expected commands {:?}, got {got:?}",
                self.expected
            ))
        }
    }
}
