// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The one error of this crate.

use std::io;

/// Why something was not done. It prints what failed and what to do next, and never a secret.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(#[from] Kind);

#[derive(Debug, thiserror::Error)]
pub(crate) enum Kind {
    #[error("no random bytes from outside this machine: {0}")]
    NoBytes(String),
    #[error("{place}: {source}")]
    Io { place: String, source: io::Error },
    #[error(
        "/dev/urandom: permission denied; renewing the kernel's entropy takes CAP_SYS_ADMIN in the \
         initial user namespace"
    )]
    Permission,
    #[error("the kernel did not renew its entropy: {0}")]
    NotDone(String),
}

impl Error {
    /// Whether there were no bytes that could be mixed in: too few, all the same, or the kernel's own.
    #[must_use]
    pub fn is_no_bytes(&self) -> bool {
        matches!(self.0, Kind::NoBytes(_))
    }

    /// Whether the privileges for it are missing.
    #[must_use]
    pub fn is_permission(&self) -> bool {
        match &self.0 {
            Kind::Permission => true,
            Kind::Io { source, .. } => source.kind() == io::ErrorKind::PermissionDenied,
            _ => false,
        }
    }

    /// Whether the kernel was asked and did not do it.
    #[must_use]
    pub fn is_not_done(&self) -> bool {
        matches!(self.0, Kind::NotDone(_))
    }
}
