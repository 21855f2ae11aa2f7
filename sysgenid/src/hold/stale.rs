// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::error::Error as StdError;
use std::fmt;
use std::io;

use crate::base::error::{Error, Kind};

/// What the caller has is of before a change: the system was restored since, or the process forked.
/// It must not be used any more, and neither may what was made with it.
///
/// It converts into an [`Error`] that [`is_stale`](Error::is_stale), and into an [`io::Error`] of the
/// kind `ConnectionAborted`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stale(());

impl Stale {
    #[cold]
    pub(crate) fn new() -> Self {
        Self(())
    }
}

impl fmt::Display for Stale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Kind::Outlived.fmt(f)
    }
}

impl StdError for Stale {}

impl From<Stale> for Error {
    fn from(_: Stale) -> Self {
        Self::new(Kind::Outlived)
    }
}

impl From<Stale> for io::Error {
    fn from(stale: Stale) -> Self {
        Error::from(stale).into()
    }
}
