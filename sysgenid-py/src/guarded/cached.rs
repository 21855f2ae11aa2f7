// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple, PyType};
use sysgenid::Uniqueness;

use super::{ATTEMPTS, is_current, mark_for_build, unsettled};
use crate::callbacks;

/// A function with a cache that a restore or a fork empties: see `cached`, whose class adds what makes it
/// look like the function.
///
/// `keep` makes a function with a cache of a function, as `functools.lru_cache(maxsize)` does.
#[pyclass(frozen, subclass, module = "sysgenid._native")]
pub(crate) struct CachedBase {
    compute: Py<Computation>,
    keep: Py<PyAny>,
    /// A cache together with its own mark. Not locked while anything is called, or dropped that may
    /// call something.
    standing: Mutex<Standing>,
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

    #[inline]
    fn clone_ref(&self, py: Python<'_>) -> Self {
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
            standing: Mutex::new(Standing::empty(py, &compute, &keep)?),
            compute,
            keep,
        })
    }

    #[pyo3(signature = (*args, **kwargs))]
    fn __call__<'py>(
        &self,
        py: Python<'py>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        for _ in 0..ATTEMPTS {
            let Standing { mark, cache } = self.current(py)?;
            let result = cache.into_bound(py).call(args, kwargs)?;
            if is_current(mark) {
                return Ok(result);
            }
        }
        Err(unsettled(py))
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
    fn cache_clear(&self, py: Python<'_>) -> PyResult<()> {
        self.renew(py).map(drop)
    }

    /// As that of `functools.lru_cache`, since the last change.
    fn cache_info<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let cache = self.current(py)?.cache.into_bound(py);
        cache.call_method0("cache_info")
    }

    /// As that of `functools.lru_cache`.
    fn cache_parameters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let cache = self.current(py)?.cache.into_bound(py);
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
        // What cannot be looked at is in use, and so is this.
        if let Ok(standing) = self.standing.try_lock() {
            visit.call(&standing.cache)?;
        }
        Ok(())
    }
}

impl CachedBase {
    fn lock(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[inline]
    fn current(&self, py: Python<'_>) -> PyResult<Standing> {
        let seen = self.lock().clone_ref(py);
        if is_current(seen.mark) {
            return Ok(seen);
        }
        // Threads that come here at once may make several. One stays, and all are right.
        self.renew(py)
    }

    #[cold]
    fn renew(&self, py: Python<'_>) -> PyResult<Standing> {
        let empty = Standing::empty(py, &self.compute, &self.keep)?;
        let before = std::mem::replace(&mut *self.lock(), empty.clone_ref(py));
        drop(before);
        Ok(empty)
    }
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
        let result = self.0.bind(py).call(args, kwargs)?;
        // It would run once, or not at all, for all who are given it.
        callbacks::refuse_deferred(&result, "a cached function")?;
        Ok(result)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.0)
    }
}
