// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The broker of `python -m sysgenid serve`. Its words and its signals are Python's, in `_serve.py`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::{PyOSError, PyPermissionError, PyValueError};
use pyo3::prelude::*;
use sysgenid_broker::{Error, Stopper};

/// A broker that has its directory, and serves its clients while `run` runs.
#[pyclass(frozen, module = "sysgenid._native")]
pub(crate) struct Server {
    /// `None` once it runs.
    server: Mutex<Option<sysgenid_broker::Server>>,
    stopper: Stopper,
    directory: PathBuf,
    capacity: u64,
}

#[pymethods]
impl Server {
    /// Takes the directory; `None` is the usual one of this user.
    ///
    /// Raises `ValueError` if there is no usual one, and `OSError` if the directory cannot be served.
    #[new]
    fn new(py: Python<'_>, directory: Option<PathBuf>) -> PyResult<Self> {
        let directory = directory
            .or_else(sysgenid_broker::usual_directory)
            .ok_or_else(|| PyValueError::new_err("XDG_RUNTIME_DIR is not set"))?;
        let bound = py.detach(|| sysgenid_broker::Server::bind(&directory));
        let server = bound.map_err(|error| failed(&error))?;
        Ok(Self {
            stopper: server.stopper(),
            directory: absolute(server.dir())?,
            capacity: server.capacity(),
            server: Mutex::new(Some(server)),
        })
    }

    #[getter]
    fn directory(&self) -> OsString {
        self.directory.clone().into()
    }

    #[getter]
    fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Serves until it is stopped, and calls `warn` with each incident as a text. It runs once.
    fn run(&self, py: Python<'_>, warn: Py<PyAny>) -> PyResult<()> {
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        let server = server.take();
        let mut server = server.ok_or_else(|| PyValueError::new_err("it has run already"))?;
        server.on_incident(move |incident| {
            // The clients depend on the broker, whether or not its warnings can be shown.
            let text = incident.to_string();
            Python::try_attach(|py| {
                if let Err(error) = warn.call1(py, (text,)) {
                    error.write_unraisable(py, None);
                }
            });
        });
        py.detach(|| server.run()).map_err(|error| failed(&error))
    }

    /// Has `run` return soon. To do it twice is fine.
    fn stop(&self) {
        self.stopper.stop();
    }
}

fn absolute(path: &Path) -> PyResult<PathBuf> {
    Ok(std::path::absolute(path)?)
}

/// Says what the broker says, which names the path.
fn failed(error: &Error) -> PyErr {
    if error.is_permission() {
        return PyPermissionError::new_err(error.to_string());
    }
    PyOSError::new_err(error.to_string())
}
