// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Timeouts as Python writes them.

use std::time::Duration;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use sysgenid::Deadline;

/// A number of seconds, a `timedelta`, or `None` for ever. It begins when the argument is read.
#[derive(Clone, Copy)]
pub(crate) struct Timeout(pub(crate) Deadline);

impl Timeout {
    /// Without end, which is what a call waits that is given none.
    pub(crate) const NEVER: Self = Self(Deadline::NEVER);

    pub(crate) fn of(time: Duration) -> Self {
        Self(Deadline::after(time))
    }
}

impl<'a, 'py> FromPyObject<'a, 'py> for Timeout {
    type Error = PyErr;

    fn extract(value: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        time_of(value).map(|time| Self(Deadline::after(time)))
    }
}

/// How long a broker may take for each of its answers: written as a timeout, which begins with each
/// call.
#[derive(Clone, Copy)]
pub(crate) struct AnswerTime(pub(crate) Duration);

impl AnswerTime {
    /// What it is unless the caller says it.
    pub(crate) const DEFAULT: Self = Self(Duration::from_secs(5));

    /// How often a page is looked at.
    pub(crate) const SECOND: Self = Self(Duration::from_secs(1));
}

impl<'a, 'py> FromPyObject<'a, 'py> for AnswerTime {
    type Error = PyErr;

    fn extract(value: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        time_of(value).map(Self)
    }
}

/// What no clock counts never passes: for a deadline, the longest time is forever.
fn time_of(value: Borrowed<'_, '_, PyAny>) -> PyResult<Duration> {
    if value.is_none() {
        return Ok(Duration::MAX);
    }
    let seconds = match value.extract::<f64>() {
        Ok(seconds) => seconds,
        // A timedelta, without importing its module for those who use none.
        Err(_) => value
            .call_method0("total_seconds")
            .and_then(|seconds| seconds.extract())
            .map_err(|_| {
                PyTypeError::new_err(
                    "a timeout is a number of seconds, a datetime.timedelta, or None to wait for \
                     ever",
                )
            })?,
    };
    if !seconds.is_finite() {
        return Err(PyValueError::new_err(
            "a timeout is a finite number of seconds; None waits for ever",
        ));
    }
    Ok(Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX))
}
