// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::collections::BTreeMap;
use std::mem;
use std::sync::{Mutex, TryLockError};
use std::task::Waker;

use crate::base::fork_lock::ForkLock;
use crate::base::sync::constant;

/// The tasks that wait for something, in any runtime.
pub(super) struct Waiting {
    /// Held whenever `tasks` is, so that no other thread of this process holds that one.
    lock: ForkLock,
    /// A forked child may find it locked for ever, by a thread that it does not have.
    tasks: Mutex<Tasks>,
}

struct Tasks {
    last: u64,
    wakers: BTreeMap<u64, Waker>,
}

impl Waiting {
    constant! {
        pub(super) fn new() -> Self {
            Self {
                lock: ForkLock::new(),
                tasks: Mutex::new(Tasks { last: 0, wakers: BTreeMap::new() }),
            }
        }
    }

    /// Wakes all of them.
    pub(super) fn wake(&self) {
        // Not under the lock: what a waker does is not known.
        for (_, waker) in self
            .look(|tasks| mem::take(&mut tasks.wakers))
            .into_iter()
            .flatten()
        {
            waker.wake();
        }
    }

    fn look<R>(&self, look: impl FnOnce(&mut Tasks) -> R) -> Option<R> {
        let _lock = self.lock.lock()?;
        match self.tasks.try_lock() {
            Ok(mut tasks) => Some(look(&mut tasks)),
            Err(TryLockError::Poisoned(tasks)) => Some(look(&mut tasks.into_inner())),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

/// One task's place among those that wait.
pub(super) struct Place<'a> {
    waiting: &'a Waiting,
    number: Option<u64>,
}

impl<'a> Place<'a> {
    pub(super) fn nowhere(waiting: &'a Waiting) -> Self {
        Self {
            waiting,
            number: None,
        }
    }

    /// Has this task woken from now on.
    pub(super) fn take(&mut self, waker: &Waker) {
        let waker = waker.clone();
        let taken = self.waiting.look(|tasks| {
            let number = *self.number.get_or_insert_with(|| {
                tasks.last = tasks.last.wrapping_add(1);
                tasks.last
            });
            tasks.wakers.insert(number, waker.clone())
        });
        match taken {
            // What is replaced is dropped here, and not under the lock.
            Some(replaced) => drop(replaced),
            // Where there is no place the task looks again and again.
            None => waker.wake(),
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            let left = self.waiting.look(|tasks| tasks.wakers.remove(&number));
            drop(left);
        }
    }
}
