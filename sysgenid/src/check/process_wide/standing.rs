// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where the two counters of a process are from.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use sysgenid_sys::internal::clock::coarse_milliseconds;
use sysgenid_sys::internal::counters::{Counter, Latest, PROCESS};
use sysgenid_sys::internal::fork;
use sysgenid_sys::page::CounterPage;

use super::Refreshed;
use crate::base::error::{Error, Kind, Result};
use crate::base::fork_lock::ForkLock;
use crate::source::{FileIdentity, named_path, user_folder};
use crate::source::{Source, SourceKind};

/// The least time between two looks for a first source, in milliseconds.
pub(super) const PERIOD: u64 = 1000;

/// What a process stands on. The process has one; tests have others.
pub(super) struct Standing {
    /// Held while sources are looked for.
    pub(super) lock: ForkLock,
    /// When the last look for a first source began, by the coarse clock. It is not one of loom's
    /// atomics, because no other access depends on its order.
    pub(super) looked: AtomicU64,
    pub(super) primary: &'static Counter,
    pub(super) secondary: &'static Counter,
    /// Where the two are from; nothing before the first search. A child that is forked in the middle
    /// of a search finds what was before it, and its fork generation changes anyway.
    pub(super) chosen: Latest<Chosen>,
}

#[cfg(not(sysgenid_loom))]
pub(super) static STANDING: Standing = Standing {
    lock: ForkLock::new(),
    looked: AtomicU64::new(0),
    primary: &PROCESS.primary,
    secondary: &PROCESS.secondary,
    chosen: Latest::new(),
};

#[cfg(sysgenid_loom)]
loom::lazy_static! {
    pub(super) static ref STANDING: Standing = Standing {
        lock: ForkLock::new(),
        looked: AtomicU64::new(0),
        primary: &PROCESS.primary,
        secondary: &PROCESS.secondary,
        chosen: Latest::new(),
    };
}

pub(super) struct Chosen {
    environment: Environment,
    primary: Option<Place>,
    /// The hypervisor's, beside a driver's.
    secondary: Option<Place>,
}

impl Chosen {
    fn places(&self) -> impl Iterator<Item = &Place> {
        [&self.primary, &self.secondary].into_iter().flatten()
    }
}

/// What the environment says.
#[derive(Clone)]
pub(super) struct Environment {
    named: Option<PathBuf>,
    user_folder: Option<PathBuf>,
}

impl Environment {
    fn read() -> Self {
        Self {
            named: named_path(),
            user_folder: user_folder(),
        }
    }
}

/// A source, and which file it was when it was mapped.
#[derive(Clone, PartialEq, Eq)]
struct Place {
    source: Source,
    identity: FileIdentity,
}

impl Place {
    fn verify(&self) -> Result<()> {
        self.source.verify_page(self.identity)
    }

    /// The smaller, the more preferred.
    fn rank(&self) -> u8 {
        match self.source.kind() {
            SourceKind::Device => 0,
            SourceKind::Broker | SourceKind::PageFile => 1,
            SourceKind::Vmclock => 2,
            SourceKind::Vmgenid => 3,
        }
    }
}

/// A place with its counter.
pub(super) struct Mapped {
    place: Place,
    page: CounterPage,
}

impl Mapped {
    pub(super) fn on(source: Source) -> Result<Self> {
        let (page, identity) = source.map_page()?;
        Ok(Self {
            place: Place { source, identity },
            page,
        })
    }

    /// Has everybody look at it.
    fn install(self, counter: &Counter) -> Place {
        counter.install(self.page);
        self.place
    }
}

/// What there is.
pub(super) struct Found {
    pub(super) primary: Result<Mapped>,
    pub(super) secondary: Result<Option<Mapped>>,
}

impl Found {
    /// The driver's first. Where it is there and of no use, the hypervisor's has its place, and the
    /// reason why is kept.
    pub(super) fn of(driver: Result<Mapped>, hypervisor: Option<Mapped>) -> Self {
        match (driver, hypervisor) {
            (Err(error), Some(hypervisor)) => Self {
                primary: Ok(hypervisor),
                secondary: if error.is_absent() {
                    Ok(None)
                } else {
                    Err(error)
                },
            },
            (driver, hypervisor) => Self {
                secondary: if driver.is_ok() {
                    Ok(hypervisor)
                } else {
                    Ok(None)
                },
                primary: driver,
            },
        }
    }
}

pub(super) fn search(environment: &Environment) -> Found {
    if let Some(path) = &environment.named {
        return Found {
            primary: Source::at(path).and_then(Mapped::on),
            secondary: Ok(None),
        };
    }
    let driver = Source::driver(environment.user_folder.clone()).and_then(Mapped::on);
    // An error of what could be mapped a moment ago: it has just gone.
    let hypervisor = Source::hypervisor().and_then(|source| Mapped::on(source).ok());
    Found::of(driver, hypervisor)
}

/// What a counter is to show.
enum Choice {
    Nothing,
    Same(Place),
    Other(Mapped),
}

impl Choice {
    /// A place that works stays unless what was found is preferred. (It may be all that is left to a
    /// process that has given up the right to open it again.)
    fn between(old: Option<&Place>, found: Option<Mapped>) -> Self {
        match (old.filter(|old| old.verify().is_ok()), found) {
            (Some(old), Some(found)) if found.place != *old && found.place.rank() <= old.rank() => {
                Self::Other(found)
            }
            (Some(old), _) => Self::Same(old.clone()),
            (None, Some(found)) => Self::Other(found),
            (None, None) => Self::Nothing,
        }
    }

    fn place(&self) -> Option<&Place> {
        match self {
            Self::Nothing => None,
            Self::Same(place) | Self::Other(Mapped { place, .. }) => Some(place),
        }
    }

    fn install(self, counter: &Counter) -> Option<Place> {
        match self {
            Self::Nothing => {
                counter.install_nothing();
                None
            }
            Self::Same(place) => Some(place),
            Self::Other(mapped) => Some(mapped.install(counter)),
        }
    }
}

impl Standing {
    /// Looks for the sources, once.
    pub(super) fn set_up(&self, search: impl Fn(&Environment) -> Found) {
        if self.chosen.get().is_some() {
            return;
        }
        // `None` only for a signal handler that came in between: it sees what there is so far.
        let Some(_guard) = self.lock.lock() else {
            return;
        };
        if self.chosen.get().is_some() {
            return;
        }
        let environment = Environment::read();
        self.looked.store(coarse_milliseconds(), Ordering::Relaxed);
        let found = search(&environment);
        // The preferred one last: whoever looks at it in a hurry then has the other one, too. The
        // order holds for those who ask for a mark: they see what was chosen.
        let secondary = Choice::between(None, found.secondary.ok().flatten());
        let secondary = secondary.install(self.secondary);
        let primary = Choice::between(None, found.primary.ok()).install(self.primary);
        self.chosen.replace(Chosen {
            environment,
            primary,
            secondary,
        });
    }

    /// Returns whether there is a source. While there is none it looks again, at most once in a
    /// [`PERIOD`].
    pub(super) fn has_source(
        &self,
        now: impl Fn() -> u64,
        search: impl Fn(&Environment) -> Found,
    ) -> bool {
        self.set_up(&search);
        let has_source = || self.chosen.get().is_some_and(|it| it.primary.is_some());
        if has_source() {
            return true;
        }
        if self.is_due(now()) {
            // `verify` reports the error to callers that want it. A look is refused in a signal
            // handler that interrupts another look; the next one is a period later.
            let _ = self.refresh(search);
        }
        has_source()
    }

    /// Returns whether it is time for another look: once for each, to one thread.
    fn is_due(&self, now: u64) -> bool {
        // Relaxed, both: no other memory is published with the time.
        let looked = self.looked.load(Ordering::Relaxed);
        // If the clock went back, as it may for a restored process, this wraps to a long time.
        now.wrapping_sub(looked) >= PERIOD
            && self
                .looked
                .compare_exchange(looked, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    pub(super) fn refresh(&self, search: impl Fn(&Environment) -> Found) -> Result<Refreshed> {
        self.set_up(&search);
        let (Some(_guard), Some(old)) = (self.lock.lock(), self.chosen.get()) else {
            return Err(interrupted());
        };
        let found = search(&old.environment);
        let (found_primary, refused) = match found.primary {
            Ok(mapped) => (Some(mapped), None),
            Err(error) => (None, Some(error)),
        };
        let primary = Choice::between(old.primary.as_ref(), found_primary);
        if let (Choice::Nothing, Some(error)) = (&primary, refused) {
            return Err(error);
        }
        let mut secondary = Choice::between(old.secondary.as_ref(), found.secondary.ok().flatten());
        if secondary.place() == primary.place() {
            secondary = Choice::Nothing;
        }
        if primary.place() == old.primary.as_ref() && secondary.place() == old.secondary.as_ref() {
            return Ok(Refreshed::Unchanged);
        }
        let secondary = secondary.install(self.secondary);
        let primary = primary.install(self.primary);
        // After the counters: every mark that was taken before, or of some of the new and some of
        // the old, is left behind. See `fork::glance`.
        fork::advance();
        self.chosen.replace(Chosen {
            environment: old.environment.clone(),
            primary,
            secondary,
        });
        Ok(Refreshed::Moved)
    }

    pub(super) fn verify(&self, search: impl Fn(&Environment) -> Found) -> Result<()> {
        self.set_up(&search);
        let mut chosen = self.chosen.get().ok_or_else(interrupted)?;
        if chosen.primary.is_none() {
            let _ = self.refresh(&search)?;
            chosen = self.chosen.get().ok_or_else(interrupted)?;
        }
        chosen.places().try_for_each(Place::verify)?;
        chosen
            .places()
            .try_for_each(|place| place.source.verify_served())?;
        let found = search(&chosen.environment);
        match (&chosen.primary, &chosen.secondary) {
            // `refresh` has found none.
            (None, _) => found.primary.map(drop),
            (Some(primary), None) => {
                let found = [found.primary.ok(), found.secondary?];
                let mut others = found.iter().flatten();
                match others.find(|found| found.place != *primary) {
                    Some(other) => Err(late(other)),
                    None => Ok(()),
                }
            }
            (Some(_), Some(_)) => Ok(()),
        }
    }

    pub(super) fn sources(&self) -> impl Iterator<Item = &'static Source> + use<> {
        let chosen = self.chosen.get();
        chosen
            .into_iter()
            .flat_map(Chosen::places)
            .map(|place| &place.source)
    }
}

fn late(found: &Mapped) -> Error {
    Error::new(Kind::Broken(
        "is there now, and was not when this process looked for its sources; call \
         `ProcessWide::refresh`",
    ))
    .at(found.place.source.path())
}

fn interrupted() -> Error {
    Error::new(Kind::Unsupported(
        "called by a signal handler that interrupted the same call",
    ))
}
