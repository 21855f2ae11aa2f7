// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::error::Error as StdError;
use std::mem;
use std::sync::{Arc, Mutex, TryLockError};

use super::unsettled;
use crate::base::error::{Error, Kind, Result};
use crate::base::fork_lock::{ForkGuard, ForkLock};
use crate::base::sync::{AtomicU64, Ordering, constant};

/// Lets one thread at a time build. Those who waited for a build that failed share its failure:
/// what fails once is likely to fail again, and they would only queue up to see it.
///
/// A forked child may find this in the middle of a turn that nobody in it has. Then the turn is not
/// counted as over, and so its failure is nobody's.
pub(super) struct Turn {
    lock: ForkLock,
    /// How many turns are over. Who sees that grow while it waits has waited for one.
    over: AtomicU64,
    /// How the last one failed. It is only looked at by the one that has the lock, so that no other thread
    /// of this process is at it.
    failure: Mutex<Option<Failure>>,
}

/// Why a build failed, for each who waited for it.
enum Failure {
    Rebuild(Arc<dyn StdError + Send + Sync>),
    Unsettled,
    Panicked,
}

impl Turn {
    constant! {
        pub(super) fn new() -> Self {
            Self {
                lock: ForkLock::new(),
                over: AtomicU64::new(0),
                failure: Mutex::new(None),
            }
        }
    }

    /// Waits for those who are before this thread, and does `work`, which is told the turn's
    /// number; or fails as the one did that this thread has waited for, or if it has the turn
    /// already.
    pub(super) fn take<R>(&self, work: impl FnOnce(u64) -> Result<R>) -> Result<R> {
        // Relaxed: an older number makes this thread share a failure that it has just missed, and
        // no more. It is never older than a turn of its own.
        let before = self.over.load(Ordering::Relaxed);
        let Some(lock) = self.lock.lock() else {
            return Err(Error::new(Kind::Reentrant));
        };
        // Relaxed: it is written under the lock, which is this thread's now.
        let number = self.over.load(Ordering::Relaxed);
        if number != before {
            if let Some(error) = self.failure(|failure| failure.as_ref().map(Failure::error)) {
                return Err(error);
            }
        }
        // What the others are told if `work` does not come back.
        self.set_failure(Some(Failure::Panicked));
        let round = Round {
            turn: self,
            number,
            _lock: lock,
        };
        let outcome = work(number);
        round
            .turn
            .set_failure(outcome.as_ref().err().map(Failure::of));
        outcome
    }

    fn set_failure(&self, failure: Option<Failure>) {
        // What was there is dropped outside.
        let _last = self.failure(|last| mem::replace(last, failure));
    }

    /// A forked child may find it locked for ever, by a thread that it does not have. Then there is
    /// no failure, and nobody shares one.
    fn failure<R: Default>(&self, look: impl FnOnce(&mut Option<Failure>) -> R) -> R {
        match self.failure.try_lock() {
            Ok(mut failure) => look(&mut failure),
            Err(TryLockError::Poisoned(failure)) => look(&mut failure.into_inner()),
            Err(TryLockError::WouldBlock) => R::default(),
        }
    }
}

/// A turn that ends whatever happens in it.
struct Round<'a> {
    turn: &'a Turn,
    number: u64,
    /// Opened after the turn is counted.
    _lock: ForkGuard<'a>,
}

impl Drop for Round<'_> {
    fn drop(&mut self) {
        let over = self.number.wrapping_add(1);
        // Relaxed: the lock orders it for the next that has it.
        self.turn.over.store(over, Ordering::Relaxed);
    }
}

impl Failure {
    fn of(error: &Error) -> Self {
        match error.rebuild_source() {
            Some(source) => Self::Rebuild(source),
            None => Self::Unsettled,
        }
    }

    fn error(&self) -> Error {
        match self {
            Self::Rebuild(source) => Error::new(Kind::Rebuild(Arc::clone(source))),
            Self::Unsettled => unsettled(),
            Self::Panicked => Error::rebuild("it panicked in another thread"),
        }
    }
}
