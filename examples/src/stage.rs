// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sysgenid::{Generation, Orchestrator, SOURCE_VARIABLE};
use tempfile::TempDir;

/// For somebody to make a change, and for those who watch to acknowledge it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where an example that shows itself is played: on the source that the environment names, else on
/// a userspace driver of its own, which ends with it.
#[derive(Debug)]
pub struct Stage {
    source: PathBuf,
    /// In this order: the broker is stopped before its folder is removed.
    own: Option<(sysgenid_broker::Background, TempDir)>,
}

impl Stage {
    /// Starts the driver, if the environment names no source.
    ///
    /// # Errors
    ///
    /// There is no place for its folder, or it cannot start.
    pub fn set() -> Result<Self, Box<dyn Error>> {
        if let Some(named) = env::var_os(SOURCE_VARIABLE) {
            let source = named.into();
            return Ok(Self { source, own: None });
        }
        let folder = tempfile::tempdir()?;
        let broker = sysgenid_broker::spawn(folder.path())?;
        Ok(Self {
            source: folder.path().to_owned(),
            own: Some((broker, folder)),
        })
    }

    /// The path of the source.
    #[must_use]
    pub fn source(&self) -> &Path {
        &self.source
    }

    /// Has the generation change, or waits until somebody has, and returns when all who are tracked
    /// have acknowledged it.
    ///
    /// # Errors
    ///
    /// As [`Orchestrator::open_at`], [`Orchestrator::trigger`] and [`Orchestrator::settle`].
    pub async fn change(&self) -> Result<Generation, Box<dyn Error>> {
        let (source, own) = (self.source.clone(), self.own.is_some());
        let change = move || {
            let orchestrator = Orchestrator::open_at(source)?;
            if own {
                orchestrator.trigger()?;
            } else {
                println!("waiting for a restore, or for `sysgenid trigger`");
                orchestrator.watcher().wait(PATIENCE)?;
            }
            orchestrator.settle(PATIENCE, |_| Ok::<_, std::convert::Infallible>(()))
        };
        Ok(tokio::task::spawn_blocking(change).await??)
    }
}
