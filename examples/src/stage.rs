// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::convert::Infallible;
use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sysgenid::{Generation, SOURCE_VARIABLE};
use sysgenid_broker::testing::Broker;
use sysgenid_tokio::AsyncOrchestrator;
use tokio::time::timeout;

/// What an example fails with: an error of whatever kind.
pub type Failure = Box<dyn Error + Send + Sync>;

/// For somebody to make a change, and for those who watch to acknowledge it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where an example that shows itself is played: on the source that the environment names, else on
/// a userspace driver of its own, which ends with it.
#[derive(Debug)]
pub struct Stage {
    source: PathBuf,
    orchestrator: AsyncOrchestrator,
    own: Option<Broker>,
}

impl Stage {
    /// Starts the driver, if the environment names no source.
    ///
    /// # Errors
    ///
    /// As [`AsyncOrchestrator::open_at`]; or there is no place for the driver's folder.
    pub async fn set() -> Result<Self, Failure> {
        let (source, own) = match env::var_os(SOURCE_VARIABLE) {
            Some(named) => (named.into(), None),
            None => {
                let driver = Broker::start()?;
                (driver.path().to_owned(), Some(driver))
            }
        };
        let orchestrator = AsyncOrchestrator::open_at(&source).await?;
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

    /// The one that changes the generation.
    #[must_use]
    pub fn orchestrator(&self) -> &AsyncOrchestrator {
        &self.orchestrator
    }

    /// Has the generation change, or waits until somebody has.
    ///
    /// # Errors
    ///
    /// As [`AsyncOrchestrator::trigger`] and [`AsyncOrchestrator::changed`].
    pub async fn change(&self) -> Result<Generation, Failure> {
        if self.own.is_some() {
            return Ok(self.orchestrator.trigger().await?);
        }
        println!("waiting for a restore, or for `sysgenid trigger`");
        Ok(timeout(PATIENCE, self.orchestrator.changed()).await??)
    }

    /// Waits until all who are tracked have acknowledged.
    ///
    /// # Errors
    ///
    /// As [`AsyncOrchestrator::settle`].
    pub async fn settle(&self) -> Result<Generation, Failure> {
        let nothing = async |_| Ok::<_, Infallible>(());
        let settled = self.orchestrator.settle(PATIENCE, nothing).await?;
        Ok(settled.generation)
    }
}
