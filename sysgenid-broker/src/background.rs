// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A broker on a thread of its own.

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use sysgenid_sys::internal::fork;

use crate::{Error, Server, Stopper};

/// Starts a broker for `dir` on a thread of its own. A test that needs no certain directory takes
/// [`testing::Broker`](crate::testing::Broker).
///
/// # Errors
///
/// As [`Server::bind`], or no thread could be started.
///
/// ```
/// let folder = tempfile::tempdir()?;
/// let broker = sysgenid_broker::spawn(folder.path())?;
/// assert!(broker.dir().join("page").exists());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn spawn(dir: impl AsRef<Path>) -> Result<Background, Error> {
    let server = Server::bind(dir)?;
    let dir = server.dir().to_path_buf();
    let stopper = server.stopper();
    let thread = std::thread::Builder::new()
        .name("sysgenid-broker".into())
        .spawn(move || server.run())
        .map_err(|error| Error::system("start the broker's thread", error))?;
    Ok(Background {
        process: fork::process(),
        dir,
        stopper,
        thread: Some(thread),
    })
}

/// A broker that runs on its own thread until this is dropped, by the process that started it.
#[must_use = "the broker stops when this is dropped"]
#[derive(Debug)]
pub struct Background {
    /// The process that has the thread.
    process: u32,
    dir: PathBuf,
    stopper: Stopper,
    thread: Option<JoinHandle<Result<(), Error>>>,
}

impl Background {
    /// The directory it serves.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if fork::process() != self.process {
            // A forked child has a copy of this. The thread is not there, and the stopper is the
            // parent's as well.
            std::mem::forget(self.thread.take());
            return;
        }
        self.stopper.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
