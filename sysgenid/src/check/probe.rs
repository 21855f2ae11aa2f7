// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::path::PathBuf;

use sysgenid_sys::page::CounterPage;

use crate::base::Generation;
use crate::base::error::{Error, Kind, Result};
use crate::source::{FileIdentity, Source, SourceKind};

/// The current generation at the cost of one load from memory.
///
/// A probe maps the counter and closes the file: it is not a watcher, acknowledges nothing, and
/// holds nobody up. It works on every source.
///
/// **One source is not always enough to rebuild a secret.** A counter that the hypervisor writes
/// changes before the kernel has reseeded, and no second time. [`ProcessWide`](crate::ProcessWide)
/// looks at the driver's as well: it is what a [`Guarded`](crate::Guarded) wants.
///
/// # What a probe does not do
///
/// It does not tell when a change happened, and it knows of none before the source does. A counter
/// that the hypervisor writes is right when a restored machine executes its first instruction; the
/// kernel driver needs a moment, tens of milliseconds in emulation, to learn of it. It stays with
/// the file that it mapped: see [`Probe::verify`].
///
/// ```
/// use sysgenid::Probe;
///
/// let broker = sysgenid_broker::testing::Broker::start()?;
/// let probe = Probe::open_at(broker.path())?;
/// let before = probe.generation();
/// // … the system may be restored here …
/// assert_eq!(probe.generation(), before, "nothing restored this system");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Probe {
    page: CounterPage,
    identity: FileIdentity,
    /// `None` if it was mapped from a descriptor of the kernel device.
    source: Option<Source>,
}

impl Probe {
    /// Opens a probe on the discovered source: a driver's counter, else one that the hypervisor
    /// writes. See [`Source`] for the reasons.
    ///
    /// # Errors
    ///
    /// As [`Source::discover_for_probe`] and [`Probe::open_at`].
    pub fn open() -> Result<Self> {
        Self::open_on(Source::discover_for_probe()?)
    }

    /// Opens a probe on the source at `path`.
    ///
    /// # Errors
    ///
    /// As [`Source::at`], and: [`is_permission`](crate::Error::is_permission) if it may not be
    /// read; [`is_wrong_kind`](crate::Error::is_wrong_kind) if a file does not look like a
    /// [page](SourceKind::PageFile); [`is_broken`](crate::Error::is_broken) if it is too short to be
    /// one, or a node without a driver; [`is_unsupported`](crate::Error::is_unsupported) on a driver of the
    /// v5 dialect, where orchestrators would wait for the mapping for ever: map it with
    /// [`Watcher::probe`](crate::Watcher::probe). A node that the caller may only read tells its
    /// dialect in sysfs with this project's driver; without that it is taken for v6.
    ///
    /// Of a vmclock, also: [`is_unsupported`](crate::Error::is_unsupported) if its hypervisor keeps
    /// no generation counter in it (QEMU's does not), if it is of a version that this release does
    /// not know, or if this is not a little-endian machine of 64 bits;
    /// [`is_broken`](crate::Error::is_broken) if its hypervisor does not finish changing it;
    /// [`is_wrong_kind`](crate::Error::is_wrong_kind) if its page is no vmclock's.
    pub fn open_at(path: impl Into<PathBuf>) -> Result<Self> {
        Self::open_on(Source::at(path)?)
    }

    /// Opens a probe on `source`.
    ///
    /// # Errors
    ///
    /// As [`Probe::open_at`].
    pub fn open_on(source: Source) -> Result<Self> {
        let (page, identity) = source.map_page()?;
        Ok(Self {
            page,
            identity,
            source: Some(source),
        })
    }

    /// A probe of a page that was mapped elsewhere.
    pub(crate) fn of(page: CounterPage, identity: FileIdentity, source: Option<Source>) -> Self {
        Self {
            page,
            identity,
            source,
        }
    }

    /// The current generation: one relaxed load.
    ///
    /// To know that something was done within one generation, check before *and* after it, with
    /// an acquire fence before the second look; [`Guarded`](crate::Guarded) does that.
    ///
    /// A regular file that was made shorter after it was mapped raises `SIGBUS` here; the
    /// userspace driver never does that to its page.
    #[inline]
    #[must_use]
    pub fn generation(&self) -> Generation {
        Generation::new(self.page.load())
    }

    /// Which file was mapped.
    pub(crate) fn identity(&self) -> FileIdentity {
        self.identity
    }

    pub(crate) fn counter(&self) -> (*const u8, usize) {
        let length = match self.source.as_ref().map(Source::kind) {
            Some(SourceKind::Vmclock) => 8,
            _ => 4,
        };
        (self.page.as_ptr(), length)
    }

    /// The source that the probe was opened on; `None` if it is the probe of a watcher that was
    /// [made of a descriptor](crate::Watcher::from_fd).
    #[must_use]
    pub fn source(&self) -> Option<&Source> {
        self.source.as_ref()
    }

    /// Checks that the path still names what was mapped: a few system calls, for a health check
    /// and not for the hot path.
    ///
    /// # Errors
    ///
    /// [`is_broken`](crate::Error::is_broken) if the file was replaced or made too short,
    /// [`is_absent`](crate::Error::is_absent) if it was removed: the mapping still reads, but
    /// changes of the new file do not show in it. A vmclock is looked at again, if it may be
    /// opened again: [`is_unsupported`](crate::Error::is_unsupported) if its hypervisor keeps no
    /// counter any more. That is the error, too, where there is no [`source`](Self::source), and so
    /// no path that could be checked.
    ///
    /// ```
    /// let folder = tempfile::tempdir()?;
    /// let path = folder.path().join("page");
    /// let _host = sysgenid::PageFile::open(&path)?;
    /// let probe = sysgenid::Probe::open_at(&path)?;
    /// probe.verify()?;
    ///
    /// std::fs::remove_file(&path)?;
    /// assert!(probe.verify().unwrap_err().is_absent());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn verify(&self) -> Result<()> {
        match &self.source {
            Some(source) => source.verify_page(self.identity),
            None => Err(Error::new(Kind::Unsupported(
                "was mapped from a descriptor, so there is no path to check",
            ))),
        }
    }
}
