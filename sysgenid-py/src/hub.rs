// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Waits in a program whose threads are greenlets, of gevent or eventlet: a native wait would stop all
//! of them.

use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyCFunction;
use rustix::io::fcntl_dupfd_cloexec;

/// What stands in for the calls of the standard library that wait, and lets other greenlets run.
pub(crate) struct Hub<'py> {
    select: Bound<'py, PyAny>,
}

impl<'py> Hub<'py> {
    /// `None` if nothing has replaced them.
    pub(crate) fn installed(py: Python<'py>) -> PyResult<Option<Self>> {
        // Both replace it by a function of Python's.
        let modules = py.import("sys")?.getattr("modules")?;
        let Ok(module) = modules.get_item("select") else {
            return Ok(None);
        };
        let select = module.getattr("select")?;
        Ok(if select.is_instance_of::<PyCFunction>() {
            None
        } else {
            Some(Self { select })
        })
    }

    /// Waits until one of the two is readable, or the time is over.
    ///
    /// No other thread may use what is on this thread's stack meanwhile: another greenlet has its
    /// memory.
    pub(crate) fn wait(
        &self,
        first: impl AsFd,
        second: impl AsFd,
        time: Option<Duration>,
    ) -> PyResult<()> {
        // Of its own, because eventlet lets one greenlet wait for a descriptor.
        let first = fcntl_dupfd_cloexec(first, 0).map_err(std::io::Error::from)?;
        let fds = [first.as_raw_fd(), second.as_fd().as_raw_fd()];
        let none: [i32; 0] = [];
        let seconds = time.map(|time| time.as_secs_f64());
        self.select.call1((fds.to_vec(), none, none, seconds))?;
        Ok(())
    }

    /// Lets the others run for so long.
    pub(crate) fn sleep(&self, time: Duration) -> PyResult<()> {
        let time_module = self.select.py().import("time")?;
        time_module.call_method1("sleep", (time.as_secs_f64(),))?;
        Ok(())
    }
}
