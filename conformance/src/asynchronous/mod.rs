// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The device at the level of `sysgenid-tokio`: the same cases over every source that has watchers,
//! each in a runtime of one thread and in one of several.

mod broker_only;
mod cancelled;
mod device_only;
mod handle;
mod orchestrator;
mod racing;
mod registered;
mod runtime;
mod stream;
mod untracked;
mod watcher;

use sysgenid::SourceKind;
use sysgenid_sys::abi::Dialect;

use crate::suite::Case;
use crate::typed::Subject;

/// All cases for a kind of source and a dialect: first those that all have, then their own.
pub fn cases(kind: SourceKind, dialect: Dialect) -> impl Iterator<Item = &'static Case<Subject>> {
    let of_dialect: &[_] = match dialect {
        Dialect::V5 => &[],
        _ => untracked::CASES,
    };
    let own: &[_] = match kind {
        SourceKind::Device => device_only::CASES,
        SourceKind::Broker => broker_only::CASES,
        _ => &[],
    };
    let common = [
        watcher::CASES,
        registered::CASES,
        handle::CASES,
        stream::CASES,
        cancelled::CASES,
        racing::CASES,
        orchestrator::CASES,
        of_dialect,
        own,
    ];
    common.into_iter().flatten()
}
