// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The counters that a hypervisor keeps, through the SDK: `/dev/vmgenid` and mainline's vmclock. Each
//! change is one that the `host` makes. Beside them, the kernel driver is loaded.

mod counter;
mod observer;
mod subject;

use sysgenid::SourceKind;

pub use self::subject::Subject;
use crate::suite::Case;

/// All cases for this kind of source: what both have, then a clock's own.
pub fn cases(kind: SourceKind) -> impl Iterator<Item = &'static Case<Subject>> {
    let own: [&[_]; 2] = match kind {
        SourceKind::Vmclock => [counter::OF_CLOCKS, observer::CASES],
        _ => [observer::OF_SILENT_COUNTERS, &[]],
    };
    counter::CASES.iter().chain(own.into_iter().flatten())
}
