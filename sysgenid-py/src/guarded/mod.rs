// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Values that must not outlive a restore or a fork: checked before their use, and after it. Nothing in
//! here waits for a change.

mod cached;
mod turn;
mod used;
mod wiped;

pub(crate) use self::cached::cached_type;
use self::turn::Turn;
use self::used::Used;

use std::sync::atomic::{Ordering, fence};

use pyo3::exceptions::PyTypeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use sysgenid::{ProcessWide, Uniqueness, Witness};

use crate::attached::{Attached, Shared};
use crate::{callbacks, errors};

/// How often a call starts over because something changed meanwhile.
///
/// A change is a restore of the whole system, or a fork: four in the time of one use is not a system
/// that is up.
const ATTEMPTS: u32 = 4;

fn unsettled(py: Python<'_>) -> PyErr {
    let message = format!(
        "the generation changed during each of {ATTEMPTS} attempts; try again once the system has \
         settled"
    );
    errors::make(py, "UnsettledError", &message)
}

/// Whether nothing has changed since, after something was used.
#[inline]
fn is_current(mark: Uniqueness) -> bool {
    // What the use has read comes before the look at the counters, whose partner is the store of
    // whoever changes them.
    fence(Ordering::Acquire);
    mark == sysgenid::uniqueness()
}

/// What the process has seen, for what is built now.
#[cold]
fn mark_for_build(py: Python<'_>) -> Uniqueness {
    // A source that appeared is a change, which the mark is to have. The look opens files.
    py.detach(|| {
        let _ = ProcessWide.shows_restores();
    });
    sysgenid::uniqueness()
}

/// A value, and what the process had seen when it was built.
struct Built {
    mark: Uniqueness,
    /// The value, or the `Wiped` that has it.
    value: Py<PyAny>,
}

impl Built {
    fn clone_ref(&self, py: Python<'_>) -> Self {
        Self {
            mark: self.mark,
            value: self.value.clone_ref(py),
        }
    }
}

impl Shared for Option<Built> {
    #[inline]
    fn share(&self, py: Python<'_>) -> Self {
        self.as_ref().map(|built| built.clone_ref(py))
    }
}

/// A cached value that is built again when the system was restored or the process forked.
///
/// `build` is called without arguments at the first use, and again at the first use after a change:
/// check, use, check again. It must take its entropy from the kernel, by `sysgenid.entropy`; from
/// anything in this process's memory it would get the same value in every clone. That includes
/// `secrets` and `os.urandom` where CRIU before 4.2 restores a process with glibc 2.41 or later.
///
/// >>> import sysgenid
/// >>> node = sysgenid.Guarded(lambda: sysgenid.entropy(8).hex())
/// >>> node.get() == node.get()
/// True
/// >>> node.use(lambda node: f"{node}-1") == f"{node.get()}-1"
/// True
///
/// With `wipe`, a value that is no longer wanted is given to that function before it is dropped, to
/// be overwritten. Then the value is used by `use` alone: one that `get` had handed out could be
/// wiped while it is in use.
///
/// >>> key = sysgenid.Guarded(lambda: bytearray(sysgenid.entropy(32)), wipe=bytearray.clear)
/// >>> key.use(len)
/// 32
///
/// Raises `TypeError` if `build` or `wipe` is a coroutine function or a generator function.
///
/// What is guaranteed:
///
/// - `get` returns a value that was built since the last change that could be seen at its return.
///   `use` returns a result only if no change is seen from before the use until after it.
/// - A build that fails leaves no old value behind: the next call builds again. Its exception comes
///   through as it is.
/// - A value whose use was overtaken by a change is not used again.
/// - Threads may share it. One of them builds, and the others wait for it; if it fails, the next one
///   builds. While the value is up to date no thread waits.
/// - A build that is interrupted, by Ctrl-C or by whatever a signal handler raises, leaves the guard as
///   one that failed.
/// - A forked child builds a value of its own. It does not wait for a build that another thread of the
///   parent was at.
///
/// What is not:
///
/// - A change that cannot be seen *yet* is not: there is a window between the resume of a restored
///   machine and the change of its counter. Without a source only forks are seen
///   (`sysgenid.verify`), and the use of a value that is built already does not look for one.
/// - After `get` has returned, nothing is known. After `use` has, its result is the caller's.
/// - A snapshot that is taken after the last check copies the value with everything else: `forget`
///   it before that.
/// - `wipe` sees this object, and no copies that `build`, `use` or the interpreter made of it. It
///   is called when the last use has ended, in the thread where that was; a traceback is a use as
///   well. What it raises goes to `sys.unraisablehook`.
/// - `build`, `use` and `wipe` take ordinary functions. A coroutine, a future or a generator that one of
///   them returns would run after the check: it is refused with a `TypeError`.
#[pyclass(frozen, generic, weakref, module = "sysgenid")]
pub(crate) struct Guarded {
    build: Py<PyAny>,
    wipe: Option<Py<PyAny>>,
    built: Attached<Option<Built>>,
    turn: Turn,
}

#[pymethods]
impl Guarded {
    #[new]
    #[pyo3(signature = (build, *, wipe=None))]
    fn new(build: &Bound<'_, PyAny>, wipe: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        callbacks::check(build, "build")?;
        if let Some(wipe) = wipe {
            callbacks::check(wipe, "wipe")?;
        }
        Ok(Self {
            build: build.clone().unbind(),
            wipe: wipe.map(|wipe| wipe.clone().unbind()),
            built: Attached::new(None),
            turn: Turn::new(),
        })
    }

    /// The value of this moment, built if need be.
    ///
    /// Raises `UnsettledError` if something changed during each of a few builds;
    /// `ReentrantError` if the call is made by the guard's own build, or by that of a guard
    /// which the guard's own build waits for in another thread; `TypeError` if the guard wipes its
    /// values; and what `build` raises.
    fn get<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        if slf.get().wipe.is_some() {
            return Err(PyTypeError::new_err(
                "this guard wipes its values, so they are used within `use` only",
            ));
        }
        Ok(Self::current(slf)?.value.into_bound(slf.py()))
    }

    /// What `function` makes of the value, if nothing changed from before that until after it.
    ///
    /// Otherwise the value is built and the function called again: it should have no effect but its
    /// result. It may use the guard itself.
    ///
    /// Raises `UnsettledError` if something changed during each of a few calls, and `TypeError` if
    /// `function` returns something that has yet to run, such as a coroutine; else as `get`, and what
    /// `function` raises.
    ///
    /// Without a function it is for a `with` block, which cannot be run again: if something changed until
    /// its end, that raises `UnsettledError`, and what came of the block is to be dropped.
    ///
    /// >>> import sysgenid
    /// >>> key = sysgenid.Guarded(lambda: bytearray(sysgenid.entropy(32)), wipe=bytearray.clear)
    /// >>> with key.use() as secret:
    /// ...     len(secret)
    /// 32
    #[pyo3(name = "use", signature = (function=None))]
    fn use_value<'py>(
        slf: &Bound<'py, Self>,
        function: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let this = slf.get();
        let Some(function) = function else {
            return Ok(Bound::new(py, Used::of(slf.clone().unbind()))?.into_any());
        };
        for _ in 0..ATTEMPTS {
            let built = Self::current(slf)?;
            let value = this.value_of(py, &built)?;
            let result = callbacks::call_guarded(function, &PyTuple::new(py, [value])?)?;
            if is_current(built.mark) {
                callbacks::refuse_deferred(&result, "a use")?;
                return Ok(result);
            }
            // So that it is not that one again, whatever is seen by then.
            Self::discard(slf, &built);
        }
        Err(unsettled(py))
    }

    /// Drops the value. The next use builds another.
    ///
    /// For a hook that runs before a snapshot: `sysgenid.before_snapshot(guard.forget)`.
    fn forget(slf: &Bound<'_, Self>) {
        Self::store(slf, None);
    }

    /// Shows the generation and not the value, which is a secret.
    fn __repr__(slf: &Bound<'_, Self>) -> String {
        match slf.get().built.get(slf) {
            Some(built) => format!(
                "<sysgenid.Guarded, built in generation {}>",
                built.mark.generation().get()
            ),
            None => "<sysgenid.Guarded, empty>".to_owned(),
        }
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err(
            "a guard cannot be pickled or copied: make one in the other process",
        ))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.build)?;
        visit.call(&self.wipe)?;
        // SAFETY: This is the collector's look, and calls nothing but its own function.
        if let Some(built) = unsafe { self.built.peek() } {
            visit.call(&built.value)?;
        }
        Ok(())
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        Self::forget(slf);
    }
}

impl Guarded {
    fn value_of<'py>(&self, py: Python<'py>, built: &Built) -> PyResult<Bound<'py, PyAny>> {
        match &self.wipe {
            None => Ok(built.value.bind(py).clone()),
            Some(_) => wiped::value_in(built.value.bind(py)),
        }
    }

    /// The one before is dropped when this one is in its place.
    fn store(slf: &Bound<'_, Self>, built: Option<Built>) {
        drop(slf.get().built.replace(slf, built));
    }

    /// Drops the value, unless another one is there by now.
    fn discard(slf: &Bound<'_, Self>, used: &Built) {
        let is_that = |built: &Option<Built>| {
            built
                .as_ref()
                .is_some_and(|built| built.value.is(&used.value))
        };
        drop(slf.get().built.replace_if(slf, None, is_that));
    }

    /// The value, if there is one and nothing has changed.
    #[inline]
    fn look(slf: &Bound<'_, Self>) -> Option<Built> {
        // The value first, and then what it is compared with: a change that was to be seen when this
        // was called is in what is looked at last.
        let built = slf.get().built.get(slf)?;
        is_current(built.mark).then_some(built)
    }

    #[inline]
    fn current(slf: &Bound<'_, Self>) -> PyResult<Built> {
        match Self::look(slf) {
            Some(built) => Ok(built),
            None => Self::renewed(slf),
        }
    }

    #[cold]
    fn renewed(slf: &Bound<'_, Self>) -> PyResult<Built> {
        let py = slf.py();
        let this = slf.get();
        let _turn = turn::take(slf)?;
        // Another thread may have built it while this one waited.
        if let Some(built) = Self::look(slf) {
            return Ok(built);
        }
        // First, so that a build that fails leaves no old value behind.
        Self::store(slf, None);
        for _ in 0..ATTEMPTS {
            let mark = mark_for_build(py);
            let value = callbacks::call_guarded(this.build.bind(py), &PyTuple::empty(py))?;
            callbacks::refuse_deferred(&value, "build")?;
            let value = match &this.wipe {
                None => value,
                Some(wipe) => wiped::wrap(&value, wipe.bind(py))?,
            };
            let built = Built {
                mark,
                value: value.unbind(),
            };
            if is_current(mark) {
                Self::store(slf, Some(built.clone_ref(py)));
                return Ok(built);
            }
        }
        Err(unsettled(py))
    }
}
