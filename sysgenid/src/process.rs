// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::sync::{Mutex, PoisonError};

use sysgenid_sys::fork;
use sysgenid_sys::process::{PRIMARY, SECONDARY, UNSET};

use crate::{Generation, Source, Uniqueness, Witness};

/// Whether the process has looked for its sources.
static SET_UP: Mutex<bool> = Mutex::new(false);

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
    let mut done = SET_UP.lock().unwrap_or_else(PoisonError::into_inner);
    if !*done {
        let page = Source::discover().and_then(|source| source.map_page());
        PRIMARY.install(page.ok().map(|(page, _)| page));
        *done = true;
    }
}
