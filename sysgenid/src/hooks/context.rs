// SPDX-License-Identifier: Apache-2.0 OR MIT
use crate::base::Cause;
use crate::base::{Deadline, Generation};

/// What a hook is told when it is called.
#[derive(Clone, Copy, Debug)]
pub struct HookContext {
    pub(super) generation: Generation,
    pub(super) cause: Option<Cause>,
    pub(super) deadline: Deadline,
}

impl HookContext {
    /// After a restore, the generation that the hooks run for. Before a snapshot, and after one that did not
    /// change it, the current one.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Why the generation changed, if that is known: only the [background thread](crate::background) knows
    /// it, where the source tells.
    #[must_use]
    pub fn cause(&self) -> Option<Cause> {
        self.cause
    }

    /// When this hook counts as failed, which is [`Deadline::NEVER`] for a hook without a
    /// [deadline](crate::hooks::HookOptions::deadline). A hook passes it on to what it waits for.
    #[must_use]
    pub fn deadline(&self) -> Deadline {
        self.deadline
    }
}
