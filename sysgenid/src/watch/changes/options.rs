// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::path::PathBuf;
#[cfg(feature = "testing")]
use std::sync::Arc;
use std::time::Duration;

use super::Changes;
use super::core::Core;
#[cfg(feature = "testing")]
use super::shared::Shared;
use crate::base::error::Result;
#[cfg(feature = "testing")]
use crate::check::world::{self, World};
use crate::source::{Source, user_folder};
use crate::watch::watcher::Duties;

/// How changes are waited for. Made by [`Changes::options`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "options open nothing by themselves"]
pub struct ChangesOptions {
    place: Place,
    tracked: bool,
    parks: bool,
    pub(super) period: Duration,
}

/// Where sources are looked for.
#[derive(Clone, Debug)]
enum Place {
    Discovered,
    /// The world of a test, instead.
    #[cfg(feature = "testing")]
    Played(Arc<World>),
    On(Source),
    At(PathBuf),
}

impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Discovered, Self::Discovered) => true,
            #[cfg(feature = "testing")]
            (Self::Played(own), Self::Played(other)) => Arc::ptr_eq(own, other),
            (Self::On(own), Self::On(other)) => own == other,
            (Self::At(own), Self::At(other)) => own == other,
            _ => false,
        }
    }
}

impl Eq for Place {}

/// A shorter period than this would leave no time for anything else.
const SHORTEST: Duration = Duration::from_millis(1);

impl ChangesOptions {
    pub(super) fn new() -> Self {
        Self {
            place: Place::Discovered,
            tracked: true,
            parks: false,
            period: Duration::from_secs(1),
        }
    }

    /// Waits for changes of this source only. The default is whatever [discovery](Source) finds.
    pub fn on(mut self, source: Source) -> Self {
        self.place = Place::On(source);
        self
    }

    /// Waits for changes of the source at this path only. It need not be there yet.
    pub fn at(mut self, path: impl Into<PathBuf>) -> Self {
        self.place = Place::At(path.into());
        self
    }

    /// Whether orchestrators wait until each change is acknowledged. The default is `true`.
    ///
    /// A driver of the v5 dialect tracks every watcher, whatever is asked for here.
    pub fn tracked(mut self, tracked: bool) -> Self {
        self.tracked = tracked;
        self
    }

    /// Is asked by a broker to come to rest before a snapshot: for who does so.
    pub(crate) fn parking(mut self) -> Self {
        self.parks = true;
        self
    }

    pub(super) fn duties(&self) -> Duties {
        Duties {
            tracked: self.tracked,
            parks: self.parks,
        }
    }

    /// How often a page that notifies nobody is looked at, and how often a source is looked for while
    /// there is none. The default is one second, the least a millisecond.
    ///
    /// This is how late a change of such a page may be noticed.
    pub fn look_every(mut self, period: Duration) -> Self {
        self.period = period.max(SHORTEST);
        self
    }

    /// Begins to look for changes: those are reported that come from now on. Never fails, because a
    /// source that is not there yet, or cannot be used, is looked for again.
    pub fn open(&self) -> Changes {
        let options = self.clone();
        // Here, because the changes may be waited for in a thread that is in no world.
        #[cfg(feature = "testing")]
        let options = options.in_this_world();
        Changes::of(Core::new(options))
    }

    #[cfg(feature = "testing")]
    fn in_this_world(mut self) -> Self {
        if let (Place::Discovered, Some(world)) = (&self.place, world::here()) {
            self.place = Place::Played(world);
        }
        self
    }

    /// Has `shared` rung when the world of a test changes, whose page tells nobody.
    #[cfg(feature = "testing")]
    pub(super) fn be_told(&self, shared: &Arc<Shared>) {
        if let Place::Played(world) = &self.place {
            let shared = Arc::downgrade(shared);
            world.ring_after_changes(move || {
                let shared = shared.upgrade();
                shared.inspect(|shared| shared.ring()).is_some()
            });
        }
    }

    /// What is to be watched, and whether a hypervisor's counter is to be looked for beside it.
    pub(super) fn find(&self) -> (Result<Source>, bool) {
        match &self.place {
            #[cfg(feature = "testing")]
            Place::Played(world) => (world.source(), false),
            Place::On(source) => (Ok(source.clone()), false),
            Place::At(path) => (Source::at(path), false),
            Place::Discovered => match Source::named() {
                Some(named) => (named, false),
                None => (Source::driver(user_folder()), true),
            },
        }
    }
}
