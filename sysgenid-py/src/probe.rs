// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use pyo3::prelude::*;
use pyo3::types::PyType;
use sysgenid::{Source, SourceKind};

use crate::{probe_type, waiting};

/// What a `Probe` is but for what `probe_type` adds, which documents it as well.
#[pyclass(frozen, subclass, module = "sysgenid._native")]
pub(crate) struct ProbeBase(pub(crate) sysgenid::Probe);

/// A probe on its way into an object of the type that the package shows, which only the type itself
/// makes.
#[pyclass(frozen, module = "sysgenid._native")]
struct Made(Mutex<Option<sysgenid::Probe>>);

/// What a probe is made of.
#[derive(FromPyObject)]
enum Origin<'py> {
    Made(PyRef<'py, Made>),
    Path(PathBuf),
}

impl ProbeBase {
    /// There is always a source: only a watcher that was made of a descriptor has none, and Python has
    /// no such watchers.
    fn source_path(&self) -> &Path {
        self.0.source().map(Source::path).unwrap_or(Path::new(""))
    }
}

#[pymethods]
impl ProbeBase {
    #[new]
    #[pyo3(signature = (path=None))]
    fn new(py: Python<'_>, path: Option<Origin<'_>>) -> PyResult<Self> {
        let probe = match path {
            Some(Origin::Made(made)) => made.0.lock().ok().and_then(|mut made| made.take()),
            Some(Origin::Path(path)) => Some(waiting::call(py, || sysgenid::Probe::open_at(path))?),
            None => Some(waiting::call(py, sysgenid::Probe::open)?),
        };
        let taken = || pyo3::exceptions::PyTypeError::new_err("a probe is made once");
        probe.map(Self).ok_or_else(taken)
    }

    /// What kind of source it is on: as in `Status`.
    #[getter]
    fn kind(&self) -> &'static str {
        let kind = self.0.source().map(Source::kind);
        kind.unwrap_or(SourceKind::Device).name()
    }

    /// Where the source is.
    #[getter]
    fn path(&self) -> OsString {
        self.source_path().into()
    }

    /// Checks that the path still names what was mapped: a few system calls, for a health check.
    ///
    /// Raises `BrokenError` if the file was replaced, and `AbsentError` if it was removed: changes of
    /// a new file do not show.
    fn verify(&self, py: Python<'_>) -> PyResult<()> {
        waiting::call(py, || self.0.verify())
    }

    fn __repr__(slf: &Bound<'_, Self>) -> String {
        let this = slf.get();
        format!(
            "<sysgenid.Probe of {}, generation {}>",
            this.source_path().display(),
            this.0.generation()
        )
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(pyo3::exceptions::PyTypeError::new_err(
            "a probe cannot be pickled: open one in the other process",
        ))
    }
}

/// An object of the public type for a probe that was opened elsewhere.
pub(crate) fn object<'py>(py: Python<'py>, probe: sysgenid::Probe) -> PyResult<Bound<'py, PyAny>> {
    let made = Bound::new(py, Made(Mutex::new(Some(probe))))?;
    let class: Bound<'py, PyType> = probe_type::get(py)?;
    class.call1((made,))
}
