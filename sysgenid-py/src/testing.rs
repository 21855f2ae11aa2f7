// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a user's tests start.

use std::ffi::OsString;
use std::path::PathBuf;

use pyo3::exceptions::{PyOSError, PyTypeError};
use pyo3::prelude::*;

use crate::handle::Handle;

/// An isolated broker for a test: in a temporary directory, on a thread of this process, and gone
/// when it is closed.
///
/// A child that the test forks leaves it alone. It raises this process's soft limit of open files to
/// the hard one. Raises `OSError` if the directory cannot be made or served.
///
/// >>> import sysgenid
/// >>> from sysgenid.testing import Broker
/// >>> with Broker() as broker, sysgenid.Watcher(broker.path) as watcher:
/// ...     generation = broker.trigger()
/// ...     watcher.wait(10).generation == generation
/// True
#[pyclass(frozen, module = "sysgenid.testing")]
pub(crate) struct Broker {
    handle: Handle<sysgenid_broker::testing::Broker>,
    path: PathBuf,
}

impl Broker {
    fn call<T: Send>(
        &self,
        py: Python<'_>,
        call: impl FnOnce(&sysgenid_broker::testing::Broker) -> Result<T, sysgenid_broker::Error> + Send,
    ) -> PyResult<T> {
        let broker = self.handle.get()?;
        py.detach(|| call(&broker)).map_err(|error| failed(&error))
    }
}

fn failed(error: &sysgenid_broker::Error) -> PyErr {
    PyOSError::new_err(error.to_string())
}

#[pymethods]
impl Broker {
    #[new]
    fn new(py: Python<'_>) -> PyResult<Self> {
        let started = py.detach(sysgenid_broker::testing::Broker::start);
        let broker = started.map_err(|error| failed(&error))?;
        Ok(Self {
            path: broker.path().to_owned(),
            handle: Handle::new(broker),
        })
    }

    /// The directory that it serves: what its clients open, and what a program that the test starts
    /// finds in `SYSGENID_SOURCE`.
    #[getter]
    fn path(&self) -> OsString {
        self.path.clone().into()
    }

    /// Whether it is closed.
    #[getter]
    fn closed(&self) -> bool {
        self.handle.is_closed()
    }

    /// Changes the generation to the next one, as a restore does, and returns that.
    ///
    /// All that this process guards, caches and seeds is old as well, as `sysgenid.assume_restored`
    /// makes it, because the process-wide witness of a process does not change its source for a test.
    /// Nothing waits for acknowledgements. Raises `OSError` if the broker was stopped.
    fn trigger(&self, py: Python<'_>) -> PyResult<u32> {
        self.call(py, |broker| {
            // First, so that whoever is told of the change finds nothing that is from before it.
            sysgenid::assume_restored();
            broker.trigger()
        })
    }

    /// Ends the broker, as the end of its service does. Its clients see that, and the page stays.
    fn stop(&self, py: Python<'_>) -> PyResult<()> {
        self.call(py, |broker| {
            broker.stop();
            Ok(())
        })
    }

    /// Ends the broker if it runs, and starts another one in the same directory, which goes on with
    /// the generation.
    fn restart(&self, py: Python<'_>) -> PyResult<()> {
        self.call(py, sysgenid_broker::testing::Broker::restart)
    }

    /// Ends the broker, and removes its directory. Does nothing if that is done.
    fn close(&self, py: Python<'_>) {
        py.detach(|| self.handle.close());
    }

    fn __enter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_args))]
    fn __exit__(&self, py: Python<'_>, _args: &Bound<'_, PyAny>) {
        self.close(py);
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err(
            "a broker cannot be pickled: it ends with the process that started it",
        ))
    }

    fn __repr__(&self) -> String {
        format!("<sysgenid.testing.Broker of {}>", self.path.display())
    }
}
