// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The event loop: one thread, nothing that blocks but the wait for events, and no timer while every
//! connection is a watcher's or waits.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use rustix::io::Errno;
use rustix::process::geteuid;
use sysgenid_sys::wire::{CONTROL_SOCKET, Reason, Request, WATCH_SOCKET};

use crate::Error;
use crate::directory::{Directory, Incident, Watch};
use crate::follow::Listening;
use crate::process;
use crate::socket::{self, Received};
use crate::state::{CONTROL_ROOM, ConnectionId, Handled, Role, Room, State};

const STOP: ConnectionId = 0;
const WATCH: ConnectionId = 1;
const CONTROL: ConnectionId = 2;
const DIRECTORY: ConnectionId = 3;
const FOLLOWERS: ConnectionId = 4;

/// Requests taken from one connection, and connections from one socket, before the next has its
/// turn. Of connections that are not the owner's or root's it is one request, but for a
/// [sweep](Server::sweep): while many of them always have more, the owner waits for a turn of each.
const TURN: usize = 16;
/// How long nobody is accepted when there is no descriptor for another client.
const PAUSE: Duration = Duration::from_millis(100);
/// Events taken at once.
const BATCH: usize = 256;
/// Descriptors that are not for clients: files that are open for a moment, a spare one, and those of
/// followers.
const OWN_DESCRIPTORS: u64 = 16;
/// Mappings that are not for watchers: stacks of threads, and what an allocator takes.
const OWN_MAPPINGS: u64 = 1_000;
/// Of the time that passes, the part that questions of many users may take.
const QUESTION_SHARE: u32 = 10;
/// And the least time from one answer to the next while they keep asking.
const QUESTION_PAUSE: Duration = Duration::from_millis(1);

/// A broker that serves one directory, on the thread that calls [`run`](Self::run).
///
/// Dropping it removes the two sockets and gives the directory free. The page stays, for the next
/// broker and for those who have mapped it.
///
/// ```
/// use sysgenid_broker::Server;
///
/// let directory = tempfile::tempdir()?;
/// let server = Server::bind(directory.path())?;
/// let stopper = server.stopper();
/// let thread = std::thread::spawn(move || server.run());
///
/// // … clients connect to the directory …
///
/// stopper.stop();
/// thread.join().unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Server {
    state: State,
    epoll: OwnedFd,
    /// Requests that wait until what was sent before them is read. Those of the owner and root are
    /// answered then; others also wait for [`Self::next_answers`].
    held: Vec<Held>,
    next_answers: Instant,
    // Both are there until the end.
    watch: Option<OwnedFd>,
    control: Option<OwnedFd>,
    descriptors_are_refused: bool,
    stop: Arc<OwnedFd>,
    stopped: bool,
    /// Nothing is accepted until then.
    paused: Option<Instant>,
    /// With this one a client can be turned away when there is no other descriptor.
    spare: Option<OwnedFd>,
    capacity: u64,
    directory: Directory,
    directory_watch: Option<Watch>,
    /// Found, and not reported yet.
    incidents: Vec<Incident>,
    tell: Box<dyn FnMut(Incident) + Send>,
    listening: Option<Listening>,
}

struct Held {
    id: ConnectionId,
    request: Request,
    /// The connection is not polled until it is answered. What its client sends meanwhile would
    /// end each wait for events at once.
    is_muted: bool,
}

impl Server {
    /// Prepares a directory and listens there. It is created if only its last component is missing.
    ///
    /// Clients can connect from now on; they are answered while [`run`](Self::run) runs. The soft
    /// limit of open files of the process is raised to the hard one.
    ///
    /// The umask narrows the mode of the socket for watchers for a moment, in which clients of other
    /// users are told that they lack the permission, and give up. A process that is only a broker
    /// therefore sets its umask to 0 first, as `sysgenid serve` does.
    ///
    /// # Errors
    ///
    /// The directory has a broker already ([`Error::is_in_use`]), cannot be written
    /// ([`Error::is_permission`]) or has no room for the page ([`Error::is_disk_full`]); it is a
    /// symbolic link, another user's or writable by others, a file in it is not what a broker makes
    /// there, or the path is too long for a socket ([`Error::is_unfit`]).
    pub fn bind(dir: impl AsRef<Path>) -> Result<Self, Error> {
        let descriptors = process::raise_descriptor_limit();
        let mut directory = Directory::lock(dir.as_ref())?;
        let page = directory.page()?;
        let failed = |error| Error::system("prepare the event loop", error);
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(failed)?;
        let stop = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).map_err(failed)?;
        let spare = spare().map_err(failed)?;
        let (control, refuses) = socket::listen(&mut directory, CONTROL_SOCKET, 0o600)?;
        let (watch, watch_refuses) = socket::listen(&mut directory, WATCH_SOCKET, 0o666)?;
        let descriptors_are_refused = refuses && watch_refuses;
        let add = |fd, id| epoll::add(&epoll, fd, event_data(id), epoll::EventFlags::IN);
        add(stop.as_fd(), STOP).map_err(failed)?;
        add(watch.as_fd(), WATCH).map_err(failed)?;
        add(control.as_fd(), CONTROL).map_err(failed)?;
        let mut incidents = Vec::new();
        let directory_watch = directory
            .watch()
            .map_err(|error| incidents.push(Incident::Unwatched(error)))
            .ok();
        if let Some(watch) = &directory_watch {
            add(watch.as_fd(), DIRECTORY).map_err(failed)?;
        }
        directory.keep();

        let free = descriptors.saturating_sub(process::open_descriptors());
        let capacity = free
            .saturating_sub(CONTROL_ROOM + OWN_DESCRIPTORS)
            .min(process::free_mappings().saturating_sub(OWN_MAPPINGS))
            .min(process::epoll_watches());
        let room = Room {
            capacity,
            descriptors,
            descriptors_are_refused,
        };
        Ok(Self {
            state: State::new(page, geteuid().as_raw(), &room),
            epoll,
            held: Vec::new(),
            next_answers: Instant::now(),
            watch: Some(watch),
            control: Some(control),
            descriptors_are_refused,
            stop: Arc::new(stop),
            stopped: false,
            paused: None,
            spare: Some(spare),
            capacity,
            directory,
            directory_watch,
            incidents,
            tell: Box::new(drop),
            listening: None,
        })
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.directory.path()
    }

    /// How many watchers fit into the limits of this process, if nothing else in it opens files: open
    /// files (`RLIMIT_NOFILE`), mappings (`vm.max_map_count`) and descriptors that are polled
    /// (`fs.epoll.max_user_watches`). Those beyond are refused with an error that says so.
    ///
    /// One user other than the broker's and root may have half of what the others leave.
    ///
    /// ```
    /// let directory = tempfile::tempdir()?;
    /// let server = sysgenid_broker::Server::bind(directory.path())?;
    /// assert!(server.capacity() > 100);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Calls `tell` with each [`Incident`], on the thread that calls [`run`](Self::run). Without
    /// it, incidents are dropped.
    ///
    /// ```
    /// let directory = tempfile::tempdir()?;
    /// let mut server = sysgenid_broker::Server::bind(directory.path())?;
    /// server.on_incident(|incident| eprintln!("warning: {incident}"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on_incident(&mut self, tell: impl FnMut(Incident) + Send + 'static) {
        self.tell = Box::new(tell);
    }

    /// What stops [`run`](Self::run) from another thread.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        Stopper(Arc::clone(&self.stop))
    }

    /// Serves until it is stopped. Then the directory is free for another broker.
    ///
    /// # Errors
    ///
    /// The kernel refuses to wait for events, which nothing a client does can cause.
    pub fn run(mut self) -> Result<(), Error> {
        let mut events = Vec::with_capacity(BATCH);
        // Something may have happened since the files were created.
        self.look();
        while !self.stopped {
            let timeout = self.timeout();
            self.take_events(&mut events, timeout)?;
            self.after_pause();
            self.state.close_idle(Instant::now());
            self.answer(&mut events)?;
        }
        Ok(())
    }

    /// Until there is something to do that no event tells of.
    fn timeout(&self) -> Option<Duration> {
        // Held requests of the owner and root are answered before this is asked.
        let answers = (!self.held.is_empty()).then_some(self.next_answers);
        let due = [self.paused, answers, self.state.next_idle()];
        let next = due.into_iter().flatten().min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    /// Answers the requests that were held, as far as it is their turn.
    fn answer(&mut self, events: &mut Vec<epoll::Event>) -> Result<(), Error> {
        while !self.stopped {
            let is_due = Instant::now() >= self.next_answers;
            let state = &self.state;
            let (due, later): (Vec<_>, Vec<_>) = std::mem::take(&mut self.held)
                .into_iter()
                .partition(|held| is_due || state.is_privileged(held.id));
            self.held = later;
            if due.is_empty() {
                return Ok(());
            }
            // What was sent before these is in its socket's queue by now: read all of them once,
            // then answer.
            self.sweep(events)?;
            let start = Instant::now();
            let muted = due.iter().filter(|held| held.is_muted);
            let muted: Vec<_> = muted.map(|held| held.id).collect();
            let due = due.into_iter().map(|held| (held.id, held.request));
            self.state.answer(due.collect());
            for id in muted {
                self.poll(id);
            }
            if is_due {
                let pause = start.elapsed().saturating_mul(QUESTION_SHARE);
                self.next_answers = Instant::now() + pause.max(QUESTION_PAUSE);
            }
        }
        Ok(())
    }

    /// Reads every connection that is ready, once.
    fn sweep(&mut self, events: &mut Vec<epoll::Event>) -> Result<(), Error> {
        self.state.begin_sweep();
        let swept = self.read_all(events);
        self.state.end_sweep();
        swept
    }

    fn read_all(&mut self, events: &mut Vec<epoll::Event>) -> Result<(), Error> {
        let mut left = self.state.connections();
        // The kernel puts what it has reported at the end of its list, so this reaches all.
        loop {
            let taken = self.take_events(events, Some(Duration::ZERO))?;
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
        timeout: Option<Duration>,
    ) -> Result<usize, Error> {
        events.clear();
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        match epoll::wait(&self.epoll, spare_capacity(events), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(Error::system("wait for events", error)),
        }
        for event in events.iter() {
            match event.data.u64() {
                STOP => self.stopped = true,
                WATCH => self.accept(Role::Watch),
                CONTROL => self.accept(Role::Control),
                DIRECTORY => self.look(),
                FOLLOWERS => self.hear(),
                id => self.read(id),
            }
        }
        Ok(events.len())
    }

    /// Checks the directory and reports what has happened to it.
    fn look(&mut self) {
        if let Some(watch) = &mut self.directory_watch {
            self.incidents.extend(watch.look(self.state.page_mut()));
        }
        self.incidents.drain(..).for_each(&mut self.tell);
    }

    /// Handles what a client has sent, up to its turn.
    fn read(&mut self, id: ConnectionId) {
        for taken in 0..TURN {
            if taken > 0 && !self.state.may_take_another(id) {
                return;
            }
            let Some(socket) = self.state.readable(id) else {
                return;
            };
            let (request, sender) = match socket::receive(socket, self.descriptors_are_refused) {
                Received::Request(request, sender) => (request, sender),
                Received::Empty => return,
                Received::End => return self.state.close(id),
                Received::Refused(reason) => return self.state.refuse(id, reason, 0, 0),
            };
            if taken > 0 {
                self.state.took_another(id);
            }
            match self.state.handle(id, &request, sender) {
                Handled::Yes => {}
                Handled::Hold => return self.hold(id, request),
                Handled::Close => return self.state.close(id),
                Handled::Refuse(reason, limit) => {
                    return self.state.refuse(id, reason, request.sequence, limit);
                }
            }
        }
    }

    fn accept(&mut self, role: Role) {
        for _ in 0..TURN {
            let listener = match role {
                Role::Watch => &self.watch,
                Role::Control => &self.control,
            };
            let Some(listener) = listener else {
                return;
            };
            match socket::accept(listener) {
                Ok(socket) => self.admit(socket, role),
                Err(Errno::MFILE | Errno::NFILE) if self.spare.is_some() => {
                    // Room for one, who is told that there is none.
                    drop(self.spare.take());
                    let accepted = socket::accept(listener);
                    match accepted {
                        Ok(socket) => {
                            let uid = socket::prepare(&socket).map_or(u32::MAX, |peer| peer.uid);
                            self.state.turn_away(socket, uid, Reason::Exhausted, 0);
                        }
                        Err(_) => return self.pause(),
                    }
                    self.spare = spare().ok();
                }
                // A client that gave up while it was in the queue.
                Err(Errno::CONNABORTED | Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) => return,
                Err(_) => return self.pause(),
            }
        }
    }

    fn admit(&mut self, socket: OwnedFd, role: Role) {
        let Ok(peer) = socket::prepare(&socket) else {
            return self.state.turn_away(socket, u32::MAX, Reason::Exhausted, 0);
        };
        let Some(id) = self.state.admit(socket, peer, role) else {
            return;
        };
        self.poll(id);
        if role == Role::Control {
            // Its request is there by now, if clients keep the broker busy, and need not wait for the
            // next turn.
            self.read(id);
        }
    }

    /// From now on a connection is read when something comes.
    fn poll(&mut self, id: ConnectionId) {
        let Some(socket) = self.state.socket(id) else {
            return;
        };
        if epoll::add(&self.epoll, socket, event_data(id), epoll::EventFlags::IN).is_err() {
            self.state.refuse(id, Reason::Exhausted, 0, 0);
        }
    }

    fn hold(&mut self, id: ConnectionId, request: Request) {
        let is_later = !self.state.is_privileged(id);
        let socket = self.state.socket(id).filter(|_| is_later);
        let is_muted = socket.is_some_and(|socket| epoll::delete(&self.epoll, socket).is_ok());
        self.held.push(Held {
            id,
            request,
            is_muted,
        });
    }

    /// Without descriptors or memory the listening sockets would stay ready, and the loop spin.
    fn pause(&mut self) {
        if self.listen_for(epoll::EventFlags::empty()).is_ok() {
            self.paused = Some(Instant::now() + PAUSE);
        }
    }

    fn after_pause(&mut self) {
        let now = Instant::now();
        if self.paused.is_some_and(|until| until <= now) {
            self.spare = self.spare.take().or_else(|| spare().ok());
            self.paused = match self.listen_for(epoll::EventFlags::IN) {
                Ok(()) => None,
                Err(_) => Some(now + PAUSE),
            };
        }
    }

    fn listen_for(&self, events: epoll::EventFlags) -> Result<(), Errno> {
        for (listener, id) in [(&self.watch, WATCH), (&self.control, CONTROL)] {
            if let Some(listener) = listener {
                epoll::modify(&self.epoll, listener, event_data(id), events)?;
            }
        }
        Ok(())
    }
}

fn spare() -> Result<OwnedFd, Errno> {
    eventfd(0, EventfdFlags::CLOEXEC)
}

impl Drop for Server {
    fn drop(&mut self) {
        // Before the lock is given back: the thread writes into the directory.
        drop(self.listening.take());
        // The lock is still held, so these are not another broker's. A client that comes now finds
        // no broker; one left by a kill finds a socket that refuses, until the next start.
        self.directory.remove_sockets();
        if !self.descriptors_are_refused {
            // Closing these may wait for a client, and the directory is not to stay taken meanwhile.
            self.state.discard_all();
            for listener in [self.watch.take(), self.control.take()] {
                listener.into_iter().for_each(crate::retire::close_apart);
            }
        }
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

mod following;
#[cfg(test)]
mod tests;
