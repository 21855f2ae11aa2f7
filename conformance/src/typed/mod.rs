// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The device at the level of the SDK: the same cases over every source that has watchers, the
//! kernel driver and the userspace driver.

mod broker_only;
mod changes;
mod device_only;
mod end_of_range;
mod event_source;
mod forked;
mod guarded;
mod guarded_fork;
mod handle;
pub mod hypervisor;
mod observable;
mod orchestrator;
mod probe;
mod readiness;
mod shared;
mod silent;
mod status;
mod subject;
mod telling;
mod tracking;
mod untracked;
mod v5_only;
mod watcher;

use sysgenid::SourceKind;
use sysgenid_sys::abi::Dialect;

pub(crate) use self::broker_only::Own;
pub(crate) use self::device_only::open_node;
pub use self::subject::Subject;
pub(crate) use self::subject::{Changes, SOON, catch_up, number};
use crate::suite::Case;

/// All cases for a kind of source, a dialect, and a driver that is silent about its watchers or not:
/// first those that all have, then their own. Those that take the counter to the end of its range
/// leave it at the beginning.
pub fn cases(
    kind: SourceKind,
    dialect: Dialect,
    is_silent: bool,
) -> impl Iterator<Item = &'static Case<Subject>> {
    let of_dialect = match dialect {
        Dialect::V5 => v5_only::CASES,
        _ => untracked::CASES,
    };
    let own: [&[_]; 3] = match kind {
        SourceKind::Device if is_silent => [silent::CASES, device_only::CASES, &[]],
        SourceKind::Device => [observable::CASES, telling::CASES, device_only::CASES],
        SourceKind::Broker => [
            observable::CASES,
            broker_only::CASES,
            event_source::OF_BROKERS,
        ],
        _ => [&[]; 3],
    };
    let common = [
        watcher::CASES,
        handle::CASES,
        changes::CASES,
        tracking::CASES,
        orchestrator::CASES,
        readiness::CASES,
        event_source::CASES,
        probe::CASES,
        guarded::CASES,
        shared::CASES,
        guarded_fork::CASES,
        status::CASES,
        forked::CASES,
        end_of_range::CASES,
        of_dialect,
    ];
    common.into_iter().chain(own).flatten()
}
