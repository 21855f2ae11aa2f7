// SPDX-License-Identifier: Apache-2.0 OR MIT
use chacha20::ChaCha12Rng;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyInt};
use sysgenid::rand_core::TryRng;
use sysgenid::{ProcessWide, SnapshotSafeRng};

use crate::errors;

/// Returns random bytes for a key, a token or a seed.
///
/// They come from the kernel, by the system call itself, so that this process keeps no state that a
/// snapshot could copy. `os.urandom`, `secrets` and `uuid.uuid4` ask the C library instead: glibc 2.41
/// and later may draw from a generator in the memory of the process, and CRIU before 4.2 copies that.
///
/// With a source, the bytes are expanded from a seed that has the processor's random numbers mixed
/// in: a restored kernel reseeds a moment after a hypervisor counter has changed.
///
/// >>> import sysgenid
/// >>> key = sysgenid.entropy(32)
/// >>> len(key)
/// 32
///
/// Raises `EntropyError` if the kernel returns none, because a sandbox forbids `getrandom`.
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
