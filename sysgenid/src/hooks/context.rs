// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::sync::Arc;

use crate::base::{Cause, Deadline, Generation};
use crate::source::Source;

/// What a hook is told when it is called.
#[derive(Clone, Debug)]
pub struct HookContext {
    pub(super) generation: Generation,
    pub(super) change: Option<Arc<Told>>,
    pub(super) deadline: Deadline,
}

/// What is known of the change that the hooks run for.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) previous: Option<Generation>,
    pub(super) source: Option<Source>,
    pub(super) cause: Option<Cause>,
}

impl HookContext {
    /// After a restore, the generation that the hooks run for. Before a snapshot, and after one that did not
    /// change it, the current one.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// The generation of the same source that was handled last, if that is known: only the [background
    /// thread](crate::background) knows it.
    #[must_use]
    pub fn previous(&self) -> Option<Generation> {
        self.change.as_ref()?.previous
    }

    /// The source whose generation this is, if that is known: as for [`previous`](Self::previous).
    #[must_use]
    pub fn source(&self) -> Option<&Source> {
        self.change.as_ref()?.source.as_ref()
    }

    /// Why the generation changed, if that is known: as for [`previous`](Self::previous), where the source
    /// tells.
    #[must_use]
    pub fn cause(&self) -> Option<Cause> {
        self.change.as_ref()?.cause
    }

    /// When this hook counts as failed, which is [`Deadline::NEVER`] for a hook without a
    /// [deadline](crate::hooks::HookOptions::deadline). A hook passes it on to what it waits for.
    #[must_use]
    pub fn deadline(&self) -> Deadline {
        self.deadline
    }
}
