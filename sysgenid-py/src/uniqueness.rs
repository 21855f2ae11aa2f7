// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::hash::{Hash, Hasher};

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

/// What this process has seen of restores and forks, at one moment.
///
/// Two of them are equal if, and only if, nothing changed in between that can be seen: the system
/// was not restored, and the process was not forked. It is opaque, and good for nothing but a
/// comparison with `==` within the process, or as the key of a dictionary.
///
/// >>> import sysgenid
/// >>> before = sysgenid.uniqueness()
/// >>> before == sysgenid.uniqueness()
/// True
#[pyclass(frozen, eq, hash, module = "sysgenid")]
#[derive(PartialEq, Eq)]
pub(crate) struct Uniqueness(pub(crate) sysgenid::Uniqueness);

impl Hash for Uniqueness {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Those that are equal have this in common.
        self.0.generation().get().hash(state);
    }
}

#[pymethods]
impl Uniqueness {
    /// The generation in it.
    #[getter]
    fn generation(&self) -> u64 {
        self.0.generation().get()
    }

    /// Whether it is the present one still: the same as comparing it with `sysgenid.uniqueness()`, in
    /// less time.
    ///
    /// >>> import sysgenid
    /// >>> sysgenid.uniqueness().is_current()
    /// True
    fn is_current(&self) -> bool {
        self.0 == sysgenid::uniqueness()
    }

    fn __repr__(&self) -> String {
        format!("<sysgenid.Uniqueness, generation {}>", self.generation())
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err(
            "a uniqueness cannot be pickled or copied: it means nothing in another process",
        ))
    }
}
