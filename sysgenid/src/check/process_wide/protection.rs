// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::fmt;

use sysgenid_sys::internal::fork;

use super::standing::STANDING;
use crate::base::Printable;
use crate::check::{ProcessWide, Witness};
use crate::source::Source;

/// What this process sees of restores and forks: the answer of [`protection`].
///
/// Its [`Display`](fmt::Display) is one line for a log, without characters that a terminal obeys:
/// `restores: /dev/sysgenid; forks: memory that the kernel empties`.
#[derive(Clone, Copy, Debug)]
#[must_use = "it tells whether restores are seen"]
pub struct Protection {
    shows_restores: bool,
    sources: [Option<&'static Source>; 2],
    forks: ForkDetection,
}

/// How a process learns that it is a forked child.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ForkDetection {
    /// The kernel empties a page in each child (`MADV_WIPEONFORK`), whatever has made it.
    WipedPage,
    /// The process id is compared at each look, which costs a system call, because the kernel or a
    /// sandbox refuses the page. What this misses is listed on the book's page on guarantees.
    ProcessId,
}

impl Protection {
    /// Whether a restore is seen at all, by one source at least.
    #[must_use]
    pub fn shows_restores(&self) -> bool {
        self.shows_restores
    }

    /// The sources that the process looks at, at most two. The first one's number is
    /// [`generation`](crate::generation).
    pub fn sources(&self) -> impl Iterator<Item = &'static Source> + use<> {
        self.sources.into_iter().flatten()
    }

    /// How forks are seen.
    #[must_use]
    pub fn forks(&self) -> ForkDetection {
        self.forks
    }
}

impl fmt::Display for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("restores: ")?;
        if !self.shows_restores {
            f.write_str("not seen, because there is no source")?;
        } else if self.sources().next().is_none() {
            f.write_str("played by a test")?;
        }
        for (number, source) in self.sources().enumerate() {
            let and = if number == 0 { "" } else { " and " };
            write!(f, "{and}{}", Printable::new(source.path()))?;
        }
        f.write_str(match self.forks {
            ForkDetection::WipedPage => "; forks: memory that the kernel empties",
            ForkDetection::ProcessId => "; forks: the process id",
        })
    }
}

/// Answers what this process is protected against, for a log line, a metric or a health endpoint: at
/// the cost of a system call. It does not check the sources as
/// [`verify`](ProcessWide::verify) does; while there is none it looks for one, at most once a second.
///
/// A library prints nothing about a missing source: it leaves that to the program, which has this.
///
/// ```
/// let protection = sysgenid::protection();
/// if !protection.shows_restores() {
///     eprintln!("warning: {protection}");
/// }
/// ```
///
/// # What is not guaranteed
///
/// That a source which is there is told of each restore: a broker is told only by who drives it.
pub fn protection() -> Protection {
    // First, because it looks for sources.
    let shows_restores = ProcessWide.shows_restores();
    let sources = STANDING.sources();
    // A world that a test plays has no source that could be named, and the machine's are not its own.
    #[cfg(feature = "testing")]
    let sources = sources.filter(|_| super::world::here().is_none());
    let mut sources = sources;
    Protection {
        shows_restores,
        sources: [sources.next(), sources.next()],
        forks: if fork::has_page() {
            ForkDetection::WipedPage
        } else {
            ForkDetection::ProcessId
        },
    }
}

/// Sets the process up: looks for its sources, maps their counters, and prepares for forks. The first
/// use of this crate does the same, so only a program that enters a sandbox needs this, before that:
/// afterwards the fast calls and the use of guards make no system call but for entropy.
///
/// It must not be called by a fork handler of another library.
///
/// ```
/// let protection = sysgenid::init();
/// println!("{protection}");
/// // … seccomp, Landlock, chroot, setuid …
/// ```
///
/// # What is not guaranteed
///
/// Without a source, slow calls go on to look for one, and open files for it: see
/// [`ProcessWide`](ProcessWide#without-a-source).
pub fn init() -> Protection {
    let _ = ProcessWide.mark();
    protection()
}
