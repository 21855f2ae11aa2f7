// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Doing without root's capabilities.

use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

/// Makes these, of the permitted ones, effective for this thread. A case has a thread of its own.
pub(crate) fn keep(effective: CapabilitySet) {
    let mut sets = capabilities(None).expect("capabilities can be read");
    sets.effective = sets.permitted & effective;
    set_capabilities(None, sets).expect("capabilities can be dropped");
}
