// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a signal does to a call that sleeps: nothing, unless who made the call wants to know.
//!
//! It is the thread's and not an argument, because all that waits is concerned: an answer of the
//! broker's as well, that a call waits for on its way.

use std::cell::Cell;
use std::ops::ControlFlow;

use crate::base::error::{Error, Kind, Result};

pub(crate) type OnSignal = fn() -> ControlFlow<()>;

thread_local! {
    static ON_SIGNAL: Cell<Option<OnSignal>> = const { Cell::new(None) };
}

/// Makes a call whose sleeps ask `on_signal` after each signal.
pub(crate) fn with<R>(on_signal: OnSignal, call: impl FnOnce() -> R) -> R {
    struct Restore(Option<OnSignal>);
    impl Drop for Restore {
        fn drop(&mut self) {
            ON_SIGNAL.set(self.0);
        }
    }
    let _restore = Restore(ON_SIGNAL.replace(Some(on_signal)));
    call()
}

/// Whether the calling thread wants to know of signals.
pub(crate) fn is_asked() -> bool {
    ON_SIGNAL.get().is_some()
}

/// To be called when a signal has ended a sleep, which is made again unless this fails.
pub(crate) fn signalled() -> Result<()> {
    // Taken out meanwhile: what is asked may call this crate itself.
    let on_signal = ON_SIGNAL.take();
    let answer = on_signal.map_or(ControlFlow::Continue(()), |on_signal| on_signal());
    ON_SIGNAL.set(on_signal);
    match answer {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Error::new(Kind::Interrupted)),
    }
}
