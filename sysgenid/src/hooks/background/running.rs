// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the thread and its handles share. A forked child has a copy, and touches no lock of it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};
use sysgenid_sys::internal::fork;

use super::BackgroundError;
use crate::base::Deadline;
use crate::watch::changes::Handled;
use crate::watch::{Changes, ChangesOptions, ChangesWaker};

pub(super) struct Running {
    process: u32,
    options: ChangesOptions,
    /// Nothing when the thread has ended, because it has a descriptor.
    waker: ArcSwapOption<ChangesWaker>,
    handled: ArcSwap<Handled>,
    error: ArcSwapOption<BackgroundError>,
    /// Relaxed, all of them: they say how things are, and publish nothing.
    is_lost: AtomicBool,
    /// How many calls have taken the thread and not given it back. Changed by the holder of `STARTING` only.
    holders: AtomicUsize,
    is_stopping: AtomicBool,
    /// Hooks before a snapshot have run, and those after it have not: the thread that
    /// follows this one runs these first.
    is_parked: AtomicBool,
    has_ended: AtomicBool,
    /// For those who wait for the end, in the process that the thread is of.
    end: (Mutex<()>, Condvar),
}

impl Running {
    pub(super) fn new(options: ChangesOptions, changes: &Changes, is_parked: bool) -> Self {
        let handled = changes.handled(&Handled::default()).unwrap_or_default();
        Self {
            process: fork::process(),
            options,
            waker: ArcSwapOption::from_pointee(changes.waker()),
            handled: ArcSwap::from_pointee(handled),
            error: ArcSwapOption::empty(),
            is_lost: AtomicBool::new(changes.is_lost()),
            holders: AtomicUsize::new(1),
            is_stopping: AtomicBool::new(false),
            is_parked: AtomicBool::new(is_parked),
            has_ended: AtomicBool::new(false),
            end: (Mutex::new(()), Condvar::new()),
        }
    }

    /// Whether the thread is one of this process, at the cost of a system call.
    pub(super) fn is_own(&self) -> bool {
        self.process == fork::process()
    }

    pub(super) fn is_alive(&self) -> bool {
        !self.has_ended() && self.is_own()
    }

    pub(super) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Relaxed)
    }

    pub(super) fn is_parked(&self) -> bool {
        self.is_parked.load(Ordering::Relaxed)
    }

    pub(super) fn set_parked(&self, is_parked: bool) {
        self.is_parked.store(is_parked, Ordering::Relaxed);
    }

    pub(super) fn options(&self) -> &ChangesOptions {
        &self.options
    }

    pub(super) fn handled(&self) -> Arc<Handled> {
        self.handled.load_full()
    }

    pub(super) fn is_watching(&self) -> bool {
        let is_lost = self.is_lost.load(Ordering::Relaxed);
        !is_lost && self.handled.load().generation().is_some()
    }

    /// Takes over what a look at the sources has shown. Returns whether a broker was lost or found.
    pub(super) fn note(&self, changes: &Changes) -> Option<bool> {
        if let Some(handled) = changes.handled(&self.handled.load()) {
            self.handled.store(Arc::new(handled));
        }
        let is_lost = changes.is_lost();
        let was_lost = self.is_lost.swap(is_lost, Ordering::Relaxed);
        (was_lost != is_lost).then_some(is_lost)
    }

    pub(super) fn error(&self) -> Option<BackgroundError> {
        self.error.load().as_deref().cloned()
    }

    pub(super) fn set_error(&self, error: Option<BackgroundError>) {
        self.error.store(error.map(Arc::new));
    }

    pub(super) fn hold(&self) {
        self.holders.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns whether it was the last one. More are given back than were taken only by mistake.
    pub(super) fn release(&self) -> bool {
        let holders = self.holders.load(Ordering::Relaxed).saturating_sub(1);
        self.holders.store(holders, Ordering::Relaxed);
        holders == 0
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Relaxed)
    }

    pub(super) fn stop(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
        if let Some(waker) = &*self.waker.load() {
            waker.stop();
        }
    }

    pub(super) fn set_ended(&self) {
        self.waker.store(None);
        let _held = self.end.0.lock().unwrap_or_else(PoisonError::into_inner);
        self.has_ended.store(true, Ordering::Relaxed);
        self.end.1.notify_all();
    }

    /// Returns whether the thread has ended.
    pub(super) fn wait_for_end(&self, deadline: Deadline) -> bool {
        let mut held = self.end.0.lock().unwrap_or_else(PoisonError::into_inner);
        while !self.has_ended() && !deadline.has_passed() {
            held = match deadline.remaining() {
                Some(left) => match self.end.1.wait_timeout(held, left) {
                    Ok((held, _)) => held,
                    Err(poisoned) => poisoned.into_inner().0,
                },
                None => self
                    .end
                    .1
                    .wait(held)
                    .unwrap_or_else(PoisonError::into_inner),
            };
        }
        self.has_ended()
    }
}
