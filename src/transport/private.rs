//! Private folders, for sockets: only this user can enter them.

use log::debug;
use rustix::fs::{FlockOperation, Mode, OFlags, flock, fstat, open, stat};
use std::fs::DirBuilder;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The beginning of every such folder's name.
const NAME: &str = "pdudaemon-";

/// The most names to try: others may have taken some.
const MOST_NAMES: u32 = 100_000;

/// A socket's path must be short, with room for ssh's own suffix.
const LONGEST_PARENT: usize = 50;

/// A folder of this process's own, gone when dropped. It stays locked while it is in use, so the next
/// process knows the one that a killed process left behind, and removes it.
#[derive(Debug)]
pub struct PrivateFolder {
    path: PathBuf,
    _lock: OwnedFd,
}

impl PrivateFolder {
    /// Under systemd's runtime directory, else under the temporary one. A container made from nothing has
    /// neither: then under the first of the others that there is, `last` after them.
    pub fn new(last: Option<&Path>) -> io::Result<Self> {
        let runtime = std::env::var_os("RUNTIME_DIRECTORY")
            .and_then(|folders| std::env::split_paths(&folders).next())
            .filter(|path| path.is_dir());
        let usual = runtime.unwrap_or_else(std::env::temp_dir);
        let others = ["/tmp", "/dev/shm"].map(Path::new);
        let parents = [usual.as_path()].into_iter().chain(others).chain(last);
        let (mut tried, mut kind) = (Vec::new(), None);
        for parent in parents.filter(|parent| parent.as_os_str().len() <= LONGEST_PARENT) {
            match Self::below(parent) {
                Ok(folder) => return Ok(folder),
                Err(error) => {
                    kind.get_or_insert(error.kind());
                    tried.push(error.to_string());
                }
            }
        }
        tried.dedup();
        let text = format!(
            "{}; expected TMPDIR or RUNTIME_DIRECTORY to name a folder that this user may write to",
            tried.join("; ")
        );
        Err(io::Error::new(kind.unwrap_or(io::ErrorKind::Other), text))
    }

    fn below(parent: &Path) -> io::Result<Self> {
        let failed = |error: io::Error| {
            let text = format!(
                "cannot make a private folder in {}: {error}",
                parent.display()
            );
            io::Error::new(error.kind(), text)
        };
        remove_abandoned(parent);
        for number in 0..MOST_NAMES {
            let path = parent.join(format!("{NAME}{}-{number}", std::process::id()));
            match DirBuilder::new().mode(0o700).create(&path) {
                // Another start may have taken it for abandoned in this very moment.
                Ok(()) => match lock(&path) {
                    Ok(Some(lock)) => return Ok(Self { path, _lock: lock }),
                    Ok(None) => {}
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(failed(error)),
                },
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Err(failed(io::Error::other("every name is taken")))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for PrivateFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// Locks the folder; `None` when somebody else has it, or it is not ours alone.
fn lock(path: &Path) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = open(path, flags, Mode::empty())?;
    let own = fstat(&folder)?;
    let is_private = Mode::from_raw_mode(own.st_mode) == Mode::RWXU;
    if own.st_uid != rustix::process::geteuid().as_raw() || !is_private {
        return Ok(None);
    }
    match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    // Does it still have its name, now that it is locked?
    let now = stat(path)?;
    Ok(((now.st_dev, now.st_ino) == (own.st_dev, own.st_ino)).then_some(folder))
}

/// Removes the folders of killed processes.
fn remove_abandoned(parent: &Path) {
    let Ok(entries) = std::fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let is_one = name
            .to_str()
            .and_then(|name| name.strip_prefix(NAME)?.split_once('-'))
            .is_some_and(|(process, number)| {
                process.parse::<u32>().is_ok() && number.parse::<u32>().is_ok()
            });
        if is_one && let Ok(Some(_lock)) = lock(&entry.path()) {
            let path = entry.path();
            match std::fs::remove_dir_all(&path) {
                Ok(()) => debug!("removed {}, which a killed process left", path.display()),
                Err(error) => debug!("cannot remove {}: {error}", path.display()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_is_abandoned_goes_and_all_else_stays() {
        let parent = tempfile::tempdir().expect("a folder");
        let make = |name: &str, mode: u32| {
            let path = parent.path().join(name);
            std::fs::create_dir(&path).expect("made");
            std::fs::write(path.join("http"), "").expect("written");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("set");
            path
        };
        let (abandoned, of_our_number) = (
            make("pdudaemon-1-0", 0o700),
            make(&format!("pdudaemon-{}-0", std::process::id()), 0o700),
        );
        let others = [
            make("pdudaemon-1-1", 0o755),
            make("pdudaemon-x-0", 0o700),
            make("pdudaemon-1", 0o700),
            make("other-1-0", 0o700),
        ];
        std::os::unix::fs::symlink(&others[3], parent.path().join("pdudaemon-2-0"))
            .expect("linked");
        let first = PrivateFolder::below(parent.path()).expect("made");
        assert_eq!(first.path(), of_our_number);
        assert!(!abandoned.exists() && !first.path().join("http").exists());
        // One that is in use stays, and has its name to itself.
        let second = PrivateFolder::below(parent.path()).expect("made");
        assert!(first.path().exists() && first.path() != second.path());
        assert!(others.iter().all(|path| path.join("http").exists()));
        let path = first.path().to_owned();
        drop(first);
        assert!(!path.exists() && second.path().exists());
    }
}
