// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which source the package takes: one for all that is not given a path.

use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::prelude::*;
use sysgenid::adapter;

/// Something has looked for the source already. Relaxed: nothing else depends on it.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);

/// To be called by what looks for a source.
pub(crate) fn discovers() {
    IS_TAKEN.store(true, Ordering::Relaxed);
}

/// Whether it is too late to name another source.
#[pyfunction]
pub(crate) fn source_is_taken() -> bool {
    IS_TAKEN.load(Ordering::Relaxed) || adapter::has_looked()
}
