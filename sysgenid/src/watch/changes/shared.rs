// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What others than the one who waits may touch: those who wake it, and the changes that are handled.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::OwnedFd;
use rustix::io::write;
use sysgenid_sys::internal::fork;

/// In a forked child there is another one.
pub(super) struct Shared {
    process: u32,
    /// An event of it ends a sleep. It is never read, because each write is an event of its own to those
    /// who wait for edges. `None` if the process has no descriptor left.
    bell: Option<Arc<OwnedFd>>,
    is_woken: AtomicBool,
    is_stopped: AtomicBool,
}

impl Shared {
    pub(super) fn new(is_stopped: bool) -> Arc<Self> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        Arc::new(Self {
            process: fork::process(),
            bell: bell.ok().map(Arc::new),
            is_woken: AtomicBool::new(false),
            is_stopped: AtomicBool::new(is_stopped),
        })
    }

    /// Whether this is the process that it was made in, at the cost of a system call.
    pub(super) fn is_own(&self) -> bool {
        self.process == fork::process()
    }

    /// The process that it was made in.
    pub(super) fn process(&self) -> u32 {
        self.process
    }

    pub(super) fn bell(&self) -> Option<&Arc<OwnedFd>> {
        self.bell.as_ref()
    }

    pub(super) fn ring(&self) {
        if let Some(bell) = &self.bell {
            // It fails only when the counter is full, after as many rings as no program lives for.
            let _ = write(bell, &1_u64.to_ne_bytes());
        }
    }

    /// Whether a waker has ended the wait. Each time is reported once.
    pub(super) fn take_wake(&self) -> bool {
        // Acquire: its partner is the release store of `wake`.
        self.is_woken.swap(false, Ordering::Acquire)
    }

    pub(super) fn is_stopped(&self) -> bool {
        // Acquire: its partner is the release store of `stop`.
        self.is_stopped.load(Ordering::Acquire)
    }
}

/// Ends a wait for changes from another thread. Made by [`Changes::waker`](crate::Changes::waker).
///
/// It belongs to the process that it was made in, and does nothing in a forked child.
///
/// ```
/// use sysgenid::Deadline;
///
/// let folder = tempfile::tempdir()?;
/// let mut changes = sysgenid::Changes::options().at(folder.path().join("none")).open();
/// let waker = changes.waker();
/// let waiting = std::thread::spawn(move || changes.wait(Deadline::NEVER));
/// waker.stop();
/// assert!(waiting.join().unwrap().unwrap_err().is_interrupted());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct ChangesWaker(Arc<Shared>);

impl ChangesWaker {
    pub(super) fn of(shared: &Arc<Shared>) -> Self {
        Self(Arc::clone(shared))
    }

    /// Has the wait that is under way, or else the next one, fail with
    /// [`is_interrupted`](crate::Error::is_interrupted), once. An iterator or a stream goes on.
    pub fn wake(&self) {
        if self.0.is_own() {
            self.0.is_woken.store(true, Ordering::Release);
            self.0.ring();
        }
    }

    /// Has each wait from now on fail with [`is_interrupted`](crate::Error::is_interrupted), and ends
    /// iterators and streams.
    pub fn stop(&self) {
        if self.0.is_own() {
            self.0.is_stopped.store(true, Ordering::Release);
            self.0.ring();
        }
    }
}

impl fmt::Debug for ChangesWaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChangesWaker").finish_non_exhaustive()
    }
}

/// What has become of a change that was reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Fate {
    /// It is being handled.
    Held = 0,
    /// It was dropped, and is to be reported again.
    Dropped = 1,
    /// It was acknowledged.
    Acknowledged = 2,
    /// There was a newer one when it was acknowledged.
    Overtaken = 3,
}

/// What the one who waits knows of a change that it reported.
pub(super) struct Ticket {
    pub(super) shared: Arc<Shared>,
    fate: AtomicU8,
}

impl Ticket {
    pub(super) fn new(shared: &Arc<Shared>) -> Arc<Self> {
        Arc::new(Self {
            shared: Arc::clone(shared),
            fate: AtomicU8::new(Fate::Held as u8),
        })
    }

    pub(super) fn fate(&self) -> Fate {
        // Acquire: its partner is the release store of `settle`.
        match self.fate.load(Ordering::Acquire) {
            0 => Fate::Held,
            1 => Fate::Dropped,
            2 => Fate::Acknowledged,
            _ => Fate::Overtaken,
        }
    }

    /// Decides its fate, unless that is decided already.
    pub(super) fn settle(&self, fate: Fate) {
        // Release: whoever sees the fate sees what was noted as handled before.
        let settled = self.fate.compare_exchange(
            Fate::Held as u8,
            fate as u8,
            Ordering::Release,
            Ordering::Relaxed,
        );
        if settled.is_ok() && fate != Fate::Acknowledged && self.shared.is_own() {
            self.shared.ring();
        }
    }
}
