// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What everybody looks at: the page of a broker.

use std::fs::File;
use std::path::Path;

use memmap2::{MmapOptions, MmapRaw};
use sysgenid::SOURCE_VARIABLE;
use tempfile::TempDir;

use crate::aws_lc;

/// A broker in a folder of its own, which is removed at the end.
pub struct Subject {
    _broker: sysgenid_broker::Background,
    folder: TempDir,
}

impl Subject {
    /// Starts the broker. The process-wide probe and AWS-LC find it, too.
    ///
    /// To be called first of all, while the process has one thread: it changes the environment and
    /// the current folder.
    #[expect(
        clippy::expect_used,
        clippy::missing_panics_doc,
        clippy::new_without_default,
        reason = "a bench that cannot run says why and ends"
    )]
    #[must_use]
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        // SAFETY: Nobody else reads the environment: there is one thread, as is asked for.
        unsafe { std::env::set_var(SOURCE_VARIABLE, folder.path()) };
        let broker = sysgenid_broker::spawn(folder.path()).expect("a broker");
        aws_lc::look_at(folder.path()).expect("AWS-LC's own probe");
        Self {
            _broker: broker,
            folder,
        }
    }

    /// Where the broker is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The page, opened for reading.
    #[expect(
        clippy::expect_used,
        clippy::missing_panics_doc,
        reason = "a bench that cannot run says why and ends"
    )]
    #[must_use]
    pub fn file(&self) -> File {
        File::open(self.folder().join("page")).expect("the page")
    }

    /// The page, mapped as a program without the SDK would do it.
    #[expect(
        clippy::expect_used,
        clippy::missing_panics_doc,
        reason = "a bench that cannot run says why and ends"
    )]
    #[must_use]
    pub fn page(&self) -> Page {
        let map = MmapOptions::new().len(4).map_raw_read_only(&self.file());
        Page(map.expect("a mapping"))
    }
}

/// Leaves the process-wide probe without a source.
///
/// To be called first of all, while the process has one thread: it changes the environment.
#[expect(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a bench that cannot run says why and ends"
)]
pub fn without_source() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    // SAFETY: Nobody else reads the environment: there is one thread, as is asked for.
    unsafe { std::env::set_var(SOURCE_VARIABLE, folder.path().join("nothing")) };
}

/// A mapping of the page.
pub struct Page(MmapRaw);

impl Page {
    /// The least that a program can do.
    #[inline]
    #[must_use]
    pub fn bare_load(&self) -> u32 {
        // SAFETY: The mapping is alive, page-aligned and holds at least four bytes; it is the
        // broker's page, which is never made shorter. Being volatile, the load is done although
        // other processes write there, and this is the comparison that the bench is for.
        unsafe { self.0.as_ptr().cast::<u32>().read_volatile() }
    }
}
