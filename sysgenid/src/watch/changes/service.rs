// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a thread asks for that handles changes for the whole process.

use std::sync::Arc;

use super::member::{Eye, Member, Record};
use super::{Change, Changes};
use crate::base::error::Result;
use crate::base::{Deadline, Generation};
use crate::watch::watcher::Asked;

/// What was handled of each source that is watched. It follows what happens, and is all that a forked
/// child needs to go on where its parent was.
#[derive(Default)]
pub(crate) struct Handled(Vec<Arc<Record>>);

impl Handled {
    /// The generation of the preferred source that was handled last, or at which the watching began.
    pub(crate) fn generation(&self) -> Option<Generation> {
        self.0.first().map(|record| record.handled())
    }

    pub(crate) fn path(&self) -> Option<&std::path::Path> {
        self.0.first().map(|record| record.source.path())
    }

    fn is_of(&self, changes: &Changes) -> bool {
        let records = changes.core.members().map(|member| &member.record);
        self.0.len() == changes.core.members().count()
            && self
                .0
                .iter()
                .zip(records)
                .all(|(own, its)| Arc::ptr_eq(own, its))
    }
}

impl Changes {
    /// The state of the sources that are watched now; `None` if it is that of `known` still.
    pub(crate) fn handled(&self, known: &Handled) -> Option<Handled> {
        let records = || self.core.members().map(|member| Arc::clone(&member.record));
        (!known.is_of(self)).then(|| Handled(records().collect()))
    }

    /// Goes on where another process was: what it had not handled, and what has changed since, is told of.
    /// A source that it did not watch counts as one that has appeared.
    pub(crate) fn resume(&self, handled: &Handled) {
        for member in self.core.members() {
            let mut known = handled.0.iter();
            match known.find(|record| record.source == *member.source()) {
                Some(record) => {
                    member.record.copy(record);
                    // The kernel driver takes a watcher that was opened after a change to be up to date.
                    if record.handled() != member.eye.generation(member.source()) {
                        member.record.owe();
                    }
                }
                None => member.record.owe(),
            }
        }
    }

    /// Whether something that is watched is not handled.
    pub(crate) fn is_outdated(&self) -> bool {
        let mut members = self.core.members();
        members.any(|member| {
            let generation = member.eye.generation(member.source());
            member.record.owes(generation)
        })
    }

    /// Has what is watched tell of a change, whatever its number.
    pub(crate) fn owe(&self) {
        for member in self.core.members() {
            member.record.owe();
        }
    }

    /// Looks, and waits until a broker that is there has answered, or the deadline. Returns a change that
    /// was there by then.
    pub(crate) fn connect(&mut self, deadline: Deadline) -> Result<Option<Change>> {
        let mut first = None;
        loop {
            // The page may show a change before the broker has answered. A newer one takes its place.
            if let Some(change) = self.core.look(false) {
                first = Some(change);
            }
            let is_done = !self.core.members().any(|member| member.is_connecting());
            if is_done || deadline.has_passed() {
                return Ok(first);
            }
            self.poller.wait_for(&self.core);
            let next = self.core.next_look();
            self.poller.sleep(deadline.earlier(next))?;
        }
    }

    /// Whether a broker is watched to which there is no connection.
    pub(crate) fn is_lost(&self) -> bool {
        self.core.members().any(|member| member.is_lost())
    }

    /// Whether a change is to be handled first.
    pub(crate) fn is_telling(&self) -> bool {
        self.core.is_telling()
    }

    /// What the broker asks those for that [park](crate::ChangesOptions::parking), as far as the last look
    /// has shown it; `None` without a connection to one.
    pub(crate) fn asked(&self) -> Option<Asked> {
        self.core.members().find_map(Member::asked)
    }

    /// Tells the broker that what it asked for with this number is done. Never waits.
    pub(crate) fn acknowledge_phase(&self, number: u32) -> Result<()> {
        for member in self.core.members() {
            if let Eye::Watcher(watcher) = &member.eye {
                watcher.acknowledge_phase(number)?;
            }
        }
        Ok(())
    }

    /// Has no orchestrator wait for this process any more. Closing would do, if no forked child had
    /// copies of what is closed.
    pub(crate) fn resign(&self) {
        for member in self.core.members() {
            if let Eye::Watcher(watcher) = &member.eye {
                // A driver of the v5 dialect refuses it, and a lost broker does not wait.
                let _ = watcher.set_tracking(false);
            }
        }
    }
}
