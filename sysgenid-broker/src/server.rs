// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The event loop: one thread, no timers, nothing that blocks but the wait for events.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::buffer::spare_capacity;
use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use rustix::io::Errno;
use rustix::process::geteuid;
use sysgenid_sys::wire::{CONTROL_SOCKET, Request, WATCH_SOCKET};

use crate::Error;
use crate::folder::Folder;
use crate::process;
use crate::reserve::Reserve;
use crate::socket::{self, Peer, Received};
use crate::state::{Connection, ConnectionId, Handled, Role, State};

const STOP: ConnectionId = 0;
const WATCH: ConnectionId = 1;
const CONTROL: ConnectionId = 2;

/// Requests taken from one connection, and connections from one socket, before the next has its
/// turn.
const TURN: usize = 64;
const PAUSE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};
const NOW: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};
/// Events taken at once.
const BATCH: usize = 256;
/// A watcher is a connection and a signal.
const DESCRIPTORS_PER_WATCHER: u64 = 2;

/// A broker that serves one folder, on the thread that calls [`run`](Self::run).
///
/// Dropping it removes the two sockets and gives the folder free. The page stays, for the next
/// broker and for those who have mapped it.
///
/// ```
/// use sysgenid_broker::Server;
///
/// let folder = tempfile::tempdir()?;
/// let server = Server::bind(folder.path())?;
/// let stopper = server.stopper();
/// let thread = std::thread::spawn(move || server.run());
///
/// // … clients connect to the folder …
///
/// stopper.stop();
/// thread.join().unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Server {
    state: State,
    epoll: OwnedFd,
    /// Requests that wait until what was sent before them is read.
    held: Vec<(ConnectionId, Request)>,
    watch: OwnedFd,
    control: OwnedFd,
    stop: Arc<OwnedFd>,
    stopped: bool,
    /// Nothing is accepted until the next event, or for the length of [`PAUSE`].
    paused: bool,
    reserve: Reserve,
    capacity: u64,
    folder: Folder,
}

impl Server {
    /// Prepares a folder and listens there. It is created if only its last component is missing.
    ///
    /// Clients can connect from now on; they are answered while [`run`](Self::run) runs. The soft
    /// limit of open files of the process is raised to the hard one.
    ///
    /// # Errors
    ///
    /// The folder has a broker already ([`Error::is_in_use`]), cannot be written
    /// ([`Error::is_permission`]) or has no room for the page ([`Error::is_disk_full`]); the page
    /// there is no regular file or another user's, the path is too long for a socket, or the
    /// process does not ignore `SIGPIPE`, as every Rust program does unless it asks for the signal
    /// ([`Error::is_unfit`]).
    pub fn bind(dir: impl AsRef<Path>) -> Result<Self, Error> {
        let limit = process::raise_descriptor_limit();
        if process::dies_of_broken_pipes() {
            return Err(Error::unfit(
                dir.as_ref(),
                "this process would be ended by SIGPIPE when a client leaves; ignore that signal \
                 first",
            ));
        }
        let folder = Folder::lock(dir.as_ref())?;
        let (page, page_reader) = folder.page()?;
        let failed = |error| Error::system("prepare the event loop", error);
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(failed)?;
        let stop = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).map_err(failed)?;
        let reserve = Reserve::new().map_err(failed)?;
        let control = socket::listen(&folder, CONTROL_SOCKET, 0o600)?;
        let watch = socket::listen(&folder, WATCH_SOCKET, 0o666)?;
        let add = |fd, id| epoll::add(&epoll, fd, event_data(id), epoll::EventFlags::IN);
        add(stop.as_fd(), STOP).map_err(failed)?;
        add(watch.as_fd(), WATCH).map_err(failed)?;
        add(control.as_fd(), CONTROL).map_err(failed)?;

        let free = limit.saturating_sub(process::open_descriptors());
        Ok(Self {
            state: State::new(page, page_reader, CONTROL),
            epoll,
            held: Vec::new(),
            watch,
            control,
            stop: Arc::new(stop),
            stopped: false,
            paused: false,
            reserve,
            capacity: free / DESCRIPTORS_PER_WATCHER,
            folder,
        })
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.folder.path()
    }

    /// How many watchers fit into the limit of open files (`RLIMIT_NOFILE`), if nothing else in
    /// this process opens files. Those beyond are refused with an error that says so.
    ///
    /// ```
    /// let folder = tempfile::tempdir()?;
    /// let server = sysgenid_broker::Server::bind(folder.path())?;
    /// assert!(server.capacity() > 100);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// What stops [`run`](Self::run) from another thread.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        Stopper(Arc::clone(&self.stop))
    }

    /// Serves until it is stopped. Then the folder is free for another broker.
    ///
    /// # Errors
    ///
    /// The kernel refuses to wait for events, which nothing a client does can cause.
    pub fn run(mut self) -> Result<(), Error> {
        let mut events = Vec::with_capacity(BATCH);
        while !self.stopped {
            // The one timer: a client is in the queue and there was no descriptor for it.
            let paused = self.paused;
            self.take_events(&mut events, paused.then_some(&PAUSE))?;
            if paused {
                self.reserve.refill();
                self.paused = self.listen_for(epoll::EventFlags::IN).is_err();
            }
            while !self.held.is_empty() && !self.stopped {
                // What was sent before these is in its socket's queue by now: read all of them
                // once, then answer.
                let due = std::mem::take(&mut self.held);
                self.sweep(&mut events)?;
                for (id, request) in due {
                    self.state.answer(id, request);
                }
            }
        }
        Ok(())
    }

    /// Reads every connection that is ready, once.
    fn sweep(&mut self, events: &mut Vec<epoll::Event>) -> Result<(), Error> {
        let mut left = self.state.connections();
        // The kernel puts what it has reported at the end of its list, so this reaches all.
        loop {
            let taken = self.take_events(events, Some(&NOW))?;
            if taken < BATCH || left < taken {
                return Ok(());
            }
            left -= taken;
        }
    }

    /// Waits for events, handles them, and returns how many there were.
    fn take_events(
        &mut self,
        events: &mut Vec<epoll::Event>,
        timeout: Option<&Timespec>,
    ) -> Result<usize, Error> {
        events.clear();
        match epoll::wait(&self.epoll, spare_capacity(events), timeout) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(Error::system("wait for events", error)),
        }
        for event in events.iter() {
            match event.data.u64() {
                STOP => self.stopped = true,
                WATCH => self.accept(Role::Watch),
                CONTROL => self.accept(Role::Control),
                id => self.read(id),
            }
        }
        Ok(events.len())
    }

    /// Handles what a client has sent, up to its turn.
    fn read(&mut self, id: ConnectionId) {
        for _ in 0..TURN {
            let Some(socket) = self.state.readable(id) else {
                return;
            };
            let handled = match socket::receive(socket) {
                Received::Request(request) => match self.state.handle(id, request) {
                    Handled::Hold => {
                        self.held.push((id, request));
                        return;
                    }
                    handled => handled,
                },
                Received::Empty => return,
                Received::Close => Handled::Close,
            };
            if matches!(handled, Handled::Close) {
                return self.close(id);
            }
        }
    }

    fn close(&mut self, id: ConnectionId) {
        self.state.close(id);
        self.reserve.refill();
    }

    fn accept(&mut self, role: Role) {
        for _ in 0..TURN {
            let listener = match role {
                Role::Watch => &self.watch,
                Role::Control => &self.control,
            };
            let (socket, guest) = match socket::accept(listener) {
                Ok(socket) => (socket, false),
                Err(Errno::MFILE | Errno::NFILE) => {
                    match self.reserve.accept(|| socket::accept(listener)) {
                        Ok(Some(socket)) => (socket, true),
                        Ok(None) => continue,
                        Err(error) => return self.pause_unless_empty(error),
                    }
                }
                // A client that gave up while it was in the queue.
                Err(Errno::CONNABORTED | Errno::INTR) => continue,
                Err(error) => return self.pause_unless_empty(error),
            };
            self.admit(socket, role, guest);
        }
    }

    /// Without descriptors or memory the listening sockets would stay ready, and the loop spin.
    fn pause_unless_empty(&mut self, error: Errno) {
        if error != Errno::WOULDBLOCK {
            self.paused = self.listen_for(epoll::EventFlags::empty()).is_ok();
        }
    }

    fn listen_for(&self, events: epoll::EventFlags) -> Result<(), Errno> {
        epoll::modify(&self.epoll, &self.watch, event_data(WATCH), events)?;
        epoll::modify(&self.epoll, &self.control, event_data(CONTROL), events)
    }

    fn admit(&mut self, socket: OwnedFd, role: Role, guest: bool) {
        let Ok(peer) = Peer::of(&socket) else { return };
        // Beside the socket's file mode, which its owner can change.
        let owner = geteuid().as_raw();
        if role == Role::Control && peer.uid != owner && peer.uid != 0 {
            return;
        }
        let id = self.state.next_id();
        if epoll::add(&self.epoll, &socket, event_data(id), epoll::EventFlags::IN).is_ok() {
            self.state
                .insert(id, Connection::new(socket, role, peer, guest));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The lock is still held, so these are not another broker's. A client that comes now finds
        // no broker; one left by a kill finds a socket that refuses, until the next start.
        let _ = self.folder.remove(WATCH_SOCKET);
        let _ = self.folder.remove(CONTROL_SOCKET);
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("dir", &self.dir())
            .finish_non_exhaustive()
    }
}

/// Stops a [`Server`] from any thread.
#[derive(Clone, Debug)]
pub struct Stopper(Arc<OwnedFd>);

impl Stopper {
    /// Makes [`Server::run`] return soon. It stays stopped; stopping again changes nothing.
    pub fn stop(&self) {
        // It fails only when the counter is full, and then it is readable.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }
}

fn event_data(id: ConnectionId) -> epoll::EventData {
    epoll::EventData::new_u64(id)
}
