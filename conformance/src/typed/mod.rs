// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The device at the level of the SDK: the same cases over every source that has watchers, the
//! kernel driver and the userspace driver.

mod broker_only;
mod device_only;
mod end_of_range;
mod guarded;
mod handle;
mod orchestrator;
mod probe;
mod readiness;
mod subject;
mod tracking;
mod watcher;

use sysgenid::SourceKind;

pub use self::subject::Subject;
use crate::suite::Case;

/// All cases for a kind of source: first those that all kinds have, then its own. Those that take
/// the counter to the end of its range leave it at the beginning.
pub fn cases(kind: SourceKind) -> impl Iterator<Item = &'static Case<Subject>> {
    let own = match kind {
        SourceKind::Device => device_only::CASES,
        SourceKind::Broker => broker_only::CASES,
        _ => &[],
    };
    [
        watcher::CASES,
        handle::CASES,
        tracking::CASES,
        orchestrator::CASES,
        readiness::CASES,
        probe::CASES,
        guarded::CASES,
        end_of_range::CASES,
        own,
    ]
    .into_iter()
    .flatten()
}
