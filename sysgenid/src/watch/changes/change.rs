// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::member::{Eye, Record};
use super::shared::{Fate, Ticket};
use crate::base::error::Result;
use crate::base::{Cause, Generation};
use crate::source::{Source, SourceKind};

/// A change of the generation that is to be handled: what must be unique is rebuilt, and then it is
/// [acknowledged](Self::acknowledge).
///
/// A change that is dropped without that is reported again by the [`Changes`](crate::Changes) that it
/// came from. It may be sent to another thread, and outlive the `Changes`.
#[must_use = "a change that is dropped is reported again: handle it, then acknowledge it"]
pub struct Change {
    /// That which is reported.
    main: Part,
    /// What the other source was at.
    other: Option<Part>,
    ticket: Arc<Ticket>,
}

/// A source, and where it was when the change was reported.
pub(super) struct Part {
    pub(super) record: Arc<Record>,
    pub(super) eye: Eye,
    pub(super) generation: Generation,
    /// It is to be acknowledged. Otherwise it has to have stayed where it was.
    pub(super) has_changed: bool,
}

/// What [`Change::acknowledge`] did. There is no need to look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Acknowledged {
    /// The change is handled, and orchestrators no longer wait for this program.
    Yes,
    /// The generation had changed again. Nothing was acknowledged, and the newer change is reported next.
    Overtaken,
}

impl Change {
    pub(super) fn new(main: Part, other: Option<Part>, ticket: Arc<Ticket>) -> Self {
        Self {
            main,
            other,
            ticket,
        }
    }

    /// The generation to rebuild for. If two sources have changed at once, it is that of the one that
    /// [discovery](Source) prefers.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.main.generation
    }

    /// The generation of the same source that was handled last, or at which the watching began; `None` if
    /// that is not known, as for a source that has appeared. Numbers of two sources say nothing about each
    /// other.
    #[must_use]
    pub fn previous(&self) -> Option<Generation> {
        let record = &self.main.record;
        let is_owed = record.is_owed.load(Ordering::Relaxed);
        (!is_owed).then(|| record.handled())
    }

    /// Why it changed; `None` if that is not known. Only a broker and a hypervisor's counter tell it,
    /// and neither for a change that came while nothing watched it. Never waits.
    #[must_use]
    pub fn cause(&self) -> Option<Cause> {
        let mut changed = self.parts().filter(|part| part.has_changed);
        changed.find_map(Part::cause)
    }

    /// The source whose generation this is.
    #[must_use]
    pub fn source(&self) -> Option<&Source> {
        Some(&self.main.record.source)
    }

    /// Acknowledges that the change has been handled. Never waits.
    ///
    /// If the generation has changed again, nothing is acknowledged, and the newer change is reported
    /// next: that is [`Acknowledged::Overtaken`] and not an error. So is a change that is acknowledged in
    /// a forked child of the process that it was told in. If the broker is lost, the acknowledgement is
    /// kept and given to the broker that comes back.
    ///
    /// # Errors
    ///
    /// The error of the system call if the kernel device does not take the acknowledgement. The change
    /// is reported again.
    ///
    /// ```
    /// use std::time::Duration;
    /// use sysgenid::{Acknowledged, Changes, Source};
    ///
    /// let broker = sysgenid_broker::testing::Broker::start()?;
    /// let source = Source::at(broker.path())?;
    /// let mut changes = Changes::options().on(source.clone()).open();
    ///
    /// source.trigger(Duration::from_secs(5))?;
    /// let first = changes.wait(Duration::from_secs(5))?;
    /// let newer = source.trigger(Duration::from_secs(5))?;
    /// assert_eq!(first.acknowledge()?, Acknowledged::Overtaken);
    ///
    /// let second = changes.wait(Duration::from_secs(5))?;
    /// assert_eq!(second.generation(), newer);
    /// assert_eq!(second.acknowledge()?, Acknowledged::Yes);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn acknowledge(self) -> Result<Acknowledged> {
        let acknowledged = self.acknowledge_parts()?;
        self.ticket.settle(match acknowledged {
            Acknowledged::Yes => Fate::Acknowledged,
            Acknowledged::Overtaken => Fate::Overtaken,
        });
        Ok(acknowledged)
    }

    /// Has it reported again, as if it was dropped. It may be acknowledged all the same.
    pub(crate) fn let_go(&self) {
        self.ticket.settle(Fate::Dropped);
    }

    /// All of them or none.
    fn acknowledge_parts(&self) -> Result<Acknowledged> {
        // The copy of a forked child: what it has not handled, its own `Changes` reports.
        if !self.ticket.shared.is_own() {
            return Ok(Acknowledged::Overtaken);
        }
        // What takes no acknowledgement first, so that a driver is not told that a restore was
        // handled which another source has just shown.
        if !self.parts().all(Part::stands) {
            return Ok(Acknowledged::Overtaken);
        }
        for part in self.parts().filter(|part| part.has_changed) {
            if !part.acknowledge()? {
                return Ok(Acknowledged::Overtaken);
            }
        }
        for part in self.parts().filter(|part| part.has_changed) {
            part.record.handle(part.generation);
        }
        Ok(Acknowledged::Yes)
    }

    fn parts(&self) -> impl Iterator<Item = &Part> {
        [Some(&self.main), self.other.as_ref()]
            .into_iter()
            .flatten()
    }
}

impl Part {
    /// Whether the source is where it was. A driver that is to be told will say so itself: some store
    /// the page after the number that they compare with.
    fn stands(&self) -> bool {
        let is_told = self.has_changed && matches!(self.eye, Eye::Watcher(_));
        is_told || self.eye.generation(&self.record.source) == self.generation
    }

    /// Returns false if the source has changed again.
    fn acknowledge(&self) -> Result<bool> {
        let Eye::Watcher(watcher) = &self.eye else {
            return Ok(true);
        };
        match watcher.acknowledge(self.generation) {
            Ok(()) => Ok(true),
            Err(error) if error.is_stale() || error.is_forked() => Ok(false),
            // The broker that comes back is told what was handled.
            Err(error) if error.is_lost() => Ok(watcher.generation() == self.generation),
            Err(error) => Err(error),
        }
    }

    fn cause(&self) -> Option<Cause> {
        if self.record.is_owed.load(Ordering::Relaxed) {
            return None;
        }
        match (&self.eye, self.record.source.kind()) {
            (Eye::Watcher(watcher), _) => Cause::of(watcher.cause(self.generation)?),
            (_, SourceKind::Vmclock | SourceKind::Vmgenid) => Some(Cause::Restore),
            _ => None,
        }
    }
}

impl Drop for Change {
    fn drop(&mut self) {
        self.ticket.settle(Fate::Dropped);
    }
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Change")
            .field("generation", &self.generation())
            .field("cause", &self.cause())
            .field("source", &self.source())
            .finish()
    }
}
