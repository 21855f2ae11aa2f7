// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What everything else is made of: errors, generations, deadlines, locks that survive a fork.
//! Nothing here knows of sources.

mod cause;
pub(crate) mod deadline;
pub(crate) mod error;
pub(crate) mod fork_lock;
mod generation;
pub(crate) mod interrupt;
pub(crate) mod sync;
mod text;

pub use cause::Cause;
pub use deadline::Deadline;
pub use error::{Error, Result};
pub use generation::Generation;
pub use text::Printable;
