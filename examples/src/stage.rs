// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::convert::Infallible;
use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sysgenid::{Generation, Orchestrator, SOURCE_VARIABLE};
use tempfile::TempDir;
use tokio::task::spawn_blocking;

/// What an example fails with: an error of whatever kind.
pub type Failure = Box<dyn Error + Send + Sync>;

/// For somebody to make a change, and for those who watch to acknowledge it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where an example that shows itself is played: on the source that the environment names, else on
/// a userspace driver of its own, which ends with it.
#[derive(Debug)]
pub struct Stage {
    source: PathBuf,
    orchestrator: Arc<Orchestrator>,
    /// In this order: the driver is stopped before its folder is removed.
    own: Option<(sysgenid_broker::Background, TempDir)>,
}

impl Stage {
    /// Starts the driver, if the environment names no source.
    ///
    /// # Errors
    ///
    /// As [`Orchestrator::open_at`]; or there is no place for the driver's folder.
    pub async fn set() -> Result<Self, Failure> {
        spawn_blocking(Self::set_now).await?
    }

    fn set_now() -> Result<Self, Failure> {
        let named = env::var_os(SOURCE_VARIABLE).map(PathBuf::from);
        let (source, own) = match named {
            Some(named) => (named, None),
            None => {
                let folder = tempfile::tempdir()?;
                let driver = sysgenid_broker::spawn(folder.path())?;
                (folder.path().to_owned(), Some((driver, folder)))
            }
        };
        let orchestrator = Arc::new(Orchestrator::open_at(&source)?);
        Ok(Self {
            source,
            orchestrator,
            own,
        })
    }

    /// The path of the source.
    #[must_use]
    pub fn source(&self) -> &Path {
        &self.source
    }

    /// Has the generation change, or waits until somebody has.
    ///
    /// # Errors
    ///
    /// As [`Orchestrator::trigger`] and [`Watcher::wait`](sysgenid::Watcher::wait).
    pub async fn change(&self) -> Result<Generation, Failure> {
        let orchestrator = Arc::clone(&self.orchestrator);
        let change = if self.own.is_some() {
            spawn_blocking(move || orchestrator.trigger())
        } else {
            println!("waiting for a restore, or for `sysgenid trigger`");
            spawn_blocking(move || orchestrator.watcher().wait(PATIENCE))
        };
        Ok(change.await??)
    }

    /// Waits until all who are tracked have acknowledged.
    ///
    /// # Errors
    ///
    /// As [`Orchestrator::settle`].
    pub async fn settle(&self) -> Result<Generation, Failure> {
        let orchestrator = Arc::clone(&self.orchestrator);
        let settle = move || orchestrator.settle(PATIENCE, |_| Ok::<_, Infallible>(()));
        Ok(spawn_blocking(settle).await??)
    }
}
