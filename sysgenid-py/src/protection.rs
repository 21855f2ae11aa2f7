// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::ffi::OsString;
use std::hash::{Hash, Hasher};

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use sysgenid::ForkDetection;

/// What this process sees of restores and forks: see `protection`.
///
/// `str()` of it is one line for a log, without characters that a terminal obeys. Two are equal if all
/// attributes are.
#[pyclass(frozen, eq, hash, module = "sysgenid")]
pub(crate) struct Protection(sysgenid::Protection);

impl PartialEq for Protection {
    fn eq(&self, other: &Self) -> bool {
        (self.sources(), self.forks()) == (other.sources(), other.forks())
    }
}

impl Eq for Protection {}

impl Hash for Protection {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.sources(), self.forks()).hash(state);
    }
}

#[pymethods]
impl Protection {
    /// Whether a restore is seen at all, by one source at least.
    #[getter]
    fn shows_restores(&self) -> bool {
        self.0.shows_restores()
    }

    /// The sources that the process looks at, at most two: each as its kind and its path. The first
    /// one's number is `generation`.
    #[getter]
    fn sources(&self) -> Vec<(&'static str, OsString)> {
        let sources = self.0.sources();
        let told = sources.map(|source| (source.kind().name(), source.path().into()));
        told.collect()
    }

    /// How forks are seen: "wiped-page" if the kernel empties a page in each child, "process-id" if a
    /// sandbox refuses that, so that the process id is compared at each look.
    #[getter]
    fn forks(&self) -> &'static str {
        match self.0.forks() {
            ForkDetection::WipedPage => "wiped-page",
            _ => "process-id",
        }
    }

    fn __str__(&self) -> String {
        self.0.to_string()
    }

    fn __repr__(&self) -> String {
        format!("<sysgenid.Protection, {}>", self.0)
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err(
            "a protection cannot be pickled or copied: it is this process's; send str() of it",
        ))
    }
}

/// What this process is protected against, for a log line, a metric or a health endpoint. It does not
/// check the sources as `verify` does; while there is none it looks for one, at most once a second.
///
/// >>> import sysgenid
/// >>> protection = sysgenid.protection()
/// >>> protection.shows_restores, [kind for kind, path in protection.sources]
/// (True, ['broker'])
#[pyfunction]
pub(crate) fn protection() -> Protection {
    Protection(sysgenid::protection())
}

/// Sets the process up: looks for its sources, maps their counters, and prepares for forks. Returns the
/// `protection`.
///
/// The first use of the package does the same, so only a program that enters a sandbox needs this,
/// before that. Without a source, slow calls go on to look for one, and open files for it.
///
/// >>> import sysgenid
/// >>> sysgenid.init().forks
/// 'wiped-page'
#[pyfunction]
pub(crate) fn init() -> Protection {
    Protection(sysgenid::init())
}
