// SPDX-License-Identifier: Apache-2.0 OR MIT
use chacha20::ChaCha12Rng;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyInt};
use sysgenid::rand_core::TryRng;
use sysgenid::{ProcessWide, SnapshotSafeRng};

use crate::errors;

/// So many random bytes, for a seed.
///
/// They come from a generator that is seeded for this call, with the kernel's random numbers and the
/// processor's. A restored kernel reseeds a moment after the hypervisor's counter has changed; the
/// processor draws anew in each clone meanwhile.
///
/// Raises `EntropyError` if the kernel gives none.
#[pyfunction]
#[pyo3(signature = (size, /))]
pub(crate) fn entropy(py: Python<'_>, size: usize) -> PyResult<Bound<'_, PyBytes>> {
    PyBytes::new_with(py, size, |bytes| {
        SnapshotSafeRng::<ChaCha12Rng>::new(ProcessWide)
            .and_then(|mut rng| rng.try_fill_bytes(bytes))
            .map_err(|error| errors::raise(py, &error))
    })
}

/// The same as a number.
pub(super) fn number(py: Python<'_>, size: usize) -> PyResult<Bound<'_, PyAny>> {
    py.get_type::<PyInt>()
        .call_method1("from_bytes", (entropy(py, size)?, "little"))
}
