// SPDX-License-Identifier: Apache-2.0 OR MIT
//! An isolated broker for a test: in a temporary directory, and gone when it is dropped.

use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv,
    send, socket_with,
};
use sysgenid_sys::internal::{entropy, fork};
use sysgenid_sys::wire::{Answer, CONTROL_SOCKET, Op, Reply, Request};

use crate::Error;
use crate::background::{Background, spawn};

/// How long a broker of this very process may take for an answer, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// A broker in a temporary directory, on a thread of this process.
///
/// Its directory is its user's only, so that tests which run at once do not meet. Dropping it ends
/// the broker and removes the directory. A child that a test forks does neither.
///
/// ```
/// use sysgenid_broker::testing::Broker;
///
/// let broker = Broker::start()?;
/// // … the code under test opens a watcher at `broker.path()` …
/// assert_eq!(broker.trigger()?, 1);
/// # Ok::<(), sysgenid_broker::Error>(())
/// ```
#[must_use = "the broker ends when this is dropped"]
#[derive(Debug)]
pub struct Broker {
    /// Before the directory, so that it ends first. `None` while it is stopped.
    serving: Mutex<Option<Background>>,
    directory: Directory,
}

impl Broker {
    /// Makes a directory where the system keeps temporary files, and serves it.
    ///
    /// # Errors
    ///
    /// The directory could not be made, or as [`Server::bind`](crate::Server::bind): for example if
    /// `TMPDIR` is so long that a socket's path does not fit into an address.
    pub fn start() -> Result<Self, Error> {
        let directory = Directory::new()?;
        let serving = Mutex::new(Some(spawn(&directory.path)?));
        Ok(Self { serving, directory })
    }

    /// The directory that it serves, as an absolute path: for `Watcher::open_at`, or for
    /// `SYSGENID_SOURCE` in the environment of a program that the test starts.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.directory.path
    }

    /// Changes the generation to the next one, as a restore does, and returns that. The watchers are
    /// told before this returns; nothing waits for their acknowledgement.
    ///
    /// # Errors
    ///
    /// The broker was [stopped](Self::stop).
    pub fn trigger(&self) -> Result<u32, Error> {
        let path = self.path().join(CONTROL_SOCKET);
        trigger(&path).map_err(|error| Error::path(&path, "trigger a change", error))
    }

    /// Ends the broker, as the end of its service does: the watchers see a hang-up, and the page
    /// stays. Does nothing if it was stopped before.
    pub fn stop(&self) {
        *self.serving() = None;
    }

    /// Ends the broker if it runs, and serves the directory with a new one, which continues the
    /// generation: to test code that reconnects by itself.
    ///
    /// # Errors
    ///
    /// As [`Server::bind`](crate::Server::bind).
    pub fn restart(&self) -> Result<(), Error> {
        let mut serving = self.serving();
        *serving = None;
        *serving = Some(spawn(self.path())?);
        Ok(())
    }

    fn serving(&self) -> MutexGuard<'_, Option<Background>> {
        self.serving.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As any other client does it: the broker takes requests by its sockets only.
fn trigger(path: &Path) -> io::Result<u32> {
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
    let request = Request::new(Op::Trigger, 0).encode();
    send(&socket, &request, SendFlags::NOSIGNAL)?;
    let mut packet = [0; Reply::LEN];
    let length = loop {
        match recv(&socket, &mut packet, RecvFlags::empty()) {
            Ok((_, length)) => break length,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    };
    match packet.get(..length).and_then(Reply::decode) {
        Some(reply) if reply.answer == Answer::Ok => Ok(reply.generation),
        Some(reply) => Err(io::Error::other(format!(
            "the answer was {:?}",
            reply.answer
        ))),
        None => Err(io::Error::other("the broker closed the connection")),
    }
}

/// A directory that is removed with all that is in it.
#[derive(Debug)]
struct Directory {
    path: PathBuf,
    /// The process that made it. A forked child leaves it alone.
    process: u32,
}

impl Directory {
    fn new() -> Result<Self, Error> {
        // Relaxed: no other memory is published with it.
        static LAST: AtomicU32 = AtomicU32::new(0);

        let parent = std::env::temp_dir();
        let failed = |error| Error::path(&parent, "make a directory for a test in it", error);
        // The variable may have a relative path.
        let absolute = fs::canonicalize(&parent).map_err(failed)?;
        // The kernel's numbers keep tests of other processes apart that have this one's id: those of
        // other containers, and those before a restart.
        let mut random = [0; 4];
        entropy::getrandom(&mut random).map_err(|errno| failed(io::Error::from(errno)))?;
        let random = u32::from_ne_bytes(random);
        let path = loop {
            let number = LAST.fetch_add(1, Ordering::Relaxed);
            let name = format!("sysgenid-{}-{number}-{random:08x}", std::process::id());
            let path = absolute.join(name);
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => break path,
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed(error)),
            }
        };
        Ok(Self {
            path,
            process: fork::process(),
        })
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if fork::process() == self.process {
            // What cannot be removed is left to the system's own cleaning.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}
