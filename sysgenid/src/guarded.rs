// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::error::Error as StdError;
use std::fmt;
use std::sync::atomic::{Ordering, fence};

use crate::error::{Error, Kind, Result};
use crate::{Generation, Probe};

/// How often a call starts over because the generation changed meanwhile. A change is a restore
/// of the whole system: four in the time of one use is not a system that is up.
const ATTEMPTS: u32 = 4;

type Build<T> = dyn FnMut(Generation) -> Result<T, Box<dyn StdError + Send + Sync>> + Send;

/// A cached secret that is rebuilt when the generation changes.
///
/// The value is built when it is first used, and again before the first use in a new generation:
/// check, use, check again. What is up to date costs one load and one comparison.
///
/// ```
/// use sysgenid::{Guarded, Probe};
///
/// let folder = tempfile::tempdir()?;
/// let _broker = sysgenid_broker::spawn(folder.path())?;
/// let probe = Probe::open_at(folder.path())?;
///
/// let mut ticket_key = Guarded::new(probe, |_generation| {
///     let mut key = [0_u8; 32];
///     std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut key)?;
///     Ok::<_, std::io::Error>(key)
/// });
///
/// // The result was computed from a key of this generation, or it is not returned.
/// let tag = ticket_key.with(|key| key.iter().fold(0_u8, |sum, byte| sum ^ byte))?;
/// # let _ = tag;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # What is guaranteed, and what is not
///
/// - [`get`](Self::get) never returns a value that was built in another generation than the one
///   seen at its return; [`with`](Self::with) never returns a result if the generation seen after
///   the computation is not the one seen before it.
/// - A failed or panicking rebuild leaves no old value behind: the next call builds again.
/// - A change that the source does not show *yet* is not seen: there is a window between the
///   resume of a restored machine and the change of the counter.
/// - A snapshot that is taken after the last check copies the value with everything else. What a
///   computation gave away while it ran (bytes on a socket) is not taken back.
pub struct Guarded<T> {
    probe: Probe,
    /// The value and the generation it was built in.
    built: Option<(Generation, T)>,
    build: Box<Build<T>>,
}

impl<T> Guarded<T> {
    /// Guards what `build` returns. Builds nothing yet.
    ///
    /// `build` must take its entropy from the kernel (`getrandom`, `/dev/urandom`), which reseeds
    /// itself on a restore; from anything in this process's memory it would get the same value in
    /// every clone.
    pub fn new<E>(
        probe: Probe,
        mut build: impl FnMut(Generation) -> Result<T, E> + Send + 'static,
    ) -> Self
    where
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        Self {
            probe,
            built: None,
            build: Box::new(move |generation| build(generation).map_err(Into::into)),
        }
    }

    /// The value of the current generation, rebuilt if need be.
    ///
    /// Nothing is known about the generation *after* the return: use [`with`](Self::with) for a
    /// result that must not cross a change.
    ///
    /// # Errors
    ///
    /// [`is_rebuild`](Error::is_rebuild) if building failed; [`is_unsettled`](Error::is_unsettled)
    /// if the generation changed during each of a few attempts to build.
    #[inline]
    pub fn get(&mut self) -> Result<&mut T> {
        self.current().map(|(_, value)| value)
    }

    /// Lets `compute` use the value, and returns its result only if the generation did not change
    /// from before the use until after it. Otherwise rebuilds and computes again.
    ///
    /// `compute` may so run more than once: it should have no effect outside but its result.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get); also [`is_unsettled`](Error::is_unsettled) if the generation changed
    /// during each of a few computations.
    #[inline]
    pub fn with<R>(&mut self, mut compute: impl FnMut(&mut T) -> R) -> Result<R> {
        for _ in 0..ATTEMPTS {
            let (generation, value) = self.current()?;
            let result = compute(value);
            // The computation's reads come before this load. The partner is the release store of
            // whoever changes the counter.
            fence(Ordering::Acquire);
            if self.probe.generation() == generation {
                return Ok(result);
            }
        }
        Err(unsettled(&self.probe))
    }

    /// The probe that guards the value.
    #[must_use]
    pub fn probe(&self) -> &Probe {
        &self.probe
    }

    #[inline]
    fn current(&mut self) -> Result<(Generation, &mut T)> {
        let now = self.probe.generation();
        if !matches!(&self.built, Some((generation, _)) if *generation == now) {
            self.rebuild()?;
        }
        match &mut self.built {
            Some((generation, value)) => Ok((*generation, value)),
            // `rebuild` returned a success, so it left a value.
            None => Err(unsettled(&self.probe)),
        }
    }

    #[cold]
    fn rebuild(&mut self) -> Result<()> {
        for _ in 0..ATTEMPTS {
            // First, so that neither an error nor a panic leaves the old value behind.
            self.built = None;
            let before = self.probe.generation();
            let value = (self.build)(before).map_err(Error::rebuild)?;
            fence(Ordering::Acquire);
            if self.probe.generation() == before {
                self.built = Some((before, value));
                return Ok(());
            }
        }
        Err(unsettled(&self.probe))
    }
}

#[cold]
fn unsettled(probe: &Probe) -> Error {
    Error::new(Kind::Unsettled(ATTEMPTS)).at(probe.source().path())
}

impl<T> fmt::Debug for Guarded<T> {
    /// Shows the generation and not the value, which is a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guarded")
            .field("probe", &self.probe)
            .field(
                "built",
                &self.built.as_ref().map(|(generation, _)| generation),
            )
            .finish_non_exhaustive()
    }
}
