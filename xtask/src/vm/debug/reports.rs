// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the kernel's detectors report, as they print it on the console.

use std::fmt;

/// Who reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detector {
    /// Memory that is used after it was freed, or out of bounds.
    Kasan,
    /// Locks that are taken in an order or a context that may deadlock.
    Lockdep,
    /// Sleeping where that is not allowed.
    AtomicSleep,
    /// Memory that nothing points to any more.
    Kmemleak,
    /// An allocation that was made to fail, and was used all the same.
    FaultInjection,
    /// The rest: lists, notifiers, undefined behaviour, hung tasks, plain warnings.
    Other,
}

/// The beginning of each report. The first that a line contains counts.
const BEGINNINGS: [(&str, Detector); 18] = [
    // Not a report of its own for KASAN: the line comes with an oops, and says why.
    ("KASAN: null-ptr-deref", Detector::FaultInjection),
    ("BUG: KASAN:", Detector::Kasan),
    ("BUG: sleeping function", Detector::AtomicSleep),
    ("BUG: scheduling while atomic", Detector::AtomicSleep),
    ("WARNING: suspicious RCU usage", Detector::Lockdep),
    ("WARNING: inconsistent lock state", Detector::Lockdep),
    ("WARNING: possible ", Detector::Lockdep),
    ("WARNING: bad unlock balance", Detector::Lockdep),
    ("WARNING: held lock freed", Detector::Lockdep),
    ("WARNING: lock held when returning", Detector::Lockdep),
    ("BUG: MAX_LOCK", Detector::Lockdep),
    ("unreferenced object 0x", Detector::Kmemleak),
    ("BUG: ", Detector::Other),
    ("WARNING: ", Detector::Other),
    ("UBSAN: ", Detector::Other),
    ("INFO: ", Detector::Other),
    ("corruption", Detector::Other),
    ("Kernel panic", Detector::Other),
];

impl Detector {
    const ALL: [Self; 6] = [
        Self::Kasan,
        Self::Lockdep,
        Self::AtomicSleep,
        Self::Kmemleak,
        Self::FaultInjection,
        Self::Other,
    ];

    /// The detector of this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|detector| detector.to_string() == name)
    }
}

impl fmt::Display for Detector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kasan => "kasan",
            Self::Lockdep => "lockdep",
            Self::AtomicSleep => "atomic-sleep",
            Self::Kmemleak => "kmemleak",
            Self::FaultInjection => "fault-injection",
            Self::Other => "other",
        })
    }
}

/// All reports in what the kernel printed, each with its first line.
pub(crate) fn find(console: &str) -> Vec<(Detector, &str)> {
    let report = |line| {
        let line: &str = line;
        let found = BEGINNINGS.iter().find(|(words, _)| line.contains(words));
        found.map(|&(_, detector)| (detector, line))
    };
    console.lines().map(str::trim).filter_map(report).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_told_apart() {
        for (line, detector) in [
            (
                "BUG: KASAN: slab-use-after-free in sysgenid_release+0x4/0x9",
                Detector::Kasan,
            ),
            ("WARNING: inconsistent lock state", Detector::Lockdep),
            (
                "WARNING: possible circular locking dependency detected",
                Detector::Lockdep,
            ),
            (
                "BUG: sleeping function called from invalid context at mm/slub.c:1",
                Detector::AtomicSleep,
            ),
            (
                "unreferenced object 0xffff888004cb7700 (size 32):",
                Detector::Kmemleak,
            ),
            (
                "KASAN: null-ptr-deref in range [0x0000000000000000-0x7]",
                Detector::FaultInjection,
            ),
            (
                "WARNING: CPU: 0 PID: 75 at kernel/module.c:1 f+0x1/0x2",
                Detector::Other,
            ),
            ("list_add corruption. prev->next should be", Detector::Other),
            ("UBSAN: shift-out-of-bounds in core.c:1:2", Detector::Other),
            (
                "INFO: task conformance:75 blocked for more than",
                Detector::Other,
            ),
        ] {
            assert_eq!(find(line), [(detector, line)]);
        }
    }

    #[test]
    fn ordinary_messages_are_no_reports() {
        let console = "sysgenid: dialect v6, backend vmfork\n\
            mtrr: your CPUs had inconsistent fixed MTRR settings\n\
            kobject: kobject_add_internal failed for sysgenid (error: -12 parent: module)\n";
        assert_eq!(find(console), []);
    }

    #[test]
    fn detectors_are_found_by_name() {
        assert_eq!(Detector::named("atomic-sleep"), Some(Detector::AtomicSleep));
        assert_eq!(Detector::named("kasan "), None);
    }
}
