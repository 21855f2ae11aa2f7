// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::sync::atomic::{AtomicBool, Ordering};

use sysgenid_sys::fork;
use sysgenid_sys::process::{PRIMARY, SECONDARY, UNSET};

use crate::fork_lock::ForkLock;
use crate::{Generation, Source, Uniqueness, Witness};

/// Held while the process looks for its sources.
#[cfg(not(loom))]
static SETTING_UP: ForkLock = ForkLock::new();

#[cfg(loom)]
loom::lazy_static! {
    static ref SETTING_UP: ForkLock = ForkLock::new();
}

/// Whether it has looked.
static SET_UP: AtomicBool = AtomicBool::new(false);

/// The generation of the source that this process prefers: see [`ProcessWide`].
///
/// ```
/// let before = sysgenid::generation();
/// // … the system may be restored here …
/// assert_eq!(sysgenid::generation(), before, "it was not");
/// ```
#[inline]
#[must_use]
pub fn generation() -> Generation {
    let number = PRIMARY.load();
    if number == UNSET {
        return ProcessWide.mark().generation();
    }
    Generation::new(number)
}

/// All that this process can know of whether its memory is still unique: see [`ProcessWide`].
#[inline]
#[must_use]
pub fn uniqueness() -> Uniqueness {
    let seen = ProcessWide.glance();
    if seen.fork == 0 || seen.primary == UNSET {
        return ProcessWide.mark();
    }
    seen
}

/// The witness of the whole process.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessWide;

impl Witness for ProcessWide {
    #[cold]
    fn mark(&self) -> Uniqueness {
        set_up();
        Uniqueness {
            primary: PRIMARY.load(),
            secondary: SECONDARY.load_low(),
            fork: fork::current(),
        }
    }

    #[inline]
    fn glance(&self) -> Uniqueness {
        Uniqueness {
            primary: PRIMARY.load(),
            secondary: SECONDARY.load_low(),
            fork: fork::glance(),
        }
    }
}

/// Looks for the sources, once.
fn set_up() {
    // `None` never happens: nothing below comes back here.
    let Some(_guard) = SETTING_UP.lock() else {
        return;
    };
    // Relaxed: it is looked at and stored under the lock alone.
    if !SET_UP.load(Ordering::Relaxed) {
        let page = Source::discover().and_then(|source| source.map_page());
        PRIMARY.install(page.ok().map(|(page, _)| page));
        SET_UP.store(true, Ordering::Relaxed);
    }
}
