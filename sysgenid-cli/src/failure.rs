// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Why a command ended without success, and the exit code that says so.

use std::fmt::Display;
use std::io;
use std::path::Path;

use sysgenid::Printable;

/// Every command's error. The exit codes are a promise: see the crate's README.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A call of the SDK.
    Sdk(sysgenid::Error),
    /// The broker could not start or go on.
    Broker(sysgenid_broker::Error),
    /// The kernel's entropy was not renewed.
    Entropy(sysgenid_agent::Error),
    /// The command line asks for what cannot be known.
    Usage(String),
    /// A deadline passed; the message says which.
    TimedOut(String),
    /// Watchers have not acknowledged in time.
    Late(String),
    /// A command could not be run; the code is that by which a shell says so.
    Command(u8, String),
    /// Fewer tracked watchers than were asked for.
    Missing(String),
    /// The source does not tell how many watchers there are, and some were asked for.
    Uncounted(String),
    /// Anything else.
    Other(String),
    /// The reader of standard output has gone. That is how `… | head` ends a command.
    Closed,
    /// The same, for a command whose success is a statement that could not be made.
    Unheard,
}

impl Failure {
    /// A failed system call of this command: `what` failed on `path`.
    pub(crate) fn io(path: &Path, what: &str, error: &io::Error) -> Self {
        Self::Other(format!("{}: {what}: {error}", Printable::new(path)))
    }

    /// A failure that has no path.
    pub(crate) fn call(what: &str, error: impl Display) -> Self {
        Self::Other(format!("{what}: {error}"))
    }

    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Closed => 0,
            Self::Usage(_) => 2,
            Self::Sdk(error) if error.is_absent() => 3,
            Self::Sdk(error) if error.is_permission() => 4,
            Self::Broker(error) if error.is_permission() => 4,
            Self::Broker(error) if error.is_no_follower() => 6,
            Self::Entropy(error) if error.is_permission() => 4,
            Self::TimedOut(_) => 5,
            Self::Missing(_) => 8,
            Self::Late(_) => 9,
            Self::Command(code, _) => *code,
            Self::Entropy(_) => 10,
            Self::Uncounted(_) => 6,
            Self::Sdk(error)
                if error.is_wrong_kind() || error.is_broken() || error.is_unsupported() =>
            {
                6
            }
            // The commands' own deadlines are `TimedOut`: what is left is a silent broker.
            Self::Sdk(error) if error.is_lost() || error.is_timeout() => 7,
            Self::Sdk(_) | Self::Broker(_) | Self::Other(_) | Self::Unheard => 1,
        }
    }

    /// What to say on standard error, without the program's name.
    pub(crate) fn message(&self) -> Option<String> {
        match self {
            Self::Sdk(error) => Some(error.to_string()),
            Self::Broker(error) => Some(error.to_string()),
            Self::Entropy(error) => Some(error.to_string()),
            Self::Usage(message)
            | Self::TimedOut(message)
            | Self::Late(message)
            | Self::Command(_, message)
            | Self::Missing(message)
            | Self::Uncounted(message)
            | Self::Other(message) => Some(message.clone()),
            Self::Closed | Self::Unheard => None,
        }
    }
}

impl From<sysgenid::Error> for Failure {
    fn from(error: sysgenid::Error) -> Self {
        Self::Sdk(error)
    }
}

impl From<sysgenid_agent::Error> for Failure {
    fn from(error: sysgenid_agent::Error) -> Self {
        Self::Entropy(error)
    }
}

impl From<sysgenid_broker::Error> for Failure {
    fn from(error: sysgenid_broker::Error) -> Self {
        Self::Broker(error)
    }
}
