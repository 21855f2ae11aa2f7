// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::sync::critical_section::with_critical_section;
use pyo3::types::{PyTuple, PyType};

use super::seed::number;
use super::{Mark, Seeded, warn_if_unprotected};
use crate::derived::{derive, prepared};

/// How often a draw starts over because something changed meanwhile, before the kernel's own bytes
/// are taken instead.
const ATTEMPTS: u32 = 4;

/// What the standard library's generator takes from the kernel: all of its state.
const SEED_BYTES: usize = 624 * 4;

/// The draws of a Mersenne Twister, each of which is checked.
///
/// `core` has the methods of `_random.Random`: it draws, and is seeded anew when something has
/// changed.
///
/// `at_change(False)` is called before that if the state was set on purpose, and has it used on if it
/// returns true; `at_change(True)` is called afterwards.
///
/// This is what it is but for the draws, which `draws_type` adds.
#[pyclass(frozen, subclass, module = "sysgenid._native")]
pub(crate) struct DrawsBase {
    core: Py<PyAny>,
    /// Its bound methods, which are looked up once.
    random: Method,
    getrandbits: Method,
    seed: Py<PyAny>,
    seeded: Seeded,
    /// Whether the state was set by the program, and not from the kernel.
    is_chosen: AtomicBool,
    at_change: Option<Py<PyAny>>,
}

/// A bound method, and the function in C behind it if it is one.
struct Method {
    bound: Py<PyAny>,
    direct: Option<Direct>,
}

#[derive(Clone, Copy)]
struct Direct {
    function: ffi::PyCFunction,
    object: *mut ffi::PyObject,
}

// SAFETY: The object is used by threads only that are attached to the interpreter, and lives as long as
// the bound method does, which is beside this and keeps it.
unsafe impl Send for Direct {}
// SAFETY: As above.
unsafe impl Sync for Direct {}

impl Method {
    /// `flags` is how the function takes its arguments, if it can be called directly.
    fn of(core: &Bound<'_, PyAny>, name: &str, flags: c_int) -> PyResult<Self> {
        let bound = core.getattr(name)?;
        let method = bound.as_ptr();
        // SAFETY: The thread is attached, and the object is one of the interpreter's type for such
        // methods when the others are called. The object behind it is borrowed from it.
        let direct = unsafe {
            if ffi::PyCFunction_Check(method) != 0 && ffi::PyCFunction_GetFlags(method) == flags {
                let object = ffi::PyCFunction_GetSelf(method);
                let function = ffi::PyCFunction_GetFunction(method);
                function.map(|function| Direct { function, object })
            } else {
                None
            }
        };
        Ok(Self {
            bound: bound.unbind(),
            direct,
        })
    }

    /// Calls it with one argument, or with none: then that is NULL. The result is a new reference, or
    /// NULL with an exception set.
    ///
    /// # Safety
    ///
    /// The thread is attached, and the argument is an object or, as the method has it, NULL.
    #[inline]
    unsafe fn call(&self, argument: *mut ffi::PyObject) -> *mut ffi::PyObject {
        match self.direct {
            // SAFETY: As the interpreter calls it: its flags say that it takes the object and this.
            Some(direct) => unsafe { (direct.function)(direct.object, argument) },
            // SAFETY: The arguments end with NULL.
            None => unsafe {
                let end = ptr::null_mut::<ffi::PyObject>();
                ffi::PyObject_CallFunctionObjArgs(self.bound.as_ptr(), argument, end)
            },
        }
    }
}

#[pymethods]
impl DrawsBase {
    #[new]
    #[pyo3(signature = (core, /, at_change = None))]
    fn new(core: &Bound<'_, PyAny>, at_change: Option<Py<PyAny>>) -> PyResult<Self> {
        Ok(Self {
            core: core.clone().unbind(),
            random: Method::of(core, "random", ffi::METH_NOARGS)?,
            getrandbits: Method::of(core, "getrandbits", ffi::METH_O)?,
            seed: core.getattr("seed")?.unbind(),
            seeded: Seeded::now(),
            is_chosen: AtomicBool::new(false),
            at_change,
        })
    }

    /// The generator that is guarded.
    #[getter]
    fn core(&self, py: Python<'_>) -> Py<PyAny> {
        self.core.clone_ref(py)
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
        with_critical_section(slf, || {
            let done = slf.get().seeded.renew(slf, || function.call1(args))?;
            slf.get().is_chosen.store(true, Ordering::Relaxed);
            Ok(done)
        })
    }

    /// Takes the state that there is, whoever has set it, for this process's own.
    fn adopt(slf: &Bound<'_, Self>) -> PyResult<()> {
        warn_if_unprotected(slf.py())?;
        slf.get().seeded.keep(slf);
        slf.get().is_chosen.store(false, Ordering::Relaxed);
        Ok(())
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
        with_critical_section(slf, || {
            slf.get().seeded.renew(slf, seed)?;
            slf.get().is_chosen.store(false, Ordering::Relaxed);
            Ok(())
        })
    }

    /// Has the generator seeded before the next draw, as after a change.
    fn outdate(slf: &Bound<'_, Self>) {
        slf.get().seeded.outdate(slf);
    }

    /// Seeds the generator anew if something has changed. Returns how often its state was set: what
    /// was computed from the state and kept is good as long as this is the same.
    fn epoch(slf: &Bound<'_, Self>) -> PyResult<u64> {
        if !slf.get().seeded.is_current(slf) {
            Self::renew_or_keep(slf)?;
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
        visit.call(&self.random.bound)?;
        visit.call(&self.getrandbits.bound)?;
        visit.call(&self.seed)?;
        visit.call(&self.at_change)
    }
}

impl DrawsBase {
    /// After a change. Returns whether the state is used on, because it was set on purpose.
    #[cold]
    fn renew_or_keep(slf: &Bound<'_, Self>) -> PyResult<bool> {
        let this = slf.get();
        let is_chosen = this.is_chosen.load(Ordering::Relaxed);
        let asked = this.at_change.as_ref().filter(|_| is_chosen);
        let Some(at_change) = asked.map(|asked| asked.bind(slf.py())) else {
            Self::reseed(slf)?;
            return Ok(false);
        };
        if at_change.call1((false,))?.is_truthy()? {
            this.seeded.keep(slf);
            return Ok(true);
        }
        Self::reseed(slf)?;
        at_change.call1((true,))?;
        Ok(false)
    }

    /// Draws from a new seed until nothing has changed meanwhile. Returns `None` if that does not end,
    /// and `refused`, which was drawn across a change, if the state is used on.
    ///
    /// There is no check before the draw: what the one after it refuses is seen by nobody.
    #[cold]
    fn draw_anew<'py>(
        slf: &Bound<'py, Self>,
        method: impl Fn(&Self) -> &Method,
        argument: *mut ffi::PyObject,
        refused: *mut ffi::PyObject,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        // SAFETY: The thread is attached, and the reference is this function's own.
        let refused = unsafe { Bound::from_owned_ptr(slf.py(), refused) };
        if Self::renew_or_keep(slf)? {
            return Ok(Some(refused));
        }
        drop(refused);
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                Self::reseed(slf)?;
            }
            let this = slf.get();
            let mark = this.seeded.mark(slf);
            // SAFETY: The thread is attached. The argument is the caller's, and so is what it returns.
            let drawn = unsafe {
                let drawn = method(this).call(argument);
                Bound::from_owned_ptr_or_err(slf.py(), drawn)?
            };
            if mark == Some(Mark::now()) {
                return Ok(Some(drawn));
            }
        }
        Ok(None)
    }

    /// Draws once. The result is false if something has changed, so that another must be drawn: then it is
    /// not NULL.
    ///
    /// # Safety
    ///
    /// As `Method::call`.
    #[inline]
    unsafe fn draw(
        slf: &Bound<'_, Self>,
        method: impl Fn(&Self) -> &Method,
        argument: *mut ffi::PyObject,
    ) -> (*mut ffi::PyObject, bool) {
        let this = slf.get();
        let mark = this.seeded.mark(slf);
        // SAFETY: The caller's promise.
        let drawn = unsafe { method(this).call(argument) };
        (drawn, drawn.is_null() || mark == Some(Mark::now()))
    }
}

/// The functions that are called by the interpreter. PyO3's take a fifth of a draw more.
///
/// # Safety
///
/// Only the interpreter calls them, on a thread that is attached, and for an object of the type that they
/// are methods of, which has its base's contents: the method looks at the type first.
unsafe extern "C" fn random(
    object: *mut ffi::PyObject,
    _none: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: See above.
    let (drawn, is_done) = unsafe {
        let draws = &*Borrowed::from_ptr(Python::assume_attached(), object).cast_unchecked();
        DrawsBase::draw(draws, |draws| &draws.random, ptr::null_mut())
    };
    if is_done {
        return drawn;
    }
    prepared(|py| {
        // SAFETY: See above.
        let draws = unsafe { Borrowed::from_ptr(py, object).cast_unchecked() };
        match DrawsBase::draw_anew(&draws, |draws| &draws.random, ptr::null_mut(), drawn)? {
            Some(drawn) => Ok(drawn),
            // As the generator makes it: 53 bits of 64.
            None => number(py, 8)?.rshift(11)?.mul(f64::EPSILON / 2.0),
        }
    })
}

/// # Safety
///
/// As `random`; `k` is an object.
unsafe extern "C" fn getrandbits(
    object: *mut ffi::PyObject,
    k: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: See above.
    let (drawn, is_done) = unsafe {
        let draws = &*Borrowed::from_ptr(Python::assume_attached(), object).cast_unchecked();
        DrawsBase::draw(draws, |draws| &draws.getrandbits, k)
    };
    if is_done {
        return drawn;
    }
    prepared(|py| {
        // SAFETY: See above.
        let draws = unsafe { Borrowed::from_ptr(py, object).cast_unchecked() };
        match DrawsBase::draw_anew(&draws, |draws| &draws.getrandbits, k, drawn)? {
            Some(drawn) => Ok(drawn),
            None => {
                // SAFETY: See above.
                let bits: usize = unsafe { Borrowed::from_ptr(py, k) }.extract()?;
                let bytes = bits.div_ceil(8);
                number(py, bytes)?.rshift(bytes * 8 - bits)
            }
        }
    })
}

struct Methods([ffi::PyMethodDef; 3]);

// SAFETY: Its pointers are to static strings and functions, and nobody writes to it or to them.
unsafe impl Sync for Methods {}

static METHODS: Methods = Methods([
    ffi::PyMethodDef {
        ml_name: c"random".as_ptr(),
        ml_meth: ffi::PyMethodDefPointer {
            PyCFunction: random,
        },
        ml_flags: ffi::METH_NOARGS,
        ml_doc: c"random($self, /)\n--\n\nrandom() -> x in the interval [0, 1).".as_ptr(),
    },
    ffi::PyMethodDef {
        ml_name: c"getrandbits".as_ptr(),
        ml_meth: ffi::PyMethodDefPointer {
            PyCFunction: getrandbits,
        },
        ml_flags: ffi::METH_O,
        ml_doc: c"getrandbits($self, k, /)\n--\n\ngetrandbits(k) -> x. Generates an int with k random bits."
            .as_ptr(),
    },
    ffi::PyMethodDef::zeroed(),
]);

/// The type `GuardedDraws`, made at the first call.
pub(crate) fn draws_type(py: Python<'_>) -> PyResult<Bound<'_, PyType>> {
    static TYPE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let made = TYPE.get_or_try_init(py, || {
        let methods = (&raw const METHODS.0).cast_mut().cast::<c_void>();
        let base = py.get_type::<DrawsBase>();
        // SAFETY: The methods are static, and have the signatures that their flags say.
        unsafe {
            derive(
                &base,
                c"sysgenid._native.GuardedDraws",
                true,
                &[(ffi::Py_tp_methods, methods)],
            )
        }
        .map(Bound::unbind)
    })?;
    Ok(made.bind(py).clone())
}
