// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Who takes part.

use std::ffi::CStr;
use std::fmt;
use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

/// How long the slow client takes to rebuild.
pub(super) const SLOW_REBUILD: Duration = Duration::from_millis(600);
/// How long the guarded client sleeps between two uses of its secret.
pub(super) const BETWEEN_USES: Duration = Duration::from_micros(200);

/// A process of the demonstration. Those that can be named on the command line are the workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Member {
    #[value(skip)]
    Orchestrator,
    #[value(skip)]
    Driver,
    Guarded,
    Watcher,
    Slow,
}

impl Member {
    pub(super) const WORKERS: [Self; 3] = [Self::Guarded, Self::Watcher, Self::Slow];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Orchestrator => "orchestrator",
            Self::Driver => "driver",
            Self::Guarded => "guarded",
            Self::Watcher => "watcher",
            Self::Slow => "slow",
        }
    }

    /// What the kernel calls its process, at most 15 bytes: `ps` and the driver show it.
    pub(super) fn command(self) -> &'static CStr {
        match self {
            Self::Orchestrator | Self::Driver => c"sysgenid",
            Self::Guarded => c"demo-guarded",
            Self::Watcher => c"demo-watcher",
            Self::Slow => c"demo-slow",
        }
    }

    pub(super) fn task(self) -> String {
        match self {
            Self::Orchestrator => {
                "this process: changes the generation, waits until all watchers acknowledge".into()
            }
            Self::Driver => {
                "`sysgenid serve`: keeps the counter and who has acknowledged it".into()
            }
            Self::Guarded => format!(
                "uses a secret every {} µs or so, checks the mapped counter at each use",
                BETWEEN_USES.as_micros()
            ),
            Self::Watcher => "sleeps until it is woken, rebuilds its secret, acknowledges".into(),
            Self::Slow => format!(
                "the same, but needs {} ms to rebuild",
                SLOW_REBUILD.as_millis()
            ),
        }
    }

    /// How long it takes to rebuild, beyond what that takes anyway.
    pub(super) fn delay(self) -> Duration {
        match self {
            Self::Slow => SLOW_REBUILD,
            _ => Duration::ZERO,
        }
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
