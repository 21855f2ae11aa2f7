// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::ptr;

use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::critical_section::with_critical_section;
use pyo3::types::PyTuple;

use super::seed::number;
use super::{Mark, Seeded, warn_if_unprotected};

/// How often a draw starts over because something changed meanwhile, before the kernel's own bytes
/// are taken instead.
const ATTEMPTS: u32 = 4;

/// What the standard library's generator takes from the kernel: all of its state.
const SEED_BYTES: usize = 624 * 4;

/// The draws of a Mersenne Twister, each of which is checked.
///
/// `core` has the methods of `_random.Random`: it draws, and is seeded anew when something has
/// changed.
#[pyclass(frozen, module = "sysgenid._native")]
pub(crate) struct GuardedDraws {
    core: Py<PyAny>,
    /// Its bound methods, which are looked up once.
    random: Py<PyAny>,
    getrandbits: Py<PyAny>,
    seed: Py<PyAny>,
    seeded: Seeded,
}

#[pymethods]
impl GuardedDraws {
    #[new]
    #[pyo3(signature = (core, /))]
    fn new(core: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Self {
            core: core.clone().unbind(),
            random: core.getattr("random")?.unbind(),
            getrandbits: core.getattr("getrandbits")?.unbind(),
            seed: core.getattr("seed")?.unbind(),
            seeded: Seeded::now(),
        })
    }

    /// The generator that is guarded.
    #[getter]
    fn core(&self, py: Python<'_>) -> Py<PyAny> {
        self.core.clone_ref(py)
    }

    /// random() -> x in the interval [0, 1).
    fn random<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        match Self::draw(slf, || slf.get().random.bind(py).call0())? {
            Some(drawn) => Ok(drawn),
            // As the generator makes it: 53 bits of 64.
            None => number(py, 8)?.rshift(11)?.mul(f64::EPSILON / 2.0),
        }
    }

    /// getrandbits(k) -> x. Generates an int with k random bits.
    #[pyo3(signature = (k, /))]
    fn getrandbits<'py>(
        slf: &Bound<'py, Self>,
        k: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        match Self::draw(slf, || call(slf.get().getrandbits.bind(py), k))? {
            Some(drawn) => Ok(drawn),
            None => {
                let bits: usize = k.extract()?;
                let bytes = bits.div_ceil(8);
                number(py, bytes)?.rshift(bytes * 8 - bits)
            }
        }
    }

    /// Calls `function`, which sets the generator's state, and takes it for this process's own.
    #[pyo3(signature = (function, /, *args))]
    fn renew<'py>(
        slf: &Bound<'py, Self>,
        function: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        warn_if_unprotected(slf.py())?;
        // In one step for other threads, with the lock of the interpreter or with that of this
        // object: the state and the mark belong together.
        with_critical_section(slf, || slf.get().seeded.renew(|| function.call1(args)))
    }

    /// Seeds the generator from the kernel, by the system call.
    ///
    /// The interpreter takes its own seeds from the C library, of whose generator a restored process
    /// may have a copy.
    #[cold]
    fn reseed(slf: &Bound<'_, Self>) -> PyResult<()> {
        warn_if_unprotected(slf.py())?;
        let seed = || {
            let seed = number(slf.py(), SEED_BYTES)?;
            slf.get().seed.bind(slf.py()).call1((seed,))
        };
        with_critical_section(slf, || slf.get().seeded.renew(seed))?;
        Ok(())
    }

    /// Has the generator seeded before the next draw, as after a change.
    fn outdate(&self) {
        self.seeded.outdate();
    }

    /// Seeds the generator anew if something has changed. Returns how often its state was set: what
    /// was computed from the state and kept is good as long as this is the same.
    fn epoch(slf: &Bound<'_, Self>) -> PyResult<u64> {
        if !slf.get().seeded.is_current() {
            Self::reseed(slf)?;
        }
        Ok(slf.get().seeded.epoch())
    }

    /// The same without a look, for what was computed just now.
    #[getter]
    fn last_epoch(&self) -> u64 {
        self.seeded.epoch()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.core)?;
        visit.call(&self.random)?;
        visit.call(&self.getrandbits)?;
        visit.call(&self.seed)
    }
}

impl GuardedDraws {
    /// What `attempt` has drawn, once nothing has changed meanwhile; `None` if there is no end to the
    /// changes.
    ///
    /// There is no check before the draw: what the one after it refuses is seen by nobody.
    #[inline]
    fn draw<'py>(
        slf: &Bound<'py, Self>,
        attempt: impl Fn() -> PyResult<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        for _ in 0..ATTEMPTS {
            let mark = slf.get().seeded.mark();
            let drawn = attempt()?;
            if mark == Some(Mark::now()) {
                return Ok(Some(drawn));
            }
            Self::reseed(slf)?;
        }
        Ok(None)
    }
}

/// `function(argument)`, without the tuple that it takes to pass on many.
#[inline]
fn call<'py>(
    function: &Bound<'py, PyAny>,
    argument: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let end = ptr::null_mut::<ffi::PyObject>();
    // SAFETY: the interpreter is attached, as the two objects prove, which live until the call
    // returns. The arguments are objects, and end with a null pointer. The result is a new reference,
    // or null with an exception set.
    unsafe {
        let result = ffi::PyObject_CallFunctionObjArgs(function.as_ptr(), argument.as_ptr(), end);
        Bound::from_owned_ptr_or_err(function.py(), result)
    }
}
