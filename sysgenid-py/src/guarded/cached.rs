// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::ffi::c_void;

use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple, PyType};
use sysgenid::Uniqueness;

use super::{ATTEMPTS, is_current, mark_for_build, unsettled};
use crate::attached::{Attached, Shared};
use crate::callbacks;
use crate::derived::{derive, prepared};

/// A function with a cache that a restore or a fork empties: see `cached`, whose class adds what makes it
/// look like the function. This is what it is but for the call, which `cached_type` adds.
///
/// `keep` makes a function with a cache of a function, as `functools.lru_cache(maxsize)` does.
#[pyclass(frozen, subclass, module = "sysgenid._native")]
pub(crate) struct CachedBase {
    compute: Py<Computation>,
    keep: Py<PyAny>,
    /// A cache together with its own mark.
    standing: Attached<Standing>,
}

struct Standing {
    mark: Uniqueness,
    cache: Py<PyAny>,
}

impl Standing {
    fn empty(py: Python<'_>, compute: &Py<Computation>, keep: &Py<PyAny>) -> PyResult<Self> {
        Ok(Self {
            mark: mark_for_build(py),
            cache: keep.call1(py, (compute,))?,
        })
    }
}

impl Shared for Standing {
    #[inline]
    fn share(&self, py: Python<'_>) -> Self {
        Self {
            mark: self.mark,
            cache: self.cache.clone_ref(py),
        }
    }
}

#[pymethods]
impl CachedBase {
    #[new]
    fn new(py: Python<'_>, function: Py<PyAny>, keep: Py<PyAny>) -> PyResult<Self> {
        let compute = Py::new(py, Computation(function))?;
        Ok(Self {
            standing: Attached::new(Standing::empty(py, &compute, &keep)?),
            compute,
            keep,
        })
    }

    /// Binds it to an object, as a function in its class is.
    fn __get__<'py>(
        slf: &Bound<'py, Self>,
        instance: Option<&Bound<'py, PyAny>>,
        owner: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        static METHOD: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        let _ = owner;
        match instance {
            Some(instance) => METHOD
                .import(slf.py(), "types", "MethodType")?
                .call1((slf, instance)),
            None => Ok(slf.clone().into_any()),
        }
    }

    /// Forgets all results.
    fn cache_clear(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::renew(slf).map(drop)
    }

    /// As that of `functools.lru_cache`, since the last change.
    fn cache_info<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let cache = Self::current(slf)?.cache.into_bound(slf.py());
        cache.call_method0("cache_info")
    }

    /// As that of `functools.lru_cache`.
    fn cache_parameters<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let cache = Self::current(slf)?.cache.into_bound(slf.py());
        cache.call_method0("cache_parameters")
    }

    /// As a function is pickled: by its name.
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.getattr("__qualname__")
    }

    fn __copy__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __deepcopy__<'py>(slf: Bound<'py, Self>, memo: &Bound<'py, PyAny>) -> Bound<'py, Self> {
        let _ = memo;
        slf
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.compute)?;
        visit.call(&self.keep)?;
        // SAFETY: This is the collector's look, and calls nothing but its own function.
        visit.call(unsafe { &self.standing.peek().cache })
    }
}

impl CachedBase {
    #[inline]
    fn current(slf: &Bound<'_, Self>) -> PyResult<Standing> {
        let seen = slf.get().standing.get(slf);
        if is_current(seen.mark) {
            return Ok(seen);
        }
        // Threads that come here at once may make several. One stays, and all are right.
        Self::renew(slf)
    }

    #[cold]
    fn renew(slf: &Bound<'_, Self>) -> PyResult<Standing> {
        let this = slf.get();
        let empty = Standing::empty(slf.py(), &this.compute, &this.keep)?;
        let before = this.standing.replace(slf, empty.share(slf.py()));
        drop(before);
        Ok(empty)
    }

    #[cold]
    fn compute_anew<'py>(
        slf: &Bound<'py, Self>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
        attempts: u32,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        for _ in 0..attempts {
            let Standing { mark, cache } = Self::current(slf)?;
            let result = call(&cache.into_bound(py), args, kwargs)?;
            if is_current(mark) {
                return Ok(result);
            }
        }
        Err(unsettled(py))
    }
}

fn call<'py>(
    function: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
    kwargs: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let kwargs = kwargs.map_or(std::ptr::null_mut(), |kwargs| kwargs.as_ptr());
    // SAFETY: The thread is attached, and the objects are borrowed over the call. The result is a new
    // reference, or NULL with an exception set.
    unsafe {
        let result = callbacks::call_raw(function.as_ptr(), args.as_ptr(), kwargs);
        Bound::from_owned_ptr_or_err(function.py(), result)
    }
}

/// The call of it. PyO3's makes a dictionary for named arguments, and takes half of the time that finding
/// a result takes.
///
/// # Safety
///
/// Only the interpreter calls it, on a thread that is attached, for an object of the type that it is a slot
/// of, which has its base's contents. `args` is a tuple, and `kwargs` a dictionary or NULL.
unsafe extern "C" fn tp_call(
    object: *mut ffi::PyObject,
    args: *mut ffi::PyObject,
    kwargs: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    let mut attempts = ATTEMPTS;
    // SAFETY: See above. The contents are frozen, so that nothing borrows them to change them. What is
    // counted down here is the reference that was counted up, as `Bound` does it: `Py` would not find
    // that the thread is attached.
    unsafe {
        let py = Python::assume_attached();
        let cached = &*Borrowed::from_ptr(py, object).cast_unchecked::<CachedBase>();
        let Standing { mark, cache } = cached.get().standing.get(cached);
        let cache = cache.into_bound(py);
        if is_current(mark) {
            attempts -= 1;
            let result = callbacks::call_raw(cache.as_ptr(), args, kwargs);
            if result.is_null() || is_current(mark) {
                return result;
            }
            ffi::Py_DECREF(result);
        }
    }
    prepared(|py| {
        // SAFETY: See above.
        let (cached, args, kwargs) = unsafe {
            (
                Borrowed::from_ptr(py, object).cast_unchecked(),
                Borrowed::from_ptr(py, args).cast_unchecked(),
                Borrowed::from_ptr_or_opt(py, kwargs).map(|kwargs| kwargs.cast_unchecked()),
            )
        };
        CachedBase::compute_anew(&cached, &args, kwargs.as_deref(), attempts)
    })
}

/// The type `CachedBase`, made at the first call.
pub(crate) fn cached_type(py: Python<'_>) -> PyResult<Bound<'_, PyType>> {
    static TYPE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let made = TYPE.get_or_try_init(py, || {
        let call: ffi::ternaryfunc = tp_call;
        let slots = [(ffi::Py_tp_call, call as *mut c_void)];
        let base = py.get_type::<CachedBase>();
        // SAFETY: The function is static, and has the signature of its slot.
        unsafe { derive(&base, c"sysgenid._native.CachedBase", false, &slots) }.map(Bound::unbind)
    })?;
    Ok(made.bind(py).clone())
}

/// The function itself, whose results are looked at before they are kept.
#[pyclass(frozen, module = "sysgenid._native")]
struct Computation(Py<PyAny>);

#[pymethods]
impl Computation {
    #[pyo3(signature = (*args, **kwargs))]
    fn __call__<'py>(
        &self,
        py: Python<'py>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let result = call(self.0.bind(py), args, kwargs)?;
        // It would run once, or not at all, for all who are given it.
        callbacks::refuse_deferred(&result, "a cached function")?;
        Ok(result)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.0)
    }
}
