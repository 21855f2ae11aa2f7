// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The SDK's errors as exceptions. Their classes are Python's, in `sysgenid/errors.py`.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyModule;
use rustix::io::Errno;
use sysgenid::Error;

/// The class of an error, and its number where the kernel gave none; no number for what is no error of the
/// operating system.
fn class_of(error: &Error) -> (&'static str, Option<Errno>) {
    let kinds = [
        (error.is_absent(), "AbsentError", Some(Errno::NOENT)),
        (error.is_permission(), "DeniedError", Some(Errno::ACCESS)),
        (error.is_wrong_kind(), "WrongKindError", Some(Errno::NODEV)),
        (error.is_broken(), "BrokenError", Some(Errno::IO)),
        (
            error.is_unsupported(),
            "UnsupportedError",
            Some(Errno::OPNOTSUPP),
        ),
        (error.is_stale(), "StaleError", None),
        (error.is_timeout(), "TimedOutError", Some(Errno::TIME)),
        (error.is_outdated(), "OutdatedError", None),
        (error.is_lost(), "LostError", Some(Errno::CONNRESET)),
        (error.is_missing(), "MissingError", None),
        (error.is_forked(), "ForkedError", None),
        (error.is_unsettled(), "UnsettledError", None),
        (error.is_reentrant(), "ReentrantError", None),
        (error.is_entropy(), "EntropyError", Some(Errno::NODATA)),
    ];
    let kind = kinds.into_iter().find(|(is_it, ..)| *is_it);
    kind.map_or(("CallError", Some(Errno::IO)), |(_, class, errno)| {
        (class, errno)
    })
}

/// What `str()` of an exception does not say by itself: the path and the number are attributes.
fn message_of(error: &Error) -> String {
    let whole = error.to_string();
    let path = error.path().map(|path| format!("{}: ", path.display()));
    let message = path.as_deref().and_then(|path| whole.strip_prefix(path));
    message.unwrap_or(&whole).to_owned()
}

/// The exception for an error. That it cannot be made is an exception as well.
pub(crate) fn raise(py: Python<'_>, error: &Error) -> PyErr {
    exception(py, error).unwrap_or_else(|failure| failure)
}

/// The exception for an error of this layer's own, which is none of the operating system's. That it cannot be made is an exception as well.
pub(crate) fn make(py: Python<'_>, class: &str, message: &str) -> PyErr {
    let make = || classes(py)?.getattr(class)?.call1((message,));
    make().map_or_else(|failure| failure, PyErr::from_value)
}

/// The module that has them.
fn classes(py: Python<'_>) -> PyResult<&Bound<'_, PyModule>> {
    static CLASSES: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let classes =
        CLASSES.get_or_try_init(py, || py.import("sysgenid.errors").map(Bound::unbind))?;
    Ok(classes.bind(py))
}

fn exception(py: Python<'_>, error: &Error) -> PyResult<PyErr> {
    let (class, nearest) = class_of(error);
    let class = classes(py)?.getattr(class)?;
    let exception = match (nearest, error.path()) {
        (None, _) => class.call1((error.to_string(),))?,
        (Some(nearest), path) => {
            let errno = match error.raw_os_error() {
                // The device's way to say that its caller is outdated. To a Python programmer it is a
                // signal, which no call reports here.
                Some(errno) if errno == Errno::INTR.raw_os_error() => nearest.raw_os_error(),
                Some(errno) => errno,
                None => nearest.raw_os_error(),
            };
            match path {
                Some(path) => class.call1((errno, message_of(error), path.as_os_str()))?,
                None => class.call1((errno, message_of(error)))?,
            }
        }
    };
    if let Some(current) = error.current() {
        exception.setattr("current", current.get())?;
    }
    Ok(PyErr::from_value(exception))
}
