// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Check, use, check again: the one place that knows how. What holds a value, and what draws random
//! numbers, is built on this.

use crate::base::error::Result;
use crate::base::sync::{Ordering, fence};
use crate::check::{Uniqueness, Witness};

/// How often a use starts over because something changed meanwhile. A change is a restore of the
/// whole system, or a fork: a system that has four in the time of one use is not running normally.
pub(crate) const ATTEMPTS: u32 = 4;

/// Whether nothing has changed since `mark`, before the use.
#[inline]
pub(crate) fn is_current<W: Witness>(witness: &W, mark: &Uniqueness) -> bool {
    witness.glance() == *mark || is_still_current(witness, mark)
}

/// Whether nothing has changed since `mark`, after the use.
#[inline]
pub(crate) fn is_unchanged<W: Witness>(witness: &W, mark: &Uniqueness) -> bool {
    // What the use has read was read before this looks: if it saw something that was written after
    // the change, this sees the change. The partner is the release order of whatever the use has seen.
    fence(Ordering::Acquire);
    is_current(witness, mark)
}

/// The exact answer, where a glance left it open.
#[cold]
fn is_still_current<W: Witness>(witness: &W, mark: &Uniqueness) -> bool {
    witness.mark() == *mark
}

/// The mark to build something new at.
pub(crate) fn mark_for_build<W: Witness>(witness: &W) -> Uniqueness {
    let mark = witness.mark();
    // A build that saw the change sees what was done before it, such as a reseeding. The partner is
    // the release order of the store to the counter.
    fence(Ordering::Acquire);
    mark
}

/// Repeats an attempt that a change has overtaken, until it returns something; `None` if each of a few
/// was overtaken. The first attempt is the caller's, who has it where it is fast.
#[cold]
pub(crate) fn again<R>(mut attempt: impl FnMut() -> Result<Option<R>>) -> Result<Option<R>> {
    for _ in 1..ATTEMPTS {
        if let Some(result) = attempt()? {
            return Ok(Some(result));
        }
    }
    Ok(None)
}
