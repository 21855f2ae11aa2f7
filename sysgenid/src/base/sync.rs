// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What this crate's algorithms between threads are made of, in one place: with `--cfg sysgenid_loom` they
//! are loom's, which tries all orders in which the threads may come.

use std::cell::Cell;

#[cfg(not(sysgenid_loom))]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

#[cfg(sysgenid_loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// A constructor that a static can use; loom's atomics have none that is constant.
#[cfg(not(sysgenid_loom))]
macro_rules! constant {
    ($(#[$about:meta])* $visible:vis fn $($rest:tt)*) => { $(#[$about])* $visible const fn $($rest)* };
}

#[cfg(sysgenid_loom)]
macro_rules! constant {
    ($($function:tt)*) => { $($function)* };
}

pub(crate) use constant;

/// A word that threads can sleep on.
pub(crate) struct Futex {
    pub(crate) word: AtomicU32,
    #[cfg(sysgenid_loom)]
    sleepers: (loom::sync::Mutex<()>, loom::sync::Condvar),
}

#[cfg(not(sysgenid_loom))]
impl Futex {
    pub(crate) const fn new(value: u32) -> Self {
        Self {
            word: AtomicU32::new(value),
        }
    }

    /// Sleeps if the word has this value, until somebody wakes; or not so long.
    pub(crate) fn sleep_while(&self, value: u32) {
        use rustix::io::Errno;
        use rustix::thread::futex::{Flags, wait};

        match wait(&self.word, Flags::PRIVATE, value, None) {
            Ok(()) | Err(Errno::AGAIN | Errno::INTR) => {}
            // A sandbox that has no such call.
            Err(_) => std::thread::yield_now(),
        }
    }

    pub(crate) fn wake_one(&self) {
        use rustix::thread::futex::{Flags, wake};

        let _ = wake(&self.word, Flags::PRIVATE, 1);
    }
}

#[cfg(sysgenid_loom)]
impl Futex {
    pub(crate) fn new(value: u32) -> Self {
        Self {
            word: AtomicU32::new(value),
            sleepers: (loom::sync::Mutex::new(()), loom::sync::Condvar::new()),
        }
    }

    /// As the kernel does it: between the look and the sleep nobody wakes.
    pub(crate) fn sleep_while(&self, value: u32) {
        if let Ok(sleepers) = self.sleepers.0.lock() {
            if self.word.load(Ordering::Relaxed) == value {
                drop(self.sleepers.1.wait(sleepers));
            }
        }
    }

    pub(crate) fn wake_one(&self) {
        let _sleepers = self.sleepers.0.lock();
        self.sleepers.1.notify_one();
    }
}

#[cfg(not(sysgenid_loom))]
thread_local! {
    static HERE: Cell<u64> = const { Cell::new(0) };
}

#[cfg(sysgenid_loom)]
loom::thread_local! {
    static HERE: Cell<u64> = Cell::new(0);
}

/// A number that no other thread of this process has or had, nor of one that it is a copy of. It is
/// never 0, and has the number of the process in its high half.
pub(crate) fn this_thread(process: u32) -> u64 {
    /// Relaxed: all that matters is that no two are given the same. Not loom's, for it is not what a
    /// model is about.
    static LAST: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);

    HERE.with(|here| {
        let own = here.get();
        if own != 0 && own >> 32 == u64::from(process) {
            return own;
        }
        // The first time, or the first time in a copy.
        let number = loop {
            let last = LAST.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            match last.wrapping_add(1) {
                0 => {}
                number => break number,
            }
        };
        let own = u64::from(process) << 32 | u64::from(number);
        here.set(own);
        own
    })
}
