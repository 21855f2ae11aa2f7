// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Every call with each of its allocations failing in turn. Needs a kernel with fault injection,
//! and root.
//!
//! A call whose allocation failed returns `ENOMEM`, or succeeds where the kernel can do without.
//! Nothing is left behind: that is the last case's to say, and a leak detector's.

mod calls;
mod module;
mod nth;
mod within;

pub use self::module::Module;

use crate::raw::Node;
use crate::suite::Case;

/// What is made to fail.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The node.
    pub node: Node,
    /// The driver, which is loaded already.
    pub module: Module,
}

/// All cases. The module is unloaded and loaded by the first one.
pub fn cases() -> impl Iterator<Item = &'static Case<Subject>> {
    [module::CASES, calls::CASES].into_iter().flatten()
}
