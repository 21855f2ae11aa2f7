// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a Python object holds open, until it is closed.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{read, write};

/// Calls share it while they last, so that closing takes nothing away from a call under way in
/// another thread. Those that wait have a descriptor each, by which they are told.
///
/// The lock is never held over anything that may wait, or that may let another thread attach to the
/// interpreter: so a fork, which is made by a thread that is attached, never finds it taken.
pub(crate) struct Handle<T>(Mutex<Place<T>>);

struct Place<T> {
    held: Option<Arc<T>>,
    waiting: Vec<Arc<OwnedFd>>,
}

/// Whether something was closed, for those who wait with it.
pub(crate) trait Closing: Sync {
    fn is_closed(&self) -> bool;

    /// Has this descriptor become readable when it is closed.
    fn tell(&self, wake: &Arc<OwnedFd>);

    /// Takes that back.
    fn forget(&self, wake: &Arc<OwnedFd>);
}

impl<T: Send + Sync> Closing for Handle<T> {
    fn is_closed(&self) -> bool {
        self.lock().held.is_none()
    }

    fn tell(&self, wake: &Arc<OwnedFd>) {
        let mut place = self.lock();
        place.waiting.push(Arc::clone(wake));
        if place.held.is_none() {
            raise(wake);
        }
    }

    fn forget(&self, wake: &Arc<OwnedFd>) {
        let is_other = |other: &Arc<OwnedFd>| !Arc::ptr_eq(other, wake);
        self.lock().waiting.retain(is_other);
    }
}

/// A descriptor for one wait, which ends when a handle is closed. It is given back when this is dropped.
pub(crate) struct Wake<'a> {
    wake: Arc<OwnedFd>,
    handle: &'a dyn Closing,
}

impl<'a> Wake<'a> {
    pub(crate) fn when_closed(handle: &'a dyn Closing) -> PyResult<Self> {
        let made = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let wake = Arc::new(made.map_err(std::io::Error::from)?);
        handle.tell(&wake);
        Ok(Self { wake, handle })
    }

    pub(crate) fn fd(&self) -> &OwnedFd {
        &self.wake
    }

    /// Raises `ValueError` once it is closed. That a forked child, which has a copy of the descriptor,
    /// has closed its own means nothing here.
    pub(crate) fn check(&self) -> PyResult<()> {
        if self.handle.is_closed() {
            return Err(closed());
        }
        let _ = read(&self.wake, &mut [0; 8]);
        // It was closed between the two, and what it said was read.
        if self.handle.is_closed() {
            return Err(closed());
        }
        Ok(())
    }
}

impl Drop for Wake<'_> {
    fn drop(&mut self) {
        self.handle.forget(&self.wake);
    }
}

fn raise(wake: &OwnedFd) {
    // It cannot fail, but where it was raised already.
    let _ = write(wake, &1_u64.to_ne_bytes());
}

impl<T> Handle<T> {
    pub(crate) fn new(held: T) -> Self {
        Self(Mutex::new(Place {
            held: Some(Arc::new(held)),
            waiting: Vec::new(),
        }))
    }

    pub(crate) fn get(&self) -> PyResult<Arc<T>> {
        self.lock().held.clone().ok_or_else(closed)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().held.is_none()
    }

    pub(crate) fn close(&self) {
        let mut place = self.lock();
        let held = place.held.take();
        place.waiting.iter().for_each(|wake| raise(wake));
        drop(place);
        drop(held);
    }

    pub(crate) fn replace(&self, held: T) -> PyResult<()> {
        let replaced = self
            .lock()
            .held
            .as_mut()
            .map(|place| std::mem::replace(place, Arc::new(held)));
        replaced.map(drop).ok_or_else(closed)
    }

    /// Changes it, which must not wait.
    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut T) -> R) -> PyResult<R> {
        let mut place = self.lock();
        let held = place.held.as_mut().ok_or_else(closed)?;
        let held = Arc::get_mut(held).ok_or_else(|| {
            PyRuntimeError::new_err(
                "another thread is in a call of this object: try again when that has ended",
            )
        })?;
        Ok(change(held))
    }

    fn lock(&self) -> MutexGuard<'_, Place<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As a closed file says it.
pub(crate) fn closed() -> PyErr {
    PyValueError::new_err("it is closed")
}
